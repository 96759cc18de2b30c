//! The positions of prompts at which something is changed.

use std::ops::RangeFull;

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// The positions of prompts at which something is changed: all (`..`), one (`-1`, the last), several (`[3, -1]`), or one of
/// each prompt's own ([`TokenPositions::each`]).
///
/// They are those of an activation's second axis, as in `[batch, pos, d_model]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPositions(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Same(Vec<i64>),
    Each(Vec<usize>),
}

impl TokenPositions {
    /// One position for each prompt, as `tokens.last_positions()` gives.
    pub fn each(positions: impl Into<Vec<usize>>) -> Self {
        Self(Kind::Each(positions.into()))
    }

    /// The same of some of the prompts, by their rows.
    pub(super) fn of_rows(&self, rows: &[usize]) -> Self {
        match &self.0 {
            Kind::Each(positions) => {
                Self(Kind::Each(rows.iter().filter_map(|&row| positions.get(row).copied()).collect()))
            }
            _ => self.clone(),
        }
    }

    /// 1 at the positions and 0 elsewhere, of the rank of `x` `[batch, pos, ..]`; none for all positions.
    pub(super) fn mask(&self, x: &Tensor) -> Result<Option<Tensor>> {
        if self.0 == Kind::All {
            return Ok(None);
        }
        let &[batch, pos, _, ..] = x.dims() else {
            return Err(Error::msg(format!(
                "positions are those of activations [batch, pos, ..], and this one has shape {:?}; change all of it (..)",
                x.dims()
            )));
        };
        let mut mask = vec![0f32; batch * pos];
        let mut mark = |row: usize, position: i64| {
            let absolute = if position < 0 { position + pos as i64 } else { position };
            match (0..pos as i64).contains(&absolute) {
                true => {
                    mask[row * pos + absolute as usize] = 1.0;
                    Ok(())
                }
                false => Err(Error::msg(format!("there is no position {position}: the prompts have {pos} tokens"))),
            }
        };
        match &self.0 {
            Kind::All => {}
            Kind::Same(positions) => {
                for row in 0..batch {
                    positions.iter().try_for_each(|&position| mark(row, position))?;
                }
            }
            Kind::Each(positions) if positions.len() != batch => {
                return Err(Error::msg(format!(
                    "there are {} positions for {batch} prompts: give one for each, or the same for all",
                    positions.len()
                )));
            }
            Kind::Each(positions) => {
                positions.iter().enumerate().try_for_each(|(row, &position)| mark(row, position as i64))?;
            }
        }
        let shape = [vec![batch, pos], vec![1; x.rank() - 2]].concat();
        Ok(Some(Tensor::from_vec(mask, shape, x.device())?.to_dtype(if x.dtype().is_float() {
            x.dtype()
        } else {
            DType::F32
        })?))
    }
}

impl From<RangeFull> for TokenPositions {
    fn from(_: RangeFull) -> Self {
        Self(Kind::All)
    }
}

impl From<Vec<i64>> for TokenPositions {
    fn from(positions: Vec<i64>) -> Self {
        Self(Kind::Same(positions))
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for TokenPositions {
            fn from(position: $number) -> Self {
                Self(Kind::Same(vec![position as i64]))
            }
        }

        impl<const N: usize> From<[$number; N]> for TokenPositions {
            fn from(positions: [$number; N]) -> Self {
                Self(Kind::Same(positions.iter().map(|&position| position as i64).collect()))
            }
        }
    )*};
}

// Both, so that a plain literal (i32) and a variable (usize) work.
numbers!(i32, i64, usize);

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn positions_are_counted_from_both_ends() -> Result<()> {
        let x = Tensor::zeros((2, 3, 4, 5), DType::F32, &Device::Cpu)?;
        let mask = |positions: TokenPositions| -> Result<Vec<f32>> {
            let mask = positions.mask(&x)?.ok_or_else(|| Error::msg("no mask"))?;
            assert_eq!(mask.dims(), [2, 3, 1, 1]);
            Ok(mask.flatten_all()?.to_vec1()?)
        };
        assert_eq!(mask((-1).into())?, [0., 0., 1., 0., 0., 1.]);
        assert_eq!(mask([0usize, 2].into())?, [1., 0., 1., 1., 0., 1.]);
        assert_eq!(mask(TokenPositions::each(vec![1, 0]))?, [0., 1., 0., 1., 0., 0.]);
        assert!(TokenPositions::from(..).mask(&x)?.is_none());
        assert!(mask(3.into()).is_err() && mask(TokenPositions::each(vec![1])).is_err());
        assert_eq!(TokenPositions::each(vec![5, 6, 7]).of_rows(&[2, 0]), TokenPositions::each(vec![7, 5]));
        Ok(())
    }
}
