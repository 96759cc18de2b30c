//! OLMo 2 (OLMo Team 2024): norms on what attention and MLP give, and on all queries and keys together.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{ModelConfig, QkNorm};
use crate::weights::{BlockWeights, FeedForwardWeights, MixerWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "olmo2", config, weights };

/// What OLMo 2 and 3 share.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config_with(json, llama::Defaults { eps: 1e-5, ..Default::default() })?;
    Ok(ModelConfig { qk_norm: Some(QkNorm { joint: true, ..layout::QK_RMS_NORM }), ..cfg })
}

/// Weights of a model whose norms stand only behind attention and MLP.
pub(super) fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| {
        let norm = |part: &str| source.norm(&format!("layers.{layer}.{part}"), cfg.d_model);
        let attention = layout::qk_normed_attention(cfg, source, layer, ["q_norm", "k_norm"])?;
        Ok(BlockWeights {
            ln1: None,
            mixer: MixerWeights::Attention(attention),
            cross_attention: None,
            ln3: None,
            ln1_post: Some(norm("post_attention_layernorm")?),
            ln2: None,
            feed_forward: Some(FeedForwardWeights::Mlp(llama::mlp(cfg, source, layer)?)),
            ln2_post: Some(norm("post_feedforward_layernorm")?),
        })
    })
}
