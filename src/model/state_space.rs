//! State-space mixers in the attention's place, and the hook points that they share.

use candle_core::Tensor;

use super::config::ModelConfig;
use super::kv_cache::LayerCache;
use super::mamba::Mamba;
use super::mamba2::Mamba2;
use super::surroundings::Surroundings;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::MixerWeights;
use crate::{Error, Result};

/// The settings of a model's state-space mixers.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSpace {
    /// Number of channels.
    pub d_inner: usize,
    /// Size of the state of each channel.
    pub d_state: usize,
    /// Positions that the convolution reads.
    pub kernel: usize,
    /// Rank of the time steps (Mamba).
    pub dt_rank: usize,
    /// Groups of heads that share what is written to the states and read from them (Mamba-2).
    pub n_groups: usize,
    /// Smallest and largest time step (Mamba-2); the largest may be infinite.
    pub dt_limit: (f64, f64),
}

/// One layer's mixer.
#[derive(Clone, Debug)]
pub(super) enum StateSpaceMixer {
    Mamba(Mamba),
    Mamba2(Mamba2),
}

/// An activation with a name of its own and further ones, which are there on request.
#[derive(Clone, Debug)]
pub(super) struct Named {
    point: HookPoint,
    others: Vec<HookPoint>,
    shape: &'static str,
}

impl StateSpaceMixer {
    /// The mixer of the block called `block`, as in `blocks.0`.
    pub(super) fn new(block: &str, weights: MixerWeights, cfg: &ModelConfig) -> Result<Self> {
        match weights {
            MixerWeights::Mamba(weights) => Ok(Self::Mamba(Mamba::new(block, weights, cfg)?)),
            MixerWeights::Mamba2(weights) => Ok(Self::Mamba2(Mamba2::new(block, weights, cfg)?)),
            _ => Err(Error::msg("a state-space mixer needs a state-space mixer's weights")),
        }
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        match self {
            Self::Mamba(mamba) => mamba.hook_points(),
            Self::Mamba2(mamba) => mamba.hook_points(),
        }
    }

    /// From the normalised stream `[batch, pos, d_model]` to the same shape.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        around: &Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        match self {
            Self::Mamba(mamba) => mamba.forward(x, around, past, tap),
            Self::Mamba2(mamba) => mamba.forward(x, around, past, tap),
        }
    }

    pub(super) fn weights(&self) -> MixerWeights {
        match self {
            Self::Mamba(mamba) => MixerWeights::Mamba(mamba.weights().clone()),
            Self::Mamba2(mamba) => MixerWeights::Mamba2(mamba.weights().clone()),
        }
    }
}

impl Named {
    /// `block.names[0]`, and the other names.
    pub(super) fn new(block: &str, names: &[&str], shape: &'static str) -> Self {
        let mut points = names.iter().map(|name| HookPoint::new(format!("{block}.{name}")));
        let point = points.next().unwrap_or_else(|| HookPoint::new(block));
        Self { point, others: points.collect(), shape }
    }

    pub(super) fn points(&self) -> Vec<PointInfo> {
        let others = self.others.iter().map(|point| PointInfo::on_request(point, self.shape));
        std::iter::once(PointInfo::always(&self.point, self.shape)).chain(others).collect()
    }

    pub(super) fn pass(&self, tap: &mut Tap, mut activation: Tensor) -> Result<Tensor> {
        for point in std::iter::once(&self.point).chain(&self.others) {
            activation = tap.pass(point, activation)?;
        }
        Ok(activation)
    }
}

/// The settings, or an error: a state-space mixer can't do without.
pub(super) fn settings(cfg: &ModelConfig) -> Result<&StateSpace> {
    let missing = || Error::msg("the weights have state-space mixers, and the configuration says nothing of them");
    cfg.state_space.as_ref().ok_or_else(missing)
}

/// Why attention's points never fire in such a block.
pub(super) const NO_ATTENTION: &str =
    "the block has a state-space mixer (its points begin with mixer.) and no attention";

/// x with zeros where the token is padding: states must not hold anything of it.
pub(super) fn without_padding(x: Tensor, around: &Surroundings) -> Result<Tensor> {
    match around.masks.real_queries()? {
        Some(real) => Ok(x.broadcast_mul(&real.to_dtype(x.dtype())?)?),
        None => Ok(x),
    }
}
