//! Granite 3 (IBM 2024): Llama with four multipliers.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "granite", config, weights: llama::weights };

/// Llama's settings with the multipliers.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let multiplier = |key: &str| match json.number_or(key, 1.0)? {
        0.0 => Err(json.error(format!("'{key}' is 0"))),
        number => Ok(number),
    };
    Ok(ModelConfig {
        attn_scale: 1.0 / multiplier("attention_multiplier")?,
        embedding_multiplier: multiplier("embedding_multiplier")?,
        residual_multiplier: multiplier("residual_multiplier")?,
        logits_multiplier: 1.0 / multiplier("logits_scaling")?,
        default_prepend_bos: false,
        ..llama::config(json)?
    })
}
