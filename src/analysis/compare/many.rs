//! Many pairs of prompts, and what they have in common.

use candle_core::Tensor;

use super::Comparison;
use crate::analysis::LabelledTensor;
use crate::model::{HookedTransformer, Input};
use crate::progress::Progress;
use crate::{Error, Result};

/// Comparisons of many pairs of prompts that have equally many tokens side by side.
#[derive(Clone, Debug)]
pub struct ManyComparisons {
    comparisons: Vec<Comparison>,
}

impl HookedTransformer {
    /// Compares many pairs of prompts, each as [`compare`](Self::compare) does. The tokens of all pairs have to stand in equally
    /// many places, so that these mean the same in every pair: sentences of one template, say.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let names = ["Anna", "Leo", "Ruth"];
    /// // Behind a space each of these names is one token, at the start of a text not all are.
    /// let pairs = names.map(|name| (format!("Then {name} was happy."), format!("Then {name} was angry.")));
    /// let many = model.compare_many(pairs)?;
    /// let mean = many.mean(|pair| pair.stream())?; // [layer, token]
    /// let spread = many.spread(|pair| pair.stream())?;
    /// # let _ = (mean, spread); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// No pairs, pairs with another number of places than the first, and those of [`compare`](Self::compare).
    pub fn compare_many<A: Into<Input>, B: Into<Input>>(
        &self,
        pairs: impl IntoIterator<Item = (A, B)>,
    ) -> Result<ManyComparisons> {
        let pairs: Vec<(A, B)> = pairs.into_iter().collect();
        let n = pairs.len();
        let meter = Progress::default().start("comparing", "pairs");
        let mut comparisons: Vec<Comparison> = Vec::new();
        for (i, (a, b)) in pairs.into_iter().enumerate() {
            let comparison = self.compare(a, b)?;
            let places = comparison.alignment().pairs().len();
            if let Some(first) = comparisons.first().map(|first| first.alignment().pairs().len())
                && first != places
            {
                return Err(Error::msg(format!(
                    "pair {i} has {places} tokens side by side, and the first pair {first}: a mean needs the same places in all"
                )));
            }
            comparisons.push(comparison);
            meter.at(i + 1, Some((i + 1) as f64 / n as f64));
        }
        meter.finish(n);
        match comparisons.is_empty() {
            true => Err(Error::msg("there are no pairs to compare")),
            false => Ok(ManyComparisons { comparisons }),
        }
    }
}

impl ManyComparisons {
    /// Each pair's comparison.
    pub fn pairs(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The mean of a measure over the pairs, under the first pair's tokens.
    pub fn mean(&self, measure: impl Fn(&Comparison) -> Result<LabelledTensor>) -> Result<LabelledTensor> {
        let (first, all) = self.measured(measure)?;
        self.over_pairs("mean", &first, &all.mean(0)?)
    }

    /// The standard deviation of a measure over the pairs (that of a sample; 0 for a single pair).
    pub fn spread(&self, measure: impl Fn(&Comparison) -> Result<LabelledTensor>) -> Result<LabelledTensor> {
        let (first, all) = self.measured(measure)?;
        let squares = all.broadcast_sub(&all.mean_keepdim(0)?)?.sqr()?.sum(0)?;
        let n = self.comparisons.len().saturating_sub(1).max(1) as f64;
        self.over_pairs("spread", &first, &(squares / n)?.sqrt()?)
    }

    /// Of every pair, one under the other, and the first as it is.
    fn measured(&self, measure: impl Fn(&Comparison) -> Result<LabelledTensor>) -> Result<(LabelledTensor, Tensor)> {
        let all = self.comparisons.iter().map(measure).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = all.iter().map(|values| values.tensor().clone()).collect();
        let first = all.into_iter().next().ok_or_else(|| Error::msg("there are no pairs"))?;
        Ok((first, Tensor::stack(&tensors, 0)?))
    }

    fn over_pairs(&self, what: &str, first: &LabelledTensor, values: &Tensor) -> Result<LabelledTensor> {
        let title = format!("{what} of {} pairs: {}", self.comparisons.len(), first.title());
        LabelledTensor::new(title, values, first.axes().to_vec())
    }
}
