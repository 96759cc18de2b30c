//! Other states of the same model's training.

use std::sync::Arc;

use super::{HookedTransformer, LoadOptions};
use crate::hub::{CheckpointChoice, CheckpointLabels, checkpoint_labels};
use crate::{Error, Result};

impl HookedTransformer {
    /// The training checkpoints of this model, in the order of training.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny-attn-only-2l")?;
    /// let steps = model.checkpoints()?.labels;
    /// assert_eq!(steps[0], 0);
    /// let untrained = model.checkpoint(0)?;
    /// let at_the_end = model.checkpoint(-1)?;
    /// assert!(at_the_end.loss("Mary had a cat.")? < untrained.loss("Mary had a cat.")?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A model that has none, or that was not loaded by name.
    pub fn checkpoints(&self) -> Result<CheckpointLabels> {
        checkpoint_labels(&self.loaded()?.0)
    }

    /// This model as it was at a checkpoint, loaded as this one was: by position among [`checkpoints`](Self::checkpoints)
    /// (negative ones count from the end), or by label with `CheckpointChoice::Value(step)`.
    ///
    /// # Errors
    /// A checkpoint that does not exist (the nearest are named), and those of loading.
    pub fn checkpoint(&self, choice: impl Into<CheckpointChoice>) -> Result<Self> {
        let (name, options) = self.loaded()?;
        Self::from_pretrained_with(name, &LoadOptions { checkpoint: Some(choice.into()), ..options.clone() })
    }

    /// The name that it was loaded by, and how.
    pub(crate) fn loaded(&self) -> Result<&(String, LoadOptions)> {
        self.inner.loaded.as_ref().ok_or_else(|| {
            Error::msg(
                "this model was not loaded by name, so its checkpoints are not known; \
                 HookedTransformer::from_pretrained(..) loads one that knows where it comes from",
            )
        })
    }

    pub(super) fn loaded_as(self, name: &str, options: &LoadOptions) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.loaded = Some((name.to_string(), options.clone()));
        Self { inner: Arc::new(inner) }
    }
}
