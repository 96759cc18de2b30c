//! What each model is, and how it is trained.

use candle_core::{DType, Device, Result, Tensor};
use candlescope::model::{Activation, HookedTransformer, ModelConfig, Sizes};
use candlescope::weights::{FeedForwardWeights, MixerWeights};

use crate::data::Mix;

/// One model.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: &'static str,
    pub seed: u64,
    pub steps: usize,
    pub warm_up: usize,
    /// The highest learning rate.
    pub rate: f64,
    pub tokens_per_step: usize,
    pub d_vocab: usize,
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub d_head: usize,
    pub n_ctx: usize,
    /// Whether a block has an MLP.
    pub has_mlp: bool,
    /// The steps whose weights are kept; none: the last alone.
    pub checkpoints: &'static [u64],
    /// How long the training takes, in words.
    pub time: &'static str,
    /// What the rows of a step are like, by the part of the training that is done.
    pub mix: fn(f64) -> Mix,
}

impl Recipe {
    pub fn all() -> [Self; 2] {
        [Self::tiny(), Self::tiny_attn_only_2l()]
    }

    /// GPT-2's architecture: sentences, indirect objects, induction.
    pub fn tiny() -> Self {
        Self {
            name: "tiny",
            seed: 1,
            steps: 6000,
            warm_up: 150,
            rate: 3e-3,
            tokens_per_step: 1536,
            d_vocab: 1200,
            d_model: 128,
            n_layers: 3,
            n_heads: 4,
            d_head: 32,
            n_ctx: 256,
            has_mlp: true,
            checkpoints: &[],
            time: "in about twenty minutes",
            mix: |done| match done {
                // Short rows, half of them random tokens: induction heads form.
                _ if done < 0.2 => Mix { random: 0.5, giving: 0.15, longest: 0.25 },
                _ => Mix { random: 0.2, giving: 0.35, longest: 1.0 },
            },
        }
    }

    /// Two layers of attention and nothing else: how an induction head comes about.
    pub fn tiny_attn_only_2l() -> Self {
        Self {
            name: "tiny-attn-only-2l",
            seed: 1,
            steps: 4000,
            warm_up: 100,
            rate: 4e-3,
            tokens_per_step: 1536,
            d_vocab: 640,
            d_model: 64,
            n_layers: 2,
            n_heads: 4,
            d_head: 32,
            n_ctx: 128,
            has_mlp: false,
            checkpoints: &[
                0, 50, 100, 200, 300, 400, 500, 550, 600, 650, 700, 750, 800, 850, 900, 950, 1000, 1100, 1250, 1500,
                2000, 2500, 3000, 4000,
            ],
            time: "in about five minutes",
            mix: |done| match done {
                // Mostly random tokens: nothing else needs the two heads as much.
                _ if done < 0.5 => Mix { random: 0.7, giving: 0.1, longest: 1.0 },
                _ => Mix { random: 0.4, giving: 0.2, longest: 1.0 },
            },
        }
    }

    /// The model before its first step, with `d_vocab` tokens. Positions begin as sines and cosines, so that neighbours are
    /// easy to find; what writes to the stream begins small.
    pub fn model(&self, d_vocab: usize) -> candlescope::Result<HookedTransformer> {
        let &Self { d_model, n_layers, n_heads, d_head, n_ctx, .. } = self;
        let d_mlp = if self.has_mlp { 4 * d_model } else { 0 };
        let sizes = Sizes { n_layers, d_model, n_ctx, n_heads, d_head, d_mlp, d_vocab };
        let cfg = ModelConfig {
            model_name: self.name.to_string(),
            tie_word_embeddings: self.has_mlp,
            ..ModelConfig::new(if self.has_mlp { "gpt2" } else { "hooked_transformer" }, Activation::GeluNew, sizes)
        };
        let tied = cfg.tie_word_embeddings;
        let model = HookedTransformer::random(cfg, self.seed)?;
        let mut weights = model.weights();
        let unit = (d_model as f64).sqrt() / 0.8;
        weights.w_e = (&weights.w_e * (0.2 * unit))?;
        weights.w_pos = Some(positions(n_ctx, d_model)?);
        if tied {
            weights.w_u = weights.w_e.t()?;
        }
        let small = 0.2 / (2.0 * n_layers as f64).sqrt();
        for block in &mut weights.blocks {
            if let MixerWeights::Attention(attention) = &mut block.mixer {
                attention.w_o = (&attention.w_o * small)?;
            }
            if let Some(FeedForwardWeights::Mlp(mlp)) = &mut block.feed_forward {
                mlp.w_out = (&mlp.w_out * small)?;
            }
        }
        model.with_weights(weights)
    }
}

/// Sines and cosines with wavelengths from 6 to about 1000 positions, `[n_ctx, d_model]`.
fn positions(n_ctx: usize, d_model: usize) -> Result<Tensor> {
    let value = |pos: usize, i: usize| {
        let turns = (160f64).powf(-((i / 2 * 2) as f64) / d_model as f64) * pos as f64;
        0.2 * if i.is_multiple_of(2) { turns.sin() } else { turns.cos() }
    };
    let values = (0..n_ctx).flat_map(|pos| (0..d_model).map(move |i| value(pos, i)));
    Tensor::from_iter(values, &Device::Cpu)?.reshape((n_ctx, d_model))?.to_dtype(DType::F32)
}
