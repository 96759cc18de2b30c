//! Running a model over text, batch by batch, and keeping only what is asked for.

pub(super) mod activation;
mod corpus;
mod example;
mod histogram;
mod loss;
mod rows;
mod statistics;
mod top_examples;

use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, PointInfo, Selector};
use crate::model::{HookedTransformer, RunOptions, RunOutput};
use crate::progress::Progress;
use crate::{Error, Result};
use rows::Batches;

pub use corpus::Corpus;
pub use example::Example;
pub use histogram::Histogram;
pub use loss::{RowLoss, TextLoss, TokenLoss};
pub use rows::TextBatch;
pub use statistics::Statistics;
pub use top_examples::{TopExamples, UnitExamples, Units};

/// Tokens in a row unless something else is said.
const ROW_LENGTH: usize = 128;
/// Rows in a batch unless something else is said.
const BATCH_SIZE: usize = 8;

/// A model and the text that it is to run over. Made by [`HookedTransformer::over`]; nothing runs until a result is asked
/// for, and each result is one pass over the text.
///
/// The texts are joined by the end-of-sequence token and cut into rows of equal length, each with the model's BOS in front,
/// as TransformerLens' `tokenize_and_concatenate` does (which drops the end of the text; here it is a last, shorter row).
/// Memory: the activations of one batch, and what the result keeps.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let text = model.over(["John gave a book to Mary.", "Mary went home with the book."]).row_length(16);
/// println!("perplexity {:.1}", text.loss()?.perplexity());
/// let mean = text.statistics(resid_post(1))?.mean()?; // [d_model]
/// let neuron = text.top_examples(post(0), 3, 5)?; // the five places where neuron 3 is most active
/// # assert_eq!(mean.dims(), [model.cfg().d_model]);
/// # assert_eq!(neuron.units().len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct OverText {
    model: HookedTransformer,
    corpus: Corpus,
    row_length: usize,
    batch_size: usize,
    joined: bool,
    prepend_bos: Option<bool>,
    skip_bos: bool,
    max_rows: Option<usize>,
    context: (usize, usize),
    hooks: Hooks,
    progress: Progress,
}

impl HookedTransformer {
    /// This model and text that it is to run over: a text, texts, a [`Corpus`], or tokens.
    pub fn over(&self, corpus: impl Into<Corpus>) -> OverText {
        OverText {
            model: self.clone(),
            corpus: corpus.into(),
            row_length: ROW_LENGTH.min(self.cfg().n_ctx),
            batch_size: BATCH_SIZE,
            joined: true,
            prepend_bos: None,
            skip_bos: false,
            max_rows: None,
            context: (12, 8),
            hooks: Hooks::new(),
            progress: Progress::default(),
        }
    }
}

impl OverText {
    /// Tokens in a row, BOS included: 128, or the model's context if that is shorter.
    pub fn row_length(mut self, tokens: usize) -> Self {
        self.row_length = tokens;
        self
    }

    /// Rows that run at once: 8. More are faster and need more memory.
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows;
        self
    }

    /// Each text begins a row of its own, and short rows are padded. A text that is longer than a row goes on in the next.
    pub fn one_row_each(mut self) -> Self {
        self.joined = false;
        self
    }

    /// Whether rows begin with the beginning-of-sequence token, instead of the model's default.
    pub fn prepend_bos(mut self, prepend: bool) -> Self {
        self.prepend_bos = Some(prepend);
        self
    }

    /// Leaves the beginning-of-sequence token out of statistics and examples. Activations there are unlike those of text
    /// (many heads rest on it, and its residual stream is long), and would often be the strongest example.
    pub fn skip_bos(mut self) -> Self {
        self.skip_bos = true;
        self
    }

    /// Stops after so many rows.
    pub fn max_rows(mut self, rows: usize) -> Self {
        self.max_rows = Some(rows);
        self
    }

    /// How many tokens before and after the one that is meant an example shows: 12 and 8.
    pub fn context(mut self, before: usize, after: usize) -> Self {
        self.context = (before, after);
        self
    }

    /// Runs with these hooks.
    pub fn hooks(mut self, hooks: &Hooks) -> Self {
        self.hooks = hooks.clone();
        self
    }

    /// Who is told how far the work is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// The rows of token ids that the model runs on, without padding.
    ///
    /// # Errors
    /// Text that can't be read, and rows that don't fit into the model's context.
    pub fn rows(&self) -> Result<Vec<Vec<u32>>> {
        let mut batches = Batches::new(self)?;
        let mut rows = Vec::new();
        while let Some(batch) = batches.next()? {
            for (ids, real) in batch.tokens().ids().iter().zip(batch.real()) {
                rows.push(ids.iter().zip(real).filter(|(_, real)| *real).map(|(id, _)| *id).collect());
            }
        }
        Ok(rows)
    }

    /// The model.
    pub fn model(&self) -> &HookedTransformer {
        &self.model
    }

    /// Calls `function` with each batch and the activations that `keep` selects. Only what comes before the last of these
    /// is computed (unless there are hooks).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let mut longest = 0f32;
    /// model.over("John gave a book to Mary.").for_each(resid_post(0), |_, cache| {
    ///     let norms = cache.get(resid_post(0))?.sqr()?.sum(D::Minus1)?.sqrt()?;
    ///     longest = longest.max(norms.max_all()?.to_scalar()?);
    ///     Ok(())
    /// })?;
    /// assert!(longest > 0.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the corpus and of the model's run, an empty corpus, and what `function` returns, which ends the work.
    pub fn for_each(
        &self,
        keep: impl Into<Selector>,
        mut function: impl FnMut(&TextBatch, &ActivationCache) -> Result<()>,
    ) -> Result<()> {
        let keep = keep.into();
        let options = self.options_for(&keep)?;
        self.each_run("activations", &options, |batch, run| function(batch, &ActivationCache::new(&self.model, run)))
    }

    /// The same text with more hooks, behind those that it has.
    pub(crate) fn with_more_hooks(&self, hooks: &Hooks) -> Self {
        Self { hooks: self.hooks.clone().and(hooks), ..self.clone() }
    }

    /// How many tokens a row has at most, of texts.
    pub(crate) fn longest_row(&self) -> usize {
        self.row_length
    }

    /// How many tokens at the start of each row do not count, because BOS is skipped.
    pub(crate) fn skipped(&self) -> Result<usize> {
        Ok(Batches::new(self)?.skipped())
    }

    /// A run that computes what is selected, and not much more.
    fn options_for(&self, keep: &Selector) -> Result<RunOptions> {
        let points = self.model.hook_points();
        let chosen: Vec<&HookPoint> = keep.resolve(points)?.into_iter().map(|i| &points[i].point).collect();
        let options = RunOptions::new().cache(keep).hooks(&self.hooks);
        let layers: Option<Vec<usize>> = chosen.iter().map(|point| point.layer()).collect();
        let last = layers.and_then(|layers| layers.into_iter().max()).filter(|_| self.hooks.is_empty());
        Ok(match last {
            Some(layer) => options.stop_at_layer(layer as i64 + 1),
            None if chosen.iter().any(|point| point.name().starts_with("unembed.")) => options,
            None => options.no_logits(),
        })
    }

    /// Runs the model on each batch.
    fn each_run(
        &self,
        what: &str,
        options: &RunOptions,
        mut function: impl FnMut(&TextBatch, RunOutput) -> Result<()>,
    ) -> Result<()> {
        if self.model.has_encoder() {
            return Err(Error::msg(
                "an encoder-decoder reads two texts at once, and a corpus is of single ones; run it on pairs with \
                 model.run((encoder input, decoder input), ..)",
            ));
        }
        if self.batch_size == 0 || self.max_rows == Some(0) {
            return Err(Error::msg("batch_size and max_rows must be at least 1"));
        }
        let mut batches = Batches::new(self)?;
        let meter = self.progress.start(what, "tokens");
        let mut tokens = 0;
        while let Some(batch) = batches.next()? {
            let run = self.model.run(batch.tokens(), options)?;
            tokens += batch.real().concat().iter().filter(|real| **real).count();
            function(&batch, run)?;
            meter.at(tokens, batches.fraction());
        }
        if tokens == 0 {
            return Err(Error::msg("the corpus is empty: it has no text that gives a token"));
        }
        meter.finish(tokens);
        Ok(())
    }

    /// The one point that is selected.
    pub(crate) fn one_point(&self, at: &Selector) -> Result<PointInfo> {
        let points = self.model.hook_points();
        match at.resolve(points)?[..] {
            [one] => Ok(points[one].clone()),
            ref several => Err(Error::msg(format!(
                "'{at:?}' names {} activations, and one is needed here; give the layer too, as in (\"resid_post\", 0)",
                several.len()
            ))),
        }
    }
}
