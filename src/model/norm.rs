//! LayerNorm and RMSNorm, with their hook points.

use candle_core::{D, DType, Tensor};

use super::config::{ModelConfig, Normalization};
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::NormWeights;

/// A norm: x / scale, times w, plus b; a LayerNorm takes the mean off x first.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    kind: Normalization,
    eps: f64,
    weights: NormWeights,
    hook_scale: HookPoint,
    hook_normalized: HookPoint,
}

impl Norm {
    pub(super) fn new(name: &str, weights: NormWeights, cfg: &ModelConfig) -> Self {
        Self {
            kind: cfg.normalization,
            eps: cfg.eps,
            weights,
            hook_scale: HookPoint::new(format!("{name}.hook_scale")),
            hook_normalized: HookPoint::new(format!("{name}.hook_normalized")),
        }
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        vec![
            PointInfo::always(&self.hook_scale, "[batch, pos, 1]"),
            PointInfo::always(&self.hook_normalized, "[batch, pos, d_model]"),
        ]
    }

    /// `[.., d_model]` to the same shape. Computed in float32 when the model's type is shorter.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(if dtype == DType::F64 { dtype } else { DType::F32 })?;
        let x = match self.kind {
            Normalization::LayerNorm => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
            Normalization::Rms => x,
        };
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let scale = tap.pass(&self.hook_scale, scale)?;
        let normalized = tap.pass(&self.hook_normalized, x.broadcast_div(&scale)?.to_dtype(dtype)?)?;
        let scaled = match &self.weights.w {
            Some(w) => normalized.broadcast_mul(w)?,
            None => normalized,
        };
        match &self.weights.b {
            Some(b) => Ok(scaled.broadcast_add(b)?),
            None => Ok(scaled),
        }
    }

    pub(super) fn weights(&self) -> &NormWeights {
        &self.weights
    }

    pub(super) fn centers(&self) -> bool {
        self.kind == Normalization::LayerNorm
    }
}
