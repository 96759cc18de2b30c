//! The weights of state-space mixers.

use candle_core::Tensor;

use super::NormWeights;
use super::parts::parts;

/// The weights of a Mamba mixer: D channels, states of size N, time steps of rank R, a convolution over K positions.
#[derive(Clone, Debug)]
pub struct MambaWeights {
    /// Into the channels, and into their gates, `[d_model, 2 * D]`.
    pub w_in: Tensor,
    /// Its bias, `[2 * D]`.
    pub b_in: Option<Tensor>,
    /// The convolution of each channel, `[D, K]`.
    pub w_conv: Tensor,
    /// Its bias, `[D]`.
    pub b_conv: Option<Tensor>,
    /// From the channels to the time step, what is written to the state and what is read from it, `[D, R + 2 * N]`.
    pub w_x: Tensor,
    /// From the time step's R numbers to each channel's, `[R, D]`.
    pub w_dt: Tensor,
    /// Its bias, `[D]`.
    pub b_dt: Option<Tensor>,
    /// Logarithm of how fast the states decay, `[D, N]`.
    pub a_log: Tensor,
    /// How much of a channel passes beside the state, `[D]`.
    pub d: Tensor,
    /// Output, `[D, d_model]`.
    pub w_out: Tensor,
    /// Output bias, `[d_model]`.
    pub b_out: Option<Tensor>,
}

/// The weights of a Mamba-2 mixer: D channels in H heads, states of size N in G groups of heads, a convolution over K positions.
#[derive(Clone, Debug)]
pub struct Mamba2Weights {
    /// Into gates, channels, what is written to the state, what is read from it, and time steps,
    /// `[d_model, 2 * D + 2 * G * N + H]`.
    pub w_in: Tensor,
    /// Its bias.
    pub b_in: Option<Tensor>,
    /// The convolution, `[D + 2 * G * N, K]`.
    pub w_conv: Tensor,
    /// Its bias, `[D + 2 * G * N]`.
    pub b_conv: Option<Tensor>,
    /// Added to the time steps, `[H]`.
    pub dt_bias: Tensor,
    /// Logarithm of how fast the states decay, `[H]`.
    pub a_log: Tensor,
    /// How much of a channel passes beside the state, `[H]`.
    pub d: Tensor,
    /// The norm on the gated channels, `[D]`.
    pub norm: NormWeights,
    /// Output, `[D, d_model]`.
    pub w_out: Tensor,
    /// Output bias, `[d_model]`.
    pub b_out: Option<Tensor>,
}

parts!(MambaWeights {
    w_in => "in_proj.W", b_in => "in_proj.b", w_conv => "conv1d.W", b_conv => "conv1d.b", w_x => "x_proj.W",
    w_dt => "dt_proj.W", b_dt => "dt_proj.b", a_log => "A_log", d => "D", w_out => "out_proj.W", b_out => "out_proj.b",
});
parts!(Mamba2Weights {
    w_in => "in_proj.W", b_in => "in_proj.b", w_conv => "conv1d.W", b_conv => "conv1d.b", dt_bias => "dt_bias",
    a_log => "A_log", d => "D", norm => "inner_norm", w_out => "out_proj.W", b_out => "out_proj.b",
});
