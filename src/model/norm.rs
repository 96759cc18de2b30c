//! LayerNorm and RMSNorm, with their hook points.

use candle_core::{D, DType, Tensor};

use super::config::Normalization;
use super::stream::NormInfo;
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::ops::{self, NormRule};
use crate::weights::NormWeights;

/// A norm: x / scale, times w, plus b; a LayerNorm takes the mean off x first.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    kind: Normalization,
    eps: f64,
    weights: NormWeights,
    shapes: [&'static str; 2],
    hook_scale: HookPoint,
    hook_normalized: HookPoint,
}

impl Norm {
    pub(super) fn new(name: &str, weights: NormWeights, kind: Normalization, eps: f64) -> Self {
        Self {
            kind,
            eps,
            weights,
            shapes: ["[batch, pos, 1]", "[batch, pos, d_model]"],
            hook_scale: HookPoint::new(format!("{name}.hook_scale")),
            hook_normalized: HookPoint::new(format!("{name}.hook_normalized")),
        }
    }

    /// The same norm on activations of other shapes: that of its scale and that of what it normalises.
    pub(super) fn of_shapes(self, scale: &'static str, normalized: &'static str) -> Self {
        Self { shapes: [scale, normalized], ..self }
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        if self.kind == Normalization::None {
            let why = "the model has no norms";
            return [&self.hook_scale, &self.hook_normalized].map(|p| PointInfo::never(p.shared_name(), why)).into();
        }
        vec![
            PointInfo::always(&self.hook_scale, self.shapes[0]),
            PointInfo::always(&self.hook_normalized, self.shapes[1]),
        ]
    }

    /// Over the last axis of x. Computed in float32 when the model's type is shorter.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(if dtype == DType::F64 { dtype } else { DType::F32 })?;
        if let Some(done) = self.in_one_sweep(&x, tap)? {
            return Ok(done.to_dtype(dtype)?);
        }
        let x = match self.kind {
            Normalization::LayerNorm => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
            Normalization::Rms => x,
            Normalization::None => return Ok(x.to_dtype(dtype)?),
        };
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let scale = tap.pass(&self.hook_scale, scale)?;
        let normalized = tap.pass(&self.hook_normalized, x.broadcast_div(&scale)?.to_dtype(dtype)?)?;
        let scaled = match &self.weights.w {
            Some(w) => normalized.broadcast_mul(&w.to_dtype(dtype)?)?,
            None => normalized,
        };
        match &self.weights.b {
            Some(b) => Ok(scaled.broadcast_add(&b.to_dtype(dtype)?)?),
            None => Ok(scaled),
        }
    }

    /// The norm as one operation: where gradients are tracked, and nobody looks at what lies within.
    fn in_one_sweep(&self, x: &Tensor, tap: &Tap) -> Result<Option<Tensor>> {
        let NormWeights { w, b } = &self.weights;
        let plain = |w: &Option<Tensor>| w.as_ref().is_none_or(|w| w.rank() == 1 && w.dtype() == DType::F32);
        let seen = tap.wants(&self.hook_scale) || tap.wants(&self.hook_normalized);
        if self.kind == Normalization::None || seen || !ops::are_for(x) || !plain(w) || !plain(b) {
            return Ok(None);
        }
        let rule = NormRule { centers: self.centers(), eps: self.eps as f32 };
        Ok(Some(ops::norm(x, rule, w.as_ref(), b.as_ref())?))
    }

    /// What is known of it from outside; none for a norm that does nothing.
    pub(super) fn info(&self) -> Option<NormInfo> {
        let NormWeights { w, b } = self.weights.clone();
        (self.kind != Normalization::None).then(|| NormInfo {
            hook_scale: self.hook_scale.clone(),
            centers: self.centers(),
            w,
            b,
        })
    }

    pub(super) fn weights(&self) -> &NormWeights {
        &self.weights
    }

    pub(super) fn centers(&self) -> bool {
        self.kind == Normalization::LayerNorm
    }
}
