//! Seed-OSS (ByteDance 2025): Llama with biases and wide heads.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "seed_oss", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    llama::config_with(json, llama::Defaults { head_dim: Some(128), ..Default::default() })
}
