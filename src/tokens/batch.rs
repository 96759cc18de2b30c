//! [`Tokens`]: a rectangular batch of token ids, with its mask if rows were filled up.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::{PaddingSide, Tokenizer};
use crate::{Error, Result};

/// A batch of token ids, `[batch, pos]`, and which of them are only padding.
///
/// Owned and plain: it can be kept, changed through [`Tokens::ids`] and [`Tokens::from_ids`], and shown. When a
/// [`Tokenizer`] made it, it remembers that tokenizer and can name its pieces.
///
/// A batch may have no rows, and rows may have no tokens; a model refuses these when it runs
/// ([`Error::EmptyPrompt`]), tokenization does not.
#[derive(Debug, Clone)]
pub struct Tokens {
    ids: Vec<Vec<u32>>,
    mask: Option<Vec<Vec<bool>>>,
    padding_side: PaddingSide,
    tokenizer: Option<Tokenizer>,
}

impl Tokens {
    /// A batch without padding, used as it is.
    ///
    /// # Errors
    /// Rows of unequal length; [`Tokens::padded`] fills those up.
    pub fn from_ids(ids: Vec<Vec<u32>>) -> Result<Self> {
        if let Some((row, length, first)) = unequal(&ids) {
            return Err(Error::msg(format!(
                "the rows of a batch must be equally long: row 0 has {first} tokens, row {row} has {length}; \
                 Tokens::padded(rows, pad_id, side) fills short rows up"
            )));
        }
        Ok(Self { ids, mask: None, padding_side: PaddingSide::Right, tokenizer: None })
    }

    /// A batch of rows that may differ in length: short ones are filled up with `pad_id` and masked there.
    ///
    /// The mask follows the rows' lengths, not the ids, so a real token that equals `pad_id` stays unmasked.
    ///
    /// # Errors
    /// A row without any token among rows that have some.
    pub fn padded(mut ids: Vec<Vec<u32>>, pad_id: u32, side: PaddingSide) -> Result<Self> {
        if unequal(&ids).is_none() {
            return Ok(Self { ids, mask: None, padding_side: side, tokenizer: None });
        }
        if let Some(row) = ids.iter().position(Vec::is_empty) {
            return Err(Error::msg(format!(
                "row {row} of the batch has no tokens, and a row can't be padding only; leave it out or prepend a BOS"
            )));
        }
        let width = ids.iter().map(Vec::len).max().unwrap_or(0);
        let mut mask = Vec::with_capacity(ids.len());
        for row in &mut ids {
            let (real, missing) = (row.len(), width - row.len());
            let (pads, reals) = (vec![pad_id; missing], vec![true; real]);
            let masked = vec![false; missing];
            match side {
                PaddingSide::Left => {
                    row.splice(0..0, pads);
                    mask.push([masked, reals].concat());
                }
                PaddingSide::Right => {
                    row.extend(pads);
                    mask.push([reals, masked].concat());
                }
            }
        }
        Ok(Self { ids, mask: Some(mask), padding_side: side, tokenizer: None })
    }

    /// The same batch with one more token at the end of every row, none of them padding.
    ///
    /// # Errors
    /// Another number of ids than rows.
    pub fn with_column(mut self, column: &[u32]) -> Result<Self> {
        if column.len() != self.ids.len() {
            return Err(Error::msg(format!(
                "a column for {} rows needs as many ids, and it has {}",
                self.ids.len(),
                column.len()
            )));
        }
        for (row, id) in self.ids.iter_mut().zip(column) {
            row.push(*id);
        }
        for row in self.mask.iter_mut().flatten() {
            row.push(true);
        }
        Ok(self)
    }

    /// The same batch, able to show its pieces.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &Tokenizer) -> Self {
        self.tokenizer = Some(tokenizer.clone());
        self
    }

    /// `(batch, pos)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.ids.len(), self.ids.first().map_or(0, Vec::len))
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        let (batch, pos) = self.shape();
        batch == 0 || pos == 0
    }

    /// The ids, `[batch, pos]`, padding included.
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// The ids of one row, `[pos]`, padding included.
    ///
    /// # Errors
    /// A row that the batch does not have.
    pub fn row(&self, row: usize) -> Result<&[u32]> {
        self.ids.get(row).map(Vec::as_slice).ok_or_else(|| {
            Error::msg(format!("there is no row {row}: the batch has {} rows, counted from 0", self.ids.len()))
        })
    }

    /// Which tokens are real (`true`) and which are padding, `[batch, pos]`; `None` when nothing is padded.
    pub fn mask(&self) -> Option<&[Vec<bool>]> {
        self.mask.as_deref()
    }

    /// The side on which short rows were (or would have been) filled up.
    pub fn padding_side(&self) -> PaddingSide {
        self.padding_side
    }

    /// The tokenizer that made this batch, if one did.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The ids as a `u32` tensor, `[batch, pos]`.
    ///
    /// # Errors
    /// A device that can't take the tensor.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.ids.concat(), self.shape(), device)?)
    }

    /// The pieces of one row as text, `[pos]`, padding included. Without a tokenizer each piece is its id.
    ///
    /// A piece that is only part of a character (GPT-2 splits emoji) shows U+FFFD.
    ///
    /// # Errors
    /// A row that the batch does not have.
    pub fn str_tokens(&self, row: usize) -> Result<Vec<String>> {
        let piece = |id: &u32| self.tokenizer.as_ref().map_or_else(|| id.to_string(), |t| t.piece(*id));
        Ok(self.row(row)?.iter().map(piece).collect())
    }

    /// The index of each row's last real token, `[batch]`: where the model's next-token prediction is read.
    /// A row without tokens says 0.
    pub fn last_positions(&self) -> Vec<usize> {
        let last = self.shape().1.saturating_sub(1);
        match &self.mask {
            None => vec![last; self.ids.len()],
            Some(mask) => mask.iter().map(|row| row.iter().rposition(|real| *real).unwrap_or(last)).collect(),
        }
    }

    /// The position that the model is told for each token, `[batch, pos]`.
    ///
    /// Under left padding a row's first real token is at position 0 (padding before it also says 0); otherwise
    /// positions simply count from 0.
    pub fn position_ids(&self) -> Vec<Vec<u32>> {
        let count = |row: &[bool]| {
            let running = row.iter().scan(0u32, |seen, real| {
                *seen += u32::from(*real);
                Some(seen.saturating_sub(1))
            });
            running.collect()
        };
        match (&self.mask, self.padding_side) {
            (Some(mask), PaddingSide::Left) => mask.iter().map(|row| count(row)).collect(),
            _ => self.ids.iter().map(|row| (0..).take(row.len()).collect()).collect(),
        }
    }

    /// Some of its rows, in order.
    pub(crate) fn some_rows(&self, rows: Range<usize>) -> Self {
        self.select(&rows.collect::<Vec<_>>(), &(0..self.shape().1).collect::<Vec<_>>())
    }

    /// These rows and positions of the batch, by their places; without a mask if none of them is padding.
    pub(crate) fn select(&self, rows: &[usize], positions: &[usize]) -> Self {
        fn part<T: Copy>(table: &[Vec<T>], rows: &[usize], positions: &[usize]) -> Vec<Vec<T>> {
            let of = |row: &Vec<T>| positions.iter().filter_map(|&pos| row.get(pos).copied()).collect();
            rows.iter().filter_map(|&row| table.get(row)).map(of).collect()
        }
        let mask = self.mask.as_ref().map(|mask| part(mask, rows, positions));
        Self {
            ids: part(&self.ids, rows, positions),
            mask: mask.filter(|mask| mask.iter().flatten().any(|real| !real)),
            padding_side: self.padding_side,
            tokenizer: self.tokenizer.clone(),
        }
    }

    /// A batch with a mask of its own, `[batch, pos]` as the ids are.
    pub(crate) fn masked(ids: Vec<Vec<u32>>, mask: Option<Vec<Vec<bool>>>, side: PaddingSide) -> Result<Self> {
        if let Some(mask) = &mask
            && (mask.len() != ids.len() || mask.iter().zip(&ids).any(|(mask, ids)| mask.len() != ids.len()))
        {
            return Err(Error::msg("the mask of a batch must have one entry for each token"));
        }
        Ok(Self { mask, padding_side: side, ..Self::from_ids(ids)? })
    }

    pub(super) fn with_padding_side(mut self, side: PaddingSide) -> Self {
        self.padding_side = side;
        self
    }
}

impl From<Vec<u32>> for Tokens {
    /// One row.
    fn from(ids: Vec<u32>) -> Self {
        Self { ids: vec![ids], mask: None, padding_side: PaddingSide::Right, tokenizer: None }
    }
}

impl From<&[u32]> for Tokens {
    /// One row.
    fn from(ids: &[u32]) -> Self {
        Self::from(ids.to_vec())
    }
}

impl TryFrom<Vec<Vec<u32>>> for Tokens {
    type Error = Error;

    /// See [`Tokens::from_ids`].
    fn try_from(ids: Vec<Vec<u32>>) -> Result<Self> {
        Self::from_ids(ids)
    }
}

/// The first row whose length differs from row 0's: (row, its length, row 0's length).
fn unequal(ids: &[Vec<u32>]) -> Option<(usize, usize, usize)> {
    let first = ids.first()?.len();
    ids.iter().enumerate().find(|(_, row)| row.len() != first).map(|(i, row)| (i, row.len(), first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ragged() -> Vec<Vec<u32>> {
        vec![vec![9, 1, 2], vec![9]]
    }

    #[test]
    fn unequal_rows_are_an_error_that_says_so() {
        let error = Tokens::from_ids(ragged()).unwrap_err().to_string();
        assert!(error.contains("row 0 has 3") && error.contains("row 1 has 1"), "{error}");
        assert!(Tokens::try_from(ragged()).is_err());
    }

    #[test]
    fn right_padding() {
        let tokens = Tokens::padded(ragged(), 9, PaddingSide::Right).unwrap();
        assert_eq!(tokens.ids(), [[9, 1, 2], [9, 9, 9]]);
        // The real token 9 stays unmasked although it is the padding id too.
        assert_eq!(tokens.mask().unwrap(), [[true, true, true], [true, false, false]]);
        assert_eq!(tokens.last_positions(), [2, 0]);
        assert_eq!(tokens.position_ids(), [[0, 1, 2], [0, 1, 2]]);
    }

    #[test]
    fn left_padding_restarts_positions_at_the_text() {
        let tokens = Tokens::padded(ragged(), 9, PaddingSide::Left).unwrap();
        assert_eq!(tokens.ids(), [[9, 1, 2], [9, 9, 9]]);
        assert_eq!(tokens.mask().unwrap(), [[true, true, true], [false, false, true]]);
        assert_eq!(tokens.last_positions(), [2, 2]);
        let tokens = Tokens::padded(vec![vec![5, 6, 7, 8], vec![5, 6]], 0, PaddingSide::Left).unwrap();
        assert_eq!(tokens.position_ids(), [[0, 1, 2, 3], [0, 0, 0, 1]]);
    }

    #[test]
    fn no_mask_without_padding() {
        let tokens = Tokens::padded(vec![vec![1, 2], vec![3, 4]], 9, PaddingSide::Left).unwrap();
        assert!(tokens.mask().is_none());
        assert_eq!(tokens.last_positions(), [1, 1]);
        assert_eq!(tokens.position_ids(), [[0, 1], [0, 1]]);
    }

    #[test]
    fn a_row_of_nothing_but_padding_is_refused() {
        let error = Tokens::padded(vec![vec![1], vec![]], 0, PaddingSide::Right).unwrap_err().to_string();
        assert!(error.contains("row 1"), "{error}");
    }

    #[test]
    fn tensors_keep_rows() {
        let tokens = Tokens::from_ids(vec![vec![1, 2, 3], vec![4, 5, 6]]).unwrap();
        let tensor = tokens.tensor(&Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [2, 3]);
        assert_eq!(tensor.to_vec2::<u32>().unwrap(), tokens.ids());
    }

    #[test]
    fn empty_batches_are_allowed() {
        for (tokens, shape) in [(Tokens::from_ids(vec![]).unwrap(), (0, 0)), (Tokens::from(Vec::<u32>::new()), (1, 0))]
        {
            assert_eq!(tokens.shape(), shape);
            assert!(tokens.is_empty());
            assert_eq!(tokens.tensor(&Device::Cpu).unwrap().dims2().unwrap(), shape);
            assert_eq!(tokens.last_positions(), vec![0; shape.0]);
        }
    }

    #[test]
    fn without_a_tokenizer_pieces_are_ids() {
        let tokens = Tokens::from(vec![7, 12]);
        assert_eq!(tokens.str_tokens(0).unwrap(), ["7", "12"]);
        assert!(tokens.str_tokens(1).unwrap_err().to_string().contains("no row 1"));
    }
}
