//! [`ModelFiles`]: the files that a model is made of, and where each of them is.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::Checkpoint;
use super::weights::{self, Chosen};
use crate::{Error, Result};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The files of one model.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// The name that was asked for.
    pub name: String,
    /// Where the files come from, for messages: "the folder /models/x".
    pub origin: String,
    /// `config.json`, or the GGUF file that holds the same.
    pub config: FileData,
    /// The file with the weights, or its shards in the order of their names.
    pub weights: Vec<FileData>,
    /// `tokenizer.json`, if there is one, or the GGUF file that holds a tokenizer.
    pub tokenizer: Option<FileData>,
    /// `tokenizer_config.json`, if there is one.
    pub tokenizer_config: Option<FileData>,
    /// Which training checkpoint this is, if one was asked for.
    pub checkpoint: Option<Checkpoint>,
    /// `chat_template.jinja`, if there is one. It comes before a template in `tokenizer_config.json`.
    pub chat_template: Option<FileData>,
}

/// A file on disk, or a file that is part of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileData {
    /// On disk; large ones are best memory-mapped.
    Path(PathBuf),
    /// Part of the program.
    Bytes {
        /// The file's name, for messages.
        name: &'static str,
        /// The whole content.
        data: &'static [u8],
    },
}

impl FileData {
    /// The whole content.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn read(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Path(path) => std::fs::read(path).map(Cow::Owned).map_err(|error| Error::io(path, error)),
            Self::Bytes { data, .. } => Ok(Cow::Borrowed(data)),
        }
    }

    /// The whole content as text.
    ///
    /// # Errors
    /// A file that can't be read or is not UTF-8.
    pub fn read_text(&self) -> Result<String> {
        String::from_utf8(self.read()?.into_owned()).map_err(|error| self.unreadable("text", error))
    }

    /// What to call the file in messages: its path, or its name and that it is bundled.
    pub fn label(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Bytes { name, .. } => format!("{name} (bundled)"),
        }
    }

    /// The error that this file can't be read as `what`.
    pub(crate) fn unreadable(&self, what: &str, why: impl Display) -> Error {
        Error::BadFile { what: what.to_string(), path: PathBuf::from(self.label()), why: why.to_string() }
    }
}

impl From<PathBuf> for FileData {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for FileData {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_path_buf())
    }
}

impl From<&str> for FileData {
    fn from(path: &str) -> Self {
        Self::Path(PathBuf::from(path))
    }
}

impl From<&FileData> for FileData {
    fn from(file: &FileData) -> Self {
        file.clone()
    }
}

/// A place that has files under names: a folder, or a repository that can be downloaded from.
pub(super) trait Place {
    /// For messages: "the folder /models/x".
    fn origin(&self) -> String;
    /// The names of what is there, for messages.
    fn names(&self) -> &[String];
    /// Whether a file is there.
    fn has(&self, name: &str) -> bool;
    /// The path of one of them, downloaded if need be.
    fn get(&self, name: &str) -> Result<PathBuf>;
}

/// Picks a model's files from what a place has.
pub(super) fn pick(name: &str, place: &impl Place) -> Result<ModelFiles> {
    let chosen = weights::choose(place)?;
    collect(name, place, chosen)
}

/// The model whose weights are in one certain file of a place.
pub(super) fn pick_file(name: &str, place: &impl Place, file: &str) -> Result<ModelFiles> {
    collect(name, place, weights::choose_from(place, file))
}

/// The tokenizer of a place and its configuration, where it has them.
pub(super) fn pick_tokenizer(place: &impl Place) -> Result<(Option<FileData>, Option<FileData>)> {
    let optional = |file: &str| place.has(file).then(|| place.get(file).map(FileData::Path)).transpose();
    Ok((optional(TOKENIZER)?, optional(TOKENIZER_CONFIG)?))
}

/// Gives a model the tokenizer of another place.
pub(super) fn add_tokenizer(files: &mut ModelFiles, place: &impl Place) -> Result<()> {
    (files.tokenizer, files.tokenizer_config) = pick_tokenizer(place)?;
    files.chat_template = place.has(CHAT_TEMPLATE).then(|| place.get(CHAT_TEMPLATE).map(FileData::Path)).transpose()?;
    Ok(())
}

fn collect(name: &str, place: &impl Place, chosen: Chosen) -> Result<ModelFiles> {
    let get = |file: &str| place.get(file).map(FileData::Path);
    let optional = |file: &str| if place.has(file) { get(file).map(Some) } else { Ok(None) };
    if let Chosen::Gguf(parts) = chosen {
        let tokenizer = optional(TOKENIZER)?;
        let tokenizer_config = optional(TOKENIZER_CONFIG)?;
        let weights = parts.iter().map(|part| get(part)).collect::<Result<Vec<_>>>()?;
        let first = weights.first().cloned().ok_or_else(|| Error::msg("there is no GGUF file"))?;
        // It says itself what model it holds; only for the tokenizer there may be something better.
        return Ok(ModelFiles {
            name: name.to_string(),
            origin: format!("{} in {}", parts.join(", "), place.origin()),
            config: first.clone(),
            weights,
            tokenizer_config: tokenizer_config.filter(|_| tokenizer.is_some()),
            chat_template: None,
            tokenizer: tokenizer.or(Some(first)),
            checkpoint: None,
        });
    }
    if !place.has(CONFIG) {
        return Err(Error::msg(format!("{} has no {CONFIG}; {}", place.origin(), what_is_there(place))));
    }
    // The small files come first, so that a download that can't work fails early.
    let config = get(CONFIG)?;
    let tokenizer = optional(TOKENIZER)?;
    let tokenizer_config = optional(TOKENIZER_CONFIG)?;
    let chat_template = optional(CHAT_TEMPLATE)?;
    let weights = match chosen {
        Chosen::Whole(file) => vec![get(&file)?],
        Chosen::Index(file) => {
            let index = get(&file)?;
            let shards = shards(&index)?;
            if let Some(lost) = shards.iter().find(|shard| !place.has(shard)) {
                return Err(index.unreadable(
                    "an index of shards",
                    format!("it names the shard '{lost}', which is not there; {}", what_is_there(place)),
                ));
            }
            shards.iter().map(|shard| get(shard)).collect::<Result<_>>()?
        }
        Chosen::Gguf(_) | Chosen::Nothing => {
            return Err(Error::msg(format!(
                "{} has no weights that candlescope reads: {WEIGHTS}, pytorch_model.bin (or the index of either and its \
                 shards), a .pth or .pt file, or a .gguf file was expected; {}",
                place.origin(),
                what_is_there(place),
            )));
        }
    };
    let (name, origin) = (name.to_string(), place.origin());
    Ok(ModelFiles { name, origin, config, weights, tokenizer, tokenizer_config, chat_template, checkpoint: None })
}

/// The shards' file names, in order and each once, out of an index such as `model.safetensors.index.json`.
fn shards(index: &FileData) -> Result<Vec<String>> {
    let bad = |why: String| index.unreadable("an index of shards", why);
    let json: Value = serde_json::from_slice(&index.read()?).map_err(|error| bad(error.to_string()))?;
    let Some(Value::Object(map)) = json.get("weight_map") else {
        return Err(bad("it has no object 'weight_map'".to_string()));
    };
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        match shard.as_str() {
            Some(shard) if stays_inside(shard) => shards.insert(shard.to_string()),
            _ => return Err(bad(format!("the shard of tensor '{tensor}' is {shard}, and a file name was expected"))),
        };
    }
    if shards.is_empty() { Err(bad("its 'weight_map' is empty".to_string())) } else { Ok(shards.into_iter().collect()) }
}

/// Whether a name from an index, which anyone may have written, is a plain relative path.
fn stays_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

pub(super) fn what_is_there(place: &impl Place) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<&str> = place.names().iter().map(String::as_str).collect();
    names.sort_unstable();
    match names.len() {
        0 => "it is empty".to_string(),
        n if n > SHOWN => format!("it has: {} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => format!("it has: {}", names.join(", ")),
    }
}
