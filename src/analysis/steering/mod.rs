//! Steering: vectors that are added to a model's inner state so that it answers in another way (Turner et al. 2023,
//! arXiv 2308.10248; Zou et al. 2023, arXiv 2310.01405; Rimsky et al. 2023, arXiv 2312.06681).
//!
//! - [`Contrast`] makes a [`SteeringVector`] of texts and counter-texts; others come from a probe, a token's
//!   unembedding, a feature, or a tensor.
//! - [`Steering`] is a vector with what to do with it: add it, at some strength, or take out or fix the part along it.
//! - [`SteeringSweep`] tries strengths and layers, and finds the layer where the least push flips an answer.
//! - [`Sentiment`] measures answers by lists of words.

mod contrast;
mod file;
mod push;
mod sentiment;
mod sweep;
mod texts;
mod weakest;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::labelled::{Axis, LabelledTensor};
use super::probe::Probe;
use crate::hooks::{HookPoint, Selector};
use crate::model::HookedTransformer;
use crate::normal::normal;
use crate::tokens::TokenRef;
use crate::{Error, Result};

pub use contrast::Contrast;
pub use push::Steering;
pub use sentiment::Sentiment;
pub use sweep::{SteeringResult, SteeringSweep};
pub use texts::{SteeredText, SteeredTexts};
pub use weakest::{WeakestPush, WeakestPushes};

/// A vector for each of some hook points, and what they were made from. Saved and loaded as a file
/// ([`save`](Self::save)), so that it can be shared.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let angry = model.contrast("Anna was very angry.", "Anna was very happy.").at(("resid_post", 1)).difference()?;
/// let hooks = angry.add(2.0).hooks();
/// let pushed = model.run_with_hooks("Anna was", &hooks)?;
/// let story = model.generate("Anna was", &GenerateOptions::greedy().steer(&angry.add(2.0)))?;
/// # let _ = (pushed, story); Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SteeringVector {
    /// In the order of the forward pass; f32, on the CPU, `[width]`.
    vectors: Vec<(HookPoint, Tensor)>,
    origin: Origin,
}

/// What a steering vector was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The way it was made, such as `difference of means`.
    pub method: String,
    /// The model that it was made with; empty where that is not known.
    pub model: String,
    /// The texts that the vector points towards.
    pub positive: Vec<String>,
    /// The texts that it points away from.
    pub negative: Vec<String>,
    /// Whatever else there is to know, by name.
    pub notes: BTreeMap<String, String>,
}

impl SteeringVector {
    /// A vector `[width]` for one hook point, made in whatever way: `method` says which.
    ///
    /// # Errors
    /// When it is no vector, is zero, or holds NaN or infinity.
    pub fn new(point: &HookPoint, vector: &Tensor, method: &str) -> Result<Self> {
        let origin = Origin { method: method.to_string(), ..Origin::default() };
        Self::of([(point.clone(), vector.clone())], origin)
    }

    /// The direction in which a probe's readout grows: of two classes towards the second, of numbers towards larger ones. Its
    /// length is that of the distance of the classes' means along it, or 1 for numbers.
    ///
    /// # Errors
    /// When the probe has more than two classes: see [`from_probe_class`](Self::from_probe_class).
    pub fn from_probe(point: &HookPoint, probe: &Probe) -> Result<Self> {
        match probe.classes() {
            [_, second] => Self::from_probe_class(point, probe, second),
            _ => Self::new(point, &probe.direction()?, "probe"),
        }
    }

    /// The direction in which a probe's readout of one class grows, against the others; as long as the distance of the
    /// classes' means along it.
    ///
    /// # Errors
    /// When the probe has no such class, or its means lie the other way along the direction (then it reads nothing that
    /// could be pushed).
    pub fn from_probe_class(point: &HookPoint, probe: &Probe, class: &str) -> Result<Self> {
        let direction = probe.direction_to(class)?;
        let apart: f32 = (&direction * probe.mean_difference(class)?)?.sum_all()?.to_scalar()?;
        if apart <= 0.0 {
            return Err(Error::msg(format!(
                "the class '{class}' does not lie ahead of the others along the probe's direction; is the probe better than \
                 its control ({:.2} against {:.2})?",
                probe.score(),
                probe.control().unwrap_or(f64::NAN)
            )));
        }
        let vector = Self::new(point, &(direction * f64::from(apart))?, "probe")?;
        Ok(vector.note("class", class).note("held-out score", &format!("{:.3}", probe.score())))
    }

    /// The direction that raises one token's logit, W_U's column, at each selected point of the residual stream.
    ///
    /// # Errors
    /// A text that is not one token; a point whose width is not the stream's.
    pub fn towards_token(
        model: &HookedTransformer,
        token: impl Into<TokenRef>,
        at: impl Into<Selector>,
    ) -> Result<Self> {
        let token = token.into();
        let direction = model.tokens_to_residual_directions(token.clone())?;
        Self::unembedding(model, &direction, at.into(), vec![named(&token)], Vec::new())
    }

    /// The direction that raises one token's logit and lowers another's, the difference of W_U's columns.
    ///
    /// # Errors
    /// As those of [`towards_token`](Self::towards_token).
    pub fn between_tokens(
        model: &HookedTransformer,
        towards: impl Into<TokenRef>,
        away: impl Into<TokenRef>,
        at: impl Into<Selector>,
    ) -> Result<Self> {
        let (towards, away) = (towards.into(), away.into());
        let direction = (model.tokens_to_residual_directions(towards.clone())?
            - model.tokens_to_residual_directions(away.clone())?)?;
        Self::unembedding(model, &direction, at.into(), vec![named(&towards)], vec![named(&away)])
    }

    /// Vectors of the same lengths in random directions: what a found one is to be compared with.
    pub fn random_like(&self, seed: u64) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let vectors = self.vectors.iter().zip(self.lengths()?).map(|((point, vector), length)| {
            let values: Vec<f64> = (0..vector.elem_count()).map(|_| normal(&mut rng)).collect();
            let size = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            let values: Vec<f32> = values.into_iter().map(|x| (x / size * f64::from(length)) as f32).collect();
            Ok((point.clone(), Tensor::new(values, &Device::Cpu)?))
        });
        let origin = Origin {
            method: format!("random (seed {seed}), as long as: {}", self.origin.method),
            ..self.origin.clone()
        };
        Self::of(vectors.collect::<Result<Vec<_>>>()?, origin)
    }

    /// The same vectors times a number; a negative one turns them round.
    ///
    /// # Errors
    /// When the number is 0 or not finite.
    pub fn scaled(&self, by: f64) -> Result<Self> {
        let vectors = self.vectors.iter().map(|(point, vector)| Ok((point.clone(), (vector * by)?)));
        let vector = Self::of(vectors.collect::<Result<Vec<_>>>()?, self.origin.clone())?;
        Ok(vector.note("scaled by", &by.to_string()))
    }

    /// Only the vectors of these layers.
    ///
    /// # Errors
    /// When there is none for one of them.
    pub fn only_layers(&self, layers: impl IntoIterator<Item = usize>) -> Result<Self> {
        let layers: Vec<usize> = layers.into_iter().collect();
        let of_layer = |layer: &usize| self.vectors.iter().any(|(point, _)| point.layer() == Some(*layer));
        if let Some(missing) = layers.iter().find(|layer| !of_layer(layer)) {
            return Err(Error::msg(format!(
                "the steering vector has none for layer {missing}, only for {}",
                self.points().map(HookPoint::name).collect::<Vec<_>>().join(", ")
            )));
        }
        let chosen = |(point, _): &&(HookPoint, Tensor)| point.layer().is_some_and(|layer| layers.contains(&layer));
        Self::of(self.vectors.iter().filter(chosen).cloned().collect::<Vec<_>>(), self.origin.clone())
    }

    /// The same vector with something noted about it.
    pub fn note(mut self, name: &str, text: &str) -> Self {
        self.origin.notes.insert(name.to_string(), text.to_string());
        self
    }

    /// What it was made from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The hook points that it has a vector for, in the order of the forward pass.
    pub fn points(&self) -> impl Iterator<Item = &HookPoint> {
        self.vectors.iter().map(|(point, _)| point)
    }

    /// The vector of one point, `[width]`, f32 on the CPU.
    ///
    /// # Errors
    /// When there is none.
    pub fn vector(&self, point: &HookPoint) -> Result<Tensor> {
        let found = self.vectors.iter().find(|(known, _)| known == point).map(|(_, vector)| vector.clone());
        found.ok_or_else(|| Error::msg(format!("the steering vector has none for '{point}'")))
    }

    /// The length of each vector, in the order of [`points`](Self::points).
    pub fn lengths(&self) -> Result<Vec<f32>> {
        self.vectors.iter().map(|(_, vector)| Ok(vector.sqr()?.sum_all()?.sqrt()?.to_scalar()?)).collect()
    }

    /// How alike this and another vector point at each point that both have: their cosine, `[layer]`.
    ///
    /// # Errors
    /// When they have no point in common, or are of different widths.
    pub fn cosine(&self, other: &Self) -> Result<LabelledTensor> {
        let (mut labels, mut cosines) = (Vec::new(), Vec::new());
        for (point, vector) in &self.vectors {
            let Some((_, theirs)) = other.vectors.iter().find(|(known, _)| known == point) else { continue };
            if vector.dims() != theirs.dims() {
                let (name, expected) = (format!("the other vector of '{point}'"), format!("{:?}", vector.dims()));
                return Err(Error::WrongShape { name, expected, found: theirs.dims().to_vec() });
            }
            let product = |a: &Tensor, b: &Tensor| -> Result<f32> { Ok((a * b)?.sum_all()?.to_scalar()?) };
            let lengths = product(vector, vector)?.sqrt() * product(theirs, theirs)?.sqrt();
            labels.push(label(point));
            cosines.push(product(vector, theirs)? / lengths);
        }
        if labels.is_empty() {
            return Err(Error::msg("the two steering vectors have no hook point in common"));
        }
        let axis = Axis::new("layer", labels);
        LabelledTensor::new("cosine of the two steering vectors", &Tensor::new(cosines, &Device::Cpu)?, [axis])
    }

    /// Adds `strength` times the vector, wherever it is used.
    pub fn add(&self, strength: f64) -> Steering {
        Steering::new(self, push::How::Add(strength))
    }

    /// Adds a vector of this direction that is `part` times as long as the activation that it is added to, place by place:
    /// a push that is alike in every layer and model.
    pub fn add_relative(&self, part: f64) -> Steering {
        Steering::new(self, push::How::AddRelative(part))
    }

    /// Takes out the part along the direction (Arditi et al. 2024, arXiv 2406.11717).
    pub fn ablate(&self) -> Steering {
        Steering::new(self, push::How::Clamp(0.0))
    }

    /// Fixes the part along the direction: its length, in units of the vector's own, becomes `value`. 0 takes it out.
    pub fn clamp(&self, value: f64) -> Steering {
        Steering::new(self, push::How::Clamp(value))
    }

    /// Checked vectors, of which there is at least one.
    fn of(vectors: impl IntoIterator<Item = (HookPoint, Tensor)>, origin: Origin) -> Result<Self> {
        let checked = vectors.into_iter().map(|(point, vector)| {
            let vector = vector.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
            let values: Vec<f32> = match vector.rank() {
                1 => vector.to_vec1()?,
                _ => {
                    let (name, expected) = (format!("the steering vector of '{point}'"), "[width]".to_string());
                    return Err(Error::WrongShape { name, expected, found: vector.dims().to_vec() });
                }
            };
            if values.iter().any(|value| !value.is_finite()) {
                return Err(Error::msg(format!("the steering vector of '{point}' holds NaN or infinity")));
            }
            if values.iter().all(|value| *value == 0.0) {
                return Err(Error::msg(format!(
                    "the steering vector of '{point}' is zero, so that it has no direction: is nothing different there?"
                )));
            }
            Ok((point, vector))
        });
        let vectors = checked.collect::<Result<Vec<_>>>()?;
        match vectors.is_empty() {
            true => Err(Error::msg("a steering vector needs at least one hook point")),
            false => Ok(Self { vectors, origin }),
        }
    }

    fn unembedding(
        model: &HookedTransformer,
        direction: &Tensor,
        at: Selector,
        positive: Vec<String>,
        negative: Vec<String>,
    ) -> Result<Self> {
        let points = model.hook_points();
        let vectors = at.resolve(points)?.into_iter().map(|i| match points[i].shape.ends_with("d_model]") {
            true => Ok((points[i].point.clone(), direction.clone())),
            false => Err(Error::msg(format!(
                "'{}' has shape {}, and an unembedding is a direction of the residual stream; choose a point such as \
                 resid_post",
                points[i].point, points[i].shape
            ))),
        });
        let model = model.cfg().model_name.clone();
        let origin = Origin { method: "unembedding".to_string(), model, positive, negative, ..Origin::default() };
        Self::of(vectors.collect::<Result<Vec<_>>>()?, origin)
    }
}

/// What stands for a point on an axis: its layer, or its name where it is of none.
fn label(point: &HookPoint) -> String {
    point.layer().map_or_else(|| point.name().to_string(), |layer| layer.to_string())
}

fn named(token: &TokenRef) -> String {
    match token {
        TokenRef::Text(text) => text.clone(),
        TokenRef::Id(id) => format!("#{id}"),
    }
}
