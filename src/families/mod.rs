//! The families of models that candlescope can load: one small file each.
//!
//! A family says how `config.json` becomes a [`ModelConfig`], and where each tensor comes from. It knows no forward
//! pass. A new family that uses known parts is one file here and one line in [`FAMILIES`].

mod bloom;
mod codegen;
mod config_json;
mod falcon;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod hooked_transformer;
mod layout;
mod llama;
mod mistral;
mod mpt;
mod nemotron;
mod opt;
mod persimmon;
mod phi;
mod qwen2;
mod stablelm;
mod starcoder2;
mod xglm;

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
    pub(crate) weights: fn(&ModelConfig, &WeightSource) -> Result<Weights>,
}

static FAMILIES: &[&Family] = &[
    &bloom::FAMILY,
    &codegen::FAMILY,
    &falcon::FAMILY,
    &gpt2::FAMILY,
    &gpt_bigcode::FAMILY,
    &gpt_neo::FAMILY,
    &gpt_neox::FAMILY,
    &gptj::FAMILY,
    &hooked_transformer::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &mpt::FAMILY,
    &nemotron::FAMILY,
    &opt::FAMILY,
    &persimmon::FAMILY,
    &phi::FAMILY,
    &qwen2::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
    &xglm::FAMILY,
];

/// The family that a config.json names.
pub(crate) fn find(json: &ConfigJson) -> Result<&'static Family> {
    // TransformerLens' own files name no type.
    let model_type = match json.value("model_type") {
        None if hooked_transformer::wrote(json) => hooked_transformer::FAMILY.model_type.to_string(),
        _ => json.string("model_type")?,
    };
    FAMILIES.iter().copied().find(|family| family.model_type == model_type).ok_or_else(|| Error::UnknownModelType {
        near: near_misses(&model_type, FAMILIES.iter().map(|family| family.model_type)),
        known: FAMILIES.iter().map(|family| family.model_type.to_string()).collect(),
        model_type,
        origin: json.origin().to_string(),
    })
}

/// The unembedding `[d_embed, d_vocab]`: the transposed embedding where the two are tied, else a tensor of its own.
fn unembedding(cfg: &ModelConfig, source: &WeightSource, w_e: &Tensor, name: &str) -> Result<Tensor> {
    if cfg.tie_word_embeddings { Ok(w_e.t()?) } else { Ok(source.linear(name, cfg.d_embed, cfg.d_vocab)?.w) }
}
