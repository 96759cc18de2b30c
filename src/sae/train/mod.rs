//! Training a TopK SAE on a model's activations (Gao et al. 2024, arXiv 2406.04093).

mod buffer;
mod options;
mod step;

use candle_core::Tensor;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::config::Config;
use super::forward::as_rows;
use super::{Sae, SaeKind};
use crate::analysis::OverText;
use crate::display::Live;
use crate::hooks::{PointInfo, Selector};
use crate::progress::{Meter, Progress};
use crate::{Error, Result};
use buffer::Buffer;
use step::Learner;

pub use options::SaeTrainOptions;

/// Bytes of activations that are kept, unless something else is said.
const BUFFER: usize = 256 << 20;

impl Sae {
    /// Trains a TopK SAE on an activation over a text: decoder directions of length 1, the encoder begun as their transpose,
    /// and an auxiliary loss by which features that died learn what the others leave. The loss is the part of the variance
    /// that is not explained.
    ///
    /// Inputs are scaled so that their mean length is sqrt(d_in) while it learns; the scale is folded into the weights
    /// afterwards. Use [`skip_bos`](OverText::skip_bos): the activation at BOS is often many times as long as all others. The
    /// text is run again and again until all steps are done (once, if all of its activations fit into the buffer). The same
    /// seed gives the same weights on the same machine.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let text = model.over(["John gave a book to Mary.", "Mary went home with the book."]).skip_bos();
    /// let options = SaeTrainOptions::new().d_sae(256).k(8).steps(20).progress(&Progress::quiet());
    /// let sae = Sae::train(&text, resid_post(1), &options)?;
    /// assert!(sae.training_losses()[19] < sae.training_losses()[0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Settings that make no sense; a point that is not one activation `[batch, pos, ..]`; a text without a token that counts;
    /// a loss that is not a number; and [`Error::Interrupted`].
    pub fn train(text: &OverText, at: impl Into<Selector>, options: &SaeTrainOptions) -> Result<Self> {
        let info = text.one_point(&at.into())?;
        let width = width(&info, text)?;
        options.check(width)?;
        let most = options.buffer.unwrap_or(BUFFER / (4 * width)).max(2 * options.batch_size);
        let mut run = Run {
            options,
            width,
            buffer: Buffer::new(width, most),
            learner: None,
            rng: StdRng::seed_from_u64(options.seed.wrapping_add(1)),
            meter: options.progress.start("training an SAE", "steps"),
            live: options.live.then(Live::new),
        };
        // The pass over the text is a part of the work that has a bar already.
        let text = text.clone().progress(&Progress::quiet());
        while !run.is_done() {
            run.pass(&text, &info)?;
        }
        run.finish(&text, &info)
    }

    /// The loss of each step of its training, the part of the variance that was not explained; none where it was loaded.
    pub fn training_losses(&self) -> &[f32] {
        &self.inner.losses
    }
}

/// A training under way.
struct Run<'a> {
    options: &'a SaeTrainOptions,
    width: usize,
    buffer: Buffer,
    /// Begins when there are data.
    learner: Option<Learner>,
    rng: StdRng,
    meter: Meter,
    live: Option<Live>,
}

impl Run<'_> {
    fn is_done(&self) -> bool {
        self.steps() >= self.options.steps
    }

    fn steps(&self) -> usize {
        self.learner.as_ref().map_or(0, |learner| learner.losses().len())
    }

    /// Goes once over the text.
    fn pass(&mut self, text: &OverText, info: &PointInfo) -> Result<()> {
        let (mut was_full, mut any) = (false, false);
        let outcome = text.for_each(&info.point, |batch, cache| {
            let (rows, _) = as_rows(&cache.get(&info.point)?.flatten_from(2)?, self.width)?;
            let counted = batch.counted_places();
            if counted.is_empty() {
                return Ok(());
            }
            any = true;
            self.buffer.add(&rows.index_select(&Tensor::new(counted, rows.device())?, 0)?)?;
            while self.buffer.is_full() {
                was_full = true;
                self.begin()?;
                for values in self.buffer.take_half(self.options.batch_size, &mut self.rng) {
                    if self.is_done() {
                        // Ends the pass; the rest of the text is not needed.
                        return Err(Error::msg("all steps are done"));
                    }
                    self.step(values)?;
                }
            }
            Ok(())
        });
        if !self.is_done() {
            outcome?;
        }
        if !any {
            return Err(Error::msg("there is nothing to train on: the text has no token that counts"));
        }
        if !was_full && !self.is_done() && self.learner.is_none() {
            self.begin()?;
            self.all_there()?;
        }
        Ok(())
    }

    /// All of the text is in the buffer.
    fn all_there(&mut self) -> Result<()> {
        while !self.is_done() {
            for places in self.buffer.all(self.options.batch_size, &mut self.rng) {
                if self.is_done() {
                    break;
                }
                self.step(self.buffer.rows(&places))?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        if self.learner.is_none() {
            self.learner = Some(Learner::new(&self.buffer, self.width, self.options)?);
        }
        Ok(())
    }

    fn step(&mut self, values: Vec<f32>) -> Result<()> {
        let Some(learner) = &mut self.learner else { return Ok(()) };
        let loss = learner.step(values)?;
        let (done, all) = (learner.losses().len(), self.options.steps);
        self.meter.rename(format!("training an SAE, {:.1} % of the variance left", 100.0 * loss));
        if done < all {
            self.meter.at(done, Some(done as f64 / all as f64));
            if let Some(live) = &mut self.live {
                live.update(&crate::display::sae_losses(learner.losses()));
            }
        }
        Ok(())
    }

    fn finish(mut self, text: &OverText, info: &PointInfo) -> Result<Sae> {
        let Some(learner) = &self.learner else { return Err(Error::msg("no step was taken")) };
        self.meter.finish(learner.losses().len());
        if let Some(live) = &mut self.live {
            live.finish(&crate::display::sae_losses(learner.losses()));
        }
        let mut config = Config::new(SaeKind::TopK { k: self.options.k });
        config.apply_b_dec_to_input = true;
        config.hook_in = Some(info.point.clone());
        config.hook_out = Some(info.point.clone());
        config.set_text("model_name", &text.model().cfg().model_name);
        let prepends = text.model().tokenizer().is_ok_and(|tokenizer| tokenizer.default_prepend_bos());
        config.metadata.insert("prepend_bos".to_string(), prepends.into());
        config.metadata.insert("context_size".to_string(), text.longest_row().into());
        let (weights, sparsity) = (learner.weights()?, learner.log_sparsity()?);
        let losses = learner.losses().to_vec();
        Ok(Sae::new(config, weights, Some(sparsity), "training".to_string()).with(|inner| inner.losses = losses))
    }
}

/// The width of an activation: all its axes behind batch and positions.
fn width(info: &PointInfo, text: &OverText) -> Result<usize> {
    let cfg = text.model().cfg();
    let inner = match info.shape {
        "[batch, pos, d_model]" => Some(cfg.d_model),
        "[batch, pos, d_mlp]" => Some(cfg.d_mlp),
        "[batch, pos, head, d_head]" => Some(cfg.n_heads * cfg.d_head),
        _ => None,
    };
    inner.ok_or_else(|| {
        Error::msg(format!(
            "'{}' has the axes {}; an SAE is trained on [batch, pos, d_model], [batch, pos, d_mlp] or [batch, pos, head, \
             d_head]",
            info.point, info.shape
        ))
    })
}
