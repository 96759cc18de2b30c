//! Attention by how much it moves.

use candle_core::{D, DType, Tensor};

use super::attention::layers_of;
use super::random::beside_pattern;
use crate::analysis::linalg::lengths;
use crate::analysis::{Axis, LabelledTensor};
use crate::cache::{ActivationCache, AttentionPattern};
use crate::{Error, Result};

/// Whose norm attention is weighted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueNorm {
    /// The value at the key, ‖v‖.
    Value,
    /// What the value writes to the residual stream, ‖v W_O‖ (Kobayashi et al. 2020, arXiv 2004.10102).
    #[default]
    Result,
}

/// The pattern of a layer, each attention times the norm of what it moves, `[batch, head, query, key]` in f32. A key that a
/// head looks at and takes next to nothing from (BOS, often) fades. In a notebook it shows every head over the tokens.
///
/// The cache must hold the layer's pattern and v. The value biases that weight processing moved into b_O are in no value.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
/// let moved = value_weighted_pattern(&cache, 1, ValueNorm::Result)?;
/// assert_eq!(moved.dims(), cache.pattern(1)?.dims());
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the cache lacks the layer's pattern or values, or there are more keys than queries (a run behind a key-value cache).
pub fn value_weighted_pattern(cache: &ActivationCache, layer: usize, norm: ValueNorm) -> Result<AttentionPattern> {
    let pattern = cache.pattern(layer)?;
    let norms = value_norms(cache, layer, norm)?;
    let keys = norms.dims().last().copied().unwrap_or(0);
    if pattern.dims().last() != Some(&keys) {
        return Err(Error::msg(format!(
            "the pattern is {:?}, and there are values of {keys} keys: the run was behind a key-value cache. Run the whole \
             text at once",
            pattern.dims()
        )));
    }
    let weighted = pattern.to_dtype(DType::F32)?.broadcast_mul(&norms.unsqueeze(D::Minus2)?)?;
    Ok(pattern.with_tensor(weighted, "Value-weighted attention"))
}

/// How much each head writes to the residual stream, the norm of its result, `[layer, head, pos]`; the mean over the rows of
/// a batch. b_O belongs to no head. `.mean_over("pos")` makes a heatmap of heads.
///
/// The cache must hold z of every layer that has attention.
///
/// # Errors
/// When the model has no attention, or the cache lacks a z.
pub fn head_norms(cache: &ActivationCache) -> Result<LabelledTensor> {
    let model = cache.model();
    let layers = layers_of(model)?;
    let mut norms = Vec::with_capacity(layers.len());
    for &layer in &layers {
        let z = batched(cache, cache.get(beside_pattern(model, layer, "hook_z"))?)?;
        // [batch, pos, head]
        norms.push(lengths(&model.head_results(layer, &z)?)?);
    }
    let norms = Tensor::stack(&norms, 0)?;
    let (_, batch, pos, n_heads) = norms.dims4()?;
    let norms = match cache.tokens().and_then(|tokens| tokens.mask()) {
        None => norms.mean(1)?,
        Some(mask) => {
            let real: Vec<f32> = mask.iter().flatten().map(|&real| f32::from(u8::from(real))).collect();
            let real = Tensor::from_vec(real, (1, batch, pos, 1), norms.device())?;
            norms.broadcast_mul(&real)?.sum(1)?.broadcast_div(&real.sum(1)?)?
        }
    };
    let labels = match cache.tokens() {
        Some(tokens) if batch == 1 => tokens.str_tokens(0)?,
        _ => (0..pos).map(|at| at.to_string()).collect(),
    };
    let [layer, head] = super::attention::head_axes(&layers, n_heads);
    LabelledTensor::new("norm of what heads write", &norms.transpose(1, 2)?, [layer, head, Axis::new("pos", labels)])
}

/// The norm at each key, `[batch, head, key]` (`[head, key]` from a cache without batch).
fn value_norms(cache: &ActivationCache, layer: usize, norm: ValueNorm) -> Result<Tensor> {
    let norms = match norm {
        ValueNorm::Value => lengths(&values(cache, layer)?)?,
        ValueNorm::Result => lengths(&value_results(cache, layer)?)?,
    };
    let norms = norms.transpose(1, 2)?.contiguous()?;
    if cache.has_batch_dim() { Ok(norms) } else { Ok(norms.squeeze(0)?) }
}

/// What the value at each key writes to the residual stream, `[batch, key, head, d_model]`.
pub(super) fn value_results(cache: &ActivationCache, layer: usize) -> Result<Tensor> {
    cache.model().head_results(layer, &values(cache, layer)?)
}

/// The value of each query head at each key, `[batch, key, head, d_head]`.
fn values(cache: &ActivationCache, layer: usize) -> Result<Tensor> {
    let model = cache.model();
    let mut v = batched(cache, cache.get(beside_pattern(model, layer, "hook_v"))?)?;
    if model.cfg().latent_attention.is_some() {
        // Latent attention has heads before positions.
        v = v.transpose(1, 2)?;
    }
    let (batch, pos, groups, d_head) = v.dims4()?;
    let n_heads = model.cfg().n_heads;
    let v = v.unsqueeze(3)?.broadcast_as((batch, pos, groups, n_heads / groups, d_head))?;
    Ok(v.reshape((batch, pos, n_heads, d_head))?)
}

/// An activation with its batch axis.
fn batched(cache: &ActivationCache, activation: Tensor) -> Result<Tensor> {
    if cache.has_batch_dim() { Ok(activation) } else { Ok(activation.unsqueeze(0)?) }
}
