//! Attribution patching: what activation patching would give, by gradients, for all places at once (Nanda 2023,
//! <https://neelnanda.io/attribution-patching>; Syed et al. 2023, arXiv 2310.10348).
//!
//! A patch changes an activation from what it is in the base run to what it is in the source run; to first order, the metric
//! changes by that difference times the metric's gradient in the base run. That takes one run for the source and one with a
//! backward pass for the base, where patching takes one run for each place. The approximation fails where the metric is far
//! from linear between the two (the residual stream of early layers, saturated patterns): [`agreement`] compares it with
//! true patching, and integrated gradients mend much of it.

mod agreement;
mod circuit;
mod edges;
mod nodes;
mod stream;

pub use agreement::{Agreement, agreement};
pub use circuit::CircuitGraph;
pub use edges::{Edge, EdgeScores};
pub use nodes::Attribution;

use candle_core::{DType, Tensor};

use crate::cache::ActivationCache;
use crate::hooks::HookPoint;
use crate::model::HookedTransformer;
use crate::{Error, Result};

/// An error unless activations can be taken from this cache to change runs of this model.
fn check_source(model: &HookedTransformer, source: &ActivationCache) -> Result<()> {
    if !source.model().is(model) {
        return Err(Error::msg(
            "the source is the cache of another model (or of another load of the same one): cache a run of the model that \
             is to be changed",
        ));
    }
    if !source.has_batch_dim() {
        return Err(Error::msg("the source has no batch dimension; give the cache as run_with_cache gave it"));
    }
    Ok(())
}

/// What a patch changes at a point, source - base, in f32 and the base's shape. Where both are the same nothing changes,
/// masked scores (-inf) included.
fn difference(point: &HookPoint, source: &Tensor, base: &Tensor) -> Result<Tensor> {
    let fits = source.broadcast_as(base.shape()).map_err(|_| {
        Error::msg(format!(
            "'{point}' has shape {:?} in the source and {:?} in the run to change: patching copies place by place, so give \
             prompts of equal length, and as many",
            source.dims(),
            base.dims()
        ))
    })?;
    let (source, base) = (fits.to_device(base.device())?.to_dtype(DType::F32)?, base.to_dtype(DType::F32)?);
    let same = source.eq(&base)?;
    Ok(same.where_cond(&base.zeros_like()?, &(source - &base)?)?)
}
