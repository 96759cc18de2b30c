//! GLM-4-0414 (GLM Team 2025): GLM with norms behind attention and MLP as well.

use super::{ConfigJson, Family, glm, layout, llama};
use crate::Result;
use crate::model::ModelConfig;
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "glm4", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    glm::config(json)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| {
        let norm = |part: &str| source.norm(&format!("layers.{layer}.{part}"), cfg.d_model);
        let attention = llama::attention(cfg, source, layer)?;
        let mlp = layout::fused_gated_mlp(cfg, source, layer)?;
        Ok(BlockWeights {
            ln1_post: Some(norm("post_self_attn_layernorm")?),
            ln2_post: Some(norm("post_mlp_layernorm")?),
            ..BlockWeights::new(norm("input_layernorm")?, attention, norm("post_attention_layernorm")?, mlp)
        })
    })
}
