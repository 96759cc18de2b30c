//! Whether activations of one run can be put into another.

use candle_core::Tensor;

use crate::cache::ActivationCache;
use crate::hooks::HookPoint;
use crate::model::HookedTransformer;
use crate::{Error, Result};

/// An error unless activations can be taken from this cache to change runs of this model.
pub(crate) fn check_source(model: &HookedTransformer, source: &ActivationCache) -> Result<()> {
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

/// An activation of the source in the shape that it has in the base run; one prompt serves all.
pub(crate) fn fitted(point: &HookPoint, source: &Tensor, base: &Tensor) -> Result<Tensor> {
    source.broadcast_as(base.shape()).map_err(|_| {
        Error::msg(format!(
            "'{point}' has shape {:?} in the source and {:?} in the run to change: patching copies place by place, so give \
             prompts of equal length, and as many",
            source.dims(),
            base.dims()
        ))
    })
}
