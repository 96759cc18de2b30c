//! What a model writes under pushes of several strengths.

use super::{Sentiment, SteeringSweep};
use crate::model::GenerateOptions;
use crate::{Error, Result, interrupt};

/// What was written under one push.
#[derive(Clone, Debug, PartialEq)]
pub struct SteeredText {
    /// The layer that was pushed, or the hook point's name; `all` where all were.
    pub layer: String,
    /// The strength of the push.
    pub strength: f64,
    /// The prompt.
    pub prompt: String,
    /// What came after it.
    pub continuation: String,
}

/// What a model writes under pushes of several strengths, made by [`SteeringSweep::texts`].
#[derive(Clone, Debug, PartialEq)]
pub struct SteeredTexts {
    texts: Vec<SteeredText>,
    sentiment: Option<Sentiment>,
}

impl SteeringSweep {
    /// What the model writes after the prompts under each push. Give it few strengths, and `.together()` or a vector of one
    /// layer: each is a generation of its own.
    ///
    /// # Errors
    /// Those of the generation, and prompts that are not text or tokens.
    pub fn texts(&self, options: &GenerateOptions) -> Result<SteeredTexts> {
        let strengths = self.tried()?;
        let meter = self.progress.start("steered texts", "texts");
        let places = self.places();
        let all = places.len() * strengths.len();
        let (mut texts, mut done) = (Vec::new(), 0);
        for place in &places {
            for &strength in &strengths {
                interrupt::check()?;
                let options = options.clone().steer(&self.push(place, strength));
                let written = self.model.generate(self.prompts.clone(), &options)?;
                let layer = self.name_of(place);
                for row in 0..written.prompts().len() {
                    let (whole, continuation) = (written.text(row)?, written.continuation(row)?);
                    let prompt = whole.strip_suffix(&continuation).unwrap_or(&whole).to_string();
                    texts.push(SteeredText { layer: layer.clone(), strength, prompt, continuation });
                }
                done += 1;
                meter.at(done, Some(done as f64 / all as f64));
            }
        }
        meter.finish(done);
        Ok(SteeredTexts { texts, sentiment: None })
    }
}

impl SteeredTexts {
    /// All texts: by layer, strength and prompt.
    pub fn texts(&self) -> &[SteeredText] {
        &self.texts
    }

    /// Shows each text's score by these words too.
    pub fn sentiment(mut self, words: &Sentiment) -> Self {
        self.sentiment = Some(words.clone());
        self
    }

    /// The words that the texts are scored by.
    pub(crate) fn words(&self) -> Option<&Sentiment> {
        self.sentiment.as_ref()
    }

    /// The mean score of the texts of each strength, in the order in which they were tried.
    ///
    /// # Errors
    /// When no words were given: see [`sentiment`](Self::sentiment).
    pub fn scores(&self) -> Result<Vec<(f64, f64)>> {
        let words = self.words().ok_or_else(|| Error::msg("there are no words to score by; say .sentiment(&words)"))?;
        let mut scores: Vec<(f64, Vec<f64>)> = Vec::new();
        for text in &self.texts {
            let score = words.score(&text.continuation);
            match scores.iter_mut().find(|(strength, _)| *strength == text.strength) {
                Some((_, scores)) => scores.push(score),
                None => scores.push((text.strength, vec![score])),
            }
        }
        Ok(scores.into_iter().map(|(strength, all)| (strength, all.iter().sum::<f64>() / all.len() as f64)).collect())
    }
}
