//! Qwen 1.5, 2 and 2.5 (Yang et al. 2024): Llama's layout, with biases on queries, keys and values, and no BOS.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "qwen2", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    with_windows(json, llama::config(json)?)
}

/// The same where `head_dim`, if absent, is a number and not d_model / n_heads.
pub(super) fn config_with_head(json: &ConfigJson, head_dim: usize) -> Result<ModelConfig> {
    with_windows(json, llama::config_with(json, llama::Defaults { head_dim: Some(head_dim), ..Default::default() })?)
}

fn with_windows(json: &ConfigJson, cfg: ModelConfig) -> Result<ModelConfig> {
    let cfg = ModelConfig { default_prepend_bos: false, ..cfg };
    if !json.flag_or("use_sliding_window", false)? {
        return Ok(cfg);
    }
    // The first `max_window_layers` layers see everything.
    let full = json.count_or("max_window_layers", 28)?;
    let windows = json.windows(cfg.n_layers, json.optional_size("sliding_window")?, |layer| layer >= full)?;
    Ok(cfg.with_windows(windows))
}
