//! ERNIE 4.5 (Baidu 2025): Llama with adjacent rotary pairs.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "ernie4_5", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults =
        llama::Defaults { head_dim: Some(128), rope_theta: 500_000.0, eps: 1e-5, tied: true, ..Default::default() };
    Ok(layout::in_adjacent_pairs(llama::config_with(json, defaults)?))
}
