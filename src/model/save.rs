//! Writing a model to a folder, in TransformerLens' own form.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::HookedTransformer;
use crate::{Error, Result, families};

impl HookedTransformer {
    /// Writes the model to a folder from which [`from_pretrained`](Self::from_pretrained) reads it: `config.json` and
    /// `model.safetensors` in TransformerLens' words and names, and the tokenizer, if there is one. Weights are written as
    /// this type (`DType::F16` halves the file).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained_no_processing("tiny")?;
    /// let folder = std::env::temp_dir().join(format!("candlescope_saved_{}", std::process::id()));
    /// model.save_model(&folder, DType::F32)?;
    /// let same = HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy())?;
    /// assert_eq!(same.loss("John gave a book to Mary.")?, model.loss("John gave a book to Mary.")?);
    /// # std::fs::remove_dir_all(&folder).unwrap();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A model with parts that TransformerLens' form has no names for (experts, state-space layers, encoders and the like),
    /// and what the system says when a file can't be written.
    pub fn save_model(&self, folder: impl AsRef<Path>, dtype: DType) -> Result<()> {
        let folder = folder.as_ref();
        let json = families::transformer_lens_json(self.cfg())?;
        let tensors = self.transformer_lens_tensors(dtype)?;
        create(folder)?;
        let config = folder.join("config.json");
        let text = serde_json::to_string_pretty(&json).map_err(|error| Error::msg(error.to_string()))? + "\n";
        std::fs::write(&config, text).map_err(|source| Error::io(&config, source))?;
        candle_core::safetensors::save(&tensors, folder.join("model.safetensors"))?;
        match self.tokenizer() {
            Ok(tokenizer) => tokenizer.save(folder),
            Err(_) => Ok(()),
        }
    }

    /// Adds the weights as a training checkpoint to a folder that [`save_model`](Self::save_model) writes to:
    /// `checkpoints/step_<step>.safetensors`. [`checkpoints`](Self::checkpoints) lists them,
    /// [`LoadOptions::checkpoint_value`](super::LoadOptions::checkpoint_value) loads one.
    ///
    /// # Errors
    /// As those of [`save_model`](Self::save_model).
    pub fn save_checkpoint(&self, folder: impl AsRef<Path>, step: u64, dtype: DType) -> Result<()> {
        families::transformer_lens_json(self.cfg())?;
        let folder = folder.as_ref().join("checkpoints");
        create(&folder)?;
        let tensors = self.transformer_lens_tensors(dtype)?;
        Ok(candle_core::safetensors::save(&tensors, folder.join(format!("step_{step}.safetensors")))?)
    }

    fn transformer_lens_tensors(&self, dtype: DType) -> Result<HashMap<String, Tensor>> {
        let shares_keys = self.cfg().n_key_value_heads < self.cfg().n_heads;
        let tensors = self.named_parameters().into_iter().map(|(name, tensor)| {
            let name = families::transformer_lens_name(&name, shares_keys)?;
            Ok((name, tensor.to_dtype(dtype)?.to_device(&Device::Cpu)?.contiguous()?))
        });
        tensors.collect()
    }
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))
}
