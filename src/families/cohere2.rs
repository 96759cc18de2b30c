//! Command-R7B and Command-A (Cohere 2024): three sliding layers that rotate, then one that sees everything and does not.

use super::{ConfigJson, Family, cohere, layout};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "cohere2", config, weights: cohere::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = cohere::config(json)?;
    let window = json.size_or("sliding_window", 4096)?;
    let period = json.size_of_or(&["sliding_window_pattern", "_sliding_window_pattern"], 4)?;
    let windows = json.windows(cfg.n_layers, Some(window), |layer| !(layer + 1).is_multiple_of(period))?;
    Ok(layout::rotating_where_sliding(cfg.with_windows(windows)))
}
