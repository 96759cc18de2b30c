//! How an SAE is trained.

use crate::progress::Progress;
use crate::training::TrainOptions;
use crate::{Error, Result};

/// How an SAE is trained. `SaeTrainOptions::new()` is 1000 steps of 512 tokens, 8 features for each dimension, 16 of them
/// at a token.
#[derive(Clone, Debug)]
pub struct SaeTrainOptions {
    /// How many features; none: 8 for each dimension of the activation.
    pub d_sae: Option<usize>,
    /// How many features a token has at most.
    pub k: usize,
    /// How many steps of AdamW there are.
    pub steps: usize,
    /// Tokens in a step.
    pub batch_size: usize,
    /// The highest learning rate; it rises over the first twentieth of the steps, and falls as a cosine to a tenth.
    pub rate: f64,
    /// A feature that was not active for so many tokens counts as dead, and learns to explain what the others leave.
    pub dead_after: usize,
    /// How many dead features explain a token's error; none: half as many as the activation has dimensions.
    pub aux_k: Option<usize>,
    /// The weight of that part of the loss.
    pub aux_weight: f64,
    /// How many tokens' activations are kept and mixed; none: what fits into 256 MB. A text that fits is run only once.
    pub buffer: Option<usize>,
    /// Seed of the first weights and of the order of the tokens.
    pub seed: u64,
    /// Who hears how far it is.
    pub progress: Progress,
    /// Whether the loss curve is drawn while the SAE learns.
    pub live: bool,
}

impl Default for SaeTrainOptions {
    fn default() -> Self {
        Self {
            d_sae: None,
            k: 16,
            steps: 1000,
            batch_size: 512,
            rate: 1e-3,
            dead_after: 100_000,
            aux_k: None,
            aux_weight: 1.0 / 32.0,
            buffer: None,
            seed: 0,
            progress: Progress::default(),
            live: false,
        }
    }
}

impl SaeTrainOptions {
    /// 1000 steps of 512 tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many features.
    pub fn d_sae(mut self, features: usize) -> Self {
        self.d_sae = Some(features);
        self
    }

    /// How many features a token has at most.
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// How many steps there are.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Tokens in a step.
    pub fn batch_size(mut self, tokens: usize) -> Self {
        self.batch_size = tokens;
        self
    }

    /// The highest learning rate.
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// After how many tokens without it a feature counts as dead.
    pub fn dead_after(mut self, tokens: usize) -> Self {
        self.dead_after = tokens;
        self
    }

    /// How many dead features explain a token's error, and the weight of that part of the loss; a weight of 0 is without.
    pub fn aux(mut self, k: usize, weight: f64) -> Self {
        (self.aux_k, self.aux_weight) = (Some(k), weight);
        self
    }

    /// How many tokens' activations are kept and mixed.
    pub fn buffer(mut self, tokens: usize) -> Self {
        self.buffer = Some(tokens);
        self
    }

    /// Seed of the first weights and of the order of the tokens.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Who hears how far it is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Draws the loss curve while the SAE learns: in candlescope's notebooks as one picture that is drawn anew in place.
    pub fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// How AdamW is to go.
    pub(super) fn adamw(&self) -> TrainOptions {
        let mut options = TrainOptions::new().steps(self.steps).rate(self.rate).weight_decay(0.0);
        options.betas = (0.9, 0.999);
        options
    }

    /// The number of features, of activations of this width.
    pub(super) fn features(&self, width: usize) -> usize {
        self.d_sae.unwrap_or(8 * width)
    }

    pub(super) fn check(&self, width: usize) -> Result<()> {
        let d_sae = self.features(width);
        let fault = [
            (self.steps == 0, "there are no steps: SaeTrainOptions::steps has to be at least 1".to_string()),
            (self.batch_size == 0, "a batch needs at least one token".to_string()),
            (!(self.rate.is_finite() && self.rate > 0.0), "the learning rate has to be a number above 0".to_string()),
            (
                !(self.aux_weight.is_finite() && self.aux_weight >= 0.0),
                "the weight of the dead features' loss has to be a number of at least 0".to_string(),
            ),
            (d_sae == 0, "an SAE needs at least one feature".to_string()),
            (self.k == 0 || self.k > d_sae, format!("k is {}, and 1 to {d_sae} (the features) was expected", self.k)),
        ];
        match fault.into_iter().find(|(found, _)| *found) {
            Some((_, why)) => Err(Error::msg(why)),
            None => Ok(()),
        }
    }
}
