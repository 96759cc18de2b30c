//! New models.

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::model::{HookedTransformer, ModelConfig, Normalization, Positions, QkNorm};
use crate::normal::normal;
use crate::weights::{
    AttentionWeights, BlockWeights, FeedForwardWeights, Linear, MixerWeights, MlpWeights, NormWeights, Weights,
};
use crate::{Error, Result};

impl HookedTransformer {
    /// A new model of this configuration with random weights, in f32 on the CPU: matrices normal with a deviation of
    /// 0.8 / sqrt(d_model), as TransformerLens begins (Radford et al. 2019 have 0.02 for their width), biases 0, norms 1.
    /// A `d_mlp` of 0 makes an attention-only model. One seed gives one model.
    ///
    /// ```
    /// use candlescope::model::{Activation, Sizes};
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let sizes = Sizes { n_layers: 2, d_model: 32, n_ctx: 64, n_heads: 4, d_head: 8, d_mlp: 0, d_vocab: 100 };
    /// let cfg = ModelConfig { tie_word_embeddings: false, ..ModelConfig::new("hooked_transformer", Activation::GeluNew, sizes) };
    /// let model = HookedTransformer::random(cfg, 0)?;
    /// assert_eq!(model.forward(vec![1, 2, 3])?.dims(), [1, 3, 100]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A configuration with parts that only loaded models have: experts, encoders, state-space layers, latent attention,
    /// norms on queries and keys, relative position biases.
    pub fn random(cfg: ModelConfig, seed: u64) -> Result<Self> {
        refuse(&cfg)?;
        let mut draw = Draw { rng: StdRng::seed_from_u64(seed), deviation: 0.8 / (cfg.d_model as f64).sqrt() };
        let &ModelConfig { n_heads, n_key_value_heads: groups, d_model, d_head, d_mlp, d_vocab, .. } = &cfg;
        let w_e = draw.matrix(d_vocab, d_model)?;
        let learned = matches!(cfg.positions, Positions::Learned | Positions::Shortformer);
        let w_pos = learned.then(|| draw.matrix(cfg.n_ctx, d_model)).transpose()?;
        let mut blocks = Vec::new();
        for _ in 0..cfg.n_layers {
            let linears = [
                draw.linear(d_model, n_heads * d_head)?,
                draw.linear(d_model, groups * d_head)?,
                draw.linear(d_model, groups * d_head)?,
                draw.linear(n_heads * d_head, d_model)?,
            ];
            let feed_forward = match (d_mlp, cfg.gated_mlp) {
                (0, _) => None,
                (_, false) => {
                    let mut mlp = MlpWeights::plain(draw.linear(d_model, d_mlp)?, draw.linear(d_mlp, d_model)?);
                    mlp.ln = cfg.mlp_ln.then(|| norm(Normalization::LayerNorm, d_mlp)).transpose()?.flatten();
                    Some(mlp)
                }
                (_, true) => {
                    let (gate, up) = (draw.linear(d_model, d_mlp)?, draw.linear(d_model, d_mlp)?);
                    Some(MlpWeights::gated(gate, up, draw.linear(d_mlp, d_model)?))
                }
            };
            blocks.push(BlockWeights {
                ln1: norm(cfg.normalization, d_model)?,
                mixer: MixerWeights::Attention(AttentionWeights::from_linears(linears, n_heads, groups)?),
                ln1_post: None,
                ln2: if d_mlp == 0 || cfg.parallel_attn_mlp { None } else { norm(cfg.normalization, d_model)? },
                feed_forward: feed_forward.map(FeedForwardWeights::Mlp),
                ln2_post: None,
                cross_attention: None,
                ln3: None,
            });
        }
        let ln_final = norm(cfg.final_normalization.unwrap_or(cfg.normalization), d_model)?;
        let w_u = if cfg.tie_word_embeddings { w_e.t()? } else { draw.matrix(d_model, d_vocab)? };
        let weights = Weights { w_pos, ..Weights::new(w_e, blocks, ln_final, w_u) };
        Self::from_weights(cfg, weights)
    }
}

struct Draw {
    rng: StdRng,
    deviation: f64,
}

impl Draw {
    fn matrix(&mut self, rows: usize, columns: usize) -> Result<Tensor> {
        let values: Vec<f32> = (0..rows * columns).map(|_| (self.deviation * normal(&mut self.rng)) as f32).collect();
        Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }

    fn linear(&mut self, d_in: usize, d_out: usize) -> Result<Linear> {
        Ok(Linear {
            w: self.matrix(d_in, d_out)?,
            b: Some(Tensor::zeros(d_out, candle_core::DType::F32, &Device::Cpu)?),
        })
    }
}

fn norm(kind: Normalization, width: usize) -> Result<Option<NormWeights>> {
    let filled = |value: f32| Tensor::full(value, width, &Device::Cpu);
    Ok(match kind {
        Normalization::LayerNorm => Some(NormWeights { w: Some(filled(1.0)?), b: Some(filled(0.0)?) }),
        Normalization::Rms => Some(NormWeights { w: Some(filled(1.0)?), b: None }),
        Normalization::None => None,
    })
}

/// Parts that a new model can't have.
fn refuse(cfg: &ModelConfig) -> Result<()> {
    let of_qk: Option<&QkNorm> = cfg.qk_norm.as_ref();
    let found = [
        (cfg.experts.is_some(), "experts"),
        (cfg.encoder.is_some() || cfg.bidirectional, "an encoder"),
        (cfg.state_space.is_some(), "state-space layers"),
        (cfg.latent_attention.is_some(), "latent attention"),
        (of_qk.is_some(), "norms on queries and keys"),
        (matches!(cfg.positions, Positions::RelativeBias { .. }), "relative position biases"),
        (cfg.post_norm, "norms after the addition"),
        (cfg.d_embed != cfg.d_model, "a narrower embedding"),
        (cfg.head_act_fn.is_some(), "a masked-language-model head"),
        (cfg.n_token_types > 0, "kinds of tokens"),
    ];
    if let Some((_, part)) = found.iter().find(|(there, _)| *there) {
        return Err(Error::msg(format!("a new model with {part} can't be made; load one and train it further")));
    }
    let sizes = [
        ("n_layers", cfg.n_layers),
        ("d_model", cfg.d_model),
        ("n_ctx", cfg.n_ctx),
        ("n_heads", cfg.n_heads),
        ("n_key_value_heads", cfg.n_key_value_heads),
        ("d_head", cfg.d_head),
        ("d_vocab", cfg.d_vocab),
    ];
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((name, _)) => Err(Error::msg(format!("{name} is 0, and a model needs at least 1"))),
        None => Ok(()),
    }
}
