//! The training loop's one step, and what it needs from step to step.

use std::fmt;
use std::path::Path;

use candle_core::{Tensor, Var};

use super::adamw::AdamW;
use super::variables::{frozen, trainable};
use super::{TrainOptions, TrainingCurve, state};
use crate::display::Live;
use crate::model::{HookedTransformer, Input, RunOptions, RunOutput, real_pairs};
use crate::progress::Meter;
use crate::{Error, Result};

/// Trains a model step by step. The model that it was made from is not changed: the trainer has weights of its own.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained_no_processing("tiny")?;
/// let options = TrainOptions::new().steps(3).rate(1e-3).progress(&Progress::quiet());
/// let mut trainer = Trainer::new(&model, &options)?;
/// while !trainer.is_done() {
///     let loss = trainer.step("Anna gave a very heavy umbrella to Robert.")?;
///     println!("step {}: {loss:.3}", trainer.steps_done());
/// }
/// let trained = trainer.snapshot()?;
/// assert!(trainer.curve().losses()[2] < trainer.curve().losses()[0]);
/// # let _ = trained; Ok(()) }
/// ```
pub struct Trainer {
    model: HookedTransformer,
    pub(super) vars: Vec<(String, Var)>,
    pub(super) optimizer: AdamW,
    pub(super) curve: TrainingCurve,
    options: TrainOptions,
    /// Begins with the first step.
    shown: Option<Shown>,
}

/// Where somebody may watch.
struct Shown {
    meter: Meter,
    /// The number of steps that were done before.
    from: usize,
    live: Option<Live>,
}

impl Trainer {
    /// A trainer of a model as it is. Weights that were processed can be trained as well; they stay processed.
    ///
    /// # Errors
    /// Settings that make no sense, weights of 16 bits, and a choice of weights that leaves none.
    pub fn new(model: &HookedTransformer, options: &TrainOptions) -> Result<Self> {
        options.check()?;
        let (model, vars) = trainable(model, options)?;
        let optimizer = AdamW::new(&vars)?;
        Ok(Self { model, vars, optimizer, curve: TrainingCurve::default(), options: options.clone(), shown: None })
    }

    /// One step on the mean loss of the next token, with the options' hooks active. Gives the loss before the step.
    ///
    /// # Errors
    /// As those of a run, and [`Error::Interrupted`]; the weights are then those after the last whole step.
    pub fn step(&mut self, batch: impl Into<Input>) -> Result<f32> {
        let run = RunOptions::new().loss().no_logits().hooks(&self.options.hooks);
        self.step_on(|model| mean_loss(&model.run(batch, &run)?))
    }

    /// One step on a loss of your own, a scalar. `loss` gets the model as it is, runs it (hooks are its own affair), and may
    /// weigh what it likes. Gives the loss before the step.
    ///
    /// # Errors
    /// Those of `loss`; a loss or a gradient that is not a number, or a loss that none of the trained weights has a part in.
    pub fn step_on(&mut self, loss: impl FnOnce(&HookedTransformer) -> Result<Tensor>) -> Result<f32> {
        let step = self.steps_done();
        let loss = loss(&self.model)?;
        if loss.rank() != 0 {
            let (name, found) = ("loss".to_string(), loss.dims().to_vec());
            return Err(Error::WrongShape { name, expected: "a scalar, such as a mean,".to_string(), found });
        }
        let value = loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?;
        if !value.is_finite() {
            return Err(Error::msg(format!(
                "the loss is {value} at step {step}, so no step is taken; a lower rate or a longer warm-up may help"
            )));
        }
        let gradients = loss.backward()?;
        if self.vars.iter().all(|(_, var)| gradients.get(var).is_none()) {
            return Err(Error::msg(
                "the loss does not depend on any weight that is trained, so there is nothing to learn",
            ));
        }
        crate::interrupt::check()?;
        self.optimizer.step(&self.vars, &gradients, step, &self.options)?;
        self.curve.push(value, self.options.rate_at(step));
        self.show(step);
        Ok(value)
    }

    /// The model as it is after the last step. Its weights are those that are trained: it changes with the next step.
    /// [`snapshot`](Self::snapshot) gives one that does not.
    pub fn model(&self) -> &HookedTransformer {
        &self.model
    }

    /// The model as it is now, with weights of its own.
    pub fn snapshot(&self) -> Result<HookedTransformer> {
        frozen(&self.model)
    }

    /// The loss of each step so far.
    pub fn curve(&self) -> &TrainingCurve {
        &self.curve
    }

    /// How it trains.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// How many steps are done.
    pub fn steps_done(&self) -> usize {
        self.curve.losses().len()
    }

    /// Whether all steps are done. More can be taken; the rate then stays at its lowest.
    pub fn is_done(&self) -> bool {
        self.steps_done() >= self.options.steps
    }

    /// How many numbers are trained.
    pub fn n_trained(&self) -> usize {
        self.vars.iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Writes weights, moments and curve to a safetensors file, from which [`load_state`](Self::load_state) goes on as if
    /// nothing had happened, number for number.
    pub fn save_state(&self, path: impl AsRef<Path>) -> Result<()> {
        state::save(self, path.as_ref())
    }

    /// Goes on from a state that [`save_state`](Self::save_state) wrote, with the same model and options.
    ///
    /// # Errors
    /// A file that is missing, broken, or of a model of other shapes; nothing is changed then.
    pub fn load_state(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.shown = None;
        state::load(self, path.as_ref())
    }

    fn show(&mut self, from: usize) {
        let options = &self.options;
        let shown = self.shown.get_or_insert_with(|| Shown {
            meter: options.progress.start("training", "steps"),
            from,
            live: options.live.then(Live::new),
        });
        let done = self.curve.losses().len();
        let (steps, all) = (done - shown.from, options.steps.max(done) - shown.from);
        if let Some(loss) = self.curve.recent(20) {
            shown.meter.rename(format!("training, loss {loss:.3}"));
        }
        if done < options.steps {
            shown.meter.at(steps, Some(steps as f64 / all.max(1) as f64));
            if let Some(live) = &mut shown.live {
                live.update(&self.curve);
            }
        } else if done == options.steps {
            shown.meter.finish(steps);
            if let Some(live) = &mut shown.live {
                live.finish(&self.curve);
            }
        }
    }
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trainer({} of {} steps, {} numbers", self.steps_done(), self.options.steps, self.n_trained())?;
        match self.curve.recent(20) {
            Some(loss) => write!(f, ", loss {loss:.3})"),
            None => f.write_str(")"),
        }
    }
}

/// The mean loss of a run, as a tensor that knows where it came from.
fn mean_loss(run: &RunOutput) -> Result<Tensor> {
    let losses = run.loss_per_token.as_ref().ok_or_else(|| Error::msg("the run gave no loss"))?;
    let mask = run.tokens.as_ref().and_then(|tokens| tokens.mask());
    let n = mask.map_or(losses.elem_count(), |mask| real_pairs(mask).filter(|real| *real).count().max(1));
    Ok((losses.sum_all()? / n as f64)?)
}
