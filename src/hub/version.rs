//! [`Version`]: which of a model's versions is wanted, and where in its repository it lies.

use std::path::{Component, Path, PathBuf};

use super::CheckpointChoice;
use crate::{Error, Result};

/// Which version of a model is wanted; the default is the usual one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// A branch, tag or commit of a hub repository; `main` by default.
    pub revision: Option<String>,
    /// The folder in the repository (or in the local folder) that the model lies in. A tokenizer that is not there is
    /// taken from the top.
    pub subfolder: Option<String>,
    /// A training checkpoint.
    pub checkpoint: Option<CheckpointChoice>,
}

impl Version {
    /// This version at a revision that a name gives.
    pub(super) fn at(&self, revision: &str) -> Result<Self> {
        match &self.revision {
            Some(other) if other != revision => {
                Err(Error::msg(format!("the name asks for the revision '{revision}', the options for '{other}'")))
            }
            _ => Ok(Self { revision: Some(revision.to_string()), ..self.clone() }),
        }
    }

    /// An error if anything but the usual version is wanted of something that has no other.
    pub(super) fn refuse_for(&self, origin: &str) -> Result<()> {
        let wanted = match self {
            Self { revision: Some(revision), .. } => format!("no revisions; leave revision '{revision}' out"),
            Self { subfolder: Some(folder), .. } => format!("no folders; leave subfolder '{folder}' out"),
            Self { checkpoint: Some(_), .. } => "no training checkpoints; leave the checkpoint out".to_string(),
            _ => return Ok(()),
        };
        Err(Error::msg(format!("{origin} has {wanted}")))
    }

    /// An error if the subfolder could lead out of the model's folder.
    pub(super) fn check(&self) -> Result<()> {
        let plain = |folder: &str| {
            !folder.is_empty()
                && !folder.contains('\\')
                && Path::new(folder).components().all(|part| matches!(part, Component::Normal(_)))
        };
        match &self.subfolder {
            Some(folder) if !plain(folder) => Err(Error::msg(format!(
                "'{folder}' can't be a subfolder: a relative path such as checkpoints/step1000 was expected"
            ))),
            _ => Ok(()),
        }
    }

    /// The folder that the model lies in.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        self.subfolder.as_ref().map_or_else(|| path.to_path_buf(), |folder| path.join(folder))
    }

    /// What comes before the names of the model's files: `""`, or `folder/`.
    pub(super) fn prefix(&self) -> String {
        self.subfolder.as_ref().map(|folder| format!("{}/", folder.trim_matches('/'))).unwrap_or_default()
    }
}
