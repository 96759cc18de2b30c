//! Models in a folder on this machine, or in one certain file.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use super::checkpoints::pick_checkpoint;
use super::files::{CONFIG, Place, TOKENIZER, WEIGHTS, add_tokenizer, pick, pick_file, pick_tokenizer};
use super::weights::is_weights;
use super::{FileData, ModelFiles, Version};
use crate::{Error, Result};

/// The model in the folder that `name` means, or `None` when it does not mean a folder. A path straight to a file with
/// weights means that file, and what stands beside it.
///
/// A name that begins as a path does (`/`, `.`, `~`, a drive) always means one. Any other name means a folder if it is
/// there; a single word only if that folder holds a config.json, so that a folder `gpt2` of your own notebooks does not
/// hide the model.
pub(super) fn find(name: &str, version: &Version) -> Option<Result<ModelFiles>> {
    path(name).map(|path| open(name, &path, version))
}

/// The folder or file that a name means, which need not be there.
pub(super) fn path(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let home = || (name == "~" || name.starts_with("~/") || name.starts_with("~\\")).then(std::env::home_dir).flatten();
    let path = match home() {
        Some(home) => home.join(name[1..].trim_start_matches(['/', '\\'])),
        None => path.to_path_buf(),
    };
    let is_path = name.starts_with(['.', '~', '/', '\\']) || path.is_absolute();
    let is_word = !name.contains(['/', '\\']);
    let means_folder = is_path
        || if is_word { path.join(CONFIG).is_file() || (is_weights(name) && path.is_file()) } else { path.exists() };
    (means_folder && !name.is_empty()).then_some(path)
}

/// The tokenizer in a folder and its configuration, as far as they are there.
pub(super) fn tokenizer(path: &Path) -> Result<(Option<FileData>, Option<FileData>)> {
    pick_tokenizer(&Folder::read(path)?)
}

/// The model in a folder, which has to be there.
fn open(name: &str, path: &Path, version: &Version) -> Result<ModelFiles> {
    if let Some(revision) = &version.revision {
        return Err(Error::msg(format!(
            "'{name}' is a folder, which has no revisions; leave revision '{revision}' out"
        )));
    }
    let hint = if path.is_file() {
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        if is_weights(&file) && *version == Version::default() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return pick_file(name, &Folder::read(folder)?, &file);
        }
        "that is a file, and none with weights (or a part of a folder was asked for); give the folder that it is in"
            .to_string()
    } else if !path.is_dir() {
        format!("there is nothing; a folder with {CONFIG}, {WEIGHTS} and {TOKENIZER} was expected")
    } else {
        return pick_version(name, path, version, true);
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    Err(Error::MissingFile { what: "the model's folder".to_string(), path: absolute, hint })
}

/// The model in a folder that is there, in the version that is wanted. `all` says whether the folder has every training
/// checkpoint that there is.
pub(super) fn pick_version(name: &str, path: &Path, version: &Version, all: bool) -> Result<ModelFiles> {
    let inner = version.inside(path);
    if !inner.is_dir() {
        let hint = format!("there is no such folder; the model's folder has: {}", Folder::read(path)?.names.join(", "));
        return Err(Error::MissingFile { what: "the subfolder".to_string(), path: inner, hint });
    }
    let place = Folder::read(&inner)?;
    let mut files = match version.checkpoint {
        Some(choice) => pick_checkpoint(name, &place, &checkpoint_files(&inner)?, all, choice)?,
        None => pick(name, &place)?,
    };
    if files.tokenizer.is_none() && version.subfolder.is_some() {
        add_tokenizer(&mut files, &Folder::read(path)?)?;
    }
    Ok(files)
}

/// The names of the files in `checkpoints/`, if there is such a folder.
pub(super) fn checkpoint_files(path: &Path) -> Result<Vec<String>> {
    let folder = path.join("checkpoints");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    Ok(Folder::read(&folder)?.names.into_iter().map(|name| format!("checkpoints/{name}")).collect())
}

/// A folder and the names of what is in it.
pub(super) struct Folder {
    path: PathBuf,
    names: Vec<String>,
}

impl Folder {
    /// Lists a folder.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path, error);
        let name = |entry: std::io::Result<DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let names = std::fs::read_dir(path).map_err(failed)?.map(name).collect::<std::io::Result<_>>();
        Ok(Self { path: path.to_path_buf(), names: names.map_err(failed)? })
    }
}

impl Place for Folder {
    fn origin(&self) -> String {
        format!("the folder {}", self.path.display())
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    /// Follows links, for a hub cache consists of links; a broken one does not count.
    fn has(&self, name: &str) -> bool {
        self.path.join(name).is_file()
    }

    fn get(&self, name: &str) -> Result<PathBuf> {
        Ok(self.path.join(name))
    }
}
