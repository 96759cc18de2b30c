//! Which tokens a feature makes likelier, directly.

use candle_core::{D, DType, Device, Tensor};

use super::Sae;
use crate::hooks::HookPoint;
use crate::model::{Branch, HookedTransformer};
use crate::tokens::Tokenizer;
use crate::{Error, Result};

/// What one unit of a feature adds directly to the logit of each token. Made by [`Sae::logit_effects`].
#[derive(Clone, Debug)]
pub struct LogitEffects {
    feature: usize,
    values: Vec<f32>,
    tokenizer: Option<Tokenizer>,
}

impl Sae {
    /// What one unit of a feature adds directly to the logit of each token: its direction through the last norm's weights
    /// (the norm's scale taken as 1) and W_U, less the mean over all tokens, which no probability depends on. Layers in
    /// between are passed by, as in direct logit attribution (Elhage et al. 2021).
    ///
    /// Of a feature of z, the direction goes through W_O first; of one behind the MLP's activation function, through W_out.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(1).progress(&Progress::quiet());
    /// # let sae = Sae::train(&model.over("John gave a book to Mary."), resid_post(2), &options)?;
    /// let effects = sae.logit_effects(&model, 5)?;
    /// for (token, _, effect) in effects.top(5) {
    ///     println!("{effect:.3} {token}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no such feature, when the activation is not one that is added to the stream, or when the model has
    /// another width.
    pub fn logit_effects(&self, model: &HookedTransformer, feature: usize) -> Result<LogitEffects> {
        let written = self.written(model, &self.direction(feature)?)?;
        let logits = model.direct_logits(&written)?.squeeze(0)?;
        let logits = logits.broadcast_sub(&logits.mean_keepdim(D::Minus1)?)?;
        let values = logits.to_device(&Device::Cpu)?.to_vec1()?;
        Ok(LogitEffects { feature, values, tokenizer: model.tokenizer().ok().cloned() })
    }

    /// What a direction of the output adds to the residual stream, `[1, d_model]`.
    fn written(&self, model: &HookedTransformer, direction: &Tensor) -> Result<Tensor> {
        let point = self.hook_out()?;
        let cfg = model.cfg();
        let direction = direction.to_dtype(DType::F32)?.to_device(model.device())?.unsqueeze(0)?;
        let wide = |expected: usize| match self.d_out() == expected {
            true => Ok(()),
            false => Err(Error::msg(format!(
                "{self:?} writes vectors of width {}, and '{point}' of this model has {expected}; is it of this model?",
                self.d_out()
            ))),
        };
        let layer = || point.layer().ok_or_else(|| no_path(&point));
        let written = match point.short_name() {
            "resid_pre" | "resid_mid" | "resid_post" | "embed" => {
                wide(cfg.d_model)?;
                return Ok(direction);
            }
            "attn_out" | "mlp_out" => {
                wide(cfg.d_model)?;
                direction
            }
            "z" => {
                let layer = layer()?;
                let heads = match self.head() {
                    Some(head) if head < cfg.n_heads => {
                        wide(cfg.d_head)?;
                        let before = Tensor::zeros((1, head * cfg.d_head), DType::F32, model.device())?;
                        let after = (cfg.n_heads - head - 1) * cfg.d_head;
                        Tensor::cat(&[before, direction, Tensor::zeros((1, after), DType::F32, model.device())?], 1)?
                    }
                    _ => {
                        wide(cfg.n_heads * cfg.d_head)?;
                        direction
                    }
                };
                let z = heads.reshape((1, 1, cfg.n_heads, cfg.d_head))?.to_dtype(model.dtype())?;
                let results = model.head_results(layer, &z)?.to_dtype(DType::F32)?.sum(2)?.squeeze(0)?;
                model.direct_write(layer, Branch::Attention, &results)?
            }
            "post" => {
                let layer = layer()?;
                let w_out = model.layers([layer])?.w_out()?.squeeze(0)?.to_dtype(DType::F32)?;
                wide(w_out.dim(0)?)?;
                model.direct_write(layer, Branch::Mlp, &direction.matmul(&w_out)?)?
            }
            _ => return Err(no_path(&point)),
        };
        Ok((written * cfg.residual_multiplier)?)
    }
}

impl LogitEffects {
    /// Which feature.
    pub fn feature(&self) -> usize {
        self.feature
    }

    /// The `k` tokens whose logits rise most, most first: text, id, effect.
    pub fn top(&self, k: usize) -> Vec<(String, u32, f32)> {
        self.ordered(k, |a, b| b.total_cmp(&a))
    }

    /// The `k` tokens whose logits fall most, most first: text, id, effect.
    pub fn bottom(&self, k: usize) -> Vec<(String, u32, f32)> {
        self.ordered(k, |a, b| a.total_cmp(&b))
    }

    /// The effect on each token, by id: `[d_vocab]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn ordered(&self, k: usize, order: impl Fn(f32, f32) -> std::cmp::Ordering) -> Vec<(String, u32, f32)> {
        let mut ids: Vec<usize> = (0..self.values.len()).collect();
        ids.sort_by(|&a, &b| order(self.values[a], self.values[b]).then(a.cmp(&b)));
        ids.truncate(k);
        let text = |id: u32| self.tokenizer.as_ref().map_or_else(|| format!("[{id}]"), |tokenizer| tokenizer.piece(id));
        ids.into_iter().map(|id| (text(id as u32), id as u32, self.values[id])).collect()
    }
}

fn no_path(point: &HookPoint) -> Error {
    Error::msg(format!(
        "'{point}' is not added to the residual stream, so a direction there has no direct effect on the logits; the points \
         that have one are resid_pre, resid_mid, resid_post, attn_out, mlp_out, z and post"
    ))
}
