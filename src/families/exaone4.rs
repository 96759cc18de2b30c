//! EXAONE 4 (LG AI Research 2025): OLMo 2's norms, queries and keys normalised head by head; with sliding layers, only
//! those rotate.

use super::{ConfigJson, Family, layout, llama, olmo2};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "exaone4", config, weights: olmo2::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config_with(json, llama::Defaults { eps: 1e-5, ..Default::default() })?;
    let cfg = ModelConfig { qk_norm: Some(layout::QK_RMS_NORM), ..cfg };
    let Some(window) = json.optional_size("sliding_window")? else { return Ok(cfg) };
    // A pattern is a period, or a word such as "LLLG".
    let period = match json.value("sliding_window_pattern").and_then(|pattern| pattern.as_str()) {
        Some(word) => word.len().max(1),
        None => json.size_or("sliding_window_pattern", 4)?,
    };
    let windows = json.windows(cfg.n_layers, Some(window), |layer| !(layer + 1).is_multiple_of(period))?;
    Ok(layout::rotating_where_sliding(cfg.with_windows(windows)))
}
