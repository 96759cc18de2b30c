//! A matrix of numbers ready to be drawn, and how a larger one becomes it.

use candle_core::Tensor;

use crate::display::draw::gather::{BUDGET, gather, spread};
use crate::display::draw::number::count;
use crate::{Error, Result};

/// Row-major values, `[rows, cols]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    pub rows: usize,
    pub cols: usize,
    pub values: Vec<f32>,
    /// The shape before reduction: equal to rows and cols if there was none.
    pub full: (usize, usize),
    /// What a cell stands for, if it isn't one value.
    pub note: Option<String>,
}

impl Grid {
    pub fn new(values: Vec<f32>, rows: usize, cols: usize) -> Result<Grid> {
        if rows.checked_mul(cols) != Some(values.len()) {
            let found = values.len();
            return Err(Error::msg(format!(
                "a grid of {rows} rows and {cols} columns needs as many values; {found} were given"
            )));
        }
        Ok(Grid { rows, cols, values, full: (rows, cols), note: None })
    }

    /// The last two dimensions of a tensor at the given leading indices, reduced to at most `max_rows` x `max_cols` cells.
    pub fn read(tensor: &Tensor, lead: &[usize], max_rows: usize, max_cols: usize) -> Result<Grid> {
        Self::read_within(BUDGET, tensor, lead, max_rows, max_cols)
    }

    /// As [`Grid::read`], but no more than `budget` numbers are read: for one of several matrices of a picture.
    pub fn read_within(
        budget: usize,
        tensor: &Tensor,
        lead: &[usize],
        max_rows: usize,
        max_cols: usize,
    ) -> Result<Grid> {
        let dims = tensor.dims();
        let [.., rows, cols] = *dims else {
            return Err(Error::msg(format!("a matrix was expected; the tensor has shape {dims:?}")));
        };
        let mut picks: Vec<Vec<usize>> = lead.iter().map(|i| vec![*i]).collect();
        let (row_blocks, col_blocks) = (rows.min(max_rows.max(1)), cols.min(max_cols.max(1)));
        // How many values of each block are read along each side, so that the whole stays within the budget.
        let (mut row_part, mut col_part) = (rows.div_ceil(row_blocks.max(1)), cols.div_ceil(col_blocks.max(1)));
        while row_blocks * row_part * col_blocks * col_part > budget && row_part * col_part > 1 {
            if row_part >= col_part { row_part = row_part.div_ceil(2) } else { col_part = col_part.div_ceil(2) }
        }
        let (row_picks, row_ends) = block_picks(rows, row_blocks, row_part);
        let (col_picks, col_ends) = block_picks(cols, col_blocks, col_part);
        let read = row_picks.len() * col_picks.len();
        let width = col_picks.len();
        picks.push(row_picks);
        picks.push(col_picks);
        let values = means(&gather(tensor, &picks)?, width, &row_ends, &col_ends);
        let note = (rows, cols) != (row_blocks, col_blocks);
        let note = note.then(|| block_note((rows, cols), (row_blocks, col_blocks), read));
        Ok(Grid { rows: row_blocks, cols: col_blocks, values, full: (rows, cols), note })
    }

    /// The same matrix in at most so many cells: each is the mean of a block.
    pub fn reduced(&self, max_rows: usize, max_cols: usize) -> Grid {
        let (rows, cols) = (self.rows.min(max_rows.max(1)), self.cols.min(max_cols.max(1)));
        if (rows, cols) == (self.rows, self.cols) {
            return self.clone();
        }
        let ends = |n: usize, blocks: usize| (1..=blocks).map(|b| b * n / blocks).collect::<Vec<_>>();
        let values: Vec<f64> = self.values.iter().map(|v| f64::from(*v)).collect();
        let values = means(&values, self.cols, &ends(self.rows, rows), &ends(self.cols, cols));
        let note = Some(block_note(self.full, (rows, cols), self.full.0 * self.full.1));
        Grid { rows, cols, values, full: self.full, note }
    }

    pub fn at(&self, row: usize, col: usize) -> f32 {
        self.values.get(row * self.cols + col).copied().unwrap_or(f32::NAN)
    }

    /// The full matrix' row that a row of cells begins at.
    pub fn row_start(&self, row: usize) -> usize {
        (row * self.full.0).checked_div(self.rows).unwrap_or(0)
    }

    pub fn col_start(&self, col: usize) -> usize {
        (col * self.full.1).checked_div(self.cols).unwrap_or(0)
    }
}

/// Indices in `0..n`: up to `part` from each of `blocks` blocks; and where each block ends among them.
fn block_picks(n: usize, blocks: usize, part: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut picks, mut ends) = (Vec::new(), Vec::new());
    for b in 0..blocks {
        let (from, to) = (b * n / blocks, (b + 1) * n / blocks);
        picks.extend(spread(to - from, part).iter().map(|i| from + i));
        ends.push(picks.len());
    }
    (picks, ends)
}

/// The mean over each block of a row-major matrix. One NaN makes its block NaN: it stays visible.
fn means(values: &[f64], width: usize, row_ends: &[usize], col_ends: &[usize]) -> Vec<f32> {
    let mut out = Vec::with_capacity(row_ends.len() * col_ends.len());
    let mut top = 0;
    for bottom in row_ends {
        let mut sums = vec![0f64; col_ends.len()];
        for row in top..*bottom {
            let line = values.get(row * width..(row + 1) * width).unwrap_or(&[]);
            let mut left = 0;
            for (sum, right) in sums.iter_mut().zip(col_ends) {
                *sum += line.get(left..*right).unwrap_or(&[]).iter().sum::<f64>();
                left = *right;
            }
        }
        let mut left = 0;
        for (sum, right) in sums.iter().zip(col_ends) {
            out.push((sum / ((bottom - top) * (right - left)).max(1) as f64) as f32);
            left = *right;
        }
        top = *bottom;
    }
    out
}

fn block_note(full: (usize, usize), cells: (usize, usize), read: usize) -> String {
    let side = |n: usize, blocks: usize| {
        if n.is_multiple_of(blocks) {
            (n / blocks).to_string()
        } else {
            format!("{} to {}", n / blocks, n.div_ceil(blocks))
        }
    };
    let block = format!("{} x {}", side(full.0, cells.0), side(full.1, cells.1));
    let total = full.0 * full.1;
    let how =
        if read < total { format!(" ({} of {} values were read)", count(read), count(total)) } else { String::new() };
    format!(
        "{} x {} values drawn as {} x {} cells: each is the mean of a block of {block}{how}",
        full.0, full.1, cells.0, cells.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn blocks_are_means() {
        let grid = Grid::new((0..24).map(|v| v as f32).collect(), 4, 6).unwrap().reduced(2, 3);
        assert_eq!(grid.values, [3.5, 5.5, 7.5, 15.5, 17.5, 19.5]);
        assert_eq!((grid.full, grid.row_start(1), grid.col_start(2)), ((4, 6), 2, 4));
        assert!(grid.note.unwrap().contains("mean of a block of 2 x 2"));
        let tensor = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((4, 6)).unwrap();
        assert_eq!(Grid::read(&tensor, &[], 2, 3).unwrap().values, grid.values);
        assert!(Grid::new(vec![0.0; 5], 2, 3).is_err());
    }

    #[test]
    fn uneven_blocks_cover_everything() {
        let grid = Grid::new(vec![1.0; 7 * 5], 7, 5).unwrap().reduced(3, 2);
        assert_eq!(grid.values, [1.0; 6]);
        let mut values = vec![0.0; 35];
        values[34] = f32::NAN;
        let grid = Grid::new(values, 7, 5).unwrap().reduced(3, 2);
        assert!(grid.values[5].is_nan() && grid.values[..5].iter().all(|v| *v == 0.0));
    }

    #[test]
    fn a_huge_matrix_is_sampled_and_says_so() {
        let tensor = Tensor::ones((4000, 4000), candle_core::DType::F32, &Device::Cpu).unwrap();
        let grid = Grid::read(&tensor, &[], 100, 100).unwrap();
        assert_eq!(grid.values, vec![1.0; 10_000]);
        assert!(grid.note.unwrap().contains("values were read"));
    }
}
