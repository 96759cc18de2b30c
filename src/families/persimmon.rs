//! Persimmon (Adept 2023): squared ReLU, norms on queries and keys, partial rotary positions.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "persimmon", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let sizes = layout::sizes(json)?;
    let rotary = json.rotary(sizes.d_head, 0.5, 25000.0)?;
    let act_fn = json.activation_or("hidden_act", Activation::Relu2)?;
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_eps", 1e-5)?,
        qk_norm: json.flag_or("qk_layernorm", true)?.then_some(layout::QK_LAYER_NORM),
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        ..ModelConfig::new("persimmon", act_fn, sizes).with_rotary(rotary)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    layout::decoder(cfg, &source, ["embed_tokens", "final_layernorm", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let [qkv, o] = ["self_attn.query_key_value", "self_attn.dense"].map(name);
    let mut attention = layout::fused_attention(cfg, source, cfg.n_heads, [&qkv, &o])?;
    if cfg.qk_norm.is_some() {
        attention.q_norm = Some(source.norm(&name("self_attn.q_layernorm"), cfg.d_head)?);
        attention.k_norm = Some(source.norm(&name("self_attn.k_layernorm"), cfg.d_head)?);
    }
    Ok(BlockWeights::new(
        source.norm(&name("input_layernorm"), cfg.d_model)?,
        attention,
        source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("mlp.dense_h_to_4h"), &name("mlp.dense_4h_to_h")])?,
    ))
}
