//! What a run left behind, and its arithmetic.

mod decomposition;
mod neurons;
mod norm;
mod pattern;
mod save;
mod slice;
mod slicing;
mod stack;
mod stream;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::hooks::{Activations, HookPoint, Hooks, Selector, all};
use crate::model::{HookedTransformer, Input, Logits, RunOptions, RunOutput};
use crate::tokens::Tokens;
use crate::{Error, Result};

pub use crate::model::StreamPlace;
pub use decomposition::Decomposition;
pub(crate) use norm::Reader;
pub use pattern::AttentionPattern;
pub use slice::Slice;
pub use stack::Stack;

/// What slicing had to leave out, and why.
type LeftOut = Arc<Vec<(String, String)>>;

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
    has_pos_dim: bool,
    /// The tokens of all keys, where `tokens` are those of some positions.
    key_tokens: Option<Tokens>,
    /// Which positions these are; none if all are there.
    places: Option<Vec<usize>>,
    left_out: LeftOut,
}

impl ActivationCache {
    /// The activations that a run kept.
    pub fn new(model: &HookedTransformer, run: RunOutput) -> Self {
        Self {
            activations: Activations::new(run.cache),
            model: model.clone(),
            key_tokens: run.tokens.clone(),
            tokens: run.tokens,
            encoder_tokens: run.encoder_tokens,
            has_batch_dim: true,
            has_pos_dim: true,
            places: None,
            left_out: Arc::default(),
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
                let found = at.resolve(points)?;
                if let [one] = found[..]
                    && let Some((name, why)) = self.why_left_out(points[one].point.name())
                {
                    return Err(Error::msg(format!("'{name}' is not in this cache: {why}")));
                }
                match found[..] {
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

    fn why_left_out(&self, name: &str) -> Option<&(String, String)> {
        self.left_out.iter().find(|(left_out, _)| left_out == name)
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

    /// Whether the activations have an axis for positions; not after a slice that took one position.
    pub fn has_pos_dim(&self) -> bool {
        self.has_pos_dim
    }

    /// The same cache on another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { activations: self.activations.map(|tensor| Ok(tensor.to_device(device)?))?, ..self.clone() })
    }

    /// The same cache with its floats in another type; ids stay ids.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if !dtype.is_float() {
            return Err(Error::msg(format!(
                "activations are floats, and {dtype:?} is no type of floats; use DType::F32 or BF16"
            )));
        }
        let change = |tensor: &Tensor| match tensor.dtype().is_float() {
            true => Ok(tensor.to_dtype(dtype)?),
            false => Ok(tensor.clone()),
        };
        Ok(Self { activations: self.activations.map(change)?, ..self.clone() })
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
