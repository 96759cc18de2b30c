//! Helium (Kyutai 2025): Llama with adjacent rotary pairs.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "helium", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults = llama::Defaults { head_dim: Some(128), rope_theta: 1e5, eps: 1e-8, ..Default::default() };
    Ok(layout::in_adjacent_pairs(llama::config_with(json, defaults)?))
}
