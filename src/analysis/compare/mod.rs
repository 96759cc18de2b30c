//! Two prompts and one model: what inside of it is different, where, and how much.

mod align;
mod many;

use candle_core::{D, DType, Device, Tensor};

use super::lens::log_probs;
use super::linalg::lengths;
use super::{Axis, LabelledTensor};
use crate::cache::ActivationCache;
use crate::hooks::points::{attn_out, post, resid_post, resid_pre, z};
use crate::hooks::{HookPoint, matching};
use crate::model::{HookedTransformer, Input};
use crate::tokens::Tokens;
use crate::{Error, Result};

pub use align::Alignment;
pub use many::ManyComparisons;

/// Two prompts' activations side by side, made by [`HookedTransformer::compare`]. In a notebook it shows where the residual
/// streams differ.
///
/// Every measure is over the pairs of tokens that [`alignment`](Self::alignment) puts together.
#[derive(Clone, Debug)]
pub struct Comparison {
    model: HookedTransformer,
    caches: [ActivationCache; 2],
    alignment: Alignment,
}

/// A head or a neuron, the token where it differs most, and by how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The layer.
    pub layer: usize,
    /// The head, or the neuron.
    pub index: usize,
    /// The pair of tokens, as a place among the alignment's pairs.
    pub pair: usize,
    /// The length of what it writes differently, as a part of the residual stream's length there.
    pub size: f32,
}

impl HookedTransformer {
    /// Runs two prompts and puts their activations side by side. Token counts may differ: then the tokens are aligned by
    /// edit distance, and [`Comparison::alignment`] shows how.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let two = model.compare("Anna was very happy that day.", "Anna was very angry that day.")?;
    /// let stream = two.stream()?; // [layer, token]: how different the residual streams are
    /// let heads = two.top_heads(3)?; // who writes most of it
    /// assert_eq!(stream.at("token", 1)?.values()[0], 0.0); // nothing differs before the word
    /// # let _ = heads; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Several prompts on one side ([`compare_many`](Self::compare_many) takes pairs), no tokens in common, a model of encoder
    /// and decoder, and those of a run.
    pub fn compare(&self, a: impl Into<Input>, b: impl Into<Input>) -> Result<Comparison> {
        let run = |input: Input| -> Result<(ActivationCache, Tokens)> {
            let (_, cache) = self.run_with_cache_of(input, matching(is_compared))?;
            let tokens = cache.tokens().cloned().ok_or_else(|| Error::msg("only prompts of tokens can be compared"))?;
            match tokens.shape() {
                (1, _) => Ok((cache, tokens)),
                (rows, _) => Err(Error::msg(format!(
                    "one prompt was expected on each side, and there are {rows}; compare_many(..) takes pairs of prompts"
                ))),
            }
        };
        if self.cfg().encoder.is_some() {
            return Err(Error::msg("prompts of a model with encoder and decoder can't be compared yet"));
        }
        let ((a, a_tokens), (b, b_tokens)) = (run(a.into())?, run(b.into())?);
        let alignment = Alignment::of(&a_tokens, &b_tokens)?;
        if alignment.pairs().is_empty() {
            return Err(Error::msg("the two prompts have no tokens that could be put together"));
        }
        Ok(Comparison { model: self.clone(), caches: [a, b], alignment })
    }
}

/// What a comparison looks at.
fn is_compared(point: &HookPoint) -> bool {
    let name = point.name();
    let kinds = ["hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "hook_z", "mlp.hook_post"];
    kinds.iter().any(|kind| name.ends_with(kind))
}

impl Comparison {
    /// Which token stands for which.
    pub fn alignment(&self) -> &Alignment {
        &self.alignment
    }

    /// The activations of the first prompt and of the second.
    pub fn caches(&self) -> [&ActivationCache; 2] {
        [&self.caches[0], &self.caches[1]]
    }

    /// How different the residual streams are, `[layer, token]`: the length of the difference as a part of the streams' mean
    /// length; 0 where they are the same. The last row is the stream behind the last layer.
    pub fn stream(&self) -> Result<LabelledTensor> {
        let [a, b] = self.streams()?;
        let relative = lengths(&(&a - &b)?)?.div(&((lengths(&a)? + lengths(&b)?)? / 2.0)?)?;
        self.by_layer("difference of the residual streams, as a part of their length", &relative, self.stream_labels())
    }

    /// How alike the residual streams point, `[layer, token]`: their cosine, 1 where they are the same.
    pub fn stream_cosine(&self) -> Result<LabelledTensor> {
        let [a, b] = self.streams()?;
        let cosine = (&a * &b)?.sum(D::Minus1)?.div(&(lengths(&a)? * lengths(&b)?)?)?;
        self.by_layer("cosine of the residual streams", &cosine, self.stream_labels())
    }

    /// How differently the attention of each layer writes, `[layer, token]`: the length of the difference as a part of the mean
    /// length of the stream behind the layer.
    ///
    /// # Errors
    /// When a layer has none.
    pub fn attention(&self) -> Result<LabelledTensor> {
        self.component("difference of what the attention writes, as a part of the stream", |layer| {
            attn_out(layer).into()
        })
    }

    /// The same of the MLPs.
    ///
    /// # Errors
    /// When a layer has none.
    pub fn mlps(&self) -> Result<LabelledTensor> {
        self.component("difference of what the MLPs write, as a part of the stream", |layer| {
            crate::hooks::points::mlp_out(layer).into()
        })
    }

    /// How differently each head writes, `[layer, head, token]`, as [`attention`](Self::attention).
    ///
    /// # Errors
    /// When a layer has no attention.
    pub fn heads(&self) -> Result<LabelledTensor> {
        let streams = self.stream_lengths()?;
        let n_layers = self.model.cfg().n_layers;
        let mut layers = Vec::new();
        for layer in 0..n_layers {
            let [a, b] = self.both(|cache| cache.get(z(layer)))?;
            // What the bias adds is the same in both.
            let written = self.model.head_results(layer, &(a - b)?.unsqueeze(0)?)?.squeeze(0)?;
            layers.push(lengths(&written)?.broadcast_div(&streams.get(layer)?.unsqueeze(1)?)?.t()?);
        }
        let tensor = Tensor::stack(&layers, 0)?;
        let axes = [Axis::numbered("layer", n_layers), Axis::numbered("head", self.model.cfg().n_heads), self.tokens()];
        LabelledTensor::new("difference of what the heads write, as a part of the stream", &tensor, axes)
    }

    /// KL(first ‖ second) of what the two streams predict if the model stopped there (the logit lens), `[layer, token]`, in
    /// nats. The last row is of the model's own predictions.
    pub fn lens_kl(&self) -> Result<LabelledTensor> {
        let [a, b] = self.streams()?;
        let read = |stream: Tensor| log_probs(&self.model.logits_from_resid(&stream.unsqueeze(0)?)?.squeeze(0)?);
        let mut rows = Vec::new();
        // Layer by layer: the logits of all layers at once would be large.
        for layer in 0..a.dim(0)? {
            let (a, b) = (read(a.get(layer)?)?, read(b.get(layer)?)?);
            rows.push((a.exp()? * (a - b)?)?.sum(D::Minus1)?);
        }
        self.by_layer("KL of the logit lens (nats)", &Tensor::stack(&rows, 0)?, self.stream_labels())
    }

    /// The heads that write most differently, each at the token where it does so most.
    ///
    /// # Errors
    /// When a layer has no attention.
    pub fn top_heads(&self, k: usize) -> Result<Vec<Difference>> {
        let heads = self.heads()?;
        let n_heads = self.model.cfg().n_heads;
        let sizes: Vec<Vec<f32>> = heads.flatten(0, 1)?.to_vec2()?;
        Ok(largest(k, sizes.iter().enumerate().map(|(i, of_tokens)| (i / n_heads, i % n_heads, of_tokens.as_slice()))))
    }

    /// The neurons that write most differently, each at the token where it does so most: what its activation differs by,
    /// times the length of what it writes.
    ///
    /// # Errors
    /// When a layer has no plain MLP.
    pub fn top_neurons(&self, k: usize) -> Result<Vec<Difference>> {
        let (streams, w_out) = (self.stream_lengths()?, self.model.w_out()?);
        let mut found = Vec::new();
        for layer in 0..self.model.cfg().n_layers {
            let [a, b] = self.both(|cache| cache.get(post(layer)))?;
            let written = lengths(&w_out.get(layer)?)?;
            let sizes = (a - b)?.abs()?.broadcast_mul(&written)?.broadcast_div(&streams.get(layer)?.unsqueeze(1)?)?;
            let sizes: Vec<Vec<f32>> = sizes.t()?.to_vec2()?;
            found.extend(largest(k, sizes.iter().enumerate().map(|(i, of_tokens)| (layer, i, of_tokens.as_slice()))));
        }
        found.sort_by(|a, b| b.size.total_cmp(&a.size));
        found.truncate(k);
        Ok(found)
    }

    fn component(&self, title: &str, point: impl Fn(usize) -> crate::hooks::Selector) -> Result<LabelledTensor> {
        let streams = self.stream_lengths()?;
        let n_layers = self.model.cfg().n_layers;
        let mut rows = Vec::new();
        for layer in 0..n_layers {
            let [a, b] = self.both(|cache| cache.get(point(layer)))?;
            rows.push(lengths(&(a - b)?)?.div(&streams.get(layer)?)?);
        }
        self.by_layer(title, &Tensor::stack(&rows, 0)?, (0..n_layers).map(|layer| layer.to_string()).collect())
    }

    /// The mean length of the two streams behind each layer, `[layer, token]`.
    fn stream_lengths(&self) -> Result<Tensor> {
        let [a, b] = self.streams()?;
        let mean = ((lengths(&a)? + lengths(&b)?)? / 2.0)?;
        Ok(mean.narrow(0, 1, self.model.cfg().n_layers)?)
    }

    /// Both residual streams before each layer and behind the last, `[layer + 1, token, d_model]`.
    fn streams(&self) -> Result<[Tensor; 2]> {
        let n_layers = self.model.cfg().n_layers;
        let mut streams = [Vec::new(), Vec::new()];
        for layer in 0..=n_layers {
            let both = self.both(|cache| match layer == n_layers {
                true => cache.get(resid_post(layer - 1)),
                false => cache.get(resid_pre(layer)),
            })?;
            for (stream, one) in streams.iter_mut().zip(both) {
                stream.push(one);
            }
        }
        Ok([Tensor::stack(&streams[0], 0)?, Tensor::stack(&streams[1], 0)?])
    }

    /// An activation `[pos, ..]` of both prompts at the tokens that stand for each other, in f32 on the CPU.
    fn both(&self, get: impl Fn(&ActivationCache) -> Result<Tensor>) -> Result<[Tensor; 2]> {
        let pairs = self.alignment.pairs();
        let at = |cache: &ActivationCache, positions: Vec<u32>| -> Result<Tensor> {
            let activation = get(cache)?;
            let activation = if cache.has_batch_dim() { activation.squeeze(0)? } else { activation };
            let positions = Tensor::new(positions, activation.device())?;
            Ok(activation.contiguous()?.index_select(&positions, 0)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)
        };
        let positions = |side: fn(&(usize, usize)) -> usize| pairs.iter().map(|pair| side(pair) as u32).collect();
        Ok([at(&self.caches[0], positions(|pair| pair.0))?, at(&self.caches[1], positions(|pair| pair.1))?])
    }

    fn tokens(&self) -> Axis {
        Axis::new("token", self.alignment.labels())
    }

    fn stream_labels(&self) -> Vec<String> {
        let n_layers = self.model.cfg().n_layers;
        (0..n_layers).map(|layer| layer.to_string()).chain(["end".to_string()]).collect()
    }

    fn by_layer(&self, title: &str, values: &Tensor, layers: Vec<String>) -> Result<LabelledTensor> {
        LabelledTensor::new(title, values, [Axis::new("layer", layers), self.tokens()])
    }
}

/// The `k` with the largest size at any token.
fn largest<'a>(k: usize, all: impl Iterator<Item = (usize, usize, &'a [f32])>) -> Vec<Difference> {
    let mut found: Vec<Difference> = all
        .filter_map(|(layer, index, sizes)| {
            let pair = (0..sizes.len()).max_by(|&a, &b| sizes[a].total_cmp(&sizes[b]))?;
            Some(Difference { layer, index, pair, size: sizes[pair] })
        })
        .collect();
    found.sort_by(|a, b| b.size.total_cmp(&a.size));
    found.truncate(k);
    found
}
