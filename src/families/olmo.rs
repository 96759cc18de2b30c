//! OLMo 1 (Groeneveld et al. 2024): Llama with LayerNorms that have no weights.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{ModelConfig, Normalization};
use crate::weights::{BlockWeights, NormWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "olmo", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    Ok(ModelConfig {
        normalization: Normalization::LayerNorm,
        eps: 1e-5,
        clip_qkv: clip_qkv(json)?,
        ..llama::config(json)?
    })
}

/// The range that queries, keys and values are cut to, if there is one.
pub(super) fn clip_qkv(json: &ConfigJson) -> Result<Option<f64>> {
    let limit = json.optional_number("clip_qkv")?;
    match limit.filter(|limit| *limit <= 0.0) {
        None => Ok(limit),
        Some(limit) => Err(json.error(format!("'clip_qkv' is {limit}; it must be positive, or null for no clipping"))),
    }
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    let none = NormWeights::default;
    let block = move |cfg: &ModelConfig, source: &WeightSource, layer| -> Result<BlockWeights> {
        let (attention, mlp) = (llama::attention(cfg, source, layer)?, llama::mlp(cfg, source, layer)?);
        Ok(BlockWeights::new(none(), attention, none(), mlp))
    };
    layout::decoder_with_norm(cfg, &source, ["embed_tokens", "lm_head"], none(), block)
}
