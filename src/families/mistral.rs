//! Mistral (Jiang et al. 2023): Llama's layout, with a sliding window in every layer where the configuration has one.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "mistral", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let window = json.optional_size("sliding_window")?;
    Ok(cfg.with_windows(std::iter::repeat(window)))
}
