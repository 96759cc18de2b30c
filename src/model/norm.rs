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
        if self.kind == Normalization::None {
            return Ok(x.clone());
        }
        let dtype = x.dtype();
        let x = x.to_dtype(if dtype == DType::F64 { dtype } else { DType::F32 })?;
        let NormWeights { w, b } = &self.weights;
        let seen = tap.wants(&self.hook_scale) || tap.wants(&self.hook_normalized);
        let plain = |w: &Option<Tensor>| w.as_ref().is_none_or(|w| w.rank() == 1 && w.dtype() == DType::F32);
        if !seen && ops::are_for(&x) && plain(w) && plain(b) {
            return Ok(ops::norm(&x, self.rule(), w.as_ref(), b.as_ref())?.to_dtype(dtype)?);
        }
        let normalized = self.normalized(&x, tap)?.to_dtype(dtype)?;
        let normalized = tap.pass(&self.hook_normalized, normalized)?;
        let scaled = match w {
            Some(w) => normalized.broadcast_mul(&w.to_dtype(dtype)?)?,
            None => normalized,
        };
        match b {
            Some(b) => Ok(scaled.broadcast_add(&b.to_dtype(dtype)?)?),
            None => Ok(scaled),
        }
    }

    /// x, centred where the norm does that, over its scale, which goes through its hook point.
    fn normalized(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let fused = ops::are_for(x) && !x.track_op();
        if fused {
            let own = ops::norm_scale(x, self.rule())?;
            let scale = tap.pass(&self.hook_scale, own.clone())?;
            if scale.id() == own.id() {
                return Ok(ops::norm(x, self.rule(), None, None)?);
            }
            return Ok(self.centered(x)?.broadcast_div(&scale)?);
        }
        let x = self.centered(x)?;
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        Ok(x.broadcast_div(&tap.pass(&self.hook_scale, scale)?)?)
    }

    fn centered(&self, x: &Tensor) -> Result<Tensor> {
        match self.centers() {
            true => Ok(x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?),
            false => Ok(x.clone()),
        }
    }

    fn rule(&self) -> NormRule {
        NormRule { centers: self.centers(), eps: self.eps as f32 }
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
