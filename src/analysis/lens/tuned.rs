//! Tuned lenses: an affine map for each layer, from its stream to that of the end.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::LensReading;
use crate::cache::ActivationCache;
use crate::hub::FileData;
use crate::model::{HookedTransformer, Normalization};
use crate::weights::WeightSource;
use crate::{Error, Result};

const CONFIG: &str = "config.json";
const SAFETENSORS: &str = "params.safetensors";
const TORCH: &str = "params.pt";

/// A tuned lens (Belrose et al. 2023, arXiv 2303.08112): the stream x that enters a layer becomes x + A x + b, with A and b
/// learned for that layer, and is then read as the logit lens reads it. Where A and b are zero it is the logit lens.
///
/// Lenses that were published for a model were learned on its raw weights. Weight processing takes the mean off what a model
/// with LayerNorms writes to its stream, and such a lens then reads it wrongly: load the model with
/// `HookedTransformer::from_pretrained_no_processing`. (Models with RMSNorm keep their stream.)
#[derive(Clone, Debug)]
pub struct TunedLens {
    model: HookedTransformer,
    translators: Vec<Translator>,
}

/// One layer's map.
#[derive(Clone, Debug)]
struct Translator {
    /// A's transpose, `[d_model, d_model]`.
    a_t: Tensor,
    /// `[d_model]`.
    b: Option<Tensor>,
}

impl TunedLens {
    /// The lens that changes nothing: the logit lens.
    ///
    /// # Errors
    /// Too little memory: it is n_layers matrices of `[d_model, d_model]`.
    pub fn identity(model: &HookedTransformer) -> Result<Self> {
        let d_model = model.cfg().d_model;
        let zero = Translator { a_t: Tensor::zeros((d_model, d_model), DType::F32, model.device())?, b: None };
        Ok(Self { model: model.clone(), translators: vec![zero; model.cfg().n_layers] })
    }

    /// From each layer's A `[d_model, d_model]` (as torch's `Linear` has it: row i makes output i) and b `[d_model]`.
    ///
    /// # Errors
    /// Another number of layers than the model has, or other shapes.
    pub fn new(model: &HookedTransformer, maps: Vec<(Tensor, Option<Tensor>)>) -> Result<Self> {
        let (n_layers, d_model) = (model.cfg().n_layers, model.cfg().d_model);
        if maps.len() != n_layers {
            return Err(Error::msg(format!(
                "the lens has maps for {} layers, and the model has {n_layers}",
                maps.len()
            )));
        }
        let mut translators = Vec::with_capacity(n_layers);
        for (layer, (a, b)) in maps.into_iter().enumerate() {
            for (name, tensor, shape) in [("A", Some(&a), vec![d_model, d_model]), ("b", b.as_ref(), vec![d_model])] {
                if let Some(tensor) = tensor.filter(|tensor| tensor.dims() != shape) {
                    return Err(Error::WrongShape {
                        name: format!("{name} of the lens at layer {layer}"),
                        expected: format!("{shape:?}"),
                        found: tensor.dims().to_vec(),
                    });
                }
            }
            let f32 =
                |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.to_dtype(DType::F32)?.to_device(model.device())?) };
            translators.push(Translator { a_t: f32(&a)?.t()?.contiguous()?, b: b.as_ref().map(f32).transpose()? });
        }
        Ok(Self { model: model.clone(), translators })
    }

    /// Reads a lens in the layout in which tuned lenses are published: a folder with `config.json` and `params.pt`, a state
    /// dict with `0.weight`, `0.bias` and so on; or with `params.safetensors`, which has the same names. A file of either kind
    /// by itself will do too. (Nothing in a pickle is executed.)
    ///
    /// ```no_run
    /// use candlescope::analysis::TunedLens;
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained_no_processing("gpt2")?;
    /// let lens = TunedLens::load("lens/gpt2", &model)?;
    /// let (_, cache) = model.run_with_cache("When Mary and John went to the store, John gave a drink to")?;
    /// lens.read(&cache)?.evcxr_display();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Files that are missing or damaged; a lens for another model.
    pub fn load(path: impl AsRef<Path>, model: &HookedTransformer) -> Result<Self> {
        let path = path.as_ref();
        let (n_layers, d_model) = (model.cfg().n_layers, model.cfg().d_model);
        let file = if path.is_dir() {
            check_config(&path.join(CONFIG), n_layers, d_model)?;
            let known = [SAFETENSORS, TORCH].map(|name| path.join(name));
            known.into_iter().find(|file| file.is_file()).ok_or_else(|| Error::MissingFile {
                what: "the maps of a tuned lens".to_string(),
                path: path.into(),
                hint: format!("a folder with {CONFIG} and {TORCH} or {SAFETENSORS} is expected"),
            })?
        } else if path.is_file() {
            path.to_path_buf()
        } else {
            return Err(Error::MissingFile {
                what: "a tuned lens".to_string(),
                path: path.into(),
                hint: format!(
                    "a folder with {CONFIG} and {TORCH} or {SAFETENSORS} is expected, or one of the two files"
                ),
            });
        };
        let label = file.display().to_string();
        let source = WeightSource::open(&[FileData::from(file)], &label, DType::F32, model.device())?;
        let source = source.with_optional_prefix("layer_translators.");
        let fits = |why: Error| {
            let need = format!("this model has {n_layers} layers and d_model {d_model}");
            Error::msg(format!(
                "{label} holds no tuned lens for this model: {why} ({need}; tensors 0.weight, 0.bias and so on)"
            ))
        };
        let translators = (0..n_layers).map(|layer| {
            let map = source.linear(&layer.to_string(), d_model, d_model).map_err(fits)?;
            Ok(Translator { a_t: map.w.contiguous()?, b: map.b })
        });
        let translators = translators.collect::<Result<Vec<_>>>()?;
        if source.has(&format!("{n_layers}.weight")) {
            return Err(fits(Error::msg(format!("it has maps for more than {n_layers} layers"))));
        }
        Ok(Self { model: model.clone(), translators })
    }

    /// Writes the lens to a folder, made if need be: `config.json` and `params.safetensors`.
    ///
    /// # Errors
    /// A folder that can't be written to.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        let cfg = self.model.cfg();
        let config = serde_json::json!({
            "base_model_name_or_path": cfg.model_name,
            "d_model": cfg.d_model,
            "num_hidden_layers": cfg.n_layers,
            "bias": self.translators.iter().all(|map| map.b.is_some()),
            "base_model_revision": null,
            "unembed_hash": null,
            "lens_type": "linear_tuned_lens",
        });
        let path = folder.join(CONFIG);
        std::fs::write(&path, format!("{config:#}\n")).map_err(|source| Error::io(path, source))?;
        let mut tensors = std::collections::HashMap::new();
        for (layer, map) in self.translators.iter().enumerate() {
            tensors.insert(format!("{layer}.weight"), map.a_t.t()?.contiguous()?);
            tensors.extend(map.b.iter().map(|b| (format!("{layer}.bias"), b.clone())));
        }
        let path = folder.join(SAFETENSORS);
        candle_core::safetensors::save(&tensors, &path)
            .map_err(|why| Error::msg(format!("{} can't be written: {why}", path.display())))
    }

    /// Reads the streams of a cache through the lens: at the start of every layer, and at the end, where the model itself is
    /// read.
    ///
    /// ```
    /// use candlescope::analysis::TunedLens;
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
    /// let reading = TunedLens::identity(&model)?.read(&cache)?;
    /// assert_eq!(reading.entropy()?.dims(), cache.logit_lens()?.entropy()?.dims());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A cache of another model, or without the residual stream.
    pub fn read(&self, cache: &ActivationCache) -> Result<LensReading> {
        if !cache.model().is(&self.model) {
            return Err(Error::msg(
                "the lens was loaded for another model than the one that made the cache; load it with cache.model()",
            ));
        }
        let reading = LensReading::new(cache, false, "Tuned lens", |layer, stream| self.translate(layer, stream))?;
        Ok(reading.with_note(self.warning()?))
    }

    /// x + A x + b of a layer, x `[.., d_model]`.
    ///
    /// # Errors
    /// A layer that the model does not have.
    pub fn translate(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let map = self.translators.get(layer).ok_or_else(|| {
            Error::msg(format!("there is no layer {layer}: the lens has maps for {}", self.translators.len()))
        })?;
        let d_model = self.model.cfg().d_model;
        let flat = x.to_dtype(DType::F32)?.contiguous()?.reshape(((), d_model))?;
        let mut translated = (&flat + flat.matmul(&map.a_t)?)?;
        if let Some(b) = &map.b {
            translated = translated.broadcast_add(b)?;
        }
        Ok(translated.reshape(x.dims())?)
    }

    /// What is to be said where the stream is not as the lens' training saw it.
    fn warning(&self) -> Result<Option<String>> {
        let changes = |map: &Translator| -> Result<bool> {
            let zero = |t: &Tensor| -> Result<bool> {
                Ok(t.abs()?.sum_all()?.to_device(&Device::Cpu)?.to_scalar::<f32>()? == 0.0)
            };
            Ok(!zero(&map.a_t)? || !map.b.as_ref().map_or(Ok(true), zero)?)
        };
        let centred = self.model.norms_folded() && self.model.cfg().normalization == Normalization::LayerNorm;
        if !centred || !self.translators.iter().map(changes).collect::<Result<Vec<_>>>()?.contains(&true) {
            return Ok(None);
        }
        Ok(Some(
            "the model's weights are processed, and what it writes has no mean; a lens that was learned on the raw model needs \
             HookedTransformer::from_pretrained_no_processing"
                .to_string(),
        ))
    }
}

/// The sizes in a lens' config.json must be the model's.
fn check_config(path: &Path, n_layers: usize, d_model: usize) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let bad =
        |why: String| Error::BadFile { what: "the configuration of a tuned lens".to_string(), path: path.into(), why };
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    let config: Value = serde_json::from_str(&text).map_err(|why| bad(why.to_string()))?;
    for (key, ours) in [("num_hidden_layers", n_layers), ("d_model", d_model)] {
        match config.get(key).and_then(Value::as_u64) {
            Some(theirs) if theirs != ours as u64 => {
                let of = config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or("another model");
                return Err(bad(format!("it is for {of}, with {key} {theirs}, and this model has {ours}")));
            }
            _ => {}
        }
    }
    Ok(())
}
