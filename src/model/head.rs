//! The head of a masked language model: a linear layer and an activation function before the last norm.

use candle_core::Tensor;

use super::activations::Activation;
use super::linear::linear;
use crate::Result;
use crate::weights::HeadWeights;

/// act(x W + b).
#[derive(Clone, Debug)]
pub(super) struct Head {
    weights: HeadWeights,
    act_fn: Activation,
}

impl Head {
    pub(super) fn new(weights: HeadWeights, act_fn: Activation) -> Self {
        Self { weights, act_fn }
    }

    /// `[batch, pos, d_model]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.act_fn.forward(&linear(x, &self.weights.w, self.weights.b.as_ref())?)
    }

    pub(super) fn weights(&self) -> &HeadWeights {
        &self.weights
    }
}
