//! How well an SAE stands for the activation that it is of.

use candle_core::{D, DType, Device, Tensor};

use super::{FeatureStatistics, Sae};
use crate::Result;
use crate::analysis::OverText;
use crate::hooks::Hooks;

/// How well an SAE stands for the activation that it is of, over a text. Made by [`Sae::evaluate`].
#[derive(Clone, Debug, PartialEq)]
pub struct SaeScores {
    /// How many tokens were looked at.
    pub tokens: usize,
    /// How many features are active at a token in the mean.
    pub l0: f64,
    /// The part of the activation's variance that is explained: 1 less the squared error over the squared distance to the
    /// mean, each summed over tokens and dimensions.
    pub variance_explained: f64,
    /// The squared error of a token, summed over dimensions, in the mean.
    pub mse: f64,
    /// The cosine between activation and reconstruction, in the mean.
    pub cosine: f64,
    /// How many features are never active.
    pub dead: usize,
    /// How many features there are.
    pub d_sae: usize,
    /// The model's loss, in nats a token.
    pub loss: f64,
    /// Its loss with the reconstruction in place.
    pub loss_spliced: f64,
    /// Its loss with zeros in place.
    pub loss_zero: f64,
    /// Its loss with the activation's mean over the text in place.
    pub loss_mean: f64,
    /// How often and how strongly each feature is active.
    pub features: FeatureStatistics,
}

impl SaeScores {
    /// The part of the loss that the reconstruction recovers of what zeros lose: (zero - spliced) / (zero - plain). 1 is as
    /// good as the activation itself; NaN where zeros lose nothing.
    pub fn loss_recovered(&self) -> f64 {
        (self.loss_zero - self.loss_spliced) / (self.loss_zero - self.loss)
    }

    /// The same with the mean in the place of zeros, which is the harder measure.
    pub fn loss_recovered_from_mean(&self) -> f64 {
        (self.loss_mean - self.loss_spliced) / (self.loss_mean - self.loss)
    }
}

/// Sums over the tokens of a text.
#[derive(Default)]
struct Sums {
    tokens: usize,
    error: f64,
    squares: f64,
    cosine: f64,
    /// Of each dimension.
    sum: Vec<f64>,
}

impl Sae {
    /// Sparsity, reconstruction and what it costs the model, over a text: one pass for features and errors, and four for the
    /// loss (plain, with the reconstruction, zeros, and the mean in place).
    ///
    /// The text's hooks are active in all. Where it [skips BOS](OverText::skip_bos), the activation there stays as it is.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let text = model.over(["John gave a book to Mary.", "Mary went home with the book."]).skip_bos();
    /// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(3).progress(&Progress::quiet());
    /// # let sae = Sae::train(&text, resid_post(1), &options)?;
    /// let scores = sae.evaluate(&text)?;
    /// println!("L0 {:.1}, {:.0} % of the loss recovered", scores.l0, 100.0 * scores.loss_recovered());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of a pass over the text; an SAE of another activation or model.
    pub fn evaluate(&self, text: &OverText) -> Result<SaeScores> {
        let mut sums = Sums { sum: vec![0.0; self.d_out()], ..Sums::default() };
        let mut features = FeatureStatistics::new(self.d_sae());
        self.each_batch(text, |batch| {
            features.add(&self.encode_sparse(&batch.inputs)?);
            sums.add(&batch.targets, &self.reconstruct_rows(&batch.inputs)?)
        })?;
        let n = sums.tokens.max(1) as f64;
        let mean: Vec<f64> = sums.sum.iter().map(|sum| sum / n).collect();
        let variance = sums.squares - n * mean.iter().map(|mean| mean * mean).sum::<f64>();

        let at = self.at_positions(text.skipped()?..);
        let mean = Tensor::new(mean, &Device::Cpu)?.to_dtype(self.w_dec().dtype())?.to_device(self.w_dec().device())?;
        let loss = |hooks: &Hooks| -> Result<f64> { Ok(text.with_more_hooks(hooks).loss()?.mean()) };
        Ok(SaeScores {
            tokens: sums.tokens,
            l0: features.l0(),
            variance_explained: 1.0 - sums.error / variance,
            mse: sums.error / n,
            cosine: sums.cosine / n,
            dead: features.dead().len(),
            d_sae: self.d_sae(),
            loss: loss(&Hooks::new())?,
            loss_spliced: loss(&at.splice()?)?,
            loss_zero: loss(&at.constant(&mean.zeros_like()?)?)?,
            loss_mean: loss(&at.constant(&mean)?)?,
            features,
        })
    }
}

impl Sums {
    /// Takes in activations and reconstructions `[n, d_out]`.
    fn add(&mut self, targets: &Tensor, made: &Tensor) -> Result<()> {
        let double = |x: &Tensor| x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64);
        let (targets, made) = (double(targets)?, double(made)?);
        let squares = |x: &Tensor| x.sqr()?.sum(D::Minus1);
        let lengths = (squares(&targets)? * squares(&made)?)?.sqrt()?.maximum(f64::MIN_POSITIVE)?;
        let cosines = (targets.mul(&made)?.sum(D::Minus1)? / lengths)?;
        self.tokens += targets.dim(0)?;
        self.error += squares(&(&targets - &made)?)?.sum_all()?.to_scalar::<f64>()?;
        self.squares += targets.sqr()?.sum_all()?.to_scalar::<f64>()?;
        self.cosine += cosines.sum_all()?.to_scalar::<f64>()?;
        for (sum, here) in self.sum.iter_mut().zip(targets.sum(0)?.to_vec1::<f64>()?) {
            *sum += here;
        }
        Ok(())
    }
}
