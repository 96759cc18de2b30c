//! The MLP, plain or gated, with its hook points.

use candle_core::Tensor;

use super::activations::{Activation, xielu};
use super::config::{ModelConfig, Normalization};
use super::linear::linear;
use super::norm::Norm;
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::MlpWeights;

#[derive(Clone, Debug)]
pub(super) struct Mlp {
    weights: MlpWeights,
    act_fn: Activation,
    /// A norm on the hidden layer.
    ln: Option<Norm>,
    hook_pre: HookPoint,
    hook_pre_linear: HookPoint,
    hook_mid: HookPoint,
    hook_post: HookPoint,
}

impl Mlp {
    /// The MLP called `name`, as in `blocks.0.mlp`.
    pub(super) fn new(name: &str, weights: MlpWeights, cfg: &ModelConfig) -> Self {
        let point = |tail: &str| HookPoint::new(format!("{name}.hook_{tail}"));
        let ln = |weights| {
            let norm = Norm::new(&format!("{name}.ln"), weights, Normalization::LayerNorm, cfg.eps);
            norm.of_shapes("[batch, pos, 1]", "[batch, pos, d_mlp]")
        };
        Self {
            ln: weights.ln.clone().map(ln),
            weights,
            act_fn: cfg.act_fn,
            hook_pre: point("pre"),
            hook_pre_linear: point("pre_linear"),
            hook_mid: point("mid"),
            hook_post: point("post"),
        }
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let hidden = "[batch, pos, d_mlp]";
        let mut points = vec![
            PointInfo::always(&self.hook_pre, hidden),
            match self.weights.w_gate {
                Some(_) => PointInfo::always(&self.hook_pre_linear, hidden),
                None => PointInfo::never(
                    self.hook_pre_linear.shared_name(),
                    "the MLP has no gate, so its one branch is hook_pre",
                ),
            },
        ];
        if let Some(ln) = &self.ln {
            points.push(PointInfo::always(&self.hook_mid, hidden));
            points.extend(ln.hook_points());
        }
        points.push(PointInfo::always(&self.hook_post, hidden));
        points
    }

    /// `[batch, pos, d_model]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let w = &self.weights;
        let mut post = match &w.w_gate {
            None => {
                let pre = tap.pass(&self.hook_pre, linear(x, &w.w_in, w.b_in.as_ref())?)?;
                self.activation(&pre)?
            }
            Some(w_gate) => {
                let pre = tap.pass(&self.hook_pre, linear(x, w_gate, w.b_gate.as_ref())?)?;
                let pre_linear = tap.pass(&self.hook_pre_linear, linear(x, &w.w_in, w.b_in.as_ref())?)?;
                (self.activation(&pre)? * pre_linear)?
            }
        };
        if let Some(ln) = &self.ln {
            post = ln.forward(&tap.pass(&self.hook_mid, post)?, tap)?;
        }
        let post = tap.pass(&self.hook_post, post)?;
        linear(&post, &w.w_out, w.b_out.as_ref())
    }

    pub(super) fn weights(&self) -> &MlpWeights {
        &self.weights
    }

    fn activation(&self, pre: &Tensor) -> Result<Tensor> {
        match &self.weights.xielu {
            Some(numbers) => xielu(pre, numbers),
            None => self.act_fn.forward(pre),
        }
    }
}
