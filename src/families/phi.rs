//! Phi 1, 1.5 and 2 (Gunasekar et al. 2023): partial rotary positions, attention and MLP behind one norm, biases everywhere.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "phi", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let sizes = layout::sizes(json)?;
    let rotary = json.rotary(sizes.d_head, 0.5, 10000.0)?;
    let act_fn = json.activation_or("hidden_act", Activation::GeluNew)?;
    Ok(ModelConfig {
        n_key_value_heads: layout::key_value_heads(json, &sizes)?,
        eps: json.number_or("layer_norm_eps", 1e-5)?,
        parallel_attn_mlp: true,
        qk_norm: json.flag_or("qk_layernorm", false)?.then_some(layout::QK_LAYER_NORM),
        default_prepend_bos: false,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        ..ModelConfig::new("phi", act_fn, sizes).with_rotary(rotary)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    layout::decoder(cfg, &source, ["embed_tokens", "final_layernorm", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let [q, k, v, o] = ["q_proj", "k_proj", "v_proj", "dense"].map(|part| name(&format!("self_attn.{part}")));
    let mut attention = layout::attention(cfg, source, [&q, &k, &v, &o])?;
    if cfg.qk_norm.is_some() {
        attention.q_norm = Some(source.norm(&name("self_attn.q_layernorm"), cfg.d_head)?);
        attention.k_norm = Some(source.norm(&name("self_attn.k_layernorm"), cfg.d_head)?);
    }
    let mlp = layout::mlp(cfg, source, [&name("mlp.fc1"), &name("mlp.fc2")])?;
    Ok(BlockWeights::parallel(source.norm(&name("input_layernorm"), cfg.d_model)?, attention, mlp))
}
