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

use crate::Result;
use crate::analysis::sweep::fitted;
use crate::hooks::HookPoint;

/// What a patch changes at a point, source - base, in f32 and the base's shape. Where both are the same nothing changes,
/// masked scores (-inf) included.
fn difference(point: &HookPoint, source: &Tensor, base: &Tensor) -> Result<Tensor> {
    let fits = fitted(point, source, base)?;
    let (source, base) = (fits.to_device(base.device())?.to_dtype(DType::F32)?, base.to_dtype(DType::F32)?);
    let same = source.eq(&base)?;
    Ok(same.where_cond(&base.zeros_like()?, &(source - &base)?)?)
}
