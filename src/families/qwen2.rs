//! Qwen 1.5, 2 and 2.5 (Yang et al. 2024): Llama's layout, with biases on queries, keys and values, and no BOS.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "qwen2", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let windows = if json.flag_or("use_sliding_window", false)? {
        // The first `max_window_layers` layers see everything.
        let window = json.size("sliding_window")?;
        let full = json.size("max_window_layers")?;
        (0..cfg.n_layers).map(|layer| (layer >= full).then_some(window)).collect()
    } else {
        vec![None; cfg.n_layers]
    };
    Ok(ModelConfig { windows, default_prepend_bos: false, ..cfg })
}
