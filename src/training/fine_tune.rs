//! Training on a text, in one call.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{TrainOptions, Trainer};
use crate::analysis::Corpus;
use crate::model::HookedTransformer;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Tokens in a row unless something else is said.
const ROW_LENGTH: usize = 128;

impl HookedTransformer {
    /// A copy of this model, trained further on texts: rows of the options' length, in an order that the seed says, over and
    /// over until all steps are done. The options' hooks are active, and [`TrainOptions::only`] chooses the weights. The
    /// model itself is not changed.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// // Learn without the head that moves the names.
    /// let hooks = zero_heads([(2, 0)]);
    /// let options = TrainOptions::new().steps(2).hooks(&hooks).only(|name| name.starts_with("blocks.2"));
    /// let tuned = model.fine_tune("Mary gave a ring to John.", &options.progress(&Progress::quiet()))?;
    /// assert!(!tuned.is(&model));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// No text, weights of 16 bits, a loss that is not a number, and [`Error::Interrupted`].
    pub fn fine_tune(&self, corpus: impl Into<Corpus>, options: &TrainOptions) -> Result<HookedTransformer> {
        let mut trainer = Trainer::new(self, options)?;
        let length = options.row_length.unwrap_or(ROW_LENGTH.min(self.cfg().n_ctx));
        let mut rows = self.over(corpus).row_length(length).rows()?;
        rows.retain(|row| row.len() > 1);
        if rows.is_empty() {
            return Err(Error::msg("there is no text to train on: at least two tokens are needed"));
        }
        let mut rng = StdRng::seed_from_u64(options.seed);
        let mut waiting: Vec<usize> = Vec::new();
        while !trainer.is_done() {
            let mut batch = Vec::new();
            while batch.len() < options.batch_size.min(rows.len()) {
                if waiting.is_empty() {
                    waiting = (0..rows.len()).collect();
                    waiting.shuffle(&mut rng);
                }
                batch.extend(waiting.pop().map(|row| rows[row].clone()));
            }
            // Only the text's last row is shorter; what fills it is masked.
            trainer.step(Tokens::padded(batch, 0, crate::tokens::PaddingSide::Right)?)?;
        }
        trainer.snapshot()
    }
}
