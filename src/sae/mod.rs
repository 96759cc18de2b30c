//! Sparse autoencoders and transcoders: the features that activations are made of.
//!
//! A sparse autoencoder (Cunningham et al. 2023, arXiv 2309.08600; Bricken et al. 2023) writes an activation as a sum of
//! few directions out of many; a transcoder (Dunefsky et al. 2024, arXiv 2406.11944) does so with what a layer makes of it.
//!
//! - [`Sae::from_pretrained`], [`Sae::from_folder`]: SAELens' folders, and Gemma Scope (Lieberum et al. 2024, arXiv
//!   2408.05147).
//! - [`Sae::encode`], [`Sae::reconstruct`], [`Sae::error`]: the forward pass.
//! - [`Sae::features`]: which features a prompt has, token by token.
//! - [`Sae::splice`], [`Sae::ablate`], [`Sae::steer`], [`Sae::clamp`]: hooks.
//! - [`Sae::logit_effects`]: which tokens a feature makes likelier.
//! - [`Sae::evaluate`], [`Sae::statistics`], [`Sae::top_examples`], [`Sae::card`]: over text.
//! - [`Sae::train`]: a TopK SAE of one's own.
//!
//! ```
//! use candlescope::prelude::*;
//! # fn main() -> candlescope::Result<()> {
//! let model = HookedTransformer::from_pretrained("tiny")?;
//! let text = model.over(["John gave a book to Mary.", "Mary went home with the book."]).skip_bos();
//! let options = SaeTrainOptions::new().d_sae(256).k(8).steps(5).progress(&Progress::quiet());
//! let sae = Sae::train(&text, resid_post(1), &options)?;
//! let (_, cache) = model.run_with_cache("John gave a book to")?;
//! for feature in sae.features(&cache)?.top_features(3) {
//!     println!("feature {}: {:.2} at token {}", feature.feature, feature.value, feature.pos);
//! }
//! let without = model.run_with_hooks("John gave a book to", &sae.ablate([3])?)?;
//! # assert_eq!(without.dims().len(), 3);
//! # Ok(()) }
//! ```

mod card;
mod config;
mod examples;
mod features;
mod forward;
mod gemma_scope;
mod hooks;
mod load;
mod logits;
mod releases;
mod save;
mod scores;
mod sparse;
mod statistics;
mod train;
mod weights;

use std::fmt;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::analysis::OverText;
use crate::analysis::linalg::lengths;
use crate::hooks::HookPoint;
use crate::{Error, Result};
use config::Config;
use weights::{Encoder, Weights};

pub use card::FeatureCard;
pub use config::{InputNorm, SaeKind};
pub use features::{ActiveFeature, FeatureActivations};
pub use hooks::SaeHooks;
pub use logits::LogitEffects;
pub use scores::SaeScores;
pub use statistics::FeatureStatistics;
pub use train::SaeTrainOptions;

/// A sparse autoencoder or a transcoder.
///
/// Cheap to clone: clones share the weights, which are f32 (whatever the file has). Scales that a file keeps apart (of
/// inputs, of features, of the decoder's lengths) are folded into the weights when they are read; the function is the same.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// # let model = HookedTransformer::from_pretrained("tiny")?;
/// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(1).progress(&Progress::quiet());
/// # let trained = Sae::train(&model.over("John gave a book to Mary."), resid_post(0), &options)?;
/// # let folder = std::env::temp_dir().join(format!("candlescope_sae_{}", std::process::id()));
/// # trained.save(&folder)?;
/// let sae = Sae::from_folder(&folder)?;
/// assert_eq!(sae.hook_in()?.name(), "blocks.0.hook_resid_post");
/// let x = Tensor::randn(0f32, 1.0, (1, 7, sae.d_in()), &Device::Cpu)?;
/// let features = sae.encode(&x)?; // [batch, pos, d_sae]
/// let error = (&x - sae.decode(&features)?)?;
/// # assert_eq!(error.dims(), sae.error(&x)?.dims());
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sae {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    config: Config,
    weights: Weights,
    /// log10 of how often each feature was active in training, where the files have it.
    log_sparsity: Option<Tensor>,
    /// Of each step of a training.
    losses: Vec<f32>,
    origin: String,
}

impl Sae {
    fn new(config: Config, weights: Weights, log_sparsity: Option<Tensor>, origin: String) -> Self {
        Self { inner: Arc::new(Inner { config, weights, log_sparsity, losses: Vec::new(), origin }) }
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = (*self.inner).clone();
        change(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    /// The same SAE, of the activation at this point (`resid_post(5)`, or a full name), for files that do not say which.
    pub fn at(&self, point: impl Into<HookPoint>) -> Self {
        let point = point.into();
        self.with(|inner| {
            inner.config.hook_in = Some(point.clone());
            inner.config.hook_out = Some(point);
            inner.config.is_transcoder = false;
        })
    }

    /// The same weights as a transcoder that reads at one point and predicts the activation at another.
    ///
    /// # Errors
    /// An SAE that takes b_dec off its input, which a transcoder can't.
    pub fn from_to(&self, from: impl Into<HookPoint>, to: impl Into<HookPoint>) -> Result<Self> {
        if self.applies_b_dec() {
            return Err(Error::msg(format!(
                "{self:?} takes b_dec off its input (apply_b_dec_to_input), and so is of one activation; a transcoder \
                 can't be made of it"
            )));
        }
        let (from, to) = (from.into(), to.into());
        Ok(self.with(|inner| {
            inner.config.hook_in = Some(from);
            inner.config.hook_out = Some(to);
            inner.config.is_transcoder = true;
        }))
    }

    /// The same SAE for inputs that are to be multiplied by `scale` first (and outputs divided), where its files do not say
    /// the number ([`InputNorm::UnknownScale`]). It is folded into the weights.
    ///
    /// # Errors
    /// A scale that is no positive number; an SAE that has none to set.
    pub fn input_scale(&self, scale: f64) -> Result<Self> {
        if self.input_norm() != InputNorm::UnknownScale {
            return Err(Error::msg(format!("{self:?} has no unknown scale of its inputs; it can be used as it is")));
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::msg(format!("the scale is {scale}, and a number above 0 was expected")));
        }
        let weights = self.inner.weights.clone().for_scaled_input(scale)?;
        Ok(self.with(|inner| {
            inner.weights = weights;
            inner.config.input_norm = InputNorm::None;
        }))
    }

    /// sqrt(d_in) over the mean length of the inputs in a text: what [`input_scale`](Self::input_scale) wants.
    ///
    /// # Errors
    /// As those of a pass over the text; inputs that are all zero.
    pub fn measure_input_scale(&self, text: &OverText) -> Result<f64> {
        let (mut n, mut sum) = (0usize, 0f64);
        self.each_batch(text, |batch| {
            let norms: Vec<f32> = lengths(&batch.inputs)?.to_vec1()?;
            n += norms.len();
            sum += norms.iter().map(|&norm| f64::from(norm)).sum::<f64>();
            Ok(())
        })?;
        match sum > 0.0 {
            true => Ok((self.d_in() as f64).sqrt() * n as f64 / sum),
            false => Err(Error::msg("the inputs have length 0 in this text, so no scale brings them to sqrt(d_in)")),
        }
    }

    /// The same SAE with its weights on another device. (A pass moves its inputs to the weights.)
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let weights = self.inner.weights.to_device(device)?;
        Ok(self.with(|inner| inner.weights = weights))
    }

    /// The point that it reads.
    ///
    /// # Errors
    /// Where neither its files nor [`at`](Self::at) say which.
    pub fn hook_in(&self) -> Result<HookPoint> {
        self.config().hook_in.clone().ok_or_else(|| {
            Error::msg(format!(
                "{self:?} does not say which activation it is of; say so with sae.at(resid_post(5)), or \
                 sae.from_to(input, output) for a transcoder"
            ))
        })
    }

    /// The point whose activation it reconstructs: [`hook_in`](Self::hook_in), but for a transcoder.
    ///
    /// # Errors
    /// As there.
    pub fn hook_out(&self) -> Result<HookPoint> {
        match &self.config().hook_out {
            Some(point) => Ok(point.clone()),
            None if self.is_transcoder() => Err(Error::msg(format!(
                "{self:?} does not say which activation it predicts (hook_name_out); say so with sae.from_to(input, output)"
            ))),
            None => self.hook_in(),
        }
    }

    /// Whether it predicts another activation than the one that it reads.
    pub fn is_transcoder(&self) -> bool {
        self.config().is_transcoder
    }

    /// The head whose activation it is of, where it is of a single one.
    pub fn head(&self) -> Option<usize> {
        self.config().head
    }

    /// The width of its input.
    pub fn d_in(&self) -> usize {
        self.weights().sizes()[0]
    }

    /// How many features it has.
    pub fn d_sae(&self) -> usize {
        self.weights().sizes()[1]
    }

    /// The width of its output; that of its input, but for a transcoder.
    pub fn d_out(&self) -> usize {
        self.weights().sizes()[2]
    }

    /// Encoder, `[d_in, d_sae]`.
    pub fn w_enc(&self) -> &Tensor {
        &self.weights().w_enc
    }

    /// Decoder, `[d_sae, d_out]`: a feature's direction in each row.
    pub fn w_dec(&self) -> &Tensor {
        &self.weights().w_dec
    }

    /// Bias of the encoder, `[d_sae]`: of a gated one, that of the gate.
    pub fn b_enc(&self) -> &Tensor {
        match &self.weights().encoder {
            Encoder::Relu { b_enc } | Encoder::TopK { b_enc, .. } | Encoder::JumpRelu { b_enc, .. } => b_enc,
            Encoder::Gated { b_gate, .. } => b_gate,
        }
    }

    /// Bias of the decoder, `[d_out]`.
    pub fn b_dec(&self) -> &Tensor {
        &self.weights().b_dec
    }

    /// The threshold of each feature, `[d_sae]`; JumpReLU only.
    pub fn threshold(&self) -> Option<&Tensor> {
        match &self.weights().encoder {
            Encoder::JumpRelu { threshold, .. } => Some(threshold),
            _ => None,
        }
    }

    /// The matrix past the features of a skip transcoder, `[d_out, d_in]`.
    pub fn w_skip(&self) -> Option<&Tensor> {
        self.weights().w_skip.as_ref()
    }

    /// The direction that a feature adds to the output per unit of activation, `[d_out]`.
    ///
    /// # Errors
    /// When there is no such feature.
    pub fn direction(&self, feature: usize) -> Result<Tensor> {
        self.check([feature])?;
        Ok(self.w_dec().get(feature)?)
    }

    /// The name of the model that it is of, as its files give it (TransformerLens' names).
    pub fn model_name(&self) -> Option<&str> {
        self.config().text("model_name")
    }

    /// Where its features are on Neuronpedia, as in "gpt2-small/8-res-jb", if its files say so.
    pub fn neuronpedia_id(&self) -> Option<&str> {
        self.config().text("neuronpedia_id")
    }

    /// Something else that cfg.json says: "context_size", "prepend_bos", "dataset_path", "model_from_pretrained_kwargs", ..
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.config().metadata.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_string))
    }

    /// log10 of how often each feature was active in training, `[d_sae]`, where there is a sparsity.safetensors.
    pub fn log_sparsity(&self) -> Option<&Tensor> {
        self.inner.log_sparsity.as_ref()
    }

    /// What is done to each input before it is encoded.
    pub fn input_norm(&self) -> InputNorm {
        self.config().input_norm
    }

    /// Whether b_dec is taken off the input before it is encoded.
    pub fn applies_b_dec(&self) -> bool {
        self.config().apply_b_dec_to_input
    }

    fn config(&self) -> &Config {
        &self.inner.config
    }

    fn weights(&self) -> &Weights {
        &self.inner.weights
    }

    /// An error unless these features exist.
    fn check(&self, features: impl IntoIterator<Item = usize>) -> Result<()> {
        let d_sae = self.d_sae();
        match features.into_iter().find(|&feature| feature >= d_sae) {
            Some(wrong) => Err(Error::msg(format!(
                "there is no feature {wrong}: {self:?} has {d_sae}, 0 to {}",
                d_sae.saturating_sub(1)
            ))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Sae {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config();
        let what = if config.is_transcoder { "transcoder" } else { "SAE" };
        let kind = match config.kind {
            SaeKind::Relu => "ReLU".to_string(),
            SaeKind::TopK { k } => format!("Top{k}"),
            SaeKind::Gated => "gated".to_string(),
            SaeKind::JumpRelu => "JumpReLU".to_string(),
        };
        write!(f, "{kind} {what}({} features", self.d_sae())?;
        if let Some(point) = &config.hook_in {
            write!(f, " of {point}")?;
        }
        if let Some(head) = config.head {
            write!(f, " head {head}")?;
        }
        if let Some(point) = config.hook_out.as_ref().filter(|_| config.is_transcoder) {
            write!(f, " to {point}")?;
        }
        write!(f, ", from {})", self.inner.origin)
    }
}
