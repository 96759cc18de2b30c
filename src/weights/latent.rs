//! The weights of latent attention.

use candle_core::Tensor;

use super::NormWeights;
use super::parts::parts;

/// The weights of latent attention (DeepSeek-AI 2024, arXiv 2405.04434): keys and values come from one narrow latent of
/// width R, and so may queries. A head's queries and keys have N numbers without a position and P rotated ones.
#[derive(Clone, Debug)]
pub struct LatentWeights {
    /// Into the latent of the queries, `[d_model, q_rank]`; none where queries read the stream directly.
    pub w_q_a: Option<Tensor>,
    /// Its bias, `[q_rank]`.
    pub b_q_a: Option<Tensor>,
    /// The norm on that latent, `[q_rank]`.
    pub q_norm: Option<NormWeights>,
    /// Queries, `[n_heads, q_rank, N + P]`, or `[n_heads, d_model, N + P]` without a latent.
    pub w_q: Tensor,
    /// Into the latent of keys and values, and the rotated part of the keys, which all heads share, `[d_model, R + P]`.
    pub w_kv_a: Tensor,
    /// Its bias, `[R + P]`.
    pub b_kv_a: Option<Tensor>,
    /// The norm on that latent, `[R]`.
    pub kv_norm: NormWeights,
    /// Keys (the part without a position) and values, `[n_heads, R, N + d_v]`.
    pub w_kv: Tensor,
    /// Output, `[n_heads, d_v, d_model]`.
    pub w_o: Tensor,
    /// Output bias, `[d_model]`.
    pub b_o: Option<Tensor>,
}

parts!(LatentWeights {
    w_q_a => "q_a_proj.W", b_q_a => "q_a_proj.b", q_norm => "q_a_layernorm", w_q => "W_Q",
    w_kv_a => "kv_a_proj_with_mqa.W", b_kv_a => "kv_a_proj_with_mqa.b", kv_norm => "kv_a_layernorm", w_kv => "W_KV",
    w_o => "W_O", b_o => "b_O",
});
