//! How well a model finds the indirect object.

use candle_core::{Device, Tensor};

use super::{IoiDataset, IoiOptions, IoiOrder};
use crate::Result;
use crate::analysis::{Axis, LabelledTensor};
use crate::hooks::Hooks;
use crate::model::HookedTransformer;

/// Prompts that run at once.
const BATCH: usize = 16;

/// The lead of the indirect object over the subject in each prompt, in logits.
#[derive(Clone, Debug)]
pub struct IoiScore {
    logit_diffs: Vec<f32>,
    templates: Vec<usize>,
    orders: Vec<IoiOrder>,
    texts: Vec<String>,
}

/// The score on some of the prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct IoiPart {
    /// What they have in common: a template, or an order.
    pub name: String,
    /// How many there are.
    pub count: usize,
    /// The part of them in which the indirect object leads.
    pub accuracy: f64,
    /// The mean lead, in logits.
    pub logit_diff: f64,
}

/// Makes prompts and scores a model on them: TransformerLens' `ioi_eval`.
///
/// ```
/// use candlescope::analysis::{IoiOptions, ioi::ioi_eval};
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let score = ioi_eval(&model, &IoiOptions::new().prompts(16).symmetric())?;
/// assert!(score.accuracy() > 0.5);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of [`IoiDataset::new`] and of the model's run.
pub fn ioi_eval(model: &HookedTransformer, options: &IoiOptions) -> Result<IoiScore> {
    IoiDataset::new(model.tokenizer()?, options)?.score(model)
}

impl IoiDataset {
    /// How well a model does on these prompts.
    ///
    /// # Errors
    /// Those of the model's run.
    pub fn score(&self, model: &HookedTransformer) -> Result<IoiScore> {
        self.score_with_hooks(model, &Hooks::new())
    }

    /// How well a model does with hooks active, as in an ablation.
    ///
    /// # Errors
    /// Those of the model's run.
    pub fn score_with_hooks(&self, model: &HookedTransformer, hooks: &Hooks) -> Result<IoiScore> {
        let mut logit_diffs = Vec::with_capacity(self.prompts().len());
        for (batch, prompts) in self.prompts().chunks(BATCH).enumerate() {
            let from = batch * BATCH;
            let logits = model.run_with_hooks(self.tokens().some_rows(from..from + prompts.len()), hooks)?;
            for (row, prompt) in prompts.iter().enumerate() {
                let at_end = logits.at(row, prompt.positions.end as i64)?;
                let logit = |token: u32| -> Result<f32> { Ok(at_end.get(token as usize)?.to_scalar()?) };
                logit_diffs.push(logit(prompt.io_token)? - logit(prompt.s_token)?);
            }
        }
        Ok(IoiScore {
            logit_diffs,
            templates: self.prompts().iter().map(|prompt| prompt.template).collect(),
            orders: self.prompts().iter().map(|prompt| prompt.order).collect(),
            texts: self.templates().to_vec(),
        })
    }
}

impl IoiScore {
    /// The lead of the indirect object in each prompt, in logits.
    pub fn logit_diffs(&self) -> &[f32] {
        &self.logit_diffs
    }

    /// The part of the prompts in which the indirect object leads.
    pub fn accuracy(&self) -> f64 {
        self.part("", |_| true).accuracy
    }

    /// The mean lead.
    pub fn mean_logit_diff(&self) -> f64 {
        self.part("", |_| true).logit_diff
    }

    /// The score on the prompts of each template; templates that no prompt is of are left out.
    pub fn by_template(&self) -> Vec<IoiPart> {
        let of = |template: usize| self.part(&self.texts[template], |i| self.templates[i] == template);
        (0..self.texts.len()).map(of).filter(|part| part.count > 0).collect()
    }

    /// The score on the prompts of each order.
    pub fn by_order(&self) -> Vec<IoiPart> {
        let of = |(name, order)| self.part(name, |i| self.orders[i] == order);
        let orders = [("ABBA", IoiOrder::Abba), ("BABA", IoiOrder::Baba)];
        orders.into_iter().map(of).filter(|part| part.count > 0).collect()
    }

    /// The leads as a labelled tensor, `[prompt]`.
    pub fn labelled(&self) -> Result<LabelledTensor> {
        let n = self.logit_diffs.len();
        let values = Tensor::from_vec(self.logit_diffs.clone(), n, &Device::Cpu)?;
        LabelledTensor::new("logit difference, IO - S", &values, [Axis::numbered("prompt", n)])
    }

    fn part(&self, name: &str, of: impl Fn(usize) -> bool) -> IoiPart {
        let leads = (0..self.logit_diffs.len()).filter(|&i| of(i)).map(|i| f64::from(self.logit_diffs[i]));
        let leads: Vec<f64> = leads.collect();
        let (count, n) = (leads.len(), leads.len() as f64);
        let right = leads.iter().filter(|lead| **lead > 0.0).count() as f64;
        IoiPart { name: name.to_string(), count, accuracy: right / n, logit_diff: leads.iter().sum::<f64>() / n }
    }
}
