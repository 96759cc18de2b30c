//! Where a name becomes files.
//!
//! A model is named in one of three ways, tried in this order:
//! 1. a bundled model, which is part of the program ([`bundled_names`]);
//! 2. a folder with `config.json` and weights (safetensors, or else PyTorch's, or else GGUF), as Hugging Face lays it
//!    out, or a path straight to a file of weights;
//! 3. a name on the model hub, or a customary short one ([`find_models`]), with `@revision` after it if need be. What the local cache has is used without asking
//!    the network; only what it lacks is downloaded. The variables that Hugging Face's own tools read are honoured,
//!    see [`HubSettings`].

mod bundled;
mod checkpoints;
mod download;
mod files;
mod folder;
mod registry;
mod remote;
mod settings;
mod version;
mod weights;

use crate::{Error, Result};

pub use bundled::names as bundled_names;
pub use checkpoints::{Checkpoint, CheckpointChoice, CheckpointLabels, CheckpointUnit, checkpoint_labels};
pub(crate) use download::waiting;
pub use files::{FileData, ModelFiles};
pub(crate) use registry::repository;
pub use registry::{KnownModel, KnownModels, find_models, known_models, near_names};
pub use settings::HubSettings;
pub(crate) use settings::is_on;
pub use version::Version;

/// Finds a model's files by name, under the settings of the environment.
///
/// `revision` is a branch, tag or commit of a hub repository (`None`: `main`).
///
/// # Errors
/// An unknown name (with near ones), a folder or repository that lacks a needed file (saying what is there), a hub that
/// can't be reached.
pub fn resolve(name: &str, revision: Option<&str>) -> Result<ModelFiles> {
    resolve_with(name, revision, &HubSettings::from_env()?)
}

/// Finds a model's files by name.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_with(name: &str, revision: Option<&str>, settings: &HubSettings) -> Result<ModelFiles> {
    let revision = revision.map(str::to_string);
    resolve_version_with(name, &Version { revision, ..Version::default() }, settings)
}

/// Finds a model's files by name, in a certain version: a revision, a subfolder, a training checkpoint.
///
/// # Errors
/// As [`resolve`], and a version that the model does not have.
pub fn resolve_version(name: &str, version: &Version) -> Result<ModelFiles> {
    resolve_version_with(name, version, &HubSettings::from_env()?)
}

/// Finds a model's files by name, in a certain version.
///
/// # Errors
/// As [`resolve_version`].
pub fn resolve_version_with(name: &str, version: &Version, settings: &HubSettings) -> Result<ModelFiles> {
    let name = name.trim();
    version.check()?;
    if let Some(found) = bundled::find(name, version) {
        return found;
    }
    if let Some(found) = folder::find(name, version) {
        return found;
    }
    if let Some((name, revision)) = name.rsplit_once('@') {
        return resolve_version_with(name, &version.at(revision)?, settings);
    }
    if !remote::is_repository_name(name) {
        let looked = format!("it is no bundled model ({}), no folder, and can't be a name on the hub", bundled_list());
        return Err(unknown(name, looked));
    }
    remote::find(name, version, settings)
}

/// Finds the tokenizer of a model by the names that [`resolve`] knows: `tokenizer.json` (or, in a folder without one, the
/// GGUF file that holds it), and `tokenizer_config.json` where there is one. The weights are not looked for, so no model
/// is downloaded. Of a repository that has no tokenizer, and whose config.json names another's, it is that one.
///
/// # Errors
/// A folder or repository without a tokenizer, a repository that can't be asked.
pub fn resolve_tokenizer(name: &str) -> Result<(FileData, Option<FileData>)> {
    resolve_tokenizer_with(name, &HubSettings::from_env()?)
}

/// Finds the tokenizer of a model by name.
///
/// # Errors
/// As [`resolve_tokenizer`].
pub fn resolve_tokenizer_with(name: &str, settings: &HubSettings) -> Result<(FileData, Option<FileData>)> {
    let name = name.trim();
    if let Some(path) = folder::path(name).filter(|path| path.is_dir())
        && let (Some(tokenizer), config) = folder::tokenizer(&path)?
    {
        return Ok((tokenizer, config));
    }
    // Nothing of these is downloaded.
    let usual = Version::default();
    if let Some(found) = bundled::find(name, &usual).or_else(|| folder::find(name, &usual)).transpose()? {
        let none = || Error::NoTokenizer { why: format!("there is no tokenizer.json in {}", found.origin) };
        return Ok((found.tokenizer.clone().ok_or_else(none)?, found.tokenizer_config));
    }
    let (name, revision) = match name.rsplit_once('@') {
        Some((name, revision)) => (name, Some(revision.to_string())),
        None => (name, None),
    };
    if !remote::is_repository_name(name) {
        return Err(unknown(name, "it is no bundled model, no folder, and can't be a name on the hub".to_string()));
    }
    remote::find_tokenizer(name, &Version { revision, ..Version::default() }, settings)
}

/// Files of a repository `owner/name` (or `owner/name@revision`) that holds no model: those that `choose` picks from the
/// names of all, from the cache or downloaded, each with its name.
pub(crate) fn some_files(
    what: &str,
    repository: &str,
    choose: impl Fn(&[String]) -> Result<Vec<String>>,
    settings: &HubSettings,
) -> Result<Vec<(String, std::path::PathBuf)>> {
    let (name, revision) = repository.rsplit_once('@').unwrap_or((repository, "main"));
    if !remote::is_repository_name(name) || !name.contains('/') {
        return Err(Error::msg(format!("{what}: '{name}' can't be a repository; owner/name was expected")));
    }
    remote::some_files(what, name, revision, choose, settings)
}

/// The error for a name that nothing answers to.
fn unknown(name: &str, looked: String) -> Error {
    Error::UnknownModel { name: name.to_string(), looked, near: near_names(name) }
}

/// The bundled models' names, for messages.
fn bundled_list() -> String {
    match bundled_names().join(", ") {
        none if none.is_empty() => "there are none".to_string(),
        names => names,
    }
}

#[cfg(test)]
mod tests;
