//! From files, or a name on the hub, to an SAE.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::config::{self, Reading};
use super::releases;
use super::weights::{Tensors, Weights};
use super::{Sae, gemma_scope};
use crate::formats::npz;
use crate::hub::{self, FileData, HubSettings};
use crate::{Error, Result};

pub(super) const CONFIG: &str = "cfg.json";
pub(super) const WEIGHTS: &str = "sae_weights.safetensors";
pub(super) const SPARSITY: &str = "sparsity.safetensors";
pub(super) const SPARSITY_TENSOR: &str = "sparsity";
/// Gemma Scope's one file.
const PARAMS: &str = "params.npz";

impl Sae {
    /// An SAE from a folder on this machine: SAELens' (`cfg.json` and `sae_weights.safetensors`), or Gemma Scope's
    /// (`params.npz`). A path straight to the file with the weights is fine, too.
    ///
    /// Of standard (ReLU), TopK, gated and JumpReLU SAEs, and transcoders of these, in the layouts of all versions of
    /// SAELens. Gemma Scope's files do not say which activation they are of; it is taken from the folders' names, else it is
    /// to be given with [`at`](Self::at) or [`from_to`](Self::from_to).
    ///
    /// # Errors
    /// A folder without such files, files that are damaged or do not belong together, a setting that candlescope does not
    /// have, numbers that are not finite.
    pub fn from_folder(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (folder, named) = match path.is_file() {
            true => (path.parent().unwrap_or(Path::new("")), Some(path.to_path_buf())),
            false => (path, None),
        };
        if named.is_none() && !path.is_dir() {
            let hint =
                format!("there is nothing; a folder with {CONFIG} and {WEIGHTS}, or with {PARAMS}, was expected");
            return Err(Error::MissingFile { what: "the SAE's folder".to_string(), path: absolute(path), hint });
        }
        let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let is = |path: &PathBuf, ending: &str| path.extension().is_some_and(|extension| extension == ending);
        match named {
            Some(file) if is(&file, "npz") => from_npz(&file, &absolute(&file).to_string_lossy()),
            Some(file) if is(&file, "safetensors") => match there(CONFIG) {
                Some(config) => from_saelens(&config, &file, there(SPARSITY)),
                None => {
                    let hint = "it stands beside the weights and says what kind of SAE they are".to_string();
                    Err(Error::MissingFile { what: CONFIG.to_string(), path: absolute(folder), hint })
                }
            },
            Some(file) => {
                Err(Error::msg(format!("{} is no SAE's file: {WEIGHTS} or {PARAMS} was expected", file.display())))
            }
            None => match (there(CONFIG), there(WEIGHTS), there(PARAMS)) {
                (Some(config), Some(weights), _) => from_saelens(&config, &weights, there(SPARSITY)),
                (_, _, Some(params)) => from_npz(&params, &absolute(&params).to_string_lossy()),
                _ => Err(Error::msg(format!(
                    "the folder {} is not an SAE's: {CONFIG} and {WEIGHTS}, or {PARAMS}, were expected; it has: {}",
                    folder.display(),
                    listed(folder)
                ))),
            },
        }
    }

    /// An SAE from the hub: a repository `owner/name` (with `@revision` if need be) and the folder in it, or a release by
    /// SAELens' name and the SAE's id there: `("gpt2-small-res-jb", "blocks.8.hook_resid_pre")`,
    /// `("gemma-scope-2b-pt-res-canonical", "layer_20/width_16k/canonical")`. [`releases`](Self::releases) lists those
    /// that are known by name.
    ///
    /// What the local cache has is used without asking the network; else only the SAE's own files are downloaded.
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder), an unknown name, a hub that can't be reached.
    pub fn from_pretrained(name: &str, id: &str) -> Result<Self> {
        Self::from_pretrained_with(name, id, &HubSettings::from_env()?)
    }

    /// As [`from_pretrained`](Self::from_pretrained), with settings of one's own.
    ///
    /// # Errors
    /// As there.
    pub fn from_pretrained_with(name: &str, id: &str, settings: &HubSettings) -> Result<Self> {
        let (name, id) = (name.trim(), id.trim().trim_matches('/'));
        let place = releases::find(name, id)?;
        let (repository, folder) = (place.repository.as_str(), place.folder.as_str());
        let what = format!("the SAE '{folder}' of {repository}");
        let files = hub::some_files(&what, repository, |names| choose(names, repository, folder), settings)?;
        let file = |wanted: &str| files.iter().find(|(name, _)| name.ends_with(wanted)).map(|(_, path)| path.clone());
        let sae = match (file(CONFIG), file(WEIGHTS), file(PARAMS)) {
            (Some(config), Some(weights), _) => from_saelens(&config, &weights, file(SPARSITY))?,
            (_, _, Some(params)) => {
                let name = repository.split('@').next().unwrap_or(repository);
                from_npz(&params, &format!("{name}/{folder}"))?
            }
            _ => return Err(Error::msg(format!("{what} has no files that candlescope reads"))),
        };
        Ok(sae.with(|inner| {
            inner.origin = format!("{repository}/{folder}");
            if let (None, Some(id)) = (inner.config.text("neuronpedia_id"), &place.neuronpedia_id) {
                let id = id.clone();
                inner.config.set_text("neuronpedia_id", &id);
            }
        }))
    }
}

/// The files that are wanted of a repository.
fn choose(names: &[String], repository: &str, folder: &str) -> Result<Vec<String>> {
    let inside = |file: &str| if folder.is_empty() { file.to_string() } else { format!("{folder}/{file}") };
    let has = |file: &str| names.contains(&inside(file));
    if has(CONFIG) && has(WEIGHTS) {
        // The small file first, so that what can't work fails early.
        return Ok([CONFIG, SPARSITY, WEIGHTS].into_iter().filter(|file| has(file)).map(inside).collect());
    }
    if has(PARAMS) {
        return Ok(vec![inside(PARAMS)]);
    }
    let mut folders: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_suffix(WEIGHTS).or_else(|| name.strip_suffix(PARAMS)))
        .map(|folder| folder.trim_end_matches('/'))
        .collect();
    folders.sort_unstable();
    if folders.is_empty() {
        return Err(Error::msg(format!(
            "{repository} has no SAE that candlescope reads: folders with {CONFIG} and {WEIGHTS}, or with {PARAMS}, were \
             expected"
        )));
    }
    const SHOWN: usize = 8;
    let alike: Vec<&str> =
        folders.iter().copied().filter(|name| !folder.is_empty() && name.starts_with(folder)).collect();
    let listed = if alike.is_empty() { &folders } else { &alike };
    let more = if listed.len() > SHOWN { format!(" and {} more", listed.len() - SHOWN) } else { String::new() };
    let shown = listed.iter().take(SHOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    Err(Error::msg(format!("{repository} has no SAE in the folder '{folder}'; it has {shown}{more}")))
}

fn from_saelens(config: &Path, weights: &Path, sparsity: Option<PathBuf>) -> Result<Sae> {
    let bytes = std::fs::read(config).map_err(|source| Error::io(config, source))?;
    let mut reading = config::read(&bytes, &config.display().to_string())?;
    // SAELens keeps the scale of a training that goes on in a file of its own.
    let scaler = config.with_file_name("activation_scaler.json");
    if reading.input_scale.is_none() && scaler.is_file() {
        let bytes = std::fs::read(&scaler).map_err(|source| Error::io(&scaler, source))?;
        let json = crate::families::ConfigJson::parse(&bytes, &scaler.display().to_string())?;
        reading.input_scale = json.optional_number("scaling_factor")?;
    }
    let origin = config.parent().unwrap_or(config).display().to_string();
    let tensors = Tensors::new(safetensors(weights)?, &weights.display().to_string());
    let log_sparsity = match sparsity {
        Some(path) => safetensors(&path)?.into_iter().find(|(name, _)| name == SPARSITY_TENSOR).map(|(_, found)| found),
        None => None,
    };
    made(tensors, reading, log_sparsity, origin)
}

fn from_npz(path: &Path, names: &str) -> Result<Sae> {
    let arrays = npz::read(&FileData::from(path))?;
    let mut tensors: Vec<(String, Tensor)> = arrays
        .into_iter()
        .map(|(name, array)| match name.strip_prefix("w_") {
            Some(rest) => (format!("W_{rest}"), array),
            None => (name, array),
        })
        .collect();
    if gemma_scope::is_of_embedding(names) {
        for (name, tensor) in &mut tensors {
            let width = |dim: usize| tensor.dims().get(dim).copied().unwrap_or(1) as f64;
            match name.as_str() {
                "W_enc" => *tensor = (&*tensor / width(0).sqrt())?,
                "W_dec" => *tensor = (&*tensor * width(1).sqrt())?,
                _ => {}
            }
        }
    }
    let reading = Reading {
        config: gemma_scope::config(names),
        by_decoder_norm: false,
        input_scale: None,
        finetuning_scale: false,
        d_in: None,
        d_sae: None,
        d_out: None,
    };
    made(Tensors::new(tensors, &path.display().to_string()), reading, None, path.display().to_string())
}

fn made(tensors: Tensors, reading: Reading, log_sparsity: Option<Tensor>, origin: String) -> Result<Sae> {
    let weights = Weights::read(tensors, &reading)?;
    let d_sae = weights.sizes()[1];
    if let Some(found) = log_sparsity.as_ref().map(Tensor::dims).filter(|dims| *dims != [d_sae]) {
        let (name, expected) =
            (format!("{SPARSITY_TENSOR}' of {SPARSITY} in '{origin}"), format!("[d_sae] = [{d_sae}]"));
        return Err(Error::WrongShape { name, expected, found: found.to_vec() });
    }
    let scale = reading.input_scale.filter(|_| reading.config.input_norm == super::InputNorm::UnknownScale);
    let sae = Sae::new(reading.config, weights, log_sparsity, origin);
    scale.map_or(Ok(sae.clone()), |scale| sae.input_scale(scale))
}

fn safetensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let read = candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| Error::BadFile {
        what: "an SAE's weights".to_string(),
        path: path.to_path_buf(),
        why: format!("{error}; it may be truncated or damaged, so copy or download it again"),
    })?;
    Ok(read.into_iter().collect())
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn listed(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(12);
    if names.is_empty() { "nothing".to_string() } else { names.join(", ") }
}
