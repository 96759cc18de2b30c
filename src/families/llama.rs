//! Llama 1 to 3.3 (Touvron et al. 2023), and what Mistral and Qwen2 share with it.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Normalization};
use crate::weights::{AttentionWeights, BlockWeights, MlpWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "llama", config, weights };

/// What families that are otherwise as Llama take where config.json is silent.
pub(super) struct Defaults {
    /// Width of a head; none for d_model / n_heads.
    pub(super) head_dim: Option<usize>,
    /// Base of the rotary positions.
    pub(super) rope_theta: f64,
    /// How much of a head rotates.
    pub(super) rotary_fraction: f64,
    /// Under the norm's square root.
    pub(super) eps: f64,
    /// The MLP's activation function.
    pub(super) act_fn: Activation,
    /// Whether embedding and unembedding are tied.
    pub(super) tied: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            head_dim: None,
            rope_theta: 10000.0,
            rotary_fraction: 1.0,
            eps: 1e-6,
            act_fn: Activation::Silu,
            tied: false,
        }
    }
}

/// The configuration of a model with RMSNorm, rotary positions, shared key heads and a gated MLP.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    config_with(json, Defaults::default())
}

/// The same with other defaults.
pub(super) fn config_with(json: &ConfigJson, defaults: Defaults) -> Result<ModelConfig> {
    let sizes = match defaults.head_dim {
        Some(head_dim) => layout::sizes_with_head(json, json.size_or("head_dim", head_dim)?)?,
        None => layout::sizes(json)?,
    };
    let rotary = json.rotary(sizes.d_head, defaults.rotary_fraction, defaults.rope_theta)?;
    let act_fn = json.activation_or("hidden_act", defaults.act_fn)?;
    Ok(ModelConfig {
        n_key_value_heads: layout::key_value_heads(json, &sizes)?,
        normalization: Normalization::Rms,
        eps: json.number_or("rms_norm_eps", defaults.eps)?,
        gated_mlp: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", defaults.tied)?,
        ..ModelConfig::new(&json.string("model_type")?, act_fn, sizes).with_rotary(rotary)
    })
}

/// Weights under Llama's names. A bias is read wherever the file has one (Qwen2, `attention_bias`, `mlp_bias`).
pub(super) fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::decoder(cfg, &source.with_optional_prefix("model."), ["embed_tokens", "norm", "lm_head"], block)
}

/// A block under Llama's names.
pub(super) fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let norm = |part: &str| source.norm(&format!("layers.{layer}.{part}"), cfg.d_model);
    Ok(BlockWeights::new(
        norm("input_layernorm")?,
        attention(cfg, source, layer)?,
        norm("post_attention_layernorm")?,
        mlp(cfg, source, layer)?,
    ))
}

/// A layer's attention under Llama's names.
pub(super) fn attention(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<AttentionWeights> {
    let [q, k, v, o] = ["q_proj", "k_proj", "v_proj", "o_proj"].map(|part| format!("layers.{layer}.self_attn.{part}"));
    layout::attention(cfg, source, [&q, &k, &v, &o])
}

/// A layer's gated MLP under Llama's names.
pub(super) fn mlp(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<MlpWeights> {
    let name = |part: &str| format!("layers.{layer}.mlp.{part}");
    Ok(MlpWeights::gated(
        source.linear(&name("gate_proj"), cfg.d_model, cfg.d_mlp)?,
        source.linear(&name("up_proj"), cfg.d_model, cfg.d_mlp)?,
        source.linear(&name("down_proj"), cfg.d_mlp, cfg.d_model)?,
    ))
}
