//! Positions as vectors of sines and cosines (Vaswani et al. 2017, arXiv 1706.03762), laid out as fairseq does: all sines,
//! then all cosines.

use candle_core::Tensor;

use crate::Result;

/// How many rows of fairseq's table lie before the first position: it counts on from the padding token's id.
const OFFSET: usize = 2;

/// The vectors of all positions, `[n_ctx, d_model]`, in float32 on the device of `like`.
pub(super) fn table(n_ctx: usize, d_model: usize, like: &Tensor) -> Result<Tensor> {
    let half = d_model / 2;
    let step = (10000f64).ln() / (half.max(2) - 1) as f64;
    let mut values = Vec::with_capacity(n_ctx * d_model);
    for pos in 0..n_ctx {
        let angle = |i: usize| (pos + OFFSET) as f64 * (-(i as f64) * step).exp();
        values.extend((0..half).map(|i| angle(i).sin() as f32));
        values.extend((0..half).map(|i| angle(i).cos() as f32));
        values.extend(std::iter::repeat_n(0f32, d_model % 2));
    }
    Ok(Tensor::from_vec(values, (n_ctx, d_model), like.device())?)
}
