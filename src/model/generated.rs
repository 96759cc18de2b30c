//! What generation gives: texts, and how likely each token was.

use std::fmt;

use crate::tokens::Tokenizer;
use crate::{Error, Result};

/// How many tokens a choice remembers.
const LIKELIEST: usize = 5;

/// Generated text: the prompt and what was added, for each row.
#[derive(Clone, Debug)]
pub struct Generation {
    prompts: Vec<Vec<u32>>,
    added: Vec<Vec<u32>>,
    choices: Vec<Vec<Choice>>,
    tokenizer: Option<Tokenizer>,
}

/// One token that was added: how likely the model held it, and what else it held likely.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token's id.
    pub id: u32,
    /// The probability that the model gave it (0 to 1, at temperature 1, whatever it was sampled with).
    pub probability: f32,
    /// The likeliest tokens with their probabilities, likeliest first.
    pub likeliest: Vec<(u32, f32)>,
}

impl Choice {
    /// A token chosen by these logits.
    pub(super) fn of(id: u32, logits: &[f32]) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        let probability = |id: u32| logits.get(id as usize).map_or(f32::NAN, |logit| (logit - highest).exp() / total);
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if order.len() > LIKELIEST {
            order.select_nth_unstable_by(LIKELIEST - 1, by);
            order.truncate(LIKELIEST);
        }
        order.sort_by(by);
        Self { id, probability: probability(id), likeliest: order.iter().map(|&id| (id, probability(id))).collect() }
    }
}

impl Generation {
    pub(super) fn new(prompts: Vec<Vec<u32>>, choices: Vec<Vec<Choice>>, tokenizer: Option<Tokenizer>) -> Self {
        let added = choices.iter().map(|row| row.iter().map(|choice| choice.id).collect()).collect();
        Self { prompts, added, choices, tokenizer }
    }

    /// The ids of each prompt, without padding.
    pub fn prompts(&self) -> &[Vec<u32>] {
        &self.prompts
    }

    /// The ids that were added to each prompt.
    pub fn added(&self) -> &[Vec<u32>] {
        &self.added
    }

    /// What was added to a row, each token with its probability and what else was likely.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let story = model.generate("John went to the", &GenerateOptions::greedy().max_new_tokens(3))?;
    /// let first = &story.choices(0)?[0];
    /// assert_eq!((first.id, first.probability), first.likeliest[0]);
    /// # Ok(()) }
    /// ```
    pub fn choices(&self, row: usize) -> Result<&[Choice]> {
        self.row(row)?;
        Ok(self.choices.get(row).map_or(&[], Vec::as_slice))
    }

    /// The text of one token, as the model's tokenizer has it.
    pub(crate) fn piece(&self, id: u32) -> String {
        self.tokenizer.as_ref().map_or_else(|| format!("#{id}"), |tokenizer| tokenizer.piece(id))
    }

    /// The text of a row: prompt and continuation, without special tokens.
    pub fn text(&self, row: usize) -> Result<String> {
        let (prompt, added) = self.row(row)?;
        self.decode(&[prompt, added].concat())
    }

    /// The text that was added to a row.
    pub fn continuation(&self, row: usize) -> Result<String> {
        let (_, added) = self.row(row)?;
        self.decode(added)
    }

    /// The pieces of a row's prompt, and those that were added to it.
    pub fn pieces(&self, row: usize) -> Result<(Vec<String>, Vec<String>)> {
        let (prompt, added) = self.row(row)?;
        let piece = |id: &u32| self.piece(*id);
        Ok((prompt.iter().map(piece).collect(), added.iter().map(piece).collect()))
    }

    fn row(&self, row: usize) -> Result<(&[u32], &[u32])> {
        match (self.prompts.get(row), self.added.get(row)) {
            (Some(prompt), Some(added)) => Ok((prompt, added)),
            _ => Err(Error::msg(format!("there is no row {row}: {} were generated", self.prompts.len()))),
        }
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::NoTokenizer { why: "the model that generated this has none".to_string() });
        };
        let special = [tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()];
        let plain: Vec<u32> = ids.iter().copied().filter(|id| !special.contains(&Some(*id))).collect();
        tokenizer.to_string(&plain)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..self.prompts.len() {
            let separator = if row > 0 { "\n" } else { "" };
            match self.text(row) {
                Ok(text) => write!(f, "{separator}{text}")?,
                Err(_) => write!(f, "{separator}{:?} -> {:?}", self.prompts[row], self.added[row])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_knows_its_rivals() {
        let logits = [0.0f32, 3.0, 1.0, 2.0, -1.0, 2.0, f32::NEG_INFINITY];
        let choice = Choice::of(3, &logits);
        assert_eq!(choice.likeliest.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 5, 2, 0]);
        let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
        assert!((choice.probability - 2f32.exp() / total).abs() < 1e-6);
        assert_eq!(choice.probability, choice.likeliest[1].1);
        assert!(Choice::of(9, &logits).probability.is_nan());
    }
}
