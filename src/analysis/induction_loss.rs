//! How well a model continues what it has read before, on tokens without any other order.

use candle_core::{Device, Tensor};

use super::{Axis, LabelledTensor, repeated_random_tokens};
use crate::model::{HookedTransformer, RunOptions};
use crate::{Error, Result};

/// On what the induction loss is measured. `InductionLossOptions::new()` is 4 rows of 384 random tokens, repeated, or what
/// fits into the model's context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InductionLossOptions {
    /// Rows.
    pub rows: usize,
    /// Random tokens before they are repeated; none: 384, or what fits.
    pub length: Option<usize>,
    /// Seed of the tokens.
    pub seed: u64,
}

impl Default for InductionLossOptions {
    fn default() -> Self {
        Self { rows: 4, length: None, seed: 0 }
    }
}

impl InductionLossOptions {
    /// Four rows of 384 tokens, or what fits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows.
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// Random tokens before they are repeated.
    pub fn length(mut self, tokens: usize) -> Self {
        self.length = Some(tokens);
        self
    }

    /// Seed of the tokens.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// Loss on random tokens that come twice: nothing can predict them the first time, induction can the second.
#[derive(Clone, Debug)]
pub struct InductionLoss {
    curve: LabelledTensor,
    first: f64,
    second: f64,
    length: usize,
    start: usize,
}

/// The induction loss: the mean loss of random tokens when they come for the second time (TransformerLens'
/// `evals.induction_loss`; Olsson et al. 2022, arXiv 2209.11895). A vocabulary of uniform tokens has log(d_vocab) without
/// induction, and a model with good induction heads comes near 0.
///
/// The first of the repeated tokens is left out: nothing says that it begins again. One forward pass per row.
///
/// ```
/// use candlescope::analysis::{InductionLossOptions, induction_loss};
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let loss = induction_loss(&model, &InductionLossOptions::new().rows(2).length(30))?;
/// assert!(loss.second() < loss.first() / 2.0);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the rows do not fit into the context, and when the model gives no loss (BERT, T5).
pub fn induction_loss(model: &HookedTransformer, options: &InductionLossOptions) -> Result<InductionLoss> {
    let bos = model.tokenizer().is_ok_and(|tokenizer| tokenizer.bos_id().is_some()) && model.cfg().default_prepend_bos;
    let start = usize::from(bos);
    let length = options.length.unwrap_or((model.cfg().n_ctx.saturating_sub(start) / 2).min(384));
    if length < 2 {
        return Err(Error::msg("the induction loss needs at least two tokens that are repeated"));
    }
    let tokens = repeated_random_tokens(model, options.rows, length, options.seed)?;
    let mut sums = vec![0f64; start + 2 * length - 1];
    for row in 0..options.rows {
        let run = model.run(tokens.some_rows(row..row + 1), &RunOptions::new().loss().no_logits())?;
        let losses = run.loss_per_token.ok_or_else(|| Error::msg("the run gave no loss"))?;
        for (sum, loss) in sums.iter_mut().zip(losses.flatten_all()?.to_vec1::<f32>()?) {
            *sum += f64::from(loss);
        }
    }
    // Loss i is that of the token at position i + 1.
    let means: Vec<f64> = sums.iter().map(|sum| sum / options.rows as f64).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let second_begins = start + length - 1;
    let (first, second) = (mean(&means[..second_begins]), mean(&means[second_begins + 1..]));
    let axis = Axis::new("pos", (1..=means.len()).map(|pos| pos.to_string()));
    let values: Vec<f32> = means.iter().map(|&mean| mean as f32).collect();
    let values = Tensor::from_vec(values, means.len(), &Device::Cpu)?;
    let curve = LabelledTensor::new("loss of repeated random tokens", &values, [axis])?;
    Ok(InductionLoss { curve, first, second, length, start })
}

impl InductionLoss {
    /// The mean loss of the second half, without its first token, in nats: the induction loss.
    pub fn second(&self) -> f64 {
        self.second
    }

    /// The mean loss of the first half, in nats.
    pub fn first(&self) -> f64 {
        self.first
    }

    /// The mean loss of the token at each position, from position 1, `[pos]`.
    pub fn by_position(&self) -> &LabelledTensor {
        &self.curve
    }

    /// How many tokens were repeated.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The position at which the second half begins.
    pub fn second_begins_at(&self) -> usize {
        self.start + self.length
    }
}
