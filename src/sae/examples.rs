//! Where in a text features are strongest.

use candle_core::{Device, Tensor};

use super::Sae;

use crate::analysis::OverText;
use crate::analysis::over_text::{TopExamples, Units};
use crate::{Error, Result};

impl Sae {
    /// The `k` places where each of these features is strongest, at most one in a row: max-activating examples, with how
    /// the feature's activations are spread.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let text = model.over(["John gave a book to Mary.", "Mary went home."]).one_row_each().skip_bos();
    /// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(1).progress(&Progress::quiet());
    /// # let sae = Sae::train(&text, resid_post(1), &options)?;
    /// let top = sae.top_examples(&text, [3, 17], 2)?;
    /// println!("{:?}", top.unit(17)?.examples()[0].tokens());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Features that do not exist, k of 0, and those of a pass over the text.
    pub fn top_examples(&self, text: &OverText, features: impl Into<Units>, k: usize) -> Result<TopExamples> {
        let features = match features.into() {
            Units::All => (0..self.d_sae()).collect(),
            Units::These(features) => features,
        };
        self.check(features.iter().copied())?;
        if features.is_empty() {
            return Err(Error::msg("no feature was asked for; .. stands for all of them"));
        }
        let places: Vec<u32> = features.iter().map(|&feature| feature as u32).collect();
        let value = |activation: &Tensor| {
            let (batch, pos) = (activation.dim(0)?, activation.dim(1)?);
            let rows = self.encode_rows(&self.vectors(activation, self.d_in())?)?;
            let chosen = rows.index_select(&Tensor::new(places.as_slice(), rows.device())?, 1)?;
            Ok(chosen.to_device(&Device::Cpu)?.reshape((batch, pos, places.len()))?)
        };
        text.top_examples_named(self.hook_in()?, "feature", &features, k, value)
    }
}
