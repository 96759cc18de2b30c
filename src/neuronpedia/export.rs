//! [`Export`]: files that were downloaded from Neuronpedia's exports.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::feature::id;
use super::{FeatureExample, FeatureInfo, Label, Labels, SourceId};
use crate::{Error, Progress, Result, interrupt};

/// What every file of an export is called.
const ENDINGS: [&str; 2] = [".jsonl.gz", ".jsonl"];
/// How deep a folder is looked through: model, source, kind of file.
const DEPTH: usize = 3;
/// The longest line that is read; a feature with its vector has some hundred kilobytes.
const MAX_LINE: u64 = 64 << 20;
/// After how many lines an interrupt is looked for.
const LOOK_EVERY: usize = 256;
const EXPLANATIONS: &str = "explanations";
const FEATURES: &str = "features";
const ACTIVATIONS: &str = "activations";

/// Files of Neuronpedia's exports (`explanations/batch-0.jsonl.gz` and so on): labels and dashboards without a network.
///
/// They lie at <https://neuronpedia-datasets.s3.us-east-1.amazonaws.com/index.html?prefix=v1/>, a folder for each model and
/// source; [`Neuronpedia::download_export`](super::Neuronpedia::download_export) fetches the explanations of one.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("candlescope-export-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(folder.join("explanations")).unwrap();
/// # let line = r#"{"modelId": "gpt2-small", "layer": "8-res-jb", "index": "7", "description": "names of cities"}"#;
/// # std::fs::write(folder.join("explanations/batch-0.jsonl"), line).unwrap();
/// let labels = Export::open(&folder)?.labels()?;
/// assert_eq!(labels.get(7), Some("names of cities"));
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Export {
    root: PathBuf,
    files: Vec<PathBuf>,
    progress: Progress,
}

impl Export {
    /// Opens a source's folder, a folder of batches, or one file; `.jsonl` and `.jsonl.gz` are read.
    ///
    /// # Errors
    /// When nothing is there, or no such file is in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let root = path.as_ref().to_path_buf();
        let hint = "give the folder of a source, of its batches, or a file that ends in .jsonl or .jsonl.gz";
        let mut files = Vec::new();
        if root.is_dir() {
            collect(&root, DEPTH, &mut files)?;
        } else if root.is_file() && is_export(&root) {
            files.push(root.clone());
        }
        if files.is_empty() {
            let what = "an export of Neuronpedia".to_string();
            return Err(Error::MissingFile { what, path: root, hint: hint.to_string() });
        }
        files.sort_by_cached_key(|file| (file.parent().map(Path::to_path_buf), batch(file), file.clone()));
        Ok(Self::of(root, files))
    }

    pub(super) fn of(root: PathBuf, files: Vec<PathBuf>) -> Self {
        Self { root, files, progress: Progress::default() }
    }

    /// Who hears how far the reading is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Its files, batch by batch.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What every feature is said to mean.
    ///
    /// # Errors
    /// When a file can't be read or holds something else, or when several sources are there, whose numbers would be
    /// mixed up; an interrupt.
    pub fn labels(&self) -> Result<Labels> {
        let mut labels = Labels::new();
        self.lines(&[EXPLANATIONS], "labels", |file, line| {
            let line: Line = parse(file, line)?;
            let json = line.into_json();
            let (Some(id), Some(label)) = (id(&json), Label::read(&json)) else { return Ok(()) };
            match labels.source() {
                None => labels = std::mem::take(&mut labels).of(id.source_id()),
                Some(source) => self.same(source, id.source_id())?,
            }
            labels.insert(id.index(), label);
            Ok(())
        })?;
        Ok(labels)
    }

    /// The dashboard of a feature, from what the files have of it. All of them are read, which takes a while.
    ///
    /// # Errors
    /// As [`Export::labels`]; when no file has the feature.
    pub fn feature(&self, index: usize) -> Result<FeatureInfo> {
        let mut found: Option<FeatureInfo> = None;
        self.lines(&[FEATURES, EXPLANATIONS, ACTIVATIONS], "feature", |file, line| {
            let head: Head = parse(file, line)?;
            let head = json!({"modelId": head.model, "layer": head.layer, "index": head.index});
            let Some(id) = id(&head).filter(|id| id.index() == index) else { return Ok(()) };
            if let Some(found) = &found {
                self.same(found.id.source_id(), id.source_id())?;
            }
            let json: Value = parse(file, line)?;
            let info = FeatureInfo::read(&json);
            let known = found.take().or_else(|| FeatureInfo::read(&head));
            // The line that has the statistics comes in whatever order: it takes what was found before into it.
            found = match (json.get("pos_str").is_some() || json.get("frac_nonzero").is_some(), info, known) {
                (true, Some(mut info), Some(known)) => {
                    info.labels.extend(known.labels);
                    known.examples.into_iter().for_each(|example| info.add_example(example));
                    Some(info)
                }
                (_, _, known) => known,
            };
            if let Some(found) = &mut found {
                found.labels.extend(Label::read(&json));
                FeatureExample::read(&json).into_iter().for_each(|example| found.add_example(example));
            }
            Ok(())
        })?;
        if let Some(found) = &mut found {
            let highest = found.examples.first().map(|example| f64::from(example.max()));
            found.max_activation = found.max_activation.or(highest);
        }
        found.ok_or_else(|| {
            Error::msg(format!(
                "no file of the export {} has a feature {index}; {} were read: check the number, or add the files that have \
                 it",
                self.root.display(),
                count(self.files.len()),
            ))
        })
    }

    /// Calls `each` with every line of the files of these kinds, and of those whose folder says no kind.
    fn lines(&self, kinds: &[&str], what: &str, mut each: impl FnMut(&Path, &[u8]) -> Result<()>) -> Result<()> {
        let kind = |file: &PathBuf| {
            let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            folder.filter(|folder| [EXPLANATIONS, FEATURES, ACTIVATIONS].contains(folder)).map(str::to_string)
        };
        let wanted = |file: &&PathBuf| kind(file).is_none_or(|kind| kinds.contains(&kind.as_str()));
        let files: Vec<&PathBuf> = self.files.iter().filter(wanted).collect();
        let meter = self.progress.start(format!("{what} from {}", self.root.display()), "files");
        for (i, file) in files.iter().enumerate() {
            lines_of(file, |line| each(file, line))?;
            meter.at(i + 1, Some((i + 1) as f64 / files.len() as f64));
        }
        meter.finish(files.len());
        Ok(())
    }

    /// The same number means another feature in another source.
    fn same(&self, one: &SourceId, other: &SourceId) -> Result<()> {
        if one == other {
            return Ok(());
        }
        Err(Error::msg(format!(
            "{} holds features of several sources ({one}, {other}); open the folder of one of them",
            self.root.display()
        )))
    }
}

/// Whether all of a file can be read.
pub(super) fn check(file: &Path) -> Result<()> {
    lines_of(file, |line| parse::<Head>(file, line).map(drop))
}

/// What says which feature a line is about. All else is skipped without being kept.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "modelId")]
    model: Option<Value>,
    layer: Option<Value>,
    index: Option<Value>,
}

/// What is read of an explanation; its embedding, most of the line, is skipped.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "modelId")]
    model: Option<Value>,
    layer: Option<Value>,
    index: Option<Value>,
    description: Option<Value>,
    #[serde(rename = "typeName")]
    method: Option<Value>,
    #[serde(rename = "explanationModelName")]
    author: Option<Value>,
    scores: Option<Value>,
}

impl Line {
    fn into_json(self) -> Value {
        json!({
            "modelId": self.model, "layer": self.layer, "index": self.index, "description": self.description,
            "typeName": self.method, "explanationModelName": self.author, "scores": self.scores,
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(file: &Path, line: &'a [u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|error| bad(file, format!("a line is no JSON object ({error})")))
}

/// Every line that is not empty, unpacked where the file is packed, whatever its name says.
fn lines_of(file: &Path, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut plain = BufReader::new(File::open(file).map_err(|error| Error::io(file, error))?);
    let packed = plain.fill_buf().map_err(|error| Error::io(file, error))?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead> =
        if packed { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        if number % LOOK_EVERY == 0 {
            interrupt::check()?;
        }
        line.clear();
        number += 1;
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|error| bad(file, format!("it ends or breaks in line {number} ({error})")))?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == MAX_LINE {
            return Err(bad(file, format!("line {number} has more than {} MB", MAX_LINE >> 20)));
        }
        if !line.trim_ascii().is_empty() {
            each(&line)?;
        }
    }
}

fn bad(file: &Path, why: String) -> Error {
    let what = "an export of Neuronpedia, one JSON object a line".to_string();
    Error::BadFile { what, path: file.to_path_buf(), why: format!("{why}; download it again") }
}

/// The files of an export below a folder.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, files)?;
        } else if is_export(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn is_export(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The number of a batch: `batch-10` comes behind `batch-9`.
pub(super) fn batch(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let name = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    name.strip_prefix("batch-")?.parse().ok()
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".to_string() } else { format!("{files} files") }
}
