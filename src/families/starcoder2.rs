//! StarCoder2 (Lozhkov et al. 2024): rotary positions, shared key heads, biases, LayerNorm and a plain MLP.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "starcoder2", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let sizes = layout::sizes(json)?;
    let rotary = json.rotary(sizes.d_head, 1.0, 10000.0)?;
    let window = json.optional_size("sliding_window")?;
    let act_fn = json.activation_or("hidden_act", Activation::GeluNew)?;
    Ok(ModelConfig {
        n_key_value_heads: layout::key_value_heads(json, &sizes)?,
        eps: json.number_or("norm_epsilon", 1e-5)?,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("starcoder2", act_fn, sizes).with_rotary(rotary).with_windows(std::iter::repeat(window))
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::decoder(cfg, &source.with_optional_prefix("model."), ["embed_tokens", "norm", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    Ok(BlockWeights::new(
        source.norm(&name("input_layernorm"), cfg.d_model)?,
        llama::attention(cfg, source, layer)?,
        source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("mlp.c_fc"), &name("mlp.c_proj")])?,
    ))
}
