//! [`SourceId`] and [`FeatureId`]: how Neuronpedia names what it knows, and where the pages are.

use std::fmt;
use std::str::FromStr;

use super::names::model_id;
use crate::{Error, Result};

/// Where the pages are.
pub(super) const SITE: &str = "https://www.neuronpedia.org";
/// The hosts that a link to a page may name.
const HOSTS: [&str; 2] = ["www.neuronpedia.org", "neuronpedia.org"];
/// What comes before the identifier in the address of the public API.
const API_PATH: &str = "api/feature/";
/// Longer than any name on the site.
const MAX_PART: usize = 128;
/// The set that neurons belong to.
const NEURONS: &str = "neurons";

/// A set of features of one layer, such as `gpt2-small/8-res-jb`: the model and the source within it.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let source = SourceId::at("openai-community/gpt2", 8, "res-jb")?;
/// assert_eq!(source.to_string(), "gpt2-small/8-res-jb");
/// assert_eq!(source.feature(123).url(), "https://www.neuronpedia.org/gpt2-small/8-res-jb/123");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    model: String,
    source: String,
}

/// One feature (or neuron) of a source, such as `gpt2-small/8-res-jb/123`.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let id: FeatureId = "https://www.neuronpedia.org/gpt2-small/8-res-jb/123?embed=true".parse()?;
/// assert_eq!(id, FeatureId::new("gpt2-small", "8-res-jb", 123)?);
/// assert_eq!((id.model(), id.source(), id.index()), ("gpt2-small", "8-res-jb", 123));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureId {
    source: SourceId,
    index: usize,
}

impl SourceId {
    /// A source by Neuronpedia's own names, such as `gpt2-small` and `8-res-jb`.
    ///
    /// # Errors
    /// When a name has other characters than letters, digits, `.`, `_` and `-`, or none, or more than 128.
    pub fn new(model: impl Into<String>, source: impl Into<String>) -> Result<Self> {
        let (model, source) = (model.into(), source.into());
        check("model", "gpt2-small", &model)?;
        check("source", "8-res-jb", &source)?;
        Ok(Self { model, source })
    }

    /// The source of a set at a layer; the model may have any name that this library knows, such as `gpt2` or
    /// `google/gemma-2-2b`. [`source_sets`](super::source_sets) lists the customary sets of a model.
    ///
    /// # Errors
    /// As [`SourceId::new`].
    pub fn at(model: &str, layer: usize, set: &str) -> Result<Self> {
        check("set of sources", "res-jb", set)?;
        Self::new(model_id(model)?, format!("{layer}-{set}"))
    }

    /// The MLP neurons of a layer. Neuronpedia names them by the layer alone.
    ///
    /// # Errors
    /// As [`SourceId::new`].
    pub fn neurons(model: &str, layer: usize) -> Result<Self> {
        Self::new(model_id(model)?, layer.to_string())
    }

    /// The feature of this number.
    pub fn feature(&self, index: usize) -> FeatureId {
        FeatureId { source: self.clone(), index }
    }

    /// Neuronpedia's name of the model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The source within the model, such as `8-res-jb`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The layer, where the source begins with one.
    pub fn layer(&self) -> Option<usize> {
        self.source.split('-').next()?.parse().ok()
    }

    /// The set that the source belongs to: `res-jb` of `8-res-jb`, `neurons` of `8`. What comes behind `__` only tells
    /// sources of one set apart.
    pub fn set(&self) -> &str {
        if self.source.bytes().all(|byte| byte.is_ascii_digit()) {
            return NEURONS;
        }
        let set = self.source.split_once('-').map_or(self.source.as_str(), |(_, set)| set);
        set.split_once("__").map_or(set, |(set, _)| set)
    }

    /// The address of its page.
    pub fn url(&self) -> String {
        // Nothing that a checked name consists of has to be encoded.
        format!("{SITE}/{self}")
    }
}

impl FeatureId {
    /// A feature by Neuronpedia's own names.
    ///
    /// # Errors
    /// As [`SourceId::new`].
    pub fn new(model: impl Into<String>, source: impl Into<String>, index: usize) -> Result<Self> {
        Ok(SourceId::new(model, source)?.feature(index))
    }

    /// Neuronpedia's name of the model.
    pub fn model(&self) -> &str {
        &self.source.model
    }

    /// The source within the model, such as `8-res-jb`.
    pub fn source(&self) -> &str {
        &self.source.source
    }

    /// Its number within the source.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Model and source.
    pub fn source_id(&self) -> &SourceId {
        &self.source
    }

    /// The address of its page.
    pub fn url(&self) -> String {
        format!("{SITE}/{self}")
    }

    /// The address of its page without what surrounds it, for a frame in another page.
    pub fn embed_url(&self) -> String {
        format!("{SITE}/{self}?embed=true")
    }
}

/// `gpt2-small/8-res-jb`
impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.source)
    }
}

/// `gpt2-small/8-res-jb/123`
impl fmt::Display for FeatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.index)
    }
}

/// `gpt2-small/8-res-jb`, or the address of the source's page.
impl FromStr for SourceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "'gpt2-small/8-res-jb' or the address of a source's page was expected";
        match parts(text)?[..] {
            [model, source] => Self::new(model, source),
            _ => Err(not("source", text, expected)),
        }
    }
}

/// `gpt2-small/8-res-jb/123`, or the address of the feature's page.
impl FromStr for FeatureId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "'gpt2-small/8-res-jb/123' or the address of a feature's page was expected";
        match parts(text)?[..] {
            [model, source, index] if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                let index = index.parse().map_err(|_| not("feature", text, expected))?;
                Self::new(model, source, index)
            }
            _ => Err(not("feature", text, expected)),
        }
    }
}

/// The parts of an identifier, or of the address of a page.
fn parts(text: &str) -> Result<Vec<&str>> {
    let text = text.trim();
    let path = match text.split_once("://") {
        None => text,
        Some((scheme, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or(rest);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let known = HOSTS.iter().any(|known| known.eq_ignore_ascii_case(host));
            if !known || !["https", "http"].contains(&scheme) {
                return Err(not(
                    "page of Neuronpedia",
                    text,
                    "an address that begins with https://www.neuronpedia.org/ was expected",
                ));
            }
            path.strip_prefix(API_PATH).unwrap_or(path)
        }
    };
    Ok(path.strip_suffix('/').unwrap_or(path).split('/').collect())
}

/// A name that can stand in an address and in a file's path as it is.
fn check(what: &str, example: &str, name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fine = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= MAX_PART
        && name.chars().all(allowed)
        && !name.contains("..");
    if fine {
        return Ok(());
    }
    let expected = format!("letters, digits, '.', '_' and '-' were expected, as in '{example}'");
    Err(not(&format!("{what} of Neuronpedia"), name, &expected))
}

/// The sentence for a text of anybody's: quoted so that nothing in it acts on a terminal.
fn not(what: &str, text: &str, expected: &str) -> Error {
    Error::msg(format!("{} is no {what}: {expected}", quoted(text)))
}

/// A text of unknown origin within a sentence: short, on one line, what is invisible written out.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_knows_its_layer_and_its_set() {
        for (source, layer, set) in [
            ("8-res-jb", Some(8), "res-jb"),
            ("20-gemmascope-res-16k", Some(20), "gemmascope-res-16k"),
            ("12-gemmascope-res-16k__l0-34", Some(12), "gemmascope-res-16k"),
            ("e-res-sm", None, "res-sm"),
            ("5", Some(5), "neurons"),
        ] {
            let id = SourceId::new("m", source).unwrap();
            assert_eq!((id.layer(), id.set()), (layer, set), "{source}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let id = FeatureId::new("llama3.1-8b", "15-llamascope-res-32k", 7).unwrap();
        for text in [id.to_string(), id.url(), id.embed_url(), format!(" {}/ ", id.url())] {
            assert_eq!(text.parse::<FeatureId>().unwrap(), id, "{text}");
        }
        let api = "http://neuronpedia.org/api/feature/llama3.1-8b/15-llamascope-res-32k/7#x";
        assert_eq!(api.parse::<FeatureId>().unwrap(), id);
        assert_eq!(id.source_id().to_string().parse::<SourceId>().unwrap(), *id.source_id());
        assert_eq!(id.source_id().url().parse::<SourceId>().unwrap(), *id.source_id());
    }

    #[test]
    fn hostile_names_are_refused_and_quoted() {
        let long = "x".repeat(MAX_PART + 1);
        for bad in
            ["", ".", "..", "a..b", "a/b", "a b", "a%2fb", "<script>", "a\u{202e}", "a\nEVCXR_END_CONTENT", "é", &long]
        {
            for error in [SourceId::new(bad, "x").unwrap_err(), SourceId::new("x", bad).unwrap_err()] {
                let error = error.to_string();
                assert!(error.contains("were expected") && error.len() < 500, "{error}");
                assert!(!error.contains(['\n', '\u{202e}']), "{error}");
            }
        }
        for bad in [
            "gpt2-small/8-res-jb",
            "gpt2-small/8-res-jb/+1",
            "gpt2-small/8-res-jb/-1",
            "gpt2-small/8-res-jb/99999999999999999999999",
            "gpt2-small/8-res-jb/1/2",
            "https://neuronpedia.org.evil.com/gpt2-small/8-res-jb/1",
            "https://evil.com/gpt2-small/8-res-jb/1",
            "https://me@neuronpedia.org/gpt2-small/8-res-jb/1",
            "javascript://neuronpedia.org/gpt2-small/8-res-jb/1",
            "https://www.neuronpedia.org",
            "",
        ] {
            assert!(bad.parse::<FeatureId>().is_err(), "{bad}");
        }
    }
}
