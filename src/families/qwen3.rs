//! Qwen3 (Yang et al. 2025): Qwen2's layout without biases, with a norm on queries and keys.

use super::{ConfigJson, Family, layout, qwen2};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "qwen3", config, weights: layout::qk_normed_weights };

/// Qwen2's settings with the norm on queries and keys.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    Ok(ModelConfig { qk_norm: Some(layout::QK_RMS_NORM), ..qwen2::config_with_head(json, 128)? })
}
