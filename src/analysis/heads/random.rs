//! Scores on random tokens, which nothing but the heads' own work can predict.

use candle_core::{DType, Device, IndexOp, Tensor};

use super::attention::{head_axes, layers_of};
use super::values::value_results;
use super::{HeadAttention, HeadPattern};
use crate::analysis::circuits::Ends;
use crate::analysis::{LabelledTensor, repeated_random_tokens};
use crate::cache::ActivationCache;
use crate::hooks::HookPoint;
use crate::model::{HookedTransformer, Input, RunOptions};
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Rows of random tokens, and how many before they repeat (fewer where the context is short).
const ROWS: usize = 4;
const LENGTH: usize = 50;
/// Random tokens on which copying is measured, as in Olsson et al. 2022.
const COPIED: usize = 25;

/// The induction score of each head, `[layer, head]` in 0 to 1: on n random tokens, repeated, the mean attention from a token
/// to the one that followed it the first time, which is the diagonal of the pattern at 1 - n (Olsson et al. 2022; as in
/// TransformerLens' demos, the whole diagonal).
///
/// Four rows of 50 tokens (fewer where the context is short), the same ones in every call. For other tokens:
/// `HeadAttention::run(&model, repeated_random_tokens(&model, rows, n, seed)?)?.at_distance(n - 1)`.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let (head, score) = induction_scores(&model)?.top_k(1).remove(0);
/// println!("L{}H{} looks there with {:.0}%", head[0], head[1], 100.0 * score);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the model has no attention, or its context holds no two tokens.
pub fn induction_scores(model: &HookedTransformer) -> Result<LabelledTensor> {
    let (attention, length) = on_repeated_tokens(model)?;
    Ok(attention.at_distance(length as i64 - 1)?.with_title("induction score"))
}

/// The prefix-matching score of each head, `[layer, head]` in 0 to 1: on random tokens that repeat, the mean attention from a
/// token that occurred before to those that followed it (Olsson et al. 2022). Tokens as for [`induction_scores`].
///
/// # Errors
/// When the model has no attention, or its context holds no two tokens.
pub fn prefix_matching_scores(model: &HookedTransformer) -> Result<LabelledTensor> {
    let (attention, _) = on_repeated_tokens(model)?;
    Ok(attention.attention_to(HeadPattern::Induction)?.with_title("prefix-matching score"))
}

/// How much each head raises the logit of the token that it looks at, `[layer, head]` in -1 to 1, measured on random tokens
/// (the question of Olsson et al. 2022's copying score, asked by ranks): what the value at a key writes goes through the
/// unembedding, and the key's own token is the highest of all logits (1), in their middle (0: no copying) or the lowest
/// (-1). The mean over keys, by the attention that they get; BOS is left out.
///
/// Unlike the eigenvalue score of [`full_ov_copying_scores`](crate::analysis::full_ov_copying_scores) it sees what the head
/// really does, with MLPs before it. Cost: one product with W_U for each head, 100 rows tall.
///
/// # Errors
/// When the model has no attention.
pub fn copying_scores(model: &HookedTransformer) -> Result<LabelledTensor> {
    let layers = layers_of(model)?;
    let (tokens, length) = random_tokens(model)?;
    let (batch, pos) = tokens.shape();
    let points: Vec<HookPoint> =
        layers.iter().flat_map(|&layer| [model.pattern_point(layer), beside_pattern(model, layer, "hook_v")]).collect();
    let run = model.run(input_for(model, &tokens), &RunOptions::new().cache(points).no_logits())?;
    let cache = ActivationCache::new(model, run);

    let (n_heads, ends) = (model.cfg().n_heads, Ends::of(model));
    let unembedding = ends.unembedding()?.to_device(&Device::Cpu)?;
    let own = tokens.tensor(&Device::Cpu)?.reshape((batch * pos, 1))?;
    // The random ones, not the BOS before them.
    let is_random = |at: usize| f32::from(u8::from(at + length >= pos));
    let random = Tensor::from_vec((0..pos).map(is_random).collect(), pos, &Device::Cpu)?;
    let mut scores = Vec::with_capacity(layers.len() * n_heads);
    for &layer in &layers {
        // How much attention each key gets, [batch, head, key], and what its value writes, [batch, key, head, d_model].
        let pattern = cache.pattern(layer)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let attended = pattern.sum(2)?.broadcast_mul(&random)?;
        let written = ends.written_by_attention(layer, &value_results(&cache, layer)?)?.to_device(&Device::Cpu)?;
        for head in 0..n_heads {
            let logits = written.i((.., .., head))?.flatten_to(1)?.matmul(&unembedding)?;
            let lower = logits.broadcast_lt(&logits.gather(&own, 1)?)?.to_dtype(DType::F32)?.sum(1)?;
            let rank = lower.affine(2.0 / (logits.dim(1)?.max(2) - 1) as f64, -1.0)?;
            let attended = attended.i((.., head))?.flatten_all()?;
            let all: f32 = attended.sum_all()?.to_scalar()?;
            let copied: f32 = (rank * attended)?.sum_all()?.to_scalar()?;
            scores.push(if all > 0.0 { copied / all } else { 0.0 });
        }
    }
    let scores = Tensor::from_vec(scores, (layers.len(), n_heads), &Device::Cpu)?;
    LabelledTensor::new("copying score", &scores, head_axes(&layers, n_heads))
}

/// The attention over random tokens that repeat, and how many there are before they do.
pub(super) fn on_repeated_tokens(model: &HookedTransformer) -> Result<(HeadAttention, usize)> {
    layers_of(model)?;
    let length = length_for(model, LENGTH)?;
    let tokens = repeated_random_tokens(model, ROWS, length, 0)?;
    Ok((HeadAttention::run(model, input_for(model, &tokens))?, length))
}

/// The point of a layer that lies beside its pattern: `hook_z`, `hook_v`.
pub(super) fn beside_pattern(model: &HookedTransformer, layer: usize, hook: &str) -> HookPoint {
    HookPoint::new(model.pattern_point(layer).name().replace("hook_pattern", hook))
}

/// As many tokens as fit twice behind a BOS, at most `wanted`.
fn length_for(model: &HookedTransformer, wanted: usize) -> Result<usize> {
    match (model.cfg().n_ctx.saturating_sub(1) / 2).min(wanted) {
        0 => Err(Error::msg("the model's context holds no two tokens after a BOS, so nothing can repeat in it")),
        length => Ok(length),
    }
}

/// The tokens for the model; an encoder-decoder's decoder gets what its encoder gets.
fn input_for(model: &HookedTransformer, tokens: &Tokens) -> Input {
    if model.has_encoder() { (tokens, tokens).into() } else { tokens.into() }
}

/// Rows of random tokens that do not repeat, behind a BOS where the model wants one, and how many they are without it.
fn random_tokens(model: &HookedTransformer) -> Result<(Tokens, usize)> {
    let length = length_for(model, COPIED)?;
    let repeated = repeated_random_tokens(model, ROWS, length, 0)?;
    let once = repeated.shape().1 - length;
    Ok((Tokens::from_ids(repeated.ids().iter().map(|row| row[..once].to_vec()).collect())?, length))
}
