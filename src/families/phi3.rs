//! Phi-3, 3.5 and 4 (Abdin et al. 2024): Llama with fused projections and LongRoPE.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::ModelConfig;
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "phi3", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config_with(json, llama::Defaults { eps: 1e-5, ..Default::default() })?;
    let window = json.optional_size("sliding_window")?;
    Ok(cfg.with_windows(std::iter::repeat(window)))
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let projections = [&*name("self_attn.qkv_proj"), &*name("self_attn.o_proj")];
    Ok(BlockWeights::new(
        source.norm(&name("input_layernorm"), cfg.d_model)?,
        layout::fused_attention(cfg, source, 1, projections)?,
        source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        layout::fused_gated_mlp(cfg, source, layer)?,
    ))
}
