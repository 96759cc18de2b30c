//! The MLP, plain or gated, with its hook points.

use candle_core::Tensor;

use super::activations::Activation;
use super::config::ModelConfig;
use super::linear::linear;
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::MlpWeights;

#[derive(Clone, Debug)]
pub(super) struct Mlp {
    weights: MlpWeights,
    act_fn: Activation,
    hook_pre: HookPoint,
    hook_pre_linear: HookPoint,
    hook_post: HookPoint,
}

impl Mlp {
    pub(super) fn new(layer: usize, weights: MlpWeights, cfg: &ModelConfig) -> Self {
        let point = |name: &str| HookPoint::new(format!("blocks.{layer}.mlp.hook_{name}"));
        Self {
            weights,
            act_fn: cfg.act_fn,
            hook_pre: point("pre"),
            hook_pre_linear: point("pre_linear"),
            hook_post: point("post"),
        }
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        vec![
            PointInfo::always(&self.hook_pre, "[batch, pos, d_mlp]"),
            match self.weights.w_gate {
                Some(_) => PointInfo::always(&self.hook_pre_linear, "[batch, pos, d_mlp]"),
                None => PointInfo::never(
                    self.hook_pre_linear.shared_name(),
                    "the MLP has no gate, so its one branch is hook_pre",
                ),
            },
            PointInfo::always(&self.hook_post, "[batch, pos, d_mlp]"),
        ]
    }

    /// `[batch, pos, d_model]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let w = &self.weights;
        let post = match &w.w_gate {
            None => {
                let pre = tap.pass(&self.hook_pre, linear(x, &w.w_in, w.b_in.as_ref())?)?;
                self.act_fn.forward(&pre)?
            }
            Some(w_gate) => {
                let pre = tap.pass(&self.hook_pre, linear(x, w_gate, w.b_gate.as_ref())?)?;
                let pre_linear = tap.pass(&self.hook_pre_linear, linear(x, &w.w_in, w.b_in.as_ref())?)?;
                (self.act_fn.forward(&pre)? * pre_linear)?
            }
        };
        let post = tap.pass(&self.hook_post, post)?;
        linear(&post, &w.w_out, w.b_out.as_ref())
    }

    pub(super) fn weights(&self) -> &MlpWeights {
        &self.weights
    }
}
