//! Trying strengths and layers of a push.

use std::ops::Deref;

use candle_core::{Device, Tensor};

use super::{Steering, SteeringVector, label};
use crate::analysis::labelled::{Axis, LabelledTensor};
use crate::analysis::metric::{self, Metric, mean};
use crate::analysis::subspace::TokenPositions;
use crate::analysis::sweep::{Base, MEMORY};
use crate::hooks::{HookPoint, Hooks, Selector};
use crate::model::{HookedTransformer, Input};
use crate::progress::Progress;
use crate::{Error, Result};

/// Pushes to be tried: a [`SteeringVector`] at several strengths, in each layer by itself or in all together. Made by
/// [`HookedTransformer::steer`].
#[derive(Clone, Debug)]
pub struct SteeringSweep {
    pub(super) model: HookedTransformer,
    pub(super) prompts: Input,
    pub(super) vector: SteeringVector,
    pub(super) strengths: Option<Vec<f64>>,
    pub(super) relative: bool,
    pub(super) together: bool,
    pub(super) metric: Option<Metric>,
    pub(super) price: Option<Input>,
    pub(super) progress: Progress,
    positions: Option<TokenPositions>,
    memory: usize,
}

impl HookedTransformer {
    /// Tries a push on prompts at several strengths.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let angry = model.contrast("Anna was angry because", "Anna was happy because").position(-2).difference()?;
    /// let prompt = "Anna was happy because the sun was shining. How was Anna? She was";
    /// let steer = model.steer(prompt, &angry).measure(logit_diff(" happy", " angry"));
    /// let by_strength = steer.clone().strengths([0.0, 1.0, 2.0]).price("Tom went to the store.").run()?; // [layer, strength]
    /// let weakest = steer.weakest_push(8.0)?; // in which layer does the least push flip the answer?
    /// # assert_eq!(by_strength.values().dims(), [model.cfg().n_layers, 3]);
    /// # let _ = weakest; Ok(()) }
    /// ```
    pub fn steer(&self, prompts: impl Into<Input>, vector: &SteeringVector) -> SteeringSweep {
        SteeringSweep {
            model: self.clone(),
            prompts: prompts.into(),
            vector: vector.clone(),
            strengths: None,
            relative: false,
            together: false,
            metric: None,
            price: None,
            progress: Progress::default(),
            positions: None,
            memory: MEMORY,
        }
    }
}

impl SteeringSweep {
    /// The strengths to try: -4 to 4 in nine steps, or, of relative pushes, -1 to 1.
    pub fn strengths(mut self, strengths: impl IntoIterator<Item = f64>) -> Self {
        self.strengths = Some(strengths.into_iter().collect());
        self
    }

    /// Strengths are parts of the activation's own length, as in
    /// [`add_relative`](SteeringVector::add_relative), so that layers can be compared.
    pub fn relative(mut self) -> Self {
        self.relative = true;
        self
    }

    /// Pushes at all points of the vector at once, instead of at each by itself.
    pub fn together(mut self) -> Self {
        self.together = true;
        self
    }

    /// Pushes only at these positions of the prompts.
    pub fn positions(mut self, positions: impl Into<TokenPositions>) -> Self {
        self.positions = Some(positions.into());
        self
    }

    /// What the answers are judged by, such as [`prob`](metric::prob), [`logit_diff`](metric::logit_diff),
    /// [`prob_any`](metric::prob_any) or a [`Sentiment`](super::Sentiment)'s metric.
    pub fn measure(mut self, metric: impl Into<Metric>) -> Self {
        self.metric = Some(metric.into());
        self
    }

    /// Texts on which the loss under the same push is measured: what the push costs in fluency.
    pub fn price(mut self, texts: impl Into<Input>) -> Self {
        self.price = Some(texts.into());
        self
    }

    /// About how much memory runs that go through the model together may take, in bytes; 1 GiB unless said otherwise.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Who is told how far it is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Runs it: the measure for each layer and strength, `[layer, strength]`, or `[strength]` for all layers together.
    ///
    /// # Errors
    /// When there is no measure or no strength, and those of the runs.
    pub fn run(&self) -> Result<SteeringResult> {
        let base = self.base(Vec::new())?;
        let (strengths, places) = (self.tried()?, self.places());
        let rows: Vec<Hooks> =
            places.iter().flat_map(|place| strengths.iter().map(|&s| self.push(place, s).hooks())).collect();
        let mut axes = vec![Axis::new(self.strength_name(), strengths.iter().map(f64::to_string))];
        if !self.together {
            axes.insert(0, Axis::new("layer", self.vector.points().map(label)));
        }
        let labelled = |title: &str, measured: Vec<Vec<f32>>| {
            let values: Vec<f32> = measured.iter().map(|values| mean(values)).collect();
            let dims: Vec<usize> = axes.iter().map(Axis::len).collect();
            LabelledTensor::new(title, &Tensor::from_vec(values, dims, &Device::Cpu)?, axes.clone())
        };
        let values = labelled(self.metric()?.name(), base.run(&rows, self.memory, &self.progress)?)?;
        let price = match self.price_base()? {
            Some(base) => Some(Price {
                base: mean(&base.values),
                values: labelled("loss on other text (nats)", base.run(&rows, self.memory, &self.progress)?)?,
            }),
            None => None,
        };
        Ok(SteeringResult { values, base: mean(&base.values), price })
    }

    pub(super) fn metric(&self) -> Result<&Metric> {
        let none = || Error::msg("there is no measure: say .measure(logit_diff(\" happy\", \" angry\")), or another");
        self.metric.as_ref().ok_or_else(none)
    }

    pub(super) fn tried(&self) -> Result<Vec<f64>> {
        let whole = [-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0];
        let usual = || whole.iter().map(|strength| if self.relative { strength / 4.0 } else { *strength }).collect();
        let strengths: Vec<f64> = self.strengths.clone().unwrap_or_else(usual);
        match strengths.iter().find(|strength| !strength.is_finite()) {
            Some(strength) => Err(Error::msg(format!("{strength} is no strength of a push; give finite numbers"))),
            None if strengths.is_empty() => Err(Error::msg("no strength is given; say .strengths([1.0, 2.0])")),
            None => Ok(strengths),
        }
    }

    /// What is pushed at once: each point by itself, or all.
    pub(super) fn places(&self) -> Vec<SteeringVector> {
        let alone = |entry: &(HookPoint, Tensor)| SteeringVector {
            vectors: vec![entry.clone()],
            origin: self.vector.origin.clone(),
        };
        if self.together { vec![self.vector.clone()] } else { self.vector.vectors.iter().map(alone).collect() }
    }

    /// What a place is called: its layer, or `all`.
    pub(super) fn name_of(&self, place: &SteeringVector) -> String {
        if self.together { "all".to_string() } else { place.points().map(label).collect() }
    }

    pub(super) fn push(&self, place: &SteeringVector, strength: f64) -> Steering {
        let push = if self.relative { place.add_relative(strength) } else { place.add(strength) };
        match &self.positions {
            Some(positions) => push.positions(positions.clone()),
            None => push,
        }
    }

    pub(super) fn base(&self, keep: Vec<Selector>) -> Result<Base> {
        Base::new(&self.model, &self.prompts, &Hooks::new(), self.metric()?, keep)
    }

    /// The run on the texts that tell the price.
    pub(super) fn price_base(&self) -> Result<Option<Base>> {
        let base = |texts| Base::new(&self.model, texts, &Hooks::new(), &metric::loss(), Vec::new());
        self.price.as_ref().map(base).transpose()
    }

    pub(super) fn measured(&self, base: &Base, rows: &[Hooks]) -> Result<Vec<f32>> {
        let measured = base.run(rows, self.memory, &self.progress)?;
        Ok(measured.iter().map(|values| mean(values)).collect())
    }

    pub(super) fn strength_name(&self) -> &'static str {
        if self.relative { "strength (part of the activation's length)" } else { "strength" }
    }
}

/// What pushes of several strengths do, made by [`SteeringSweep::run`]. Use it as the measure's values, a
/// [`LabelledTensor`].
#[derive(Clone, Debug)]
pub struct SteeringResult {
    values: LabelledTensor,
    base: f32,
    price: Option<Price>,
}

#[derive(Clone, Debug)]
struct Price {
    values: LabelledTensor,
    base: f32,
}

impl SteeringResult {
    /// The measure, the mean over the prompts, `[layer, strength]`; `[strength]` for all layers together.
    pub fn values(&self) -> &LabelledTensor {
        &self.values
    }

    /// The measure without a push.
    pub fn base(&self) -> f32 {
        self.base
    }

    /// The loss on the price's texts under the same pushes, in nats.
    pub fn price(&self) -> Option<&LabelledTensor> {
        self.price.as_ref().map(|price| &price.values)
    }

    /// The loss on the price's texts without a push, in nats.
    pub fn price_base(&self) -> Option<f32> {
        self.price.as_ref().map(|price| price.base)
    }
}

impl Deref for SteeringResult {
    type Target = LabelledTensor;

    fn deref(&self) -> &LabelledTensor {
        &self.values
    }
}
