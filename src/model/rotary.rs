//! Rotary positions (Su et al. 2021, arXiv 2104.09864): queries and keys turned by angles that grow with the position.

use candle_core::{D, DType, Device, Tensor};

use crate::Result;

/// Which dimensions of a head rotate, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// How many of a head's dimensions rotate; the first ones, and the rest pass.
    pub rotary_dim: usize,
    /// Base of the frequencies.
    pub base: f64,
    /// Whether the pairs are (2i, 2i + 1) instead of (i, i + rotary_dim / 2).
    pub adjacent_pairs: bool,
    /// Whether the angles fall with the position instead of growing.
    pub reversed: bool,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// Changes of the rotary frequencies for contexts longer than the trained one.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// A base that grows once a prompt is longer than the trained context ("dynamic NTK").
    Dynamic {
        /// The factor by which contexts were to grow.
        factor: f64,
        /// The trained context.
        original_n_ctx: f64,
    },
    /// Llama 3's: low frequencies divided by a factor, high ones kept, those between blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above original_n_ctx / this are divided.
        low_freq_factor: f64,
        /// Wavelengths below original_n_ctx / this are kept.
        high_freq_factor: f64,
        /// The trained context.
        original_n_ctx: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv 2309.00071): as Llama 3's with a linear ramp over the dimensions.
    Yarn {
        /// The factor.
        factor: f64,
        /// Turns over the trained context above which a frequency is kept.
        beta_fast: f64,
        /// Turns over the trained context below which a frequency is divided.
        beta_slow: f64,
        /// The trained context.
        original_n_ctx: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
        /// Queries and keys are multiplied by this.
        attention_factor: f64,
    },
    /// LongRoPE (Ding et al. 2024, arXiv 2402.13753): a divisor for each frequency, one list for prompts up to the trained
    /// context and one for longer ones.
    LongRope {
        /// Divisors for short prompts, one per pair.
        short: Vec<f64>,
        /// Divisors for long prompts, one per pair.
        long: Vec<f64>,
        /// The trained context.
        original_n_ctx: f64,
        /// Queries and keys are multiplied by this.
        attention_factor: f64,
    },
}

impl Rotary {
    /// Rotation of whole heads in pairs (i, i + d_head / 2), unscaled.
    pub fn new(rotary_dim: usize, base: f64) -> Self {
        Self { rotary_dim, base, adjacent_pairs: false, reversed: false, scaling: RopeScaling::None }
    }

    /// The angle per position of each rotating pair, `[rotary_dim / 2]`, for a prompt of `length` tokens.
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        let dim = self.rotary_dim as f64;
        let plain = |base: f64| (0..self.rotary_dim / 2).map(move |i| base.powf(-2.0 * i as f64 / dim));
        match &self.scaling {
            RopeScaling::None => plain(self.base).collect(),
            RopeScaling::Linear { factor } => plain(self.base).map(|f| f / factor).collect(),
            &RopeScaling::Dynamic { factor, original_n_ctx } => {
                let length = (length as f64).max(original_n_ctx);
                let growth = factor * length / original_n_ctx - (factor - 1.0);
                plain(self.base * growth.powf(dim / (dim - 2.0))).collect()
            }
            &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_n_ctx } => {
                let scale = |frequency: f64| {
                    let turns = original_n_ctx * frequency / (2.0 * std::f64::consts::PI);
                    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    frequency * ((1.0 - kept) / factor + kept)
                };
                plain(self.base).map(scale).collect()
            }
            &RopeScaling::Yarn { factor, beta_fast, beta_slow, original_n_ctx, truncate, .. } => {
                // The dimension whose frequency makes so many turns over the trained context.
                let dimension = |turns: f64| {
                    dim * (original_n_ctx / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.base.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
                if low == high {
                    high += 0.001;
                }
                let scale = |(i, frequency): (usize, f64)| {
                    let divided = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    frequency / factor * divided + frequency * (1.0 - divided)
                };
                plain(self.base).enumerate().map(scale).collect()
            }
            RopeScaling::LongRope { short, long, original_n_ctx, .. } => {
                let divisors = if length as f64 > *original_n_ctx { long } else { short };
                plain(self.base).zip(divisors).map(|(f, divisor)| f / divisor).collect()
            }
        }
    }

    /// What rotated queries and keys are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }
}

/// Cosines and sines for the positions of one run, `[batch or 1, pos, 1, rotary_dim / 2]`.
#[derive(Clone)]
pub(super) struct Rotation {
    rotary_dim: usize,
    adjacent_pairs: bool,
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// For tokens at `positions` (one row for each of the batch, or one for all).
    pub(super) fn new(rotary: &Rotary, positions: &[Vec<u32>], dtype: DType, device: &Device) -> Result<Self> {
        let length = positions.iter().flatten().max().map_or(0, |last| *last as usize + 1);
        let frequencies = rotary.frequencies(length);
        let factor = rotary.attention_factor();
        let direction = if rotary.reversed { -1.0 } else { 1.0 };
        // Angles in double precision: at position 100,000 a float32 angle is off in the third digit.
        let angles =
            positions.iter().flatten().flat_map(|&pos| frequencies.iter().map(move |f| direction * f64::from(pos) * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| ((angle.cos() * factor) as f32, (angle.sin() * factor) as f32)).unzip();
        let shape = (positions.len(), positions.first().map_or(0, Vec::len), 1, frequencies.len());
        let tensor = |values| -> Result<Tensor> { Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?) };
        Ok(Self {
            rotary_dim: rotary.rotary_dim,
            adjacent_pairs: rotary.adjacent_pairs,
            cos: tensor(cos)?,
            sin: tensor(sin)?,
        })
    }

    /// Rotates the first `rotary_dim` dimensions of x `[batch, pos, heads, d_head]`; the rest pass.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, pos, heads, d_head) = x.dims4()?;
        let turning = x.narrow(D::Minus1, 0, self.rotary_dim)?;
        let half = self.rotary_dim / 2;
        let turn = |left: &Tensor, right: &Tensor| -> Result<(Tensor, Tensor)> {
            let left_out = (left.broadcast_mul(&self.cos)? - right.broadcast_mul(&self.sin)?)?;
            Ok((left_out, (right.broadcast_mul(&self.cos)? + left.broadcast_mul(&self.sin)?)?))
        };
        let turned = if self.adjacent_pairs {
            let pairs = turning.reshape((batch, pos, heads, half, 2))?;
            let (left, right) = turn(&pairs.narrow(4, 0, 1)?.squeeze(4)?, &pairs.narrow(4, 1, 1)?.squeeze(4)?)?;
            Tensor::stack(&[left, right], 4)?.flatten_from(3)?
        } else {
            let (left, right) = turn(&turning.narrow(D::Minus1, 0, half)?, &turning.narrow(D::Minus1, half, half)?)?;
            Tensor::cat(&[left, right], D::Minus1)?
        };
        if self.rotary_dim == d_head {
            return Ok(turned);
        }
        let rest = x.narrow(D::Minus1, self.rotary_dim, d_head - self.rotary_dim)?;
        Ok(Tensor::cat(&[turned, rest], D::Minus1)?)
    }
}
