//! Where text comes from: files, texts, or token ids that are there already.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tokens::{Text, Tokens};
use crate::{Error, Result};

/// Text to run a model over: the lines of a file, a whole file, texts, or token ids.
///
/// A text or texts become one by themselves: `model.over(["One text.", "Another."])`.
#[derive(Clone, Debug)]
pub struct Corpus {
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Texts(TextSource),
    Tokens(Tokens),
}

#[derive(Clone, Debug)]
pub(super) enum TextSource {
    Lines(PathBuf),
    File(PathBuf),
    Given(Arc<Vec<String>>),
}

impl Corpus {
    /// Each line of a UTF-8 file is a text; empty lines are left out. The file is read as the work goes on, never whole.
    ///
    /// # Errors
    /// When the file is not there. A line that is not UTF-8 is an error when the work comes to it.
    pub fn from_file_lines(path: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { source: Source::Texts(TextSource::Lines(existing(path.into())?)) })
    }

    /// A whole UTF-8 file is one text. It is read and tokenized in one piece; for files beyond some hundred megabytes,
    /// [`from_file_lines`](Self::from_file_lines) needs less memory.
    ///
    /// # Errors
    /// When the file is not there. One that is not UTF-8 is an error when the work begins.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { source: Source::Texts(TextSource::File(existing(path.into())?)) })
    }

    /// Each line of this text is a text; empty lines are left out.
    pub fn from_lines(text: &str) -> Self {
        Self::from_texts(text.lines().collect::<Vec<_>>())
    }

    /// Each of these is a text.
    pub fn from_texts(texts: impl Into<Text>) -> Self {
        Self { source: Source::Texts(TextSource::Given(Arc::new(texts.into().rows().to_vec()))) }
    }

    /// Rows of token ids, run as they are: nothing is put in front of them, cut or joined. They need no tokenizer.
    pub fn from_tokens(tokens: impl Into<Tokens>) -> Self {
        Self { source: Source::Tokens(tokens.into()) }
    }
}

impl From<Tokens> for Corpus {
    fn from(tokens: Tokens) -> Self {
        Self::from_tokens(tokens)
    }
}

impl From<&Tokens> for Corpus {
    fn from(tokens: &Tokens) -> Self {
        Self::from_tokens(tokens.clone())
    }
}

impl From<&Corpus> for Corpus {
    fn from(corpus: &Corpus) -> Self {
        corpus.clone()
    }
}

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl From<$text> for Corpus {
            fn from(texts: $text) -> Self {
                Self::from_texts(texts)
            }
        }
    )*};
}

texts!(&str, String, &String, Vec<&str>, Vec<String>, &Vec<String>, &[&str], &[String], Text);

impl<const N: usize> From<[&str; N]> for Corpus {
    fn from(texts: [&str; N]) -> Self {
        Self::from_texts(texts)
    }
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    match path.is_file() {
        true => Ok(path),
        false if path.is_dir() => {
            let why = "it is a folder; give one file".to_string();
            Err(Error::BadFile { what: "text".to_string(), path, why })
        }
        false => {
            let hint = format!("relative paths start at {}", std::env::current_dir().unwrap_or_default().display());
            Err(Error::MissingFile { what: "the text file".to_string(), path, hint })
        }
    }
}

/// The texts of a corpus, one after the other.
pub(super) enum Documents {
    Lines { lines: BufReader<File>, path: PathBuf, line: usize, read: u64, total: u64 },
    File(Option<PathBuf>),
    Texts { texts: Arc<Vec<String>>, next: usize },
}

impl Documents {
    /// From the first text on.
    pub fn open(source: &TextSource) -> Result<Self> {
        Ok(match source {
            TextSource::Lines(path) => {
                let file = File::open(path).map_err(|error| Error::io(path, error))?;
                let total = file.metadata().map_err(|error| Error::io(path, error))?.len();
                Self::Lines { lines: BufReader::new(file), path: path.clone(), line: 0, read: 0, total }
            }
            TextSource::File(path) => Self::File(Some(path.clone())),
            TextSource::Given(texts) => Self::Texts { texts: texts.clone(), next: 0 },
        })
    }

    /// The next text; none at the end.
    pub fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Lines { lines, path, line, read, .. } => {
                let mut bytes = Vec::new();
                let taken = lines.read_until(b'\n', &mut bytes).map_err(|error| Error::io(&*path, error))?;
                if taken == 0 {
                    return Ok(None);
                }
                *line += 1;
                *read += taken as u64;
                let text = utf8(bytes, path, &format!("line {line} is not UTF-8"))?;
                let text = if *line == 1 { text.trim_start_matches('\u{feff}') } else { &text };
                Ok(Some(text.trim_end_matches(['\n', '\r']).to_string()))
            }
            Self::File(path) => {
                let Some(path) = path.take() else { return Ok(None) };
                let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
                let text = utf8(bytes, &path, "it is not UTF-8")?;
                Ok(Some(text.trim_start_matches('\u{feff}').to_string()))
            }
            Self::Texts { texts, next } => {
                *next += 1;
                Ok(texts.get(*next - 1).cloned())
            }
        }
    }

    /// The part that was read, from 0 to 1; none for a whole file, which is read at once.
    pub fn fraction(&self) -> Option<f64> {
        match self {
            Self::Lines { read, total, .. } => Some(*read as f64 / (*total).max(1) as f64),
            Self::File(_) => None,
            Self::Texts { texts, next } => Some((*next).min(texts.len()) as f64 / texts.len().max(1) as f64),
        }
    }
}

fn utf8(bytes: Vec<u8>, path: &Path, why: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::BadFile {
        what: "text".to_string(),
        path: path.to_path_buf(),
        why: format!("{why} ({}); convert the file to UTF-8", error.utf8_error()),
    })
}
