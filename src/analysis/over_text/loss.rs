//! How well a model predicts a text.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::example::keep_best;
use super::{Example, OverText};
use crate::Result;
use crate::analysis::{Axis, LabelledTensor};
use crate::model::RunOptions;
use crate::tokens::Tokenizer;

/// The loss of every token of a text, in nats. Keeps eight bytes for each token.
#[derive(Clone, Debug)]
pub struct TextLoss {
    rows: Vec<RowLoss>,
    tokenizer: Option<Tokenizer>,
    context: (usize, usize),
}

/// The loss of the tokens of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLoss {
    /// The token ids, BOS included, without padding.
    pub ids: Vec<u32>,
    /// The loss of each but the first, which nothing predicts: `[pos - 1]`.
    pub losses: Vec<f32>,
}

/// The loss of one token of the vocabulary, wherever it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLoss {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// How often it was predicted.
    pub count: usize,
    /// Its mean loss, in nats.
    pub mean: f64,
}

impl OverText {
    /// The loss of every predicted token; with rows cut out of joined texts, the EOS between two counts as well.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let loss = model.over(["John gave a book to Mary.", "Mary went home."]).loss()?;
    /// println!("{:.2} nats, perplexity {:.1}", loss.mean(), loss.perplexity());
    /// let hardest = loss.highest(5); // with the text around them
    /// # assert_eq!(hardest.len(), 5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the model sees both sides (BERT), when no row has two tokens, or when the run fails.
    pub fn loss(&self) -> Result<TextLoss> {
        let mut rows = Vec::new();
        if self.model.cfg().bidirectional {
            return Err(crate::Error::msg(
                "this model sees the tokens on both sides, so the loss of the next token says nothing about it",
            ));
        }
        // Not the run's own loss: a last row of one token, with nothing to predict, would be an error there.
        self.each_run("loss", &RunOptions::new().hooks(&self.hooks), |batch, run| {
            let Some(logits) = run.logits.filter(|_| batch.tokens().shape().1 >= 2) else { return Ok(()) };
            let losses = crate::model::log_probs_of_next(&logits, batch.tokens())?.neg()?.to_device(&Device::Cpu)?;
            let losses: Vec<Vec<f32>> = losses.to_vec2()?;
            for ((ids, losses), real) in batch.tokens().ids().iter().zip(losses).zip(batch.real()) {
                let from = real.iter().position(|real| *real).unwrap_or(0);
                let to = real.iter().rposition(|real| *real).map_or(from, |last| last + 1);
                if to - from >= 2 {
                    rows.push(RowLoss { ids: ids[from..to].to_vec(), losses: losses[from..to - 1].to_vec() });
                }
            }
            Ok(())
        })?;
        if rows.is_empty() {
            return Err(crate::Error::msg(
                "the loss needs rows of at least two tokens: one to predict from and one to predict",
            ));
        }
        Ok(TextLoss { rows, tokenizer: self.model.tokenizer().ok().cloned(), context: self.context })
    }
}

impl TextLoss {
    /// Each row of the text.
    pub fn rows(&self) -> &[RowLoss] {
        &self.rows
    }

    /// How many tokens were predicted.
    pub fn count(&self) -> usize {
        self.losses().count()
    }

    /// The mean loss of a token, in nats.
    pub fn mean(&self) -> f64 {
        self.losses().map(f64::from).sum::<f64>() / self.count() as f64
    }

    /// e to the mean loss: among how many equally likely tokens the model is undecided, in the geometric mean.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// The standard error of the mean, as if tokens were independent.
    pub fn standard_error(&self) -> f64 {
        let (n, mean) = (self.count() as f64, self.mean());
        let squares: f64 = self.losses().map(|loss| (f64::from(loss) - mean).powi(2)).sum();
        (squares / (n - 1.0).max(1.0) / n).sqrt()
    }

    /// The mean loss of the tokens at each position of a row, from position 1, `[pos]`. How it falls shows what the model
    /// makes of its context (in-context learning, Olsson et al. 2022).
    pub fn by_position(&self) -> Result<LabelledTensor> {
        let longest = self.rows.iter().map(|row| row.losses.len()).max().unwrap_or(0);
        let mean = |pos: usize| {
            let here = self.rows.iter().filter_map(|row| row.losses.get(pos)).map(|&loss| f64::from(loss));
            let (n, sum) = here.fold((0usize, 0.0), |(n, sum), loss| (n + 1, sum + loss));
            (sum / n as f64) as f32
        };
        let means: Vec<f32> = (0..longest).map(mean).collect();
        let axis = Axis::new("pos", (1..=longest).map(|pos| pos.to_string()));
        LabelledTensor::new("loss by position", &Tensor::from_vec(means, longest, &Device::Cpu)?, [axis])
    }

    /// The `k` tokens of highest loss, highest first, with the text around them and the loss of each token there.
    pub fn highest(&self, k: usize) -> Vec<Example> {
        let mut best: Vec<(f32, usize, usize)> = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (i, &loss) in row.losses.iter().enumerate() {
                keep_best(&mut best, k, loss, |other| other.0, || (loss, number, i + 1));
            }
        }
        best.into_iter().map(|(_, row, pos)| self.example((row, pos), self.context)).collect()
    }

    /// The mean loss of each token of the vocabulary that was predicted at least `min_count` times, highest first.
    pub fn by_token(&self, min_count: usize) -> Vec<TokenLoss> {
        let mut sums: HashMap<u32, (usize, f64)> = HashMap::new();
        for row in &self.rows {
            for (&id, &loss) in row.ids[1..].iter().zip(&row.losses) {
                let (count, sum) = sums.entry(id).or_default();
                *count += 1;
                *sum += f64::from(loss);
            }
        }
        let text = |id: u32| self.tokenizer.as_ref().map_or_else(|| format!("[{id}]"), |tokenizer| tokenizer.piece(id));
        let frequent = sums.into_iter().filter(|(_, (count, _))| *count >= min_count.max(1));
        let mut losses: Vec<TokenLoss> = frequent
            .map(|(id, (count, sum))| TokenLoss { id, text: text(id), count, mean: sum / count as f64 })
            .collect();
        losses.sort_by(|a, b| b.mean.total_cmp(&a.mean).then(a.id.cmp(&b.id)));
        losses
    }

    /// A whole row as an example, its token of highest loss marked.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn row(&self, row: usize) -> Result<Example> {
        let Some(found) = self.rows.get(row) else {
            return Err(crate::Error::msg(format!("there is no row {row}: the text gave {} rows", self.rows.len())));
        };
        let highest = (1..found.ids.len()).max_by(|&a, &b| found.losses[a - 1].total_cmp(&found.losses[b - 1]));
        Ok(self.example((row, highest.unwrap_or(1)), (usize::MAX, usize::MAX)))
    }

    fn example(&self, (row, pos): (usize, usize), context: (usize, usize)) -> Example {
        let found = &self.rows[row];
        let values = [&[f32::NAN], &found.losses[..]].concat();
        Example::new((row, pos), &found.ids, &values, context, self.tokenizer.as_ref())
    }

    fn losses(&self) -> impl Iterator<Item = f32> {
        self.rows.iter().flat_map(|row| row.losses.iter().copied())
    }
}
