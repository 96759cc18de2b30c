//! What a run left behind, and its arithmetic.

mod attribution;
mod stack;

use std::ops::Deref;

use candle_core::{Device, Tensor};

use crate::hooks::{Activations, HookPoint, Hooks, Selector, all};
use crate::model::{HookedTransformer, Input, Logits, RunOptions, RunOutput};
use crate::tokens::Tokens;
use crate::{Error, Result};

pub use stack::Stack;

/// The activations of a run, by point, by (name, layer) or by full name, in the order in which they were made.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
/// let by_point = cache.get(resid_pre(1))?;
/// let by_name = cache.get(("resid_pre", 1))?;
/// let by_full_name = cache.get("blocks.1.hook_resid_pre")?;
/// assert_eq!(by_point.dims(), by_name.dims());
/// # let _ = by_full_name; Ok(()) }
/// ```
#[derive(Clone)]
pub struct ActivationCache {
    activations: Activations,
    model: HookedTransformer,
    tokens: Option<Tokens>,
    encoder_tokens: Option<Tokens>,
    has_batch_dim: bool,
}

impl ActivationCache {
    /// The activations that a run kept.
    pub fn new(model: &HookedTransformer, run: RunOutput) -> Self {
        Self {
            activations: Activations::new(run.cache),
            model: model.clone(),
            tokens: run.tokens,
            encoder_tokens: run.encoder_tokens,
            has_batch_dim: true,
        }
    }

    /// The one activation that `at` selects: a point (`pattern(5)`), a name with its layer (`("pattern", 5)`, negative
    /// from the end), or a full name.
    pub fn get(&self, at: impl Into<Selector>) -> Result<Tensor> {
        let at = at.into();
        match self.activations.get(at.clone()) {
            Ok(found) => Ok(found),
            Err(error) => {
                // Layers count in the whole model, also where the cache holds only some; and a point that the model
                // can't fire says why.
                let points = self.model.hook_points();
                match at.resolve(points)?[..] {
                    [one] if self.activations.contains(points[one].point.name()) => {
                        self.activations.by_name(points[one].point.name())
                    }
                    [one] => Err(Error::NotCached {
                        name: points[one].point.name().to_string(),
                        near: Vec::new(),
                        held: self.activations.len(),
                    }),
                    _ => Err(error),
                }
            }
        }
    }

    /// The attention of one layer over the tokens; in a notebook it shows every head. For an encoder-decoder, the decoder's
    /// own; those of the encoder and between the two are under `encoder_blocks.0.attn.hook_pattern` and
    /// `decoder_blocks.0.cross_attn.hook_pattern`.
    pub fn pattern(&self, layer: usize) -> Result<AttentionPattern> {
        Ok(AttentionPattern {
            tensor: self.get(self.model.pattern_point(layer))?,
            layer,
            tokens: self.tokens.clone(),
            has_batch_dim: self.has_batch_dim,
        })
    }

    /// Points and activations, in the order in which they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, (HookPoint, Tensor)> {
        self.activations.iter()
    }

    /// How many activations there are.
    pub fn len(&self) -> usize {
        self.activations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.activations.is_empty()
    }

    /// Whether it holds the activation of this full name.
    pub fn contains(&self, name: &str) -> bool {
        self.activations.contains(name)
    }

    /// The full names, in the order in which the activations were made.
    pub fn names(&self) -> Vec<String> {
        self.iter().map(|(point, _)| point.name().to_string()).collect()
    }

    /// The bytes that all activations take.
    pub fn size_in_bytes(&self) -> usize {
        self.iter().map(|(_, tensor)| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    /// The model that made it.
    pub fn model(&self) -> &HookedTransformer {
        &self.model
    }

    /// The tokens that the encoder of an encoder-decoder ran on; none for other models.
    pub fn encoder_tokens(&self) -> Option<&Tokens> {
        self.encoder_tokens.as_ref()
    }

    /// The tokens that the model (of an encoder-decoder: its decoder) ran on; none if it ran on a residual stream.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// Whether the activations have a batch dimension.
    pub fn has_batch_dim(&self) -> bool {
        self.has_batch_dim
    }

    /// The same cache on another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { activations: self.activations.map(|tensor| Ok(tensor.to_device(device)?))?, ..self.clone() })
    }

    /// The same cache without the batch dimension; an error unless the batch is one.
    pub fn remove_batch_dim(&self) -> Result<Self> {
        if !self.has_batch_dim {
            return Ok(self.clone());
        }
        if let Some((point, tensor)) = self.iter().find(|(_, tensor)| tensor.dims().first() != Some(&1)) {
            return Err(Error::msg(format!(
                "the batch dimension can be dropped only when it is 1; '{point}' has shape {:?}",
                tensor.dims()
            )));
        }
        let activations = self.activations.map(|tensor| Ok(tensor.squeeze(0)?))?;
        Ok(Self { activations, has_batch_dim: false, ..self.clone() })
    }
}

impl std::fmt::Debug for ActivationCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActivationCache of {:?} with {} activations", self.model, self.len())
    }
}

impl<'a> IntoIterator for &'a ActivationCache {
    type Item = &'a (HookPoint, Tensor);
    type IntoIter = std::slice::Iter<'a, (HookPoint, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The attention pattern of one layer, `[batch, head, query, key]` (`[head, query, key]` from a cache without batch).
///
/// Use it as the tensor that it is; in a notebook it shows every head over the tokens.
#[derive(Clone, Debug)]
pub struct AttentionPattern {
    tensor: Tensor,
    layer: usize,
    tokens: Option<Tokens>,
    has_batch_dim: bool,
}

impl AttentionPattern {
    /// The layer that it is of.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Other numbers over the same queries and keys.
    pub(crate) fn with_tensor(self, tensor: Tensor) -> Self {
        Self { tensor, ..self }
    }

    /// The pattern of one row of the batch, `[head, query, key]`.
    pub fn row(&self, row: usize) -> Result<Tensor> {
        if !self.has_batch_dim {
            return Ok(self.tensor.clone());
        }
        let rows = self.tensor.dim(0)?;
        if row >= rows {
            return Err(Error::msg(format!("there is no row {row}: the batch has {rows}")));
        }
        Ok(self.tensor.get(row)?)
    }

    /// The pattern of one head of the first row, `[query, key]`.
    pub fn head(&self, head: usize) -> Result<Tensor> {
        let row = self.row(0)?;
        let heads = row.dim(0)?;
        if head >= heads {
            return Err(Error::msg(format!("there is no head {head}: the layer has {heads}")));
        }
        Ok(row.get(head)?)
    }

    /// The tokens that it is over; none if the model ran on a residual stream.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }
}

impl Deref for AttentionPattern {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl HookedTransformer {
    /// Runs the whole model and keeps every activation: logits `[batch, pos, d_vocab]` and the cache.
    pub fn run_with_cache(&self, input: impl Into<Input>) -> Result<(Logits, ActivationCache)> {
        self.run_with_cache_of(input, all())
    }

    /// Runs the whole model and keeps the selected activations.
    pub fn run_with_cache_of(
        &self,
        input: impl Into<Input>,
        keep: impl Into<Selector>,
    ) -> Result<(Logits, ActivationCache)> {
        self.run_with_hooks_and_cache(input, &Hooks::new(), keep)
    }

    /// Runs the whole model with hooks active and keeps the selected activations, as the hooks left them.
    pub fn run_with_hooks_and_cache(
        &self,
        input: impl Into<Input>,
        hooks: &Hooks,
        keep: impl Into<Selector>,
    ) -> Result<(Logits, ActivationCache)> {
        let mut run = self.run(input, &RunOptions::new().hooks(hooks).cache(keep))?;
        let logits = run.logits.take().ok_or_else(|| Error::msg("the run gave no logits"))?;
        Ok((logits, ActivationCache::new(self, run)))
    }
}
