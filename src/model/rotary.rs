//! Rotary positions: queries and keys turned by angles that grow with the position.

use candle_core::{D, DType, Device, Tensor};

use super::config::Rotary;
use crate::Result;

/// Cosines and sines of every position's angles, `[n_ctx, rotary_dim / 2]`.
#[derive(Clone, Debug)]
pub(super) struct RotaryTable {
    rotary_dim: usize,
    cos: Tensor,
    sin: Tensor,
}

/// The table's rows for the positions of one run, `[batch or 1, pos, 1, rotary_dim / 2]`.
#[derive(Clone)]
pub(super) struct RotaryRows {
    rotary_dim: usize,
    cos: Tensor,
    sin: Tensor,
}

impl RotaryTable {
    pub(super) fn new(rotary: &Rotary, n_ctx: usize, device: &Device) -> Result<Self> {
        let frequencies = rotary.frequencies();
        // Angles in double precision: at position 100,000 a float32 angle is off in the third digit.
        let angles = (0..n_ctx).flat_map(|pos| frequencies.iter().map(move |f| pos as f64 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        let shape = (n_ctx, frequencies.len());
        let cos = Tensor::from_vec(cos, shape, device)?;
        let sin = Tensor::from_vec(sin, shape, device)?;
        Ok(Self { rotary_dim: rotary.rotary_dim, cos, sin })
    }

    /// The rows for `positions` `[batch or 1, pos]`, u32.
    pub(super) fn rows(&self, positions: &Tensor, dtype: DType) -> Result<RotaryRows> {
        let (batch, pos) = positions.dims2()?;
        let flat = positions.flatten_all()?;
        let take = |table: &Tensor| -> Result<Tensor> {
            Ok(table.index_select(&flat, 0)?.reshape((batch, pos, 1, ()))?.to_dtype(dtype)?)
        };
        Ok(RotaryRows { rotary_dim: self.rotary_dim, cos: take(&self.cos)?, sin: take(&self.sin)? })
    }
}

impl RotaryRows {
    /// Rotates the first `rotary_dim` dimensions of x `[batch, pos, heads, d_head]`; the rest pass.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let d_head = x.dim(D::Minus1)?;
        let half = self.rotary_dim / 2;
        let left = x.narrow(D::Minus1, 0, half)?;
        let right = x.narrow(D::Minus1, half, half)?;
        let turned_left = (left.broadcast_mul(&self.cos)? - right.broadcast_mul(&self.sin)?)?;
        let turned_right = (right.broadcast_mul(&self.cos)? + left.broadcast_mul(&self.sin)?)?;
        if self.rotary_dim == d_head {
            return Ok(Tensor::cat(&[turned_left, turned_right], D::Minus1)?);
        }
        let rest = x.narrow(D::Minus1, self.rotary_dim, d_head - self.rotary_dim)?;
        Ok(Tensor::cat(&[turned_left, turned_right, rest], D::Minus1)?)
    }
}
