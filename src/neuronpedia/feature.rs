//! [`FeatureInfo`]: the dashboard of one feature.

use serde_json::Value;

use super::json::{index, list, real, reals, text, texts};
use super::{FeatureId, Label};
use crate::{Error, Result};

/// What Neuronpedia knows of a feature. In a notebook it is a card.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let json = r#"{"modelId": "gpt2-small", "layer": "8-res-jb", "index": "123", "frac_nonzero": 0.002,
///     "explanations": [{"description": "names of cities", "explanationModelName": "gpt-4o-mini"}],
///     "pos_str": [" Paris"], "pos_values": [1.5], "neg_str": [], "neg_values": [], "activations": []}"#;
/// let info = FeatureInfo::from_json(json)?;
/// assert_eq!((info.label(), info.density), (Some("names of cities"), Some(0.002)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeatureInfo {
    /// Which feature it is.
    pub id: FeatureId,
    /// What it is said to mean, the best first.
    pub labels: Vec<Label>,
    /// The tokens whose logits it raises most, and by how much.
    pub positive: Vec<LogitToken>,
    /// The tokens whose logits it lowers most, and by how much.
    pub negative: Vec<LogitToken>,
    /// The part of all tokens that it is active at, from 0 to 1.
    pub density: Option<f64>,
    /// Its highest activation in the texts that it was looked for in.
    pub max_activation: Option<f64>,
    /// How often each size of activation came.
    pub activation_histogram: Option<FeatureHistogram>,
    /// How often it changes a logit by how much.
    pub logit_histogram: Option<FeatureHistogram>,
    /// Texts with its activation at each token, the strongest first.
    pub examples: Vec<FeatureExample>,
    /// The activation that the source reads, where it is known, such as `blocks.8.hook_resid_pre`.
    pub hook_name: Option<String>,
}

/// A token, and what a feature does to its logit.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitToken {
    /// The token's text.
    pub token: String,
    /// By how much the feature changes its logit.
    pub value: f64,
}

/// Bars: how many (heights) of each size (values).
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureHistogram {
    /// The middle of each bar.
    pub values: Vec<f64>,
    /// How high each bar is.
    pub heights: Vec<f64>,
}

/// A text, and a feature's activation at each of its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureExample {
    /// The tokens' texts.
    pub tokens: Vec<String>,
    /// One activation for each token.
    pub values: Vec<f32>,
    /// The place of the highest.
    pub max_token: usize,
}

impl FeatureInfo {
    /// Reads what Neuronpedia's API answers, or a line of its exports. Fields that are missing or null are not there in
    /// the result either.
    ///
    /// # Errors
    /// When the text is no JSON, or does not say which feature it is about.
    pub fn from_json(json: &str) -> Result<Self> {
        let not = |why: String| Error::msg(format!("the text is no feature as Neuronpedia writes it: {why}"));
        let json: Value = serde_json::from_str(json).map_err(|error| not(error.to_string()))?;
        Self::read(&json).ok_or_else(|| not("modelId, layer and index were expected".to_string()))
    }

    /// Without examples and labels where they are kept elsewhere; None where it does not say which feature it is.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let id = id(json)?;
        let mut examples: Vec<FeatureExample> =
            list(json, "activations").iter().filter_map(FeatureExample::read).collect();
        sort(&mut examples);
        let highest = || examples.first().map(|example| f64::from(example.max()));
        Some(Self {
            id,
            labels: list(json, "explanations").iter().filter_map(Label::read).collect(),
            positive: tokens(json, "pos_str", "pos_values"),
            negative: tokens(json, "neg_str", "neg_values"),
            density: real(json, "frac_nonzero"),
            // Zero is what the site writes where it does not know.
            max_activation: real(json, "maxActApprox").filter(|max| *max != 0.0).or_else(highest),
            activation_histogram: histogram(json, "freq_hist_data_bar_values", "freq_hist_data_bar_heights"),
            logit_histogram: histogram(json, "logits_hist_data_bar_values", "logits_hist_data_bar_heights"),
            examples,
            hook_name: text(json, "hookName"),
        })
    }

    /// What it is said to mean: its best label.
    pub fn label(&self) -> Option<&str> {
        Some(self.labels.first()?.text.as_str())
    }

    /// The address of its page.
    pub fn url(&self) -> String {
        self.id.url()
    }

    /// Adds an example at its place.
    pub(super) fn add_example(&mut self, example: FeatureExample) {
        self.examples.push(example);
        sort(&mut self.examples);
    }
}

impl FeatureExample {
    /// As Neuronpedia writes it; None without tokens.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let tokens = texts(json, "tokens");
        let mut values: Vec<f32> = reals(json, "values").into_iter().map(|value| value as f32).collect();
        values.resize(tokens.len(), f32::NAN);
        let last = tokens.len().checked_sub(1)?;
        let highest = || (0..=last).filter(|&i| !values[i].is_nan()).max_by(|&a, &b| values[a].total_cmp(&values[b]));
        let said = index(json, "maxValueTokenIndex").filter(|place| *place <= last);
        let max_token = said.or_else(highest).unwrap_or(0);
        Some(Self { tokens, values, max_token })
    }

    /// The activation at the token that is meant.
    pub fn max(&self) -> f32 {
        self.values.get(self.max_token).copied().unwrap_or(f32::NAN)
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// The strongest first, what has no number last.
fn sort(examples: &mut [FeatureExample]) {
    let key = |example: &FeatureExample| if example.max().is_nan() { f32::NEG_INFINITY } else { example.max() };
    examples.sort_by(|a, b| key(b).total_cmp(&key(a)));
}

/// Which feature a piece of JSON is about.
pub(super) fn id(json: &Value) -> Option<FeatureId> {
    FeatureId::new(text(json, "modelId")?, text(json, "layer")?, index(json, "index")?).ok()
}

fn tokens(json: &Value, texts_key: &str, values_key: &str) -> Vec<LogitToken> {
    let both = texts(json, texts_key).into_iter().zip(reals(json, values_key));
    both.map(|(token, value)| LogitToken { token, value }).collect()
}

fn histogram(json: &Value, values: &str, heights: &str) -> Option<FeatureHistogram> {
    let (values, heights) = (reals(json, values), reals(json, heights));
    (!values.is_empty() && values.len() == heights.len()).then_some(FeatureHistogram { values, heights })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_name_is_needed() {
        let info = FeatureInfo::from_json(r#"{"modelId": "m", "layer": "5", "index": 7, "new": {"x": []}}"#).unwrap();
        assert_eq!(info.id.to_string(), "m/5/7");
        assert!(info.labels.is_empty() && info.examples.is_empty() && info.label().is_none());
        assert_eq!((info.density, info.max_activation), (None, None));
    }

    #[test]
    fn nulls_and_other_types_are_left_out() {
        let json = r#"{"modelId": "m", "layer": "5", "index": "7", "frac_nonzero": null, "maxActApprox": "high",
            "pos_str": ["a", null, 3], "pos_values": [1, null, 2], "neg_str": null, "freq_hist_data_bar_values": [1],
            "freq_hist_data_bar_heights": [], "explanations": [null, {"description": " "}, {"description": "x"}],
            "activations": [{"tokens": ["a", "b"], "values": [null, 2]}, {"tokens": []}, 4,
                            {"tokens": ["c", "d"], "values": [3], "maxValueTokenIndex": 9}]}"#;
        let info = FeatureInfo::from_json(json).unwrap();
        assert_eq!(info.positive.iter().map(|t| t.token.as_str()).collect::<Vec<_>>(), ["a", "", ""]);
        assert!(info.positive[1].value.is_nan() && info.negative.is_empty());
        assert_eq!(info.labels, [Label::new("x")]);
        assert!(info.activation_histogram.is_none());
        // The strongest first; a place outside of the text is not believed.
        assert_eq!(
            info.examples.iter().map(|e| (e.text(), e.max())).collect::<Vec<_>>(),
            [("cd".to_string(), 3.0), ("ab".to_string(), 2.0)]
        );
        assert_eq!(info.max_activation, Some(3.0));
    }

    #[test]
    fn what_is_no_feature_is_a_sentence() {
        for bad in ["", "[]", "{}", "{\"modelId\": \"<b>\", \"layer\": \"5\", \"index\": 1}", "{\"modelId\": \"m\"}"] {
            let error = FeatureInfo::from_json(bad).unwrap_err().to_string();
            assert!(error.starts_with("the text is no feature"), "{error}");
        }
    }
}
