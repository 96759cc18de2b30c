//! An SAE in a forward pass: hooks that put its reconstruction in place, or change features.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::Tensor;

use super::Sae;
use super::forward::{Back, scaled_back};
use crate::analysis::{SteeringVector, TokenPositions};
use crate::hooks::Hooks;
use crate::{Error, Result};

impl Sae {
    /// A feature's direction as a steering vector, which can be tried at strengths, priced and kept
    /// ([`model.steer`](crate::model::HookedTransformer::steer)). Strength 1 is one unit of the feature's activation.
    ///
    /// # Errors
    /// When there is no such feature, when it is not known which activation the SAE is of, or when that is a single head's.
    pub fn steering_vector(&self, feature: usize) -> Result<SteeringVector> {
        if let Some(head) = self.head() {
            return Err(Error::msg(format!(
                "{self:?} is of head {head} alone, and a steering vector is of a whole activation; use sae.steer(feature, amount)"
            )));
        }
        let vector = SteeringVector::new(&self.hook_out()?, &self.direction(feature)?, "feature of an SAE")?;
        let vector = vector.note("feature", &feature.to_string()).note("SAE", &format!("{self:?}"));
        Ok(match self.neuronpedia_id() {
            Some(id) => vector.note("Neuronpedia", &format!("{id}/{feature}")),
            None => vector,
        })
    }
}

/// Hooks of an SAE at some positions. Made by [`Sae::at_positions`]; the methods are those of [`Sae`].
#[derive(Clone, Debug)]
pub struct SaeHooks {
    sae: Sae,
    positions: TokenPositions,
}

/// What an SAE's hook has to do with: inputs, targets, as rows.
struct Rows<'a> {
    sae: &'a Sae,
    /// `[n, d_in]`.
    inputs: Tensor,
    /// `[n, d_out]`.
    targets: Tensor,
}

/// The inputs of the runs that are under way, by the threads that they run on.
type Waiting = Arc<Mutex<HashMap<ThreadId, Tensor>>>;

impl Sae {
    /// The same hooks at some positions only: `sae.at_positions(-1).steer(7, 3.0)`.
    pub fn at_positions(&self, positions: impl Into<TokenPositions>) -> SaeHooks {
        SaeHooks { sae: self.clone(), positions: positions.into() }
    }

    /// Hooks that put the reconstruction in place of the activation (of a transcoder: its output in place of the layer's).
    /// What the SAE does not explain is lost.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let prompt = "After John and Mary went to the store, Mary gave a bottle of milk to";
    /// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(1).progress(&Progress::quiet());
    /// # let sae = Sae::train(&model.over(prompt), resid_post(1), &options)?;
    /// let spliced = model.run_with_hooks(prompt, &sae.splice()?)?;
    /// let without = model.run_with_hooks(prompt, &sae.ablate([3, 5])?)?;
    /// let steered = model.run_with_hooks(prompt, &sae.at_positions(-1).steer(7, 4.0)?)?;
    /// # let _ = (spliced, without, steered); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When it is not known which activation the SAE is of. An activation of another width is an error of the run.
    pub fn splice(&self) -> Result<Hooks> {
        self.at_positions(..).splice()
    }

    /// Hooks that put reconstruction and error in place: the activation is what it was, but gradients, and what reads them,
    /// go through the features.
    ///
    /// # Errors
    /// As [`splice`](Self::splice).
    pub fn splice_with_error(&self) -> Result<Hooks> {
        self.at_positions(..).splice_with_error()
    }

    /// Hooks that change features: `edit` gets them, `[n, d_sae]` (a row for each token of the batch), and gives them as they
    /// are to be. The activation changes by (new - old) W_dec; what the SAE does not explain stays.
    ///
    /// # Errors
    /// As [`splice`](Self::splice).
    pub fn edit_features<F>(&self, edit: F) -> Result<Hooks>
    where
        F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.at_positions(..).edit_features(edit)
    }

    /// Hooks that take features out: x - f W_dec of each; what the SAE does not explain stays.
    ///
    /// # Errors
    /// As [`splice`](Self::splice), and features that do not exist.
    pub fn ablate(&self, features: impl IntoIterator<Item = usize>) -> Result<Hooks> {
        self.at_positions(..).ablate(features)
    }

    /// Hooks that make a feature stronger by `amount`: x + amount W_dec. All else stays. (Where each input is normalised by
    /// its own length or deviation, the change is scaled back with it.)
    ///
    /// # Errors
    /// As [`ablate`](Self::ablate).
    pub fn steer(&self, feature: usize, amount: f64) -> Result<Hooks> {
        self.at_positions(..).steer(feature, amount)
    }

    /// Hooks that give a feature this activation wherever it has another: x + (value - f) W_dec.
    ///
    /// # Errors
    /// As [`ablate`](Self::ablate).
    pub fn clamp(&self, feature: usize, value: f64) -> Result<Hooks> {
        self.at_positions(..).clamp(feature, value)
    }
}

impl SaeHooks {
    /// As [`Sae::splice`].
    ///
    /// # Errors
    /// As there.
    pub fn splice(&self) -> Result<Hooks> {
        self.changing(|rows| Ok((rows.sae.reconstruct_rows(&rows.inputs)? - &rows.targets)?))
    }

    /// As [`Sae::splice_with_error`].
    ///
    /// # Errors
    /// As there.
    pub fn splice_with_error(&self) -> Result<Hooks> {
        self.replacing(|rows| {
            let made = rows.sae.reconstruct_rows(&rows.inputs)?;
            let error = (&rows.targets - &made)?.detach();
            Ok((made + error)?)
        })
    }

    /// As [`Sae::edit_features`].
    ///
    /// # Errors
    /// As there.
    pub fn edit_features<F>(&self, edit: F) -> Result<Hooks>
    where
        F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.changing(move |rows| {
            let (features, back) = rows.features()?;
            let new = edit(&features)?;
            if new.dims() != features.dims() {
                let expected = format!("that of the features, {:?}", features.dims());
                return Err(Error::WrongShape {
                    name: "edited features".to_string(),
                    expected,
                    found: new.dims().to_vec(),
                });
            }
            rows.sae.decoded_change(&(rows.sae.like_weights(&new)? - features)?, back.as_ref())
        })
    }

    /// As [`Sae::ablate`].
    ///
    /// # Errors
    /// As there.
    pub fn ablate(&self, features: impl IntoIterator<Item = usize>) -> Result<Hooks> {
        let mut features: Vec<usize> = features.into_iter().collect();
        features.sort_unstable();
        features.dedup();
        if features.is_empty() {
            return Err(Error::msg("no feature was named; give the numbers of those that are to be taken out"));
        }
        self.setting(features, |f| Ok(f.neg()?))
    }

    /// As [`Sae::steer`].
    ///
    /// # Errors
    /// As there.
    pub fn steer(&self, feature: usize, amount: f64) -> Result<Hooks> {
        finite("amount", amount)?;
        let direction = (self.sae.direction(feature)?.unsqueeze(0)? * amount)?;
        self.changing(move |rows| {
            let back = match rows.sae.is_transcoder() {
                true => None,
                false => rows.sae.normalised(&rows.inputs)?.1,
            };
            scaled_back(direction.broadcast_as(rows.targets.shape())?.contiguous()?, back.as_ref())
        })
    }

    /// As [`Sae::clamp`].
    ///
    /// # Errors
    /// As there.
    pub fn clamp(&self, feature: usize, value: f64) -> Result<Hooks> {
        finite("value", value)?;
        self.setting(vec![feature], move |f| Ok(f.affine(-1.0, value)?))
    }

    /// Hooks that put one vector `[d_out]` in place.
    pub(super) fn constant(&self, vector: &Tensor) -> Result<Hooks> {
        let vector = vector.unsqueeze(0)?;
        self.replacing(move |rows| Ok(vector.broadcast_as(rows.targets.shape())?.contiguous()?))
    }

    /// Hooks that add to the activation what a change of some features adds; `change` gets these, `[n, some]`.
    fn setting<F>(&self, features: Vec<usize>, change: F) -> Result<Hooks>
    where
        F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.sae.check(features.iter().copied())?;
        let places: Vec<u32> = features.iter().map(|&feature| feature as u32).collect();
        self.changing(move |rows| {
            let (features, back) = rows.features()?;
            let places = Tensor::new(places.as_slice(), features.device())?;
            let change = change(&features.index_select(&places, 1)?)?;
            scaled_back(change.matmul(&rows.sae.w_dec().index_select(&places, 0)?)?, back.as_ref())
        })
    }

    /// Hooks that add to the activation.
    fn changing<F>(&self, change: F) -> Result<Hooks>
    where
        F: Fn(&Rows) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.replacing(move |rows| Ok((&rows.targets + change(rows)?)?))
    }

    /// Hooks that put rows `[n, d_out]` in place of those of the activation, at the positions.
    fn replacing<F>(&self, make: F) -> Result<Hooks>
    where
        F: Fn(&Rows) -> Result<Tensor> + Send + Sync + 'static,
    {
        let (point_in, point_out) = (self.sae.hook_in()?, self.sae.hook_out()?);
        let (sae, positions) = (self.sae.clone(), self.positions.clone());
        let replace = move |inputs: Tensor, target: &Tensor| {
            let targets = sae.like_weights(&sae.vectors(target, sae.d_out())?)?;
            let inputs = sae.like_weights(&inputs)?;
            if inputs.dim(0)? != targets.dim(0)? {
                return Err(Error::msg(format!(
                    "{sae:?} read {} tokens at its input and finds {} at its output; both have to be of the same tokens",
                    inputs.dim(0)?,
                    targets.dim(0)?
                )));
            }
            let made = make(&Rows { sae: &sae, inputs, targets })?;
            put(&sae, target, &made, &positions)
        };
        if point_in == point_out {
            let sae = self.sae.clone();
            return Ok(Hooks::new().edit(point_out, move |x, _| replace(sae.vectors(x, sae.d_in())?, x)));
        }
        let waiting = Waiting::default();
        let (kept, sae) = (waiting.clone(), self.sae.clone());
        let read = Hooks::new().read(&point_in, move |x, _| {
            let rows = sae.vectors(x, sae.d_in())?;
            lock(&kept).insert(thread::current().id(), rows);
            Ok(())
        });
        Ok(read.edit(point_out, move |x, point| {
            let Some(inputs) = lock(&waiting).remove(&thread::current().id()) else {
                return Err(Error::msg(format!(
                    "the transcoder's input '{point_in}' did not come before '{point}' in this run; begin the run at an \
                     earlier layer"
                )));
            };
            replace(inputs, x)
        }))
    }
}

impl Rows<'_> {
    /// The features, and the way back from normalised units.
    fn features(&self) -> Result<(Tensor, Option<Back>)> {
        let (x, back) = self.sae.normalised(&self.inputs)?;
        Ok((self.sae.features_of(&x)?, back))
    }
}

/// The activation with other rows, at the positions.
fn put(sae: &Sae, activation: &Tensor, rows: &Tensor, positions: &TokenPositions) -> Result<Tensor> {
    let rows = rows.to_device(activation.device())?.to_dtype(activation.dtype())?;
    let new = match sae.head() {
        Some(head) => {
            let mut dims = activation.dims().to_vec();
            dims[2] = 1;
            let mut places: Vec<std::ops::Range<usize>> = dims.iter().map(|&size| 0..size).collect();
            places[2] = head..head + 1;
            activation.slice_assign(&places, &rows.reshape(dims)?)?
        }
        None => rows.reshape(activation.shape())?,
    };
    match positions.mask(activation)? {
        Some(mask) => Ok(mask.broadcast_as(new.shape())?.ne(0f64)?.where_cond(&new, activation)?),
        None => Ok(new),
    }
}

fn finite(what: &str, number: f64) -> Result<()> {
    match number.is_finite() {
        true => Ok(()),
        false => Err(Error::msg(format!("the {what} is {number}, and a number was expected"))),
    }
}

/// A thread that panicked leaves the map as valid as it was.
fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<ThreadId, Tensor>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
