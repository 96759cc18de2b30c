use std::cell::RefCell;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::matrix::{Matrix, Part, Target, written};
use super::rows::{each_unit, slice};

/// x `[rows, in]` times w `[in, out]`, plus b `[out]`: `[rows, out]`.
///
/// candle's own product is one call of the same kernels on all cores, which is slow where there are few rows. Here each core
/// has columns of its own. A w of half the width (bf16, f16) stays as it is in memory: it is widened tile by tile.
pub(crate) fn product(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let x = x.contiguous()?;
    // Either axis may be the one whose numbers stand side by side.
    let w = if w.stride().contains(&1) { w.clone() } else { w.contiguous()? };
    match b {
        Some(b) => x.apply_op3(&w, &b.to_dtype(DType::F32)?.contiguous()?, Product),
        None => x.apply_op2(&w, Product),
    }
}

/// Whether a weight is of a type that [`product`] reads.
pub(crate) fn can_read(w: &Tensor) -> bool {
    matches!(w.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

struct Product;

/// Up to so many rows the weights are what is waited for.
const FEW_ROWS: usize = 32;
/// A unit of work has at most so many rows.
const ROWS: usize = 512;
/// How far a tile reaches along the inner axis.
const DEPTH: usize = 128;
/// Less work than this (multiplications) is not worth a second core.
const SMALL: usize = 1 << 19;

thread_local! {
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A type that weights have.
trait Weight: Copy + Sync {
    /// Whether [`wide`](Self::wide) is a vector instruction.
    const SIMPLE: bool;

    fn wide(self) -> f32;

    fn widen(from: &[Self], to: &mut [f32]);

    /// The same matrix, if there is nothing to widen.
    fn plain<'a>(_w: &Matrix<'a, Self>) -> Option<Matrix<'a, f32>> {
        None
    }
}

impl Weight for f32 {
    const SIMPLE: bool = true;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    fn widen(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn plain<'a>(w: &Matrix<'a, f32>) -> Option<Matrix<'a, f32>> {
        Some(*w)
    }
}

impl Weight for bf16 {
    const SIMPLE: bool = true;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn widen(from: &[bf16], to: &mut [f32]) {
        pulp::Arch::new().dispatch(|| to.iter_mut().zip(from).for_each(|(to, from)| *to = from.wide()));
    }
}

impl Weight for f16 {
    const SIMPLE: bool = false;

    fn wide(self) -> f32 {
        self.to_f32()
    }

    fn widen(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

fn forward(x: &[f32], w: &CpuStorage, w_at: &Layout, b: Option<&[f32]>) -> Result<CpuStorage> {
    let (depth, columns) = w_at.shape().dims2()?;
    let x = Matrix::new(x, [x.len() / depth.max(1), depth], [depth, 1])?;
    let (dims, strides) = ([depth, columns], [w_at.stride()[0], w_at.stride()[1]]);
    let first = w_at.start_offset();
    let out = match w {
        CpuStorage::F32(w) => multiply(x, Matrix::new(&w[first..], dims, strides)?, b),
        CpuStorage::BF16(w) => multiply(x, Matrix::new(&w[first..], dims, strides)?, b),
        CpuStorage::F16(w) => multiply(x, Matrix::new(&w[first..], dims, strides)?, b),
        _ => candle_core::bail!("weights of this type can't be multiplied with"),
    };
    Ok(CpuStorage::F32(out?))
}

fn multiply<T: Weight>(x: Matrix<f32>, w: Matrix<T>, b: Option<&[f32]>) -> Result<Vec<f32>> {
    let (rows, depth, columns) = (x.rows(), x.columns(), w.columns());
    if rows == 0 || columns == 0 || depth == 0 {
        candle_core::bail!("a product of {rows} x {depth} and {depth} x {columns} numbers is empty");
    }
    if rows == 1 && w.by_row() && T::SIMPLE {
        return Ok(one_row(x.row(0), w, b));
    }
    // The same whatever the number of cores, so that sums are taken in the same order.
    let width = match (rows, columns) {
        (_, ..=1024) => 128,
        (2..=FEW_ROWS, _) => 512,
        _ => 256,
    };
    let height = ROWS.min(rows);
    let plain = T::plain(&w).filter(|_| rows == 1 || rows > FEW_ROWS);
    let blocks = rows.div_ceil(height);
    let unit = |target: &Target, unit: usize| {
        let (top, left) = (unit % blocks * height, unit / blocks * width);
        let (r, c) = (top..rows.min(top + height), left..columns.min(left + width));
        // SAFETY: each unit has a part of its own.
        let mut part = unsafe { target.part(top * columns + left, [r.len(), c.len()], columns) };
        let x = x.part(r.clone(), 0..depth);
        match &plain {
            Some(w) => part.set(x, w.part(0..depth, c.clone())),
            None => by_tiles(&mut part, x, w.part(0..depth, c.clone()))?,
        }
        if let Some(b) = b {
            for row in 0..r.len() {
                part.row(row).iter_mut().zip(&b[c.clone()]).for_each(|(y, b)| *y += b);
            }
        }
        Ok(())
    };
    let units = blocks * columns.div_ceil(width);
    let is_small = rows * depth * columns < SMALL;
    let all = |target: &Target| each_unit(units, is_small, |i| unit(target, i));
    // SAFETY: the units cover all rows and columns, and each sets its part.
    unsafe { written(rows * columns, all) }
}

/// x w + b for one row x: w is read once, in runs as long as can be, which is all the time that it takes.
fn one_row<T: Weight>(x: &[f32], w: Matrix<T>, b: Option<&[f32]>) -> Vec<f32> {
    const WIDTH: usize = 4096;
    let depths = x.len().div_ceil(DEPTH);
    let unit = |unit: usize| {
        let (depth, left) = (unit % depths * DEPTH, unit / depths * WIDTH);
        let w = w.part(depth..x.len().min(depth + DEPTH), left..w.columns().min(left + WIDTH));
        let mut sum = vec![0f32; w.columns()];
        pulp::Arch::new().dispatch(|| {
            let (fours, rest) = x[depth..][..w.rows()].as_chunks::<4>();
            for (i, x) in fours.iter().enumerate() {
                let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|j| w.row(4 * i + j));
                let rows = w0.iter().zip(w1).zip(w2.iter().zip(w3));
                sum.iter_mut().zip(rows).for_each(|(sum, ((w0, w1), (w2, w3)))| {
                    *sum += (x[0] * w0.wide() + x[1] * w1.wide()) + (x[2] * w2.wide() + x[3] * w3.wide());
                });
            }
            for (i, x) in rest.iter().enumerate() {
                sum.iter_mut().zip(w.row(4 * fours.len() + i)).for_each(|(sum, w)| *sum += x * w.wide());
            }
        });
        sum
    };
    let units = depths * w.columns().div_ceil(WIDTH);
    let sums: Vec<Vec<f32>> = match x.len() * w.columns() < SMALL {
        true => (0..units).map(unit).collect(),
        false => (0..units).into_par_iter().with_max_len(1).map(unit).collect(),
    };
    // In the order of the units, whichever core was first.
    let mut out = b.map_or_else(|| vec![0f32; w.columns()], <[f32]>::to_vec);
    for (i, sum) in sums.iter().enumerate() {
        out[i / depths * WIDTH..].iter_mut().zip(sum).for_each(|(out, sum)| *out += sum);
    }
    out
}

/// Makes a part x w: a tile of w at a time is widened, or only brought together, where the processor's cache has room for it.
fn by_tiles<T: Weight>(part: &mut Part, x: Matrix<f32>, w: Matrix<T>) -> Result<()> {
    TILE.with_borrow_mut(|tile| {
        for from in (0..w.rows()).step_by(DEPTH) {
            let depth = from..w.rows().min(from + DEPTH);
            let piece = w.part(depth.clone(), 0..w.columns());
            let lines = if piece.by_row() { piece } else { piece.transposed() };
            let (count, len) = (lines.rows(), lines.columns());
            tile.resize((count * len).max(tile.len()), 0.0);
            for (line, to) in tile.chunks_exact_mut(len).take(count).enumerate() {
                T::widen(lines.row(line), to);
            }
            let strides = if piece.by_row() { [len, 1] } else { [1, len] };
            let widened = Matrix::new(tile, [piece.rows(), piece.columns()], strides)?;
            let x = x.part(0..x.rows(), depth);
            if from == 0 { part.set(x, widened) } else { part.add(x, widened) }
        }
        Ok(())
    })
}

/// The gradients of x, and of w if it is asked for.
fn backward(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let d_x = match x.track_op() {
        true => Some(product(grad, &w.t()?, None)?),
        false => None,
    };
    let d_w = match w.track_op() {
        true => Some(x.t()?.matmul(&grad.contiguous()?)?.to_dtype(w.dtype())?),
        false => None,
    };
    Ok((d_x, d_w))
}

fn shape(x_at: &Layout, w_at: &Layout) -> Result<Shape> {
    let ((rows, depth), (w_depth, columns)) = (x_at.shape().dims2()?, w_at.shape().dims2()?);
    if depth != w_depth {
        candle_core::bail!("{rows} x {depth} can't be multiplied with {w_depth} x {columns}");
    }
    Ok(Shape::from((rows, columns)))
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout, w: &CpuStorage, w_at: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = shape(x_at, w_at)?;
        Ok((forward(slice(x, x_at)?, w, w_at, None)?, shape))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(x, w, grad)
    }
}

impl CustomOp3 for Product {
    fn name(&self) -> &'static str {
        "product-with-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_at: &Layout,
        w: &CpuStorage,
        w_at: &Layout,
        b: &CpuStorage,
        b_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (shape, b) = (shape(x_at, w_at)?, slice(b, b_at)?);
        if b.len() != shape.dims()[1] {
            candle_core::bail!("{} biases can't be added to rows of {}", b.len(), shape.dims()[1]);
        }
        Ok((forward(slice(x, x_at)?, w, w_at, Some(b))?, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (d_x, d_w) = backward(x, w, grad)?;
        let d_b = if b.track_op() { Some(grad.sum(0)?) } else { None };
        Ok((d_x, d_w, d_b))
    }
}
