//! [`FeatureTable`]: a sentence, and what is active in it.

use std::collections::BTreeMap;

use super::{Labels, SourceId};
use crate::sae::{ActiveFeature, FeatureActivations};
use crate::{Error, Result};

/// Features of a token that a table shows.
const TOP: usize = 3;
/// Features of a token that a table made of activations keeps.
const KEPT: usize = 20;

/// The strongest features at each token of a sentence, and what they are said to mean. In a notebook it is a table with
/// links.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let labels: Labels = [(7, "names of cities")].into_iter().collect();
/// let tokens = vec!["In".to_string(), " Paris".to_string()];
/// let table = FeatureTable::new(tokens, vec![vec![], vec![(7, 12.5), (9, 0.5)]])
///     .source(&SourceId::at("gpt2", 8, "res-jb")?)
///     .labels(&labels);
/// assert!(table.bundle().text.contains("gpt2-small/8-res-jb/7"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureTable {
    pub(crate) tokens: Vec<String>,
    pub(crate) strongest: Vec<Vec<(usize, f32)>>,
    pub(crate) source: Option<SourceId>,
    /// The labels of the features in it.
    pub(crate) labels: BTreeMap<usize, String>,
    pub(crate) top: usize,
    pub(crate) title: Option<String>,
}

impl FeatureTable {
    /// The tokens' texts, and for each token features (their numbers) with their activations, in any order.
    pub fn new(tokens: Vec<String>, strongest: Vec<Vec<(usize, f32)>>) -> Self {
        let strongest = strongest.into_iter().map(sorted).collect();
        Self { tokens, strongest, source: None, labels: BTreeMap::new(), top: TOP, title: None }
    }

    /// The source whose features they are, for identifiers and links.
    pub fn source(mut self, source: &SourceId) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// What they are said to mean. Of the labels' source come the links, where no other was given.
    pub fn labels(mut self, labels: &Labels) -> Self {
        self.source = self.source.take().or_else(|| labels.source().cloned());
        let there =
            self.strongest.iter().flatten().filter_map(|(index, _)| Some((*index, labels.get(*index)?.to_string())));
        self.labels = there.collect();
        self
    }

    /// How many features of each token are shown (3).
    pub fn top(mut self, features: usize) -> Self {
        self.top = features.max(1);
        self
    }

    /// A title instead of the usual one.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The tokens' texts.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// For each token its features with their activations, the strongest first.
    pub fn strongest(&self) -> &[Vec<(usize, f32)>] {
        &self.strongest
    }

    /// What a feature of the table is said to mean.
    pub fn label(&self, index: usize) -> Option<&str> {
        self.labels.get(&index).map(String::as_str)
    }
}

impl FeatureActivations {
    /// The strongest features of each token of a row, to be shown with what they are said to mean: give it
    /// [`Labels`]. Links come from the SAE's files, where these name its place on Neuronpedia, or from the labels.
    ///
    /// ```no_run
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained_no_processing("gpt2")?;
    /// let sae = Sae::from_pretrained("gpt2-small-res-jb", "blocks.8.hook_resid_pre")?;
    /// let (_, cache) = model.run_with_cache("You have angry emotion in yourself!")?;
    /// let labels = Neuronpedia::from_env().labels(&"gpt2-small/8-res-jb".parse()?)?;
    /// let table = sae.features(&cache)?.meanings(0)?.labels(&labels);
    /// # let _ = table; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no such row.
    pub fn meanings(&self, row: usize) -> Result<FeatureTable> {
        let strongest =
            self.top_per_token(KEPT).into_iter().nth(row).ok_or_else(|| {
                Error::msg(format!("there is no row {row} of features: there are {}", self.shape().0))
            })?;
        let of_token =
            |active: Vec<ActiveFeature>| active.into_iter().map(|active| (active.feature, active.value)).collect();
        let table = FeatureTable::new(self.texts(row), strongest.into_iter().map(of_token).collect());
        Ok(match self.neuronpedia_id().and_then(|id| id.parse().ok()) {
            Some(source) => table.source(&source),
            None => table,
        })
    }
}

/// The strongest first, what is no number last.
fn sorted(mut features: Vec<(usize, f32)>) -> Vec<(usize, f32)> {
    let key = |feature: &(usize, f32)| if feature.1.is_nan() { f32::NEG_INFINITY } else { feature.1 };
    features.sort_by(|a, b| key(b).total_cmp(&key(a)));
    features
}
