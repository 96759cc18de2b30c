//! How a model is trained.

use std::fmt;
use std::sync::Arc;

use crate::hooks::Hooks;
use crate::progress::Progress;
use crate::{Error, Result};

/// How a model is trained. `TrainOptions::new()` is 100 steps of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) at
/// rate 1e-3: a warm-up over the first twentieth of the steps, then a cosine down to a tenth of the rate; gradients longer
/// than 1 are shortened.
#[derive(Clone)]
pub struct TrainOptions {
    /// How many steps there are in all.
    pub steps: usize,
    /// The highest learning rate.
    pub rate: f64,
    /// Steps in which the rate rises from 0; none: a twentieth of all.
    pub warm_up: Option<usize>,
    /// The part of the highest rate that is left at the end.
    pub last_rate: f64,
    /// How slowly the mean of the gradient and that of its square change.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub eps: f64,
    /// How fast matrices (`W_..`) shrink, as a part of the rate; biases and norms do not.
    pub weight_decay: f64,
    /// A gradient longer than this, over all weights, is shortened to it.
    pub longest_gradient: f64,
    /// Active during training.
    pub hooks: Hooks,
    /// Rows in a batch of [`fine_tune`](crate::model::HookedTransformer::fine_tune).
    pub batch_size: usize,
    /// Tokens in a row of [`fine_tune`](crate::model::HookedTransformer::fine_tune); none: 128, or the model's context.
    pub row_length: Option<usize>,
    /// Seed of the order of the rows.
    pub seed: u64,
    /// Who hears how far it is.
    pub progress: Progress,
    /// Whether the loss curve is drawn while the model learns.
    pub live: bool,
    pub(super) trained: Option<Arc<Choice>>,
}

type Choice = dyn Fn(&str) -> bool + Send + Sync;

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            steps: 100,
            rate: 1e-3,
            warm_up: None,
            last_rate: 0.1,
            betas: (0.9, 0.98),
            eps: 1e-8,
            weight_decay: 0.01,
            longest_gradient: 1.0,
            hooks: Hooks::new(),
            batch_size: 8,
            row_length: None,
            seed: 0,
            progress: Progress::default(),
            live: false,
            trained: None,
        }
    }
}

impl TrainOptions {
    /// 100 steps at rate 1e-3.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many steps there are in all.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// The highest learning rate.
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// In how many steps the rate rises from 0 to its highest.
    pub fn warm_up(mut self, steps: usize) -> Self {
        self.warm_up = Some(steps);
        self
    }

    /// The part of the highest rate that is left at the end.
    pub fn last_rate(mut self, part: f64) -> Self {
        self.last_rate = part;
        self
    }

    /// How fast matrices shrink, as a part of the rate.
    pub fn weight_decay(mut self, decay: f64) -> Self {
        self.weight_decay = decay;
        self
    }

    /// A gradient longer than this, over all weights, is shortened to it.
    pub fn longest_gradient(mut self, length: f64) -> Self {
        self.longest_gradient = length;
        self
    }

    /// Trains with these hooks active: what they change, the model learns to live with.
    pub fn hooks(mut self, hooks: &Hooks) -> Self {
        self.hooks = hooks.clone();
        self
    }

    /// Trains only the weights whose names (`blocks.0.attn.W_Q`) are chosen; the others stay as they are. A tied embedding
    /// is one weight, `embed.W_E`.
    pub fn only(mut self, choose: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.trained = Some(Arc::new(choose));
        self
    }

    /// Rows in a batch of [`fine_tune`](crate::model::HookedTransformer::fine_tune).
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows;
        self
    }

    /// Tokens in a row of [`fine_tune`](crate::model::HookedTransformer::fine_tune).
    pub fn row_length(mut self, tokens: usize) -> Self {
        self.row_length = Some(tokens);
        self
    }

    /// Seed of the order of the rows.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Who hears how far it is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Draws the loss curve while the model learns: in candlescope's notebooks as one picture that is drawn anew in place.
    pub fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// The learning rate of a step, counted from 0.
    pub fn rate_at(&self, step: usize) -> f64 {
        let warm_up = self.warm_up.unwrap_or(self.steps.div_ceil(20)).max(1);
        let warm = ((step + 1) as f64 / warm_up as f64).min(1.0);
        let part = (step as f64 / self.steps.max(1) as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
        self.rate * warm * (self.last_rate + (1.0 - self.last_rate) * cosine)
    }

    pub(super) fn trains(&self, name: &str) -> bool {
        self.trained.as_ref().is_none_or(|choose| choose(name))
    }

    pub(super) fn check(&self) -> Result<()> {
        let fault = [
            (self.steps == 0, "there are no steps: TrainOptions::steps has to be at least 1"),
            (!(self.rate.is_finite() && self.rate > 0.0), "the learning rate has to be a number above 0"),
            (!(0.0..=1.0).contains(&self.last_rate), "last_rate is the part of the rate that is left, from 0 to 1"),
            (self.longest_gradient.is_nan() || self.longest_gradient <= 0.0, "longest_gradient has to be above 0"),
            (self.batch_size == 0, "a batch needs at least one row"),
        ];
        match fault.iter().find(|(found, _)| *found) {
            Some((_, sentence)) => Err(Error::msg(*sentence)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TrainOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrainOptions({} steps, rate {}, batches of {})", self.steps, self.rate, self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let options = TrainOptions::new().steps(100).rate(2.0).warm_up(10).last_rate(0.1);
        assert!((options.rate_at(4) - 1.0).abs() < 0.01);
        assert!(options.rate_at(9) > 1.9 && options.rate_at(9) <= 2.0);
        assert!((options.rate_at(50) - 1.1).abs() < 1e-9);
        assert!((options.rate_at(100) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        assert!(TrainOptions::new().steps(0).check().unwrap_err().to_string().contains("no steps"));
        assert!(TrainOptions::new().rate(f64::NAN).check().is_err());
        assert!(TrainOptions::new().batch_size(0).check().is_err());
        TrainOptions::new().check().unwrap();
    }
}
