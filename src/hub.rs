//! Where a name becomes files.
//!
//! A model is named in one of three ways, tried in this order:
//! 1. a bundled model, which is part of the program ([`bundled_names`]);
//! 2. a folder with `config.json` and weights (safetensors, or else PyTorch's, or else GGUF), as Hugging Face lays it
//!    out, or a path straight to a file of weights;
//! 3. a name on the model hub, or a customary short one ([`aliases`]). What the local cache has is used without asking
//!    the network; only what it lacks is downloaded. The variables that Hugging Face's own tools read are honoured,
//!    see [`HubSettings`].

mod alias;
mod bundled;
mod files;
mod folder;
mod remote;
mod settings;
mod weights;

use crate::error::near_misses;
use crate::{Error, Result};

pub use alias::aliases;
pub use bundled::names as bundled_names;
pub use files::{FileData, ModelFiles};
pub use settings::HubSettings;

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
    let name = name.trim();
    let local = bundled::find(name).map(Ok).or_else(|| folder::find(name));
    match (local, revision) {
        (Some(Ok(files)), Some(revision)) => Err(Error::msg(format!(
            "'{name}' is {}, which has no revisions; leave revision '{revision}' out",
            files.origin
        ))),
        (Some(found), _) => found,
        (None, _) if !remote::is_repository_name(name) => Err(unknown(
            name,
            format!("it is no bundled model ({}), no folder, and can't be a name on the hub", bundled_list()),
        )),
        (None, _) => remote::find(name, revision.unwrap_or("main"), settings),
    }
}

/// The error for a name that nothing answers to.
fn unknown(name: &str, looked: String) -> Error {
    let known = bundled_names().into_iter().chain(aliases().iter().map(|(alias, _)| *alias));
    Error::UnknownModel { name: name.to_string(), looked, near: near_misses(name, known) }
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
