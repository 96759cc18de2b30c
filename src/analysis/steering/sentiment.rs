//! How good or bad an answer sounds, by lists of words.

use crate::analysis::metric::{Metric, log_odds};
use crate::model::HookedTransformer;
use crate::{Error, Result};

const POSITIVE: &[&str] = &[
    "amazing",
    "beautiful",
    "best",
    "brilliant",
    "calm",
    "cheerful",
    "delicious",
    "delighted",
    "excellent",
    "excited",
    "fantastic",
    "fine",
    "friendly",
    "fun",
    "glad",
    "good",
    "great",
    "happy",
    "helpful",
    "joy",
    "kind",
    "laughed",
    "like",
    "liked",
    "love",
    "loved",
    "lovely",
    "lucky",
    "nice",
    "perfect",
    "pleasant",
    "pleased",
    "proud",
    "safe",
    "smiled",
    "strong",
    "success",
    "sweet",
    "thankful",
    "wonderful",
];

const NEGATIVE: &[&str] = &[
    "afraid",
    "alone",
    "angry",
    "annoyed",
    "awful",
    "bad",
    "boring",
    "broken",
    "cried",
    "cruel",
    "dangerous",
    "disappointed",
    "disgusting",
    "evil",
    "failed",
    "failure",
    "fear",
    "hate",
    "hated",
    "horrible",
    "hurt",
    "ill",
    "lonely",
    "lost",
    "mad",
    "mean",
    "nasty",
    "pain",
    "poor",
    "sad",
    "scared",
    "sick",
    "sorry",
    "terrible",
    "tired",
    "ugly",
    "unhappy",
    "upset",
    "worst",
    "wrong",
];

/// Two lists of words, good and bad, by which answers are judged: as a [`Metric`] of what the model would say next, or as a
/// score of a text that it wrote.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let words = Sentiment::english();
/// assert_eq!(words.score("It was a good day, and everyone was happy!"), 1.0);
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let next = model.measure("Anna was very", &words.metric(&model)?)?; // ln P(good) - ln P(bad)
/// # assert!(next.is_finite()); Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentiment {
    positive: Vec<String>,
    negative: Vec<String>,
}

impl Sentiment {
    /// Lists of one's own.
    pub fn new<S: Into<String>>(positive: impl IntoIterator<Item = S>, negative: impl IntoIterator<Item = S>) -> Self {
        let list = |words: &mut dyn Iterator<Item = S>| words.map(|word| word.into().trim().to_lowercase()).collect();
        Self { positive: list(&mut positive.into_iter()), negative: list(&mut negative.into_iter()) }
    }

    /// Forty plain English words on each side. A small measure for small models: it does not know negations or irony.
    pub fn english() -> Self {
        Self::new(POSITIVE.iter().copied(), NEGATIVE.iter().copied())
    }

    /// The good words and the bad ones.
    pub fn words(&self) -> (&[String], &[String]) {
        (&self.positive, &self.negative)
    }

    /// The metric ln P(a good word) - ln P(a bad word) of the next token, in nats. Of each list those words count that are
    /// one token of this model with a space in front (or in a model that puts none there, without).
    ///
    /// # Errors
    /// When a list has no such word.
    pub fn metric(&self, model: &HookedTransformer) -> Result<Metric> {
        let ids = |words: &[String], which: &str| -> Result<Vec<u32>> {
            let tokenizer = model.tokenizer()?;
            let id = |word: &String| {
                let spaced = tokenizer.to_single_token(&format!(" {word}"));
                spaced.or_else(|_| tokenizer.to_single_token(word)).ok()
            };
            let ids: Vec<u32> = words.iter().filter_map(id).collect();
            match ids.is_empty() {
                true => Err(Error::msg(format!(
                    "none of the {} {which} words is one token of this model: {}",
                    words.len(),
                    words.join(", ")
                ))),
                false => Ok(ids),
            }
        };
        let metric = log_odds(ids(&self.positive, "good")?, ids(&self.negative, "bad")?);
        Ok(metric.with_name("sentiment of the next word (nats)"))
    }

    /// How many good and bad words a text has.
    pub fn count(&self, text: &str) -> (usize, usize) {
        let lower = text.to_lowercase();
        let words = || lower.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty());
        let of = |list: &[String]| words().filter(|word| list.iter().any(|known| known == word)).count();
        (of(&self.positive), of(&self.negative))
    }

    /// From -1 (all bad) to 1 (all good): the good words minus the bad ones, over both; 0 for a text with neither.
    pub fn score(&self, text: &str) -> f64 {
        let (good, bad) = self.count(text);
        (good as f64 - bad as f64) / (good + bad).max(1) as f64
    }
}

impl Default for Sentiment {
    fn default() -> Self {
        Self::english()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_whole_and_in_any_case() {
        let words = Sentiment::english();
        assert_eq!(words.count("Good! The GOODS were bad; a sad, sad day. It wasn't 'great'."), (1, 3));
        assert_eq!(words.score("Good, bad, sad, sad."), -0.5);
        assert_eq!(words.score("Nothing of it."), 0.0);
        let own = Sentiment::new([" Yes"], ["No "]);
        assert_eq!(own.score("yes yes no"), 1.0 / 3.0);
    }

    #[test]
    fn no_word_is_in_both_lists_or_twice() {
        let words = Sentiment::english();
        let mut all: Vec<&String> = words.positive.iter().chain(&words.negative).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 80);
    }
}
