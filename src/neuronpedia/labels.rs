//! [`Labels`]: what the features of a source are said to mean.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{list, real, text};
use super::{FeatureInfo, SourceId};

/// What somebody says that a feature means.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Label {
    /// The explanation.
    pub text: String,
    /// The method that made it, such as `oai_token-act-pair`.
    pub method: Option<String>,
    /// The language model that wrote it, such as `gpt-4o-mini`.
    pub model: Option<String>,
    /// How well it was found to fit, where that was measured.
    pub score: Option<f64>,
}

impl Label {
    /// A label of your own.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), method: None, model: None, score: None }
    }

    /// An explanation as Neuronpedia writes it; None if it says nothing.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let score = list(json, "scores").iter().find_map(|score| real(score, "value"));
        Some(Self {
            text: text(json, "description")?,
            method: text(json, "typeName"),
            model: text(json, "explanationModelName"),
            score,
        })
    }
}

/// What the features of a source are said to mean, by their numbers, wherever it comes from: Neuronpedia, an export, or
/// yourself.
///
/// ```
/// use candlescope::prelude::*;
/// let labels: Labels = [(7, "names of cities"), (3, "opening brackets")].into_iter().collect();
/// assert_eq!(labels.get(7), Some("names of cities"));
/// assert_eq!(labels.find("CITIES"), [(7, "names of cities")]);
/// assert_eq!(labels.get(8), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    source: Option<SourceId>,
    by_index: BTreeMap<usize, Vec<Label>>,
}

impl Labels {
    /// No labels yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The source whose features these are, for links.
    pub fn of(mut self, source: &SourceId) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// The source whose features these are, where it is known.
    pub fn source(&self) -> Option<&SourceId> {
        self.source.as_ref()
    }

    /// Adds a label to a feature, behind those that it has.
    pub fn insert(&mut self, index: usize, label: Label) {
        self.by_index.entry(index).or_default().push(label);
    }

    /// What a feature is said to mean: its first label.
    pub fn get(&self, index: usize) -> Option<&str> {
        Some(self.all(index).first()?.text.as_str())
    }

    /// All labels of a feature, the first one first.
    pub fn all(&self, index: usize) -> &[Label] {
        self.by_index.get(&index).map_or(&[], Vec::as_slice)
    }

    /// How many features have a label.
    pub fn len(&self) -> usize {
        self.by_index.len()
    }

    /// Whether no feature has one.
    pub fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// Every feature that has a label, by number, with its first one.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        self.by_index.iter().filter_map(|(index, labels)| Some((*index, labels.first()?.text.as_str())))
    }

    /// The features that have a label with these words in it, and that label; case does not matter. It needs no network.
    pub fn find(&self, words: &str) -> Vec<(usize, &str)> {
        let words = words.trim().to_lowercase();
        let fits = |label: &&Label| label.text.to_lowercase().contains(&words);
        let found = |(index, labels): (&usize, &'_ Vec<Label>)| (*index, labels.iter().position(|label| fits(&label)));
        self.by_index
            .iter()
            .map(found)
            .filter_map(|(index, place)| Some((index, self.all(index).get(place?)?.text.as_str())))
            .collect()
    }
}

impl<S: Into<String>> FromIterator<(usize, S)> for Labels {
    fn from_iter<I: IntoIterator<Item = (usize, S)>>(labels: I) -> Self {
        let mut all = Self::new();
        labels.into_iter().for_each(|(index, text)| all.insert(index, Label::new(text)));
        all
    }
}

/// The labels of features that were fetched one by one; the source is that of the first.
impl<'a> FromIterator<&'a FeatureInfo> for Labels {
    fn from_iter<I: IntoIterator<Item = &'a FeatureInfo>>(features: I) -> Self {
        let mut all = Self::new();
        for feature in features {
            let source = all.source.get_or_insert_with(|| feature.id.source_id().clone());
            if source == feature.id.source_id() {
                feature.labels.iter().for_each(|label| all.insert(feature.id.index(), label.clone()));
            }
        }
        all
    }
}
