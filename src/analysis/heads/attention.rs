//! The attention of all heads, and what it scores.

use candle_core::{D, DType, Device, Tensor};

use super::HeadPattern;
use crate::analysis::{Axis, LabelledTensor};
use crate::cache::ActivationCache;
use crate::hooks::HookPoint;
use crate::model::{HookedTransformer, Input, RunOptions};
use crate::tokens::Tokens;
use crate::{Error, Result};

/// The attention patterns of every head over one row of tokens or several, in f32 on the CPU.
///
/// All scores are `[layer, head]` (query heads, also where several share keys), each the mean over the rows; padding is
/// left out. Of an encoder-decoder it is the decoder's own attention. The layers are those that have attention.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let heads = HeadAttention::run(&model, "John gave a book to Mary. Then Mary gave it to John.")?;
/// println!("{:?}", heads.attention_to(HeadPattern::PreviousToken)?.top_k(3));
/// assert_eq!(heads.entropy()?.dims(), [model.cfg().n_layers, model.cfg().n_heads]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct HeadAttention {
    layers: Vec<usize>,
    n_heads: usize,
    bidirectional: bool,
    rows: Vec<Row>,
}

/// One row of the batch, without its padding.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// None if the model ran on a residual stream.
    pub(super) ids: Option<Vec<u32>>,
    /// The pattern of each layer, `[head, query, key]`.
    pub(super) patterns: Vec<Tensor>,
    pub(super) n: usize,
}

impl HeadAttention {
    /// Runs the model and keeps the patterns. Memory: layers x heads x pos² floats for each row.
    ///
    /// # Errors
    /// When no layer has attention, and those of a run.
    pub fn run(model: &HookedTransformer, input: impl Into<Input>) -> Result<Self> {
        let points: Vec<HookPoint> = layers_of(model)?.into_iter().map(|layer| model.pattern_point(layer)).collect();
        let run = model.run(input, &RunOptions::new().cache(points).no_logits())?;
        Self::of(&ActivationCache::new(model, run))
    }

    /// From the patterns in a cache.
    ///
    /// # Errors
    /// When no layer has attention, when the cache lacks a pattern, or when there are more keys than queries (a run behind
    /// a key-value cache).
    pub fn of(cache: &ActivationCache) -> Result<Self> {
        let model = cache.model();
        let layers = layers_of(model)?;
        let mut patterns = Vec::with_capacity(layers.len());
        for &layer in &layers {
            let pattern = cache.pattern(layer)?.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            patterns.push(if cache.has_batch_dim() { pattern } else { pattern.unsqueeze(0)? });
        }
        Self::new(layers, patterns, cache.tokens(), model.cfg().bidirectional)
    }

    /// From the pattern of each layer, `[batch, head, query, key]`.
    pub(super) fn new(
        layers: Vec<usize>,
        patterns: Vec<Tensor>,
        tokens: Option<&Tokens>,
        bidirectional: bool,
    ) -> Result<Self> {
        let Some(first) = patterns.first() else { return Err(Error::msg("there is no layer with attention")) };
        let (batch, n_heads, queries, keys) = first.dims4()?;
        if queries != keys {
            return Err(Error::msg(format!(
                "the pattern has {queries} queries and {keys} keys: it is of a run behind a key-value cache. Run the whole \
                 text at once"
            )));
        }
        if let Some(tokens) = tokens.filter(|tokens| tokens.shape() != (batch, queries)) {
            return Err(Error::msg(format!(
                "the patterns are of {batch} rows of {queries} tokens, and the tokens are {:?}",
                tokens.shape()
            )));
        }
        let row = |row: usize| -> Result<Row> {
            let real: Vec<usize> = match tokens.and_then(|tokens| tokens.mask()) {
                Some(mask) => (0..queries).filter(|&at| mask[row][at]).collect(),
                None => (0..queries).collect(),
            };
            if real.len() < 2 {
                return Err(Error::msg(format!(
                    "row {row} has {} token: what a head looks at shows from two tokens on",
                    real.len()
                )));
            }
            let patterns = patterns.iter().map(|layer| without_padding(&layer.get(row)?, &real));
            Ok(Row {
                ids: tokens.map(|tokens| real.iter().map(|&at| tokens.ids()[row][at]).collect()),
                patterns: patterns.collect::<Result<_>>()?,
                n: real.len(),
            })
        };
        Ok(Self { layers, n_heads, bidirectional, rows: (0..batch).map(row).collect::<Result<_>>()? })
    }

    /// The layers that have attention: the places of the axis `layer`.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// How many heads a layer has.
    pub fn n_heads(&self) -> usize {
        self.n_heads
    }

    /// How many tokens each row has, without padding.
    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.n).collect()
    }

    /// The mean attention to the keys of a pattern, over the queries that have such a key, `[layer, head]` in 0 to 1.
    ///
    /// For [`HeadPattern::PreviousToken`] it is the previous-token score, for [`HeadPattern::Induction`] the
    /// prefix-matching score (Olsson et al. 2022). Rows where no query has such a key are left out.
    ///
    /// # Errors
    /// When no query of any row has such a key (no token occurs twice), and those of an own pattern.
    pub fn attention_to(&self, pattern: impl Into<HeadPattern>) -> Result<LabelledTensor> {
        let pattern = pattern.into();
        let title = format!("attention to {}", pattern.name());
        let none = "no token of the input has a key of this pattern: for duplicates and induction a token must occur \
                    twice. Give a text that repeats itself, or repeated_random_tokens(..)";
        self.attention_where(&pattern)?.ok_or_else(|| Error::msg(none)).and_then(|scores| self.labelled(title, &scores))
    }

    /// As [`attention_to`](Self::attention_to); none where no query has such a key.
    pub(super) fn attention_where(&self, pattern: &HeadPattern) -> Result<Option<Tensor>> {
        let mut scores = Vec::new();
        for row in &self.rows {
            let looked_at = self.pattern_over(pattern, row)?;
            let queries: f32 = looked_at.max(1)?.gt(0f32)?.to_dtype(DType::F32)?.sum_all()?.to_scalar()?;
            if queries > 0.0 {
                scores.push(row.per_head(|attention| {
                    Ok((attention.broadcast_mul(&looked_at)?.sum(D::Minus1)?.sum(D::Minus1)? / f64::from(queries))?)
                })?);
            }
        }
        if scores.is_empty() { Ok(None) } else { Ok(Some(mean(&scores)?)) }
    }

    /// The mean attention from each token to the one `distance` before it, `[layer, head]`: the mean of a diagonal of the
    /// pattern. Negative distances look ahead, where tokens see both ways.
    ///
    /// On n random tokens that are repeated, the distance n - 1 gives the induction score.
    ///
    /// # Errors
    /// When a row has no two tokens so far apart.
    pub fn at_distance(&self, distance: i64) -> Result<LabelledTensor> {
        let score = |row: &Row| -> Result<Tensor> {
            let (n, apart) = (row.n, distance.unsigned_abs() as usize);
            if apart >= n {
                return Err(Error::msg(format!(
                    "no two tokens are {distance} apart: a row has {n} tokens, so give at most {}",
                    n - 1
                )));
            }
            let pairs = n - apart;
            let place = |i: usize| if distance >= 0 { (i + apart) * n + i } else { i * n + i + apart };
            let diagonal = Tensor::from_vec((0..pairs).map(|i| place(i) as u32).collect(), pairs, &Device::Cpu)?;
            row.per_head(|attention| {
                Ok(attention.flatten_from(1)?.contiguous()?.index_select(&diagonal, 1)?.mean(1)?)
            })
        };
        self.mean_of(format!("attention to the token {distance} before"), score)
    }

    /// The mean entropy of a query's attention in nats, `[layer, head]`: 0 for a head that looks at one key, ln(keys) for
    /// one that looks at all alike. The first query of a causal model has no choice, and is left out.
    pub fn entropy(&self) -> Result<LabelledTensor> {
        self.mean_of("entropy of the attention (nats)", |row| {
            self.per_query(row, |attention| {
                let logarithms = attention.clamp(f32::MIN_POSITIVE, 1f32)?.log()?;
                Ok((attention * logarithms)?.sum(D::Minus1)?.neg()?)
            })
        })
    }

    /// The mean attention to the first token, `[layer, head]`: BOS, where there is one. High for a head that rests. The
    /// first query of a causal model has no choice, and is left out.
    pub fn to_first(&self) -> Result<LabelledTensor> {
        self.mean_of("attention to the first token", |row| {
            self.per_query(row, |attention| Ok(attention.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?))
        })
    }

    /// The mean attention of a token to itself, `[layer, head]`. The first query of a causal model has no choice, and is
    /// left out.
    pub fn to_self(&self) -> Result<LabelledTensor> {
        self.mean_of("attention to the token itself", |row| {
            let diagonal = Tensor::eye(row.n, DType::F32, &Device::Cpu)?;
            self.per_query(row, |attention| Ok(attention.broadcast_mul(&diagonal)?.sum(D::Minus1)?))
        })
    }

    /// A number for each query, `[head, query]`, averaged over those that have a choice.
    fn per_query(&self, row: &Row, score: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let first = usize::from(!self.bidirectional);
        row.per_head(|attention| Ok(score(attention)?.narrow(1, first, row.n - first)?.mean(1)?))
    }

    /// A score for each row, `[layer, head]`, averaged over the rows.
    pub(super) fn mean_of(
        &self,
        title: impl Into<String>,
        score: impl Fn(&Row) -> Result<Tensor>,
    ) -> Result<LabelledTensor> {
        let scores = self.rows.iter().map(score).collect::<Result<Vec<_>>>()?;
        self.labelled(title, &mean(&scores)?)
    }

    /// A pattern over the tokens of a row, `[pos, pos]`.
    pub(super) fn pattern_over(&self, pattern: &HeadPattern, row: &Row) -> Result<Tensor> {
        match &row.ids {
            Some(ids) => pattern.over(ids, self.bidirectional),
            None if pattern.needs_tokens() => Err(Error::msg(
                "the model ran on a residual stream, so its tokens are not known, and this pattern needs them",
            )),
            None => pattern.over(&vec![0; row.n], self.bidirectional),
        }
    }

    /// Scores `[layer, head]` under their axes.
    pub(super) fn labelled(&self, title: impl Into<String>, scores: &Tensor) -> Result<LabelledTensor> {
        LabelledTensor::new(title, scores, head_axes(&self.layers, self.n_heads))
    }
}

impl Row {
    /// From the attention of each layer, `[head, query, key]`, a number for each head: `[layer, head]`.
    pub(super) fn per_head(&self, score: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        Ok(Tensor::stack(&self.patterns.iter().map(score).collect::<Result<Vec<_>>>()?, 0)?)
    }
}

/// The axes `layer` and `head`.
pub(crate) fn head_axes(layers: &[usize], n_heads: usize) -> [Axis; 2] {
    [Axis::new("layer", layers.iter().map(usize::to_string)), Axis::numbered("head", n_heads)]
}

/// The layers of a model that have attention.
///
/// # Errors
/// When none has.
pub(super) fn layers_of(model: &HookedTransformer) -> Result<Vec<usize>> {
    let layers = model.layers_with_patterns();
    if layers.is_empty() {
        return Err(Error::msg(
            "the model has no attention heads: its layers have state-space mixers. What they mix shows by patching and \
             ablation, not in patterns",
        ));
    }
    Ok(layers)
}

fn mean(rows: &[Tensor]) -> Result<Tensor> {
    Ok(Tensor::stack(rows, 0)?.mean(0)?)
}

/// `[head, query, key]` at the positions that are real.
fn without_padding(pattern: &Tensor, real: &[usize]) -> Result<Tensor> {
    if real.len() == pattern.dim(1)? {
        return Ok(pattern.contiguous()?);
    }
    let real = Tensor::from_vec(real.iter().map(|&at| at as u32).collect(), real.len(), pattern.device())?;
    Ok(pattern.contiguous()?.index_select(&real, 1)?.index_select(&real, 2)?)
}
