//! Questions that the site answers: which features are said to mean something, and which are active in a text.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::feature::id;
use super::http::Request;
use super::json::{index, list, real};
use super::{FeatureId, FeatureTable, Label, Labels, Neuronpedia, SourceId, model_id};
use crate::{Error, Result};

/// The shortest text that the site searches for.
const SHORTEST: usize = 3;
/// The largest answer that is read, in bytes: each feature of it comes with texts.
const LIMIT: u64 = 64 << 20;

/// Features whose labels are near to what was searched for, the nearest first. In a notebook they are a table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FoundFeatures {
    /// What was searched for.
    pub query: String,
    /// What was found.
    pub features: Vec<FoundFeature>,
}

/// A feature whose label is near to what was searched for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FoundFeature {
    /// Which feature it is.
    pub id: FeatureId,
    /// The label that fits.
    pub label: Label,
    /// How near the label is, 1 at most.
    pub similarity: Option<f64>,
    /// The part of all tokens that the feature is active at.
    pub density: Option<f64>,
}

impl Neuronpedia {
    /// The twenty features of a source whose labels come nearest in meaning to a text of three characters or more.
    /// [`Labels::find`](super::Labels::find) looks for words, without a network.
    ///
    /// # Errors
    /// As [`Neuronpedia::feature`]; a text that is too short.
    pub fn search(&self, source: &SourceId, query: &str) -> Result<FoundFeatures> {
        let body = json!({"modelId": source.model(), "layers": [source.source()], "query": query.trim()});
        self.found("explanation/search", &body, query, &source.to_string())
    }

    /// The same in all sources of a model, which may have any name that this library knows.
    ///
    /// # Errors
    /// As [`Neuronpedia::search`].
    pub fn search_model(&self, model: &str, query: &str) -> Result<FoundFeatures> {
        let model = model_id(model)?;
        let body = json!({"modelId": model, "query": query.trim()});
        self.found("explanation/search-model", &body, query, &model)
    }

    /// The `n` features (20 at most) that are most active at each token of a text, as the site's own model has them, and
    /// what they are said to mean. The text is sent to the site.
    ///
    /// # Errors
    /// As [`Neuronpedia::feature`]; an empty text, an `n` of 0 or above 20; a source that the site does not run.
    pub fn top_features_for_text(&self, source: &SourceId, text: &str, n: usize) -> Result<FeatureTable> {
        if text.is_empty() || !(1..=20).contains(&n) {
            return Err(Error::msg(format!(
                "a text and 1 to 20 features for each token were expected, and {n} were asked for"
            )));
        }
        let body = json!({
            "modelId": source.model(), "source": source.source(), "text": text, "numResults": n,
            "ignoreBos": true, "densityThreshold": 0,
        });
        let what = format!("the strongest features of {source} in a text");
        let table = |json: &Value| {
            let rows = json.get("results").and_then(Value::as_array)?;
            Some(FeatureTable::read(rows, source).top(n))
        };
        self.post("search-topk-by-token", &body, what, table)
    }

    fn found(&self, path: &str, body: &Value, query: &str, place: &str) -> Result<FoundFeatures> {
        if query.trim().chars().count() < SHORTEST {
            return Err(Error::msg(format!(
                "a search needs a text of {SHORTEST} characters or more, and one of {} was given",
                query.trim().chars().count()
            )));
        }
        let what = format!("what {place} has for a search");
        let found = |json: &Value| {
            let results = json.get("results").and_then(Value::as_array)?;
            let features = results.iter().filter_map(FoundFeature::read).collect();
            Some(FoundFeatures { query: query.trim().to_string(), features })
        };
        self.post(path, body, what, found)
    }

    /// Posts a question; the answer is kept, together with the question, under a short name of it.
    fn post<T>(&self, path: &str, body: &Value, what: String, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let question = body.to_string();
        let mut hasher = DefaultHasher::new();
        (path, &question).hash(&mut hasher);
        let name = format!("{:016x}.json", hasher.finish());
        let file = self.cache.file(&self.base, &["question", &name]);
        let kept = |bytes: Vec<u8>| {
            let kept: Value = serde_json::from_slice(&bytes).ok()?;
            let same = kept.get("path")?.as_str() == Some(path) && kept.get("question") == Some(body);
            same.then_some(())?;
            read(kept.get("answer")?)
        };
        if !self.refresh
            && let Some(value) = file.as_ref().and_then(|file| file.read(LIMIT)).and_then(kept)
        {
            return Ok(value);
        }
        let request = Request {
            url: format!("{}/api/{path}", self.base),
            body: Some(question),
            limit: LIMIT,
            what,
            missing: "check the names of the model and the source on https://www.neuronpedia.org".to_string(),
            slow: false,
        };
        let bytes = self.ask(&request, &self.base)?;
        let not = |why: String| {
            Error::msg(format!("{} answered something else than {}: {why}. Try again later", self.base, request.what))
        };
        let answer: Value = serde_json::from_slice(&bytes).map_err(|error| not(error.to_string()))?;
        let value = read(&answer).ok_or_else(|| not("it has no results".to_string()))?;
        if let Some(file) = file.filter(|_| !self.http.repeats_key(&bytes)) {
            let kept = json!({"path": path, "question": body, "answer": answer});
            file.write(kept.to_string().as_bytes());
        }
        Ok(value)
    }
}

impl FoundFeature {
    fn read(json: &Value) -> Option<Self> {
        let density = json.get("neuron").and_then(|neuron| real(neuron, "frac_nonzero"));
        Some(Self { id: id(json)?, label: Label::read(json)?, similarity: real(json, "cosine_similarity"), density })
    }
}

impl FeatureTable {
    /// The site's answer: for each token its features, each with its labels.
    fn read(rows: &[Value], source: &SourceId) -> Self {
        let (mut tokens, mut strongest, mut labels) = (Vec::new(), Vec::new(), Labels::new());
        for row in rows {
            let mut here = Vec::new();
            for feature in list(row, "topFeatures") {
                let Some(number) = index(feature, "featureIndex") else { continue };
                here.push((number, real(feature, "activationValue").map_or(f32::NAN, |value| value as f32)));
                let explained = feature.get("feature").map_or(&[][..], |feature| list(feature, "explanations"));
                if labels.all(number).is_empty() {
                    explained.iter().filter_map(Label::read).for_each(|label| labels.insert(number, label));
                }
            }
            // A token is white space as often as not: it is taken as it is.
            tokens.push(row.get("token").and_then(Value::as_str).unwrap_or_default().to_string());
            strongest.push(here);
        }
        Self::new(tokens, strongest).source(source).labels(&labels)
    }
}
