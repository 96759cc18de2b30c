//! What a sweep found.

use std::ops::Deref;

use candle_core::{Device, Tensor};

use crate::analysis::labelled::{Axis, LabelledTensor};
use crate::analysis::metric::{Metric, mean};
use crate::{Error, Result};

/// The metric of every run of a sweep, by the axes that it went along, with that of the run without a change.
///
/// Use it as the metric's values, a [`LabelledTensor`]; in a notebook it shows [`normalized`](Self::normalized), or
/// [`change`](Self::change) where there is no run to compare with, as a heatmap.
#[derive(Clone, Debug)]
pub struct SweepResult {
    values: LabelledTensor,
    per_prompt: LabelledTensor,
    base: f32,
    source: Option<f32>,
}

impl SweepResult {
    /// `measured` has the numbers of each place, in row-major order, none where there is no such place. All and `base` are a
    /// number for each prompt, or one for all.
    pub(crate) fn new(
        metric: &Metric,
        axes: Vec<Axis>,
        measured: Vec<Option<Vec<f32>>>,
        base: &[f32],
        source: Option<f32>,
    ) -> Result<Self> {
        let prompts = base.len();
        let values: Vec<f32> =
            measured.into_iter().flat_map(|values| values.unwrap_or_else(|| vec![f32::NAN; prompts])).collect();
        let dims: Vec<usize> = axes.iter().map(Axis::len).chain([prompts]).collect();
        let values = Tensor::from_vec(values, dims, &Device::Cpu)?;
        let per_prompt =
            LabelledTensor::new(metric.name(), &values, axes.into_iter().chain([Axis::numbered("prompt", prompts)]))?;
        let values = per_prompt.mean_over("prompt")?.with_title(metric.name());
        Ok(Self { values, per_prompt, base: mean(base), source })
    }

    /// The metric of each run, the mean over the prompts. NaN where there is no such place (a layer without an MLP; a key
    /// head beyond the last).
    pub fn values(&self) -> &LabelledTensor {
        &self.values
    }

    /// The metric of each run and prompt, with a last axis `prompt`. A metric that gives one number for all has one there.
    pub fn per_prompt(&self) -> &LabelledTensor {
        &self.per_prompt
    }

    /// The metric of the run without a change.
    pub fn base(&self) -> f32 {
        self.base
    }

    /// The metric of the run that activations were taken from, where they were taken from one.
    pub fn source(&self) -> Option<f32> {
        self.source
    }

    /// By how much each change moves the metric.
    pub fn change(&self) -> Result<LabelledTensor> {
        let change = self.values.map(|values| Ok((values - f64::from(self.base))?))?;
        Ok(change.with_title(format!("Change of the {}", self.values.title())))
    }

    /// How much of the way from the base run to the source each change goes: 0 where nothing happens, 1 where the source's
    /// metric is restored.
    ///
    /// # Errors
    /// When the changes come from no other run, or that has the same metric.
    pub fn normalized(&self) -> Result<LabelledTensor> {
        let Some(source) = self.source else {
            return Err(Error::msg("there is no source run to compare with here; use .change() or .values()"));
        };
        let whole = f64::from(source - self.base);
        if whole == 0.0 || !whole.is_finite() {
            return Err(Error::msg(format!(
                "the {} of the base run and of the source are {} and {source}, so nothing lies between them; use .change()",
                self.values.title(),
                self.base
            )));
        }
        let restored = self.values.map(|values| Ok(((values - f64::from(self.base))? / whole)?))?;
        Ok(restored.with_title(format!("Restored part of the {}", self.values.title())))
    }
}

impl Deref for SweepResult {
    type Target = LabelledTensor;

    fn deref(&self) -> &LabelledTensor {
        &self.values
    }
}
