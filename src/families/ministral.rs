//! Ministral (Mistral AI 2024): Mistral with a kind for each layer, sliding or not.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "ministral", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let window = json.optional_size("sliding_window")?;
    let windows = json.windows(cfg.n_layers, window, |_| window.is_some())?;
    Ok(cfg.with_windows(windows))
}
