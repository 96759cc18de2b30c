//! One step of training a TopK SAE (Gao et al. 2024, arXiv 2406.04093).

use candle_core::{D, DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::SaeTrainOptions;
use super::buffer::Buffer;
use crate::normal::normal;
use crate::sae::forward::largest;
use crate::sae::weights::{Encoder, Weights};
use crate::training::TrainOptions;
use crate::training::adamw::AdamW;
use crate::{Error, Result};

/// The variables, in this order.
const NAMES: [&str; 4] = ["W_enc", "W_dec", "b_enc", "b_dec"];

/// An SAE that learns.
pub(super) struct Learner {
    vars: Vec<(String, Var)>,
    optimizer: AdamW,
    adamw: TrainOptions,
    k: usize,
    aux_k: usize,
    aux_weight: f64,
    dead_after: usize,
    /// Inputs are multiplied by this, so that their mean length is sqrt(width).
    scale: f64,
    /// How many tokens were seen since each feature was last active.
    idle: Vec<usize>,
    /// How often each feature was active in the last part of the training, and in how many tokens.
    active: (Vec<u64>, usize),
    losses: Vec<f32>,
}

impl Learner {
    /// First weights: decoder directions of length 1 at random, the encoder their transpose, b_dec in the middle of the data.
    pub fn new(data: &Buffer, width: usize, options: &SaeTrainOptions) -> Result<Self> {
        let length = data.mean_length();
        if !(length.is_finite() && length > 0.0) {
            return Err(Error::msg(format!(
                "the activations' mean length is {length}, and a number above 0 was expected; there is nothing to learn"
            )));
        }
        let scale = (width as f64).sqrt() / length;
        let d_sae = options.features(width);
        let mut rng = StdRng::seed_from_u64(options.seed);
        let random: Vec<f32> = (0..d_sae * width).map(|_| normal(&mut rng) as f32).collect();
        let w_dec = unit_rows(&Tensor::from_vec(random, (d_sae, width), &Device::Cpu)?)?;
        let w_enc = w_dec.t()?.contiguous()?;
        let middle: Vec<f32> = data.geometric_median().into_iter().map(|x| (x * scale) as f32).collect();
        let b_dec = Tensor::from_vec(middle, width, &Device::Cpu)?;
        let b_enc = Tensor::zeros(d_sae, DType::F32, &Device::Cpu)?;
        let named = NAMES.into_iter().zip([w_enc, w_dec, b_enc, b_dec]);
        let vars = named.map(|(name, tensor)| Ok((name.to_string(), Var::from_tensor(&tensor)?)));
        let vars = vars.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            optimizer: AdamW::new(&vars)?,
            vars,
            adamw: options.adamw(),
            k: options.k,
            aux_k: options.aux_k.unwrap_or((width / 2).max(1)),
            aux_weight: options.aux_weight,
            dead_after: options.dead_after,
            scale,
            idle: vec![0; d_sae],
            active: (vec![0; d_sae], 0),
            losses: Vec::new(),
        })
    }

    /// One step on vectors `[n, width]`, one behind the other. Gives the part of their variance that was not explained.
    pub fn step(&mut self, values: Vec<f32>) -> Result<f32> {
        let [w_enc, w_dec, b_enc, b_dec] = [0, 1, 2, 3].map(|i| self.vars[i].1.as_tensor().clone());
        let width = b_dec.dim(0)?;
        let x = (Tensor::from_vec(values, ((), width), &Device::Cpu)? * self.scale)?;
        let n = x.dim(0)?;
        let pre = x.broadcast_sub(&b_dec)?.matmul(&w_enc)?.broadcast_add(&b_enc)?;
        let features = (pre.relu()? * largest(&pre, self.k)?)?;
        let made = features.matmul(&w_dec)?.broadcast_add(&b_dec)?;
        let error = (&x - made)?;
        let variance = number(&x.broadcast_sub(&x.mean_keepdim(0)?)?.sqr()?.sum_all()?)?;
        let loss = (error.sqr()?.sum_all()? / variance.max(f64::MIN_POSITIVE))?;
        let value = number(&loss)?;
        if !value.is_finite() {
            return Err(Error::msg(format!(
                "the loss is {value} at step {}, so no step is taken; a lower rate may help",
                self.losses.len()
            )));
        }
        let dead = self.dead();
        let loss = match dead.is_empty() || self.aux_weight == 0.0 || self.aux_k == 0 {
            true => loss,
            false => (loss + (self.dead_loss(&dead, &pre, &w_dec, &error.detach())? * self.aux_weight)?)?,
        };
        let mut gradients = loss.backward()?;
        // What would only change the directions' lengths is not learned.
        if let Some(gradient) = gradients.remove(&w_dec) {
            let along = (&gradient * w_dec.detach())?.sum_keepdim(D::Minus1)?;
            gradients.insert(&w_dec, (&gradient - w_dec.detach().broadcast_mul(&along)?)?);
        }
        crate::interrupt::check()?;
        self.optimizer.step(&self.vars, &gradients, self.losses.len(), &self.adamw)?;
        self.vars[1].1.set(&unit_rows(&self.vars[1].1.as_tensor().detach())?)?;
        self.count(&features.detach(), n)?;
        self.losses.push(value as f32);
        Ok(value as f32)
    }

    /// The loss of each step so far.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The weights for inputs as they are. The directions keep their length of 1; features are then in the activation's units.
    pub fn weights(&self) -> Result<Weights> {
        let [w_enc, w_dec, b_enc, b_dec] = [0, 1, 2, 3].map(|i| self.vars[i].1.as_tensor().detach());
        Ok(Weights {
            w_enc: w_enc.force_contiguous()?,
            w_dec: w_dec.force_contiguous()?,
            b_dec: (b_dec / self.scale)?,
            encoder: Encoder::TopK { b_enc: (b_enc / self.scale)?, k: self.k },
            w_skip: None,
        })
    }

    /// log10 of how often each feature was active in the last part of the training.
    pub fn log_sparsity(&self) -> Result<Tensor> {
        let n = self.active.1.max(1) as f64;
        // As in SAELens, a feature that was never active has -10.
        let log = |&active: &u64| (active as f64 / n + 1e-10).log10() as f32;
        Ok(Tensor::from_vec(self.active.0.iter().map(log).collect::<Vec<f32>>(), self.active.0.len(), &Device::Cpu)?)
    }

    /// How well dead features alone explain the error of the others, as a part of it.
    fn dead_loss(&self, dead: &[u32], pre: &Tensor, w_dec: &Tensor, error: &Tensor) -> Result<Tensor> {
        let dead = Tensor::new(dead, &Device::Cpu)?;
        let pre = pre.index_select(&dead, 1)?;
        let features = (pre.relu()? * largest(&pre, self.aux_k)?)?;
        let made = features.matmul(&w_dec.index_select(&dead, 0)?)?;
        let all = number(&error.sqr()?.sum_all()?)?;
        Ok(((error - made)?.sqr()?.sum_all()? / all.max(f64::MIN_POSITIVE))?)
    }

    fn dead(&self) -> Vec<u32> {
        (0u32..).zip(&self.idle).filter(|(_, idle)| **idle >= self.dead_after).map(|(feature, _)| feature).collect()
    }

    fn count(&mut self, features: &Tensor, n: usize) -> Result<()> {
        let active: Vec<f32> = features.gt(0f64)?.to_dtype(DType::F32)?.sum(0)?.to_vec1()?;
        let counts = 5 * (self.losses.len() + 1) >= 4 * self.adamw.steps;
        for (feature, &active) in active.iter().enumerate() {
            self.idle[feature] = if active > 0.0 { 0 } else { self.idle[feature] + n };
            if counts {
                self.active.0[feature] += active as u64;
            }
        }
        self.active.1 += if counts { n } else { 0 };
        Ok(())
    }
}

fn unit_rows(rows: &Tensor) -> Result<Tensor> {
    let lengths = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(f64::from(f32::MIN_POSITIVE))?;
    Ok(rows.broadcast_div(&lengths)?)
}

fn number(scalar: &Tensor) -> Result<f64> {
    Ok(f64::from(scalar.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}
