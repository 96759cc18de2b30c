//! Scores on random tokens, which nothing but the heads' own work can predict.

use candle_core::{DType, Device, IndexOp, Tensor};

use super::{HeadAttention, HeadPattern};
use crate::analysis::circuits::Ends;
use crate::analysis::heads::attention::layers_of;
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

/// How much each head raises the logits of the tokens before it, `[layer, head]` in 0 to 1, measured on random tokens (after
/// Olsson et al. 2022's copying score): what the head writes goes through the unembedding, each logit less their mean, and
/// of all that is raised, this share is raised for tokens that the head can see. A head that copies nothing gets their share
/// of the vocabulary, next to nothing.
///
/// Unlike the eigenvalue score of [`full_ov_copying_scores`](crate::analysis::full_ov_copying_scores) it sees what the head
/// really does, with MLPs before it. Cost: one product with W_U for each head, 100 rows tall.
///
/// # Errors
/// When the model has no attention.
pub fn copying_scores(model: &HookedTransformer) -> Result<LabelledTensor> {
    let layers = layers_of(model)?;
    let length = length_for(model, COPIED)?;
    let repeated = repeated_random_tokens(model, ROWS, length, 0)?;
    let shown = repeated.shape().1 - length;
    let tokens = Tokens::from_ids(repeated.ids().iter().map(|row| row[..shown].to_vec()).collect())?;
    let z_points: Vec<HookPoint> = layers.iter().map(|&layer| beside_pattern(model, layer, "hook_z")).collect();
    let run = model.run(input_for(model, &tokens), &RunOptions::new().cache(z_points.clone()).no_logits())?;
    let cache = ActivationCache::new(model, run);
    let seen = Seen::new(&tokens, model.cfg().bidirectional)?;

    let ends = Ends::of(model);
    let unembedding = ends.unembedding()?.to_device(&Device::Cpu)?;
    let mut scores = Vec::with_capacity(layers.len());
    for (&layer, point) in layers.iter().zip(&z_points) {
        let results = ends.written_by_attention(layer, &model.head_results(layer, &cache.get(point)?)?)?;
        let results = results.to_device(&Device::Cpu)?;
        for head in 0..model.cfg().n_heads {
            let result = results.i((.., .., head))?.flatten_to(1)?;
            let logits = result.matmul(&unembedding)?;
            let raised = logits.broadcast_sub(&logits.mean_keepdim(1)?)?.relu()?;
            scores.push(seen.share_of(&raised)?);
        }
    }
    let scores = Tensor::from_vec(scores, (layers.len(), model.cfg().n_heads), &Device::Cpu)?;
    LabelledTensor::new("copying score", &scores, super::attention::head_axes(&layers, model.cfg().n_heads))
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

/// Which tokens each query sees.
struct Seen {
    /// The row's tokens for every query, `[batch * pos, pos]`.
    ids: Tensor,
    /// 1 where that token is seen, and is no repetition.
    counts: Tensor,
}

impl Seen {
    fn new(tokens: &Tokens, bidirectional: bool) -> Result<Self> {
        let (batch, pos) = tokens.shape();
        let (mut ids, mut counts) = (Vec::new(), Vec::new());
        for row in tokens.ids() {
            for query in 0..pos {
                ids.extend_from_slice(row);
                let counts_at = |key: usize| (bidirectional || key <= query) && !row[..key].contains(&row[key]);
                counts.extend((0..pos).map(|key| f32::from(u8::from(counts_at(key)))));
            }
        }
        let dims = (batch * pos, pos);
        Ok(Self {
            ids: Tensor::from_vec(ids, dims, &Device::Cpu)?,
            counts: Tensor::from_vec(counts, dims, &Device::Cpu)?,
        })
    }

    /// The mean share of what is raised, `[batch * pos, d_vocab]`, that falls on tokens that are seen.
    fn share_of(&self, raised: &Tensor) -> Result<f32> {
        let seen = (raised.gather(&self.ids, 1)? * &self.counts)?.sum(1)?;
        let all = raised.sum(1)?;
        let nothing = all.eq(0f32)?.to_dtype(DType::F32)?;
        Ok((seen / (all + nothing)?)?.mean_all()?.to_scalar()?)
    }
}
