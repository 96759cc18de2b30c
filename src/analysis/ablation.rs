//! Hooks that take parts of a model out of the game: chosen heads and neurons, or all heads but some.
//!
//! For one part at a time, everywhere, there is [`HookedTransformer::sweep`](crate::model::HookedTransformer::sweep); these hooks are
//! for several at once, as when a circuit is tested: they go wherever hooks go, alone or with others (`.and(&other)`).

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::sweep::Region;
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, points};
use crate::model::ModelConfig;
use crate::{Error, Result};

/// Heads, `(layer, head)`, whose z is zero: they write nothing to the residual stream but b_O.
///
/// ```
/// use candlescope::analysis::ablation::zero_heads;
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let prompt = "After John and Mary went to the store, Mary gave a bottle of milk to";
/// let without = model.run_with_hooks(prompt, &zero_heads([(1, 3), (2, 0)]))?;
/// # let _ = without; Ok(()) }
/// ```
pub fn zero_heads(heads: impl IntoIterator<Item = (usize, usize)>) -> Hooks {
    zero(heads, points::z)
}

/// Neurons, `(layer, neuron)`, that are zero behind the activation function.
pub fn zero_neurons(neurons: impl IntoIterator<Item = (usize, usize)>) -> Hooks {
    zero(neurons, points::post)
}

/// Heads, `(layer, head)`, whose z is the mean over the prompts and positions of a reference run.
///
/// # Errors
/// When the reference does not hold z of such a layer.
pub fn mean_heads(heads: impl IntoIterator<Item = (usize, usize)>, reference: &ActivationCache) -> Result<Hooks> {
    mean(heads, points::z, reference, false)
}

/// Heads, `(layer, head)`, whose z is at each position the mean over the prompts of a reference run there: what a head does in
/// all prompts alike stays (Wang et al. 2022, arXiv 2211.00593). The run's prompts must be as long as the reference's.
///
/// # Errors
/// When the reference does not hold z of such a layer.
pub fn mean_heads_by_position(
    heads: impl IntoIterator<Item = (usize, usize)>,
    reference: &ActivationCache,
) -> Result<Hooks> {
    mean(heads, points::z, reference, true)
}

/// Neurons, `(layer, neuron)`, that are the mean over the prompts and positions of a reference run.
///
/// # Errors
/// When the reference does not hold `post` of such a layer.
pub fn mean_neurons(neurons: impl IntoIterator<Item = (usize, usize)>, reference: &ActivationCache) -> Result<Hooks> {
    mean(neurons, points::post, reference, false)
}

/// Every head but these, `(layer, head)`, for one of the other functions: what is left when all else is taken out is the
/// circuit of `heads` (Wang et al. 2022, arXiv 2211.00593, call its score faithfulness).
pub fn all_heads_but(cfg: &ModelConfig, heads: impl IntoIterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let kept: Vec<(usize, usize)> = heads.into_iter().collect();
    let all = (0..cfg.n_layers).flat_map(|layer| (0..cfg.n_heads).map(move |head| (layer, head)));
    all.filter(|head| !kept.contains(head)).collect()
}

fn zero(places: impl IntoIterator<Item = (usize, usize)>, point: fn(usize) -> HookPoint) -> Hooks {
    by_layer(places).into_iter().fold(Hooks::new(), |hooks, (layer, places)| {
        hooks.edit(point(layer), move |activation, point| {
            let region = region(activation, point, &places)?;
            region.put(activation, &region.of(activation)?.zeros_like()?)
        })
    })
}

fn mean(
    places: impl IntoIterator<Item = (usize, usize)>,
    point: fn(usize) -> HookPoint,
    reference: &ActivationCache,
    keep_positions: bool,
) -> Result<Hooks> {
    let mut hooks = Hooks::new();
    for (layer, places) in by_layer(places) {
        let mut mean = reference.get(point(layer))?.to_dtype(DType::F32)?.mean_keepdim(0)?;
        if !keep_positions {
            mean = mean.mean_keepdim(1)?;
        }
        hooks = hooks.edit(point(layer), move |activation, point| {
            let region = region(activation, point, &places)?;
            let mean = mean.to_device(activation.device())?.to_dtype(activation.dtype())?;
            let mean = mean.broadcast_as(activation.shape()).map_err(|_| {
                Error::msg(format!(
                    "'{point}' has {} positions here and {} in the reference: give a reference of prompts of the same length",
                    activation.dims().get(1).copied().unwrap_or(0),
                    mean.dims().get(1).copied().unwrap_or(0)
                ))
            })?;
            region.put(activation, &region.of(&mean)?)
        });
    }
    Ok(hooks)
}

/// The places of each layer in ascending order, each once.
fn by_layer(places: impl IntoIterator<Item = (usize, usize)>) -> BTreeMap<usize, Vec<usize>> {
    let mut layers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, place) in places {
        layers.entry(layer).or_default().push(place);
    }
    for places in layers.values_mut() {
        places.sort_unstable();
        places.dedup();
    }
    layers
}

/// Places of the third axis, which is the heads' in z and the neurons' behind the activation function.
fn region(activation: &Tensor, point: &HookPoint, places: &[usize]) -> Result<Region> {
    let axis = 2;
    let len = activation.dims().get(axis).copied().unwrap_or(0);
    if let Some(place) = places.iter().find(|&&place| place >= len) {
        return Err(Error::msg(format!("there is no place {place} in '{point}': it has {len}, counted from 0")));
    }
    Ok(Region(vec![(axis, places.to_vec())]))
}
