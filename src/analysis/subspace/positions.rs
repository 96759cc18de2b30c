//! The positions of prompts at which something is changed.

use candle_core::Tensor;

use crate::cache::Slice;
use crate::{Error, Result};

/// The positions of prompts at which something is changed: a [`Slice`], the same for all prompts (`..`, `-1`, `[3, -1]`,
/// `2..5`), or one of each prompt's own ([`TokenPositions::each`]).
///
/// They are those of an activation's second axis, as in `[batch, pos, d_model]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPositions(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Same(Slice),
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
                Self::each(rows.iter().filter_map(|&row| positions.get(row).copied()).collect::<Vec<_>>())
            }
            Kind::Same(_) => self.clone(),
        }
    }

    /// 1 at the positions and 0 elsewhere, of the rank of `x` `[batch, pos, ..]`; none for all positions.
    pub(crate) fn mask(&self, x: &Tensor) -> Result<Option<Tensor>> {
        if self.0 == Kind::Same(Slice::all()) {
            return Ok(None);
        }
        let &[batch, pos, _, ..] = x.dims() else {
            return Err(Error::msg(format!(
                "positions are those of activations [batch, pos, ..], and this one has shape {:?}; change all of it (..)",
                x.dims()
            )));
        };
        let rows = match &self.0 {
            Kind::Same(slice) => vec![slice.places(pos)?; batch],
            Kind::Each(positions) if positions.len() == batch => {
                positions.iter().map(|&position| vec![position]).collect()
            }
            Kind::Each(positions) => {
                return Err(Error::msg(format!(
                    "there are {} positions for {batch} prompts: give one for each, or the same for all",
                    positions.len()
                )));
            }
        };
        let mut mask = vec![0f32; batch * pos];
        for (row, places) in rows.iter().enumerate() {
            for &place in places {
                if place >= pos {
                    return Err(Error::msg(format!("there is no position {place}: the prompts have {pos} tokens")));
                }
                mask[row * pos + place] = 1.0;
            }
        }
        let shape = [vec![batch, pos], vec![1; x.rank() - 2]].concat();
        Ok(Some(Tensor::from_vec(mask, shape, x.device())?.to_dtype(x.dtype())?))
    }
}

impl<S: Into<Slice>> From<S> for TokenPositions {
    fn from(slice: S) -> Self {
        Self(Kind::Same(slice.into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

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
        assert_eq!(mask((1..).into())?, [0., 1., 1., 0., 1., 1.]);
        assert!(mask(3.into()).is_err() && mask(TokenPositions::each(vec![1])).is_err());
        assert!(mask(TokenPositions::each(vec![1, 3])).is_err());
        assert_eq!(TokenPositions::each(vec![5, 6, 7]).of_rows(&[2, 0]), TokenPositions::each(vec![7, 5]));
        Ok(())
    }
}
