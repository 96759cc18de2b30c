//! In which layer the weakest push flips an answer.

use candle_core::{DType, Device, Tensor};

use super::{SteeringSweep, SteeringVector};
use crate::analysis::linalg::lengths;
use crate::analysis::metric::mean;
use crate::analysis::subspace::as_rows;
use crate::analysis::sweep::Base;
use crate::hooks::{HookPoint, Hooks, Selector};
use crate::{Error, Result};

/// Strengths that are tried first, each `FINENESS` times the one before.
const TRIED: i32 = 17;
const FINENESS: f64 = std::f64::consts::SQRT_2;
/// How often the range of a strength is halved then: to a hundredth part of it.
const HALVINGS: usize = 6;

/// The weakest push that flips the answer, at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct WeakestPush {
    /// The layer, or the hook point's name where it is of none; `all` where all are pushed together.
    pub layer: String,
    /// The strength, in the sweep's own unit; none if no strength up to the most flips the answer.
    pub strength: Option<f64>,
    /// How long what is added is, as a part of the activation's mean length over the prompts (its first position aside); of all
    /// layers together the mean over these.
    pub part: Option<f64>,
    /// The measure under that push.
    pub measure: Option<f32>,
    /// The loss on the price's texts under that push, in nats.
    pub price: Option<f32>,
}

/// The weakest push at every layer, made by [`SteeringSweep::weakest_push`].
#[derive(Clone, Debug, PartialEq)]
pub struct WeakestPushes {
    pub(crate) pushes: Vec<WeakestPush>,
    pub(crate) metric: String,
    pub(crate) base: f32,
    pub(crate) threshold: f32,
    pub(crate) most: f64,
    pub(crate) price_base: Option<f32>,
}

impl WeakestPushes {
    /// One for each layer, in order.
    pub fn pushes(&self) -> &[WeakestPush] {
        &self.pushes
    }

    /// The one that is weakest as a part of the activation's length: the layer that decides most easily. None if no layer
    /// flips the answer.
    pub fn deciding(&self) -> Option<&WeakestPush> {
        let flips = self.pushes.iter().filter(|push| push.part.is_some());
        flips.min_by(|a, b| a.part.unwrap_or(f64::NAN).total_cmp(&b.part.unwrap_or(f64::NAN)))
    }

    /// The measure without a push.
    pub fn base(&self) -> f32 {
        self.base
    }

    /// The loss on the price's texts without a push, in nats.
    pub fn price_base(&self) -> Option<f32> {
        self.price_base
    }
}

impl SteeringSweep {
    /// For each layer, the weakest push up to `most` (negative: in the other direction) that takes the measure to the other
    /// side of 0, to within a hundredth. See [`weakest_push_across`](Self::weakest_push_across).
    ///
    /// # Errors
    /// As there.
    pub fn weakest_push(&self, most: f64) -> Result<WeakestPushes> {
        self.weakest_push_across(0.0, most)
    }

    /// For each layer, the weakest push up to `most` that takes the measure to the other side of `threshold`, such as 0.5 of
    /// a probability. Strengths from 1/256 of the most upwards are tried, and the first that does it is narrowed down.
    ///
    /// # Errors
    /// When there is no measure, when `most` is 0 or not finite, and those of the runs.
    pub fn weakest_push_across(&self, threshold: f32, most: f64) -> Result<WeakestPushes> {
        if !most.is_finite() || most == 0.0 {
            return Err(Error::msg(format!("the most to push with is {most}; give a number other than 0")));
        }
        let keep = self.vector.points().map(Selector::from).collect();
        let base = self.base(keep)?;
        let before = mean(&base.values);
        let flipped = |measure: f32| (measure - threshold) * (before - threshold) < 0.0;
        let places = self.places();

        let grid: Vec<f64> = (0..TRIED).map(|i| most * FINENESS.powi(i + 1 - TRIED)).collect();
        let rows: Vec<Hooks> =
            places.iter().flat_map(|place| grid.iter().map(|&strength| self.push(place, strength).hooks())).collect();
        let measured = self.measured(&base, &rows)?;
        // Of each place that flips: a strength that does not, and one that does, with its measure.
        let mut ranges: Vec<(usize, f64, f64, f32)> = Vec::new();
        for (place, measured) in measured.chunks(grid.len()).enumerate() {
            if let Some(first) = measured.iter().position(|&measure| flipped(measure)) {
                let below = if first == 0 { 0.0 } else { grid[first - 1] };
                ranges.push((place, below, grid[first], measured[first]));
            }
        }
        for _ in 0..HALVINGS {
            let middle = |(_, below, above, _): &(usize, f64, f64, f32)| (below + above) / 2.0;
            let rows: Vec<Hooks> =
                ranges.iter().map(|range| self.push(&places[range.0], middle(range)).hooks()).collect();
            for (range, measure) in ranges.iter_mut().zip(self.measured(&base, &rows)?) {
                let middle = middle(range);
                match flipped(measure) {
                    true => (range.2, range.3) = (middle, measure),
                    false => range.1 = middle,
                }
            }
        }

        let rows: Vec<Hooks> = ranges.iter().map(|range| self.push(&places[range.0], range.2).hooks()).collect();
        let price = self.price_base()?;
        let prices = price.as_ref().map(|base| self.measured(base, &rows)).transpose()?;
        let mut pushes: Vec<WeakestPush> = Vec::with_capacity(places.len());
        for place in &places {
            let layer = self.name_of(place);
            pushes.push(WeakestPush { layer, strength: None, part: None, measure: None, price: None });
        }
        for (i, &(place, _, strength, measure)) in ranges.iter().enumerate() {
            let push = &mut pushes[place];
            (push.strength, push.measure) = (Some(strength), Some(measure));
            push.part =
                Some(if self.relative { strength.abs() } else { strength.abs() * part(&places[place], &base)? });
            push.price = prices.as_ref().map(|prices| prices[i]);
        }
        Ok(WeakestPushes {
            pushes,
            metric: self.metric()?.name().to_string(),
            base: before,
            threshold,
            most,
            price_base: price.map(|base| mean(&base.values)),
        })
    }
}

/// The mean length of the vectors as a part of the lengths of what they are added to.
fn part(place: &SteeringVector, base: &Base) -> Result<f64> {
    let lengths = place.lengths()?;
    let mut parts = 0.0;
    for ((point, vector), length) in place.vectors.iter().zip(&lengths) {
        parts += f64::from(*length) / mean_length(point, vector, base)?;
    }
    Ok(parts / lengths.len() as f64)
}

/// The mean length of an activation over the prompts. The first position is left out where there are others: in many models
/// it is far longer than all the rest.
fn mean_length(point: &HookPoint, vector: &Tensor, base: &Base) -> Result<f64> {
    let x = base.cache.get(point)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let (batch, pos) = base.tokens().shape();
    let rows = as_rows(&x, vector.elem_count())?;
    let sizes: Vec<f32> = lengths(&rows)?.to_vec1()?;
    let mask = base.tokens().mask();
    let real = |place: usize| mask.is_none_or(|mask| mask[place / pos][place % pos]);
    let first = |row: usize| (0..pos).find(|at| real(row * pos + at)).unwrap_or(0);
    let counted =
        |place: &usize| sizes.len() != batch * pos || (real(*place) && (pos == 1 || place % pos != first(place / pos)));
    let counted: Vec<f64> = (0..sizes.len()).filter(counted).map(|place| f64::from(sizes[place])).collect();
    let mean = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
    Ok(if mean > 0.0 { mean } else { f64::NAN })
}
