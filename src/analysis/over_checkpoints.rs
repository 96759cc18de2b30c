//! One measurement at every training checkpoint of a model.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Axis, LabelledTensor};
use crate::hub::{CheckpointChoice, CheckpointLabels, CheckpointUnit, checkpoint_labels};
use crate::model::{HookedTransformer, LoadOptions};
use crate::progress::Progress;
use crate::whole_file::write_whole;
use crate::{Error, Result};

/// A model's training checkpoints, to be measured one after the other. One model is in memory at a time.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let formed = OverCheckpoints::of("tiny-attn-only-2l")?.spread(6).measure("induction score", induction_scores)?;
/// assert_eq!(formed.steps().len(), 6);
/// assert_eq!(formed.axes()[0].name(), "step"); // then layer and head
/// # Ok(()) }
/// ```
///
/// The same goes for `pythia-160m`, `stanford-gpt2-small-a` and the toy models, whose checkpoints are downloaded one by one
/// into the hub's cache: some hundred megabytes each, so choose some with [`spread`](Self::spread) or
/// [`only`](Self::only), and keep what was measured with [`cache`](Self::cache).
#[derive(Clone, Debug)]
pub struct OverCheckpoints {
    model: String,
    options: LoadOptions,
    labels: CheckpointLabels,
    chosen: Vec<u64>,
    cache: Option<PathBuf>,
    progress: Progress,
}

impl HookedTransformer {
    /// This model's training checkpoints, to be measured one after the other, each loaded as this model was.
    ///
    /// # Errors
    /// A model that has none, or that was not loaded by name.
    pub fn over_checkpoints(&self) -> Result<OverCheckpoints> {
        let (name, options) = self.loaded()?;
        Ok(OverCheckpoints::of(name)?.options(options))
    }
}

impl OverCheckpoints {
    /// The checkpoints of a model by its name, all of them.
    ///
    /// # Errors
    /// A model that has none.
    pub fn of(model: &str) -> Result<Self> {
        let labels = checkpoint_labels(model)?;
        Ok(Self {
            model: model.trim().to_string(),
            options: LoadOptions::default(),
            chosen: labels.labels.clone(),
            labels,
            cache: None,
            progress: Progress::default(),
        })
    }

    /// How each of them is loaded.
    pub fn options(mut self, options: &LoadOptions) -> Self {
        self.options = options.clone();
        self
    }

    /// Only those with these labels (steps, or tokens).
    ///
    /// # Errors
    /// A label that the model does not have; the nearest is named.
    pub fn only(mut self, values: impl IntoIterator<Item = u64>) -> Result<Self> {
        self.chosen = values.into_iter().collect();
        self.chosen.sort_unstable();
        self.chosen.dedup();
        if self.chosen.is_empty() {
            return Err(Error::msg("no checkpoint is chosen"));
        }
        match self.chosen.iter().find(|value| !self.labels.labels.contains(value)) {
            None => Ok(self),
            Some(value) => {
                let near = self.labels.labels.iter().min_by_key(|label| label.abs_diff(*value)).copied();
                Err(Error::msg(format!(
                    "'{}' has no checkpoint with the label {value}; the nearest is {}",
                    self.model,
                    near.unwrap_or_default()
                )))
            }
        }
    }

    /// Only `n` of them, the first and the last among them, evenly spread on a logarithmic scale: early training, where
    /// most happens, stays dense.
    pub fn spread(mut self, n: usize) -> Self {
        let all = &self.labels.labels;
        let (n, last) = (n.clamp(2, all.len().max(2)), all.last().copied().unwrap_or_default() as f64);
        let mut chosen = Vec::new();
        for i in 0..n {
            let wanted = (1.0 + last).powf(i as f64 / (n - 1) as f64) - 1.0;
            // Of those that are left, enough have to stay for what follows.
            let from = chosen.last().map_or(0, |at: &usize| at + 1);
            let to = all.len().saturating_sub(n - 1 - i);
            let distance = |at: &usize| (all[*at] as f64 - wanted).abs();
            chosen.extend((from..to).min_by(|a, b| distance(a).total_cmp(&distance(b))));
        }
        self.chosen = chosen.into_iter().map(|at| all[at]).collect();
        self
    }

    /// Keeps results in a file (JSON): what is there already is not measured again, and an interrupted sweep goes on where
    /// it was.
    pub fn cache(mut self, file: impl Into<PathBuf>) -> Self {
        self.cache = Some(file.into());
        self
    }

    /// Who is told how far it is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// The labels that will be measured, rising.
    pub fn steps(&self) -> &[u64] {
        &self.chosen
    }

    /// Measures each checkpoint: a number ([`f32`], [`f64`]) or a [`LabelledTensor`], always with the same axes. `what` is
    /// the name of the measurement, in the result and in the cache.
    ///
    /// # Errors
    /// Those of loading and of `measure`; axes that change from one checkpoint to the next; a cache of something else.
    pub fn measure<M: Into<Measured>>(
        &self,
        what: &str,
        measure: impl Fn(&HookedTransformer) -> Result<M>,
    ) -> Result<OverTraining> {
        let mut kept = Kept::open(self, what)?;
        let missing: Vec<u64> = self.chosen.iter().copied().filter(|step| !kept.values.contains_key(step)).collect();
        let meter = self.progress.start(format!("{what} over the training"), "checkpoints");
        for (i, step) in missing.iter().enumerate() {
            crate::interrupt::check()?;
            let options = LoadOptions { checkpoint: Some(CheckpointChoice::Value(*step)), ..self.options.clone() };
            let model = HookedTransformer::from_pretrained_with(&self.model, &options)?;
            kept.add(*step, measure(&model)?.into())?;
            kept.save(self.cache.as_deref())?;
            meter.at(i + 1, Some((i + 1) as f64 / missing.len() as f64));
        }
        if !missing.is_empty() {
            meter.finish(missing.len());
        }
        kept.over_training(what, &self.chosen, self.labels.unit)
    }
}

/// What a measurement gives: a number, or numbers on named axes.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The axes' names and labels.
    axes: Vec<(String, Vec<String>)>,
    values: Vec<f32>,
}

impl From<LabelledTensor> for Measured {
    fn from(found: LabelledTensor) -> Self {
        let axes = found.axes().iter().map(|axis| (axis.name().to_string(), axis.labels().to_vec())).collect();
        Self { axes, values: found.values() }
    }
}

impl From<f32> for Measured {
    fn from(value: f32) -> Self {
        Self { axes: Vec::new(), values: vec![value] }
    }
}

impl From<f64> for Measured {
    fn from(value: f64) -> Self {
        Self::from(value as f32)
    }
}

/// The results so far, as they lie in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    model: String,
    what: String,
    loaded: String,
    /// The axes' names and labels; none before the first result.
    axes: Option<Vec<(String, Vec<String>)>>,
    values: BTreeMap<u64, Vec<f32>>,
}

impl Kept {
    fn open(over: &OverCheckpoints, what: &str) -> Result<Self> {
        let loaded = format!("{:?}, {:?}", over.options.processing, over.options.dtype);
        let new =
            Self { model: over.model.clone(), what: what.to_string(), loaded, axes: None, values: BTreeMap::new() };
        let Some(path) = over.cache.as_deref().filter(|path| path.exists()) else { return Ok(new) };
        let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
        let bad =
            |why: String| Error::BadFile { what: "results over checkpoints".into(), path: path.to_path_buf(), why };
        let kept: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if (&kept.model, &kept.what, &kept.loaded) != (&new.model, &new.what, &new.loaded) {
            return Err(bad(format!(
                "it holds '{}' of {} ({}), and '{}' of {} ({}) is asked for; give each measurement a file of its own, or \
                 remove this one",
                kept.what, kept.model, kept.loaded, new.what, new.model, new.loaded
            )));
        }
        let size = kept.axes.iter().flatten().map(|(_, labels)| labels.len()).product::<usize>();
        match kept.values.values().all(|values| values.len() == size) {
            true => Ok(kept),
            false => Err(bad("its numbers do not fit its axes; remove it".to_string())),
        }
    }

    fn add(&mut self, step: u64, found: Measured) -> Result<()> {
        if self.axes.as_ref().is_some_and(|known| *known != found.axes) {
            return Err(Error::msg(format!(
                "at step {step} the measurement '{}' gave other axes than before; they have to stay the same",
                self.what
            )));
        }
        self.axes = Some(found.axes);
        self.values.insert(step, found.values);
        Ok(())
    }

    /// Whole or not at all.
    fn save(&self, path: Option<&Path>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string(self).map_err(|error| Error::msg(error.to_string()))?;
        write_whole(path, |path| std::fs::write(path, text).map_err(|source| Error::io(path, source)))
    }

    fn over_training(&self, what: &str, steps: &[u64], unit: CheckpointUnit) -> Result<OverTraining> {
        let axis = Axis::new(unit.to_string(), steps.iter().map(u64::to_string));
        let inner = self.axes.iter().flatten().map(|(name, labels)| Axis::new(name, labels.iter().cloned()));
        let axes: Vec<Axis> = std::iter::once(axis).chain(inner).collect();
        let values: Vec<f32> = steps.iter().filter_map(|step| self.values.get(step)).flatten().copied().collect();
        let shape: Vec<usize> = axes.iter().map(Axis::len).collect();
        let values = LabelledTensor::new(what, &Tensor::from_vec(values, shape, &Device::Cpu)?, axes)?;
        Ok(OverTraining { values, steps: steps.to_vec() })
    }
}

/// A measurement over the training: a [`LabelledTensor`] whose first axis is the checkpoints (`step` or `tokens`). In a
/// notebook it shows itself as lines.
#[derive(Clone, Debug)]
pub struct OverTraining {
    values: LabelledTensor,
    steps: Vec<u64>,
}

/// One number's way through the training.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its place on the axes behind the first, as labels: layer and head, say.
    pub labels: Vec<String>,
    /// Its value at each checkpoint.
    pub values: Vec<f32>,
}

/// The largest change between two neighbouring checkpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jump {
    /// The checkpoint before it.
    pub from: u64,
    /// The checkpoint after it.
    pub to: u64,
    /// The value before and after.
    pub values: (f32, f32),
}

impl OverTraining {
    /// The labels of the checkpoints, rising.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// Every number's way through the training.
    pub fn series(&self) -> Vec<Series> {
        let inner = &self.axes()[1..];
        let n: usize = inner.iter().map(Axis::len).product();
        let values = self.values();
        let series = |i: usize| {
            let places = super::unravel(i, &inner.iter().map(Axis::len).collect::<Vec<_>>());
            let labels = places.iter().zip(inner).map(|(place, axis)| axis.labels()[*place].clone()).collect();
            Series { labels, values: values.iter().skip(i).step_by(n.max(1)).copied().collect() }
        };
        (0..n).map(series).collect()
    }

    /// The way of one number, by its place on the axes behind the first: `&[layer, head]`, say, or `&[]` for a single number.
    ///
    /// # Errors
    /// A place that is not there.
    pub fn at_place(&self, place: &[usize]) -> Result<Series> {
        let lengths: Vec<usize> = self.axes()[1..].iter().map(Axis::len).collect();
        let inside = place.len() == lengths.len() && place.iter().zip(&lengths).all(|(at, length)| at < length);
        if !inside {
            return Err(Error::msg(format!(
                "there is no place {place:?}: behind the checkpoints the axes have {lengths:?}"
            )));
        }
        let flat = place.iter().zip(&lengths).fold(0, |flat, (at, length)| flat * length + at);
        Ok(self.series().swap_remove(flat))
    }

    /// Between which two neighbouring checkpoints a series changes most.
    ///
    /// # Errors
    /// As [`at_place`](Self::at_place), and fewer than two checkpoints.
    pub fn jump(&self, place: &[usize]) -> Result<Jump> {
        let series = self.at_place(place)?.values;
        let size = |i: &usize| (series[i + 1] - series[*i]).abs();
        let at = (0..series.len().saturating_sub(1)).max_by(|a, b| size(a).total_cmp(&size(b)));
        let at = at.ok_or_else(|| Error::msg("a change needs at least two checkpoints"))?;
        Ok(Jump { from: self.steps[at], to: self.steps[at + 1], values: (series[at], series[at + 1]) })
    }
}

impl Deref for OverTraining {
    type Target = LabelledTensor;

    fn deref(&self) -> &LabelledTensor {
        &self.values
    }
}
