//! The families of models that candlescope can load: one small file each.
//!
//! A family says how `config.json` becomes a [`ModelConfig`], and where each tensor comes from. It knows no forward
//! pass. A new family that uses known parts is one file here and one line in [`FAMILIES`].

mod config_json;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod llama;
mod mistral;
mod qwen2;

pub(crate) use config_json::ConfigJson;

use candle_core::Tensor;

use crate::error::near_misses;
use crate::model::ModelConfig;
use crate::weights::{WeightSource, Weights};
use crate::{Error, Result};

/// What candlescope knows of a family.
pub(crate) struct Family {
    /// Its `model_type` in config.json.
    pub(crate) model_type: &'static str,
    /// config.json to sizes and switches.
    pub(crate) config: fn(&ConfigJson) -> Result<ModelConfig>,
    /// Files to weights.
    pub(crate) weights: fn(&ModelConfig, WeightSource) -> Result<Weights>,
}

static FAMILIES: &[&Family] =
    &[&gpt2::FAMILY, &gpt_neo::FAMILY, &gpt_neox::FAMILY, &llama::FAMILY, &mistral::FAMILY, &qwen2::FAMILY];

/// The family that a config.json names.
pub(crate) fn find(json: &ConfigJson) -> Result<&'static Family> {
    let model_type = json.string("model_type")?;
    FAMILIES.iter().copied().find(|family| family.model_type == model_type).ok_or_else(|| Error::UnknownModelType {
        near: near_misses(&model_type, FAMILIES.iter().map(|family| family.model_type)),
        known: FAMILIES.iter().map(|family| family.model_type.to_string()).collect(),
        model_type,
        origin: json.origin().to_string(),
    })
}

/// The unembedding `[d_model, d_vocab]`: the transposed embedding where the two are tied, else a tensor of its own.
fn unembedding(cfg: &ModelConfig, source: &WeightSource, w_e: &Tensor, name: &str) -> Result<Tensor> {
    if cfg.tie_word_embeddings { Ok(w_e.t()?) } else { Ok(source.linear(name, cfg.d_model, cfg.d_vocab)?.w) }
}
