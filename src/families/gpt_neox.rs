//! GPT-NeoX (Black et al. 2022) and Pythia: partial rotary positions, attention and MLP usually parallel.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gpt_neox", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let sizes = layout::sizes(json)?;
    let rotary = json.rotary(sizes.d_head, 0.25, 10000.0)?;
    let act_fn = json.activation_or("hidden_act", Activation::Gelu)?;
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_eps", 1e-5)?,
        parallel_attn_mlp: json.flag_or("use_parallel_residual", true)?,
        default_prepend_bos: false,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        ..ModelConfig::new("gpt_neox", act_fn, sizes).with_rotary(rotary)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("gpt_neox.");
    layout::decoder(cfg, &source, ["embed_in", "final_layer_norm", "embed_out"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let [qkv, o] = ["attention.query_key_value", "attention.dense"].map(name);
    Ok(BlockWeights::new(
        source.norm(&name("input_layernorm"), cfg.d_model)?,
        layout::fused_attention(cfg, source, cfg.n_heads, [&qkv, &o])?,
        source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("mlp.dense_h_to_4h"), &name("mlp.dense_4h_to_h")])?,
    ))
}
