//! GLM-4-9B (GLM Team 2024): Llama with a fused MLP, and half of each head rotating in adjacent pairs.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::ModelConfig;
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "glm", config, weights };

/// What GLM and GLM-4-0414 share.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults = llama::Defaults { head_dim: Some(128), rotary_fraction: 0.5, eps: 1.5625e-7, ..Default::default() };
    Ok(layout::in_adjacent_pairs(llama::config_with(json, defaults)?))
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| {
        let norm = |part: &str| source.norm(&format!("layers.{layer}.{part}"), cfg.d_model);
        Ok(BlockWeights::new(
            norm("input_layernorm")?,
            llama::attention(cfg, source, layer)?,
            norm("post_attention_layernorm")?,
            layout::fused_gated_mlp(cfg, source, layer)?,
        ))
    })
}
