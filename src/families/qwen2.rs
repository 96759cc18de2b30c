//! Qwen 1.5, 2 and 2.5 (Yang et al. 2024): Llama's layout, with biases on queries, keys and values, and no BOS.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "qwen2", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let cfg = ModelConfig { default_prepend_bos: false, ..cfg };
    if !json.flag_or("use_sliding_window", false)? {
        return Ok(cfg);
    }
    // The first `max_window_layers` layers see everything.
    let window = json.size("sliding_window")?;
    let full = json.size("max_window_layers")?;
    Ok(cfg.with_windows((0..).map(|layer| (layer >= full).then_some(window))))
}
