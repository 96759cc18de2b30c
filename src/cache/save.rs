//! Caches as files: safetensors, with a note of what they are and of which model.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::ActivationCache;
use crate::hooks::{Activations, HookPoint};
use crate::model::HookedTransformer;
use crate::tokens::{PaddingSide, Tokens};
use crate::{Error, Result};

/// The name of the tensor (bytes of JSON) that says what the others are.
const INFO: &str = "candlescope.info";
/// What the file is called in messages.
const WHAT: &str = "an activation cache";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Info {
    version: u32,
    /// In the order in which they were made.
    names: Vec<String>,
    has_batch_dim: bool,
    has_pos_dim: bool,
    tokens: Option<SavedTokens>,
    key_tokens: Option<SavedTokens>,
    encoder_tokens: Option<SavedTokens>,
    places: Option<Vec<usize>>,
    left_out: Vec<(String, String)>,
    model_name: String,
    sizes: [usize; 5],
    /// Some of the model's weights, which tell models of one shape apart.
    weights: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct SavedTokens {
    ids: Vec<Vec<u32>>,
    mask: Option<Vec<Vec<bool>>>,
    left_padding: bool,
}

impl ActivationCache {
    /// Writes the cache to a safetensors file: every activation under its full name, and one tensor `candlescope.info`
    /// with the tokens, the order, and which model it is of.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
    /// let path = std::env::temp_dir().join(format!("cache-{}.safetensors", std::process::id()));
    /// cache.save(&path)?;
    /// let same = ActivationCache::load(&path, &model)?;
    /// assert_eq!(same.names(), cache.names());
    /// # std::fs::remove_file(path).ok(); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let cfg = self.model.cfg();
        let info = Info {
            version: VERSION,
            names: self.names(),
            has_batch_dim: self.has_batch_dim,
            has_pos_dim: self.has_pos_dim,
            tokens: self.tokens.as_ref().map(SavedTokens::of),
            key_tokens: self.key_tokens.as_ref().map(SavedTokens::of),
            encoder_tokens: self.encoder_tokens.as_ref().map(SavedTokens::of),
            places: self.places.clone(),
            left_out: (*self.left_out).clone(),
            model_name: cfg.model_name.clone(),
            sizes: sizes(&self.model),
            weights: some_weights(&self.model)?,
        };
        let json = serde_json::to_vec(&info).map_err(Error::msg)?;
        let mut tensors: HashMap<String, Tensor> =
            self.iter().map(|(point, tensor)| (point.name().to_string(), tensor.detach())).collect();
        let length = json.len();
        tensors.insert(INFO.to_string(), Tensor::from_vec(json, length, &Device::Cpu)?);
        candle_core::safetensors::save(&tensors, path)
            .map_err(|why| Error::msg(format!("{} can't be written: {why}", path.display())))
    }

    /// Reads a cache that [`save`](Self::save) wrote, for the model that made it; it lies on the model's device.
    ///
    /// # Errors
    /// A file that is missing, damaged, or no cache; a cache of another model, or of the same with other weight
    /// processing.
    pub fn load(path: impl AsRef<Path>, model: &HookedTransformer) -> Result<Self> {
        let path = path.as_ref();
        let bad = |why: String| Error::BadFile { what: WHAT.to_string(), path: path.into(), why };
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|why| bad(format!("{why}; the file may be truncated or damaged, so save the cache again")))?;
        let info = tensors.get(INFO).ok_or_else(|| {
            bad(format!("it has no tensor '{INFO}', so that it was not written by ActivationCache::save"))
        })?;
        let json: Vec<u8> = info.flatten_all()?.to_dtype(DType::U8)?.to_vec1()?;
        let info: Info = serde_json::from_slice(&json).map_err(|why| bad(format!("'{INFO}' is damaged: {why}")))?;
        if info.version != VERSION {
            return Err(bad(format!(
                "it is of version {}, and this is version {VERSION}; save it again",
                info.version
            )));
        }
        check_model(&info, model).map_err(bad)?;

        let mut kept = Vec::with_capacity(info.names.len());
        for name in &info.names {
            let tensor = tensors.get(name).ok_or_else(|| bad(format!("it lacks the activation '{name}'")))?;
            if !model.hook_points().iter().any(|known| known.point.name() == name) {
                return Err(bad(format!("the model has no hook point '{name}'")));
            }
            kept.push((HookPoint::new(name.as_str()), tensor.to_device(model.device())?));
        }
        let tokens = |saved: Option<SavedTokens>| saved.map(|saved| saved.tokens(model)).transpose();
        Ok(Self {
            activations: Activations::new(kept),
            model: model.clone(),
            tokens: tokens(info.tokens)?,
            key_tokens: tokens(info.key_tokens)?,
            encoder_tokens: tokens(info.encoder_tokens)?,
            has_batch_dim: info.has_batch_dim,
            has_pos_dim: info.has_pos_dim,
            places: info.places,
            left_out: Arc::new(info.left_out),
        })
    }
}

impl SavedTokens {
    fn of(tokens: &Tokens) -> Self {
        Self {
            ids: tokens.ids().to_vec(),
            mask: tokens.mask().map(<[_]>::to_vec),
            left_padding: tokens.padding_side() == PaddingSide::Left,
        }
    }

    fn tokens(self, model: &HookedTransformer) -> Result<Tokens> {
        let d_vocab = model.cfg().d_vocab;
        for row in &self.ids {
            if let Some(position) = row.iter().position(|&id| id as usize >= d_vocab) {
                return Err(Error::TokenOutOfRange { id: row[position], position, d_vocab });
            }
        }
        let side = if self.left_padding { PaddingSide::Left } else { PaddingSide::Right };
        let tokens = Tokens::masked(self.ids, self.mask, side)?;
        Ok(match model.tokenizer() {
            Ok(tokenizer) => tokens.with_tokenizer(tokenizer),
            Err(_) => tokens,
        })
    }
}

fn check_model(info: &Info, model: &HookedTransformer) -> Result<(), String> {
    let found = sizes(model);
    if info.sizes != found {
        return Err(format!(
            "it is of the model '{}', with [n_layers, d_model, n_heads, d_mlp, d_vocab] = {:?}, and this model has \
             {found:?}; load it with the model that made it",
            info.model_name, info.sizes
        ));
    }
    let weights = some_weights(model).map_err(|why| why.to_string())?;
    // Weights in another type are rounded.
    let same = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.02 * a.abs().max(b.abs()) + 1e-6;
    if weights.len() != info.weights.len() || !weights.iter().zip(&info.weights).all(same) {
        return Err(format!(
            "it is of the model '{}' with other weights than this model has: another checkpoint, or other weight \
             processing; load it with the model that made it",
            info.model_name
        ));
    }
    Ok(())
}

fn sizes(model: &HookedTransformer) -> [usize; 5] {
    let cfg = model.cfg();
    [cfg.n_layers, cfg.d_model, cfg.n_heads, cfg.d_mlp, cfg.d_vocab]
}

/// The number in the middle of every parameter.
fn some_weights(model: &HookedTransformer) -> Result<Vec<f32>> {
    let mut weights = Vec::new();
    for (_, parameter) in model.named_parameters() {
        if parameter.elem_count() == 0 {
            continue;
        }
        let middle = |one: Tensor, dim: usize| -> Result<Tensor> { Ok(one.narrow(dim, one.dim(dim)? / 2, 1)?) };
        let one = (0..parameter.rank()).try_fold(parameter.detach(), middle)?;
        weights.push(one.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?.first().copied().unwrap_or_default());
    }
    Ok(weights)
}
