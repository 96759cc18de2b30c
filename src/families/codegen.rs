//! CodeGen (Nijkamp et al. 2022): GPT-J with queries, values and keys in one linear layer.

use super::{ConfigJson, Family, gptj};
use crate::Result;
use crate::model::ModelConfig;
use crate::weights::{AttentionWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "codegen", config, weights };

/// The rows of qkv_proj lie as the four TPU cores that trained the model held them.
const CORES: usize = 4;

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = gptj::config(json)?;
    json.divide("n_head in 4 groups", cfg.n_heads, CORES)?;
    Ok(cfg)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    gptj::decoder(cfg, source, attention)
}

fn attention(cfg: &ModelConfig, source: &WeightSource, name: &str) -> Result<AttentionWeights> {
    let width = cfg.n_heads * cfg.d_head;
    let fused = source.linear(&format!("{name}.qkv_proj"), cfg.d_model, 3 * width)?;
    let [q, v, k] = fused.split(CORES, [width; 3])?;
    let o = source.linear(&format!("{name}.out_proj"), width, cfg.d_model)?;
    AttentionWeights::from_linears([q, k, v, o], cfg.n_heads, cfg.n_key_value_heads)
}
