//! The families of models that candlescope can load: one small file each.
//!
//! A family says how `config.json` becomes a [`ModelConfig`], and where each tensor comes from. It knows no forward
//! pass. A new family that uses known parts is one file here and one line in [`FAMILIES`].

mod apertus;
mod arcee;
mod bart;
mod bert;
mod bloom;
mod codegen;
mod cohere;
mod cohere2;
mod config_json;
mod deepseek_v2;
mod deepseek_v3;
mod distilbert;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone4;
mod experts;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3_text;
mod glm;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod granitemoe;
mod helium;
mod hooked_transformer;
mod hunyuan_v1_dense;
mod layout;
mod llama;
mod mamba;
mod mamba2;
mod ministral;
mod mistral;
mod mixtral;
mod mpt;
mod nanochat;
mod nemotron;
mod olmo;
mod olmo2;
mod olmo3;
mod olmoe;
mod opt;
mod persimmon;
mod phi;
mod phi3;
mod phimoe;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod roberta;
mod rope;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;
mod t5;
mod xglm;

pub(crate) use config_json::ConfigJson;
pub(crate) use hooked_transformer::{file_name as transformer_lens_name, json as transformer_lens_json};

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
    &apertus::FAMILY,
    &arcee::FAMILY,
    &bart::FAMILY,
    &bert::FAMILY,
    &bloom::FAMILY,
    &codegen::FAMILY,
    &cohere2::FAMILY,
    &cohere::FAMILY,
    &deepseek_v2::FAMILY,
    &deepseek_v3::FAMILY,
    &distilbert::FAMILY,
    &ernie4_5::FAMILY,
    &ernie4_5_moe::FAMILY,
    &exaone4::FAMILY,
    &falcon::FAMILY,
    &gemma2::FAMILY,
    &gemma3_text::FAMILY,
    &gemma::FAMILY,
    &glm4::FAMILY,
    &glm4_moe::FAMILY,
    &glm::FAMILY,
    &gpt2::FAMILY,
    &gpt_bigcode::FAMILY,
    &gpt_neo::FAMILY,
    &gpt_neox::FAMILY,
    &gpt_oss::FAMILY,
    &gptj::FAMILY,
    &granite::FAMILY,
    &granitemoe::FAMILY,
    &helium::FAMILY,
    &hooked_transformer::FAMILY,
    &hunyuan_v1_dense::FAMILY,
    &llama::FAMILY,
    &mamba2::FAMILY,
    &mamba::FAMILY,
    &ministral::FAMILY,
    &mistral::FAMILY,
    &mixtral::FAMILY,
    &mpt::FAMILY,
    &nanochat::FAMILY,
    &nemotron::FAMILY,
    &olmo2::FAMILY,
    &olmo3::FAMILY,
    &olmo::FAMILY,
    &olmoe::FAMILY,
    &opt::FAMILY,
    &persimmon::FAMILY,
    &phi3::FAMILY,
    &phi::FAMILY,
    &phimoe::FAMILY,
    &qwen2::FAMILY,
    &qwen2_moe::FAMILY,
    &qwen3::FAMILY,
    &qwen3_moe::FAMILY,
    &roberta::FAMILY,
    &seed_oss::FAMILY,
    &smollm3::FAMILY,
    &stablelm::FAMILY,
    &starcoder2::FAMILY,
    &t5::FAMILY,
    &t5::MT5,
    &xglm::FAMILY,
];

/// A config.json's language model: its own, or the one that a wrapper for pictures or sound holds in `text_config`.
pub(crate) fn language_model(json: ConfigJson) -> Result<ConfigJson> {
    let known = |json: &ConfigJson| {
        let model_type = json.value("model_type").and_then(|model_type| model_type.as_str());
        FAMILIES.iter().any(|family| Some(family.model_type) == model_type)
    };
    if known(&json) || json.value("text_config").is_none() {
        return Ok(json);
    }
    let mut text = json.nested("text_config")?;
    text.inherit(&json, &["tie_word_embeddings"]);
    Ok(text)
}

/// The language model's tensors: in a wrapper's file they stand behind a prefix, beside those for pictures and sound.
pub(crate) fn language_model_source(source: WeightSource) -> WeightSource {
    for other in [
        "vision_tower.",
        "vision_model.",
        "multi_modal_projector.",
        "audio_tower.",
        "image_newline",
        "visual.",
        "model.vision_tower.",
        "model.vision_model.",
        "model.multi_modal_projector.",
        "model.audio_tower.",
        "model.visual.",
        "model.image_newline",
    ] {
        source.ignore(other);
    }
    source.with_optional_prefix("language_model.").with_optional_prefix("model.language_model.")
}

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

/// The embedding `[d_vocab, d_embed]`. Of two that are tied, a file may have only the head.
fn embedding(cfg: &ModelConfig, source: &WeightSource, [embed, head]: [&str; 2]) -> Result<Tensor> {
    let [embed, head] = [embed, head].map(|name| format!("{name}.weight"));
    let only_head = cfg.tie_word_embeddings && !source.has(&embed) && source.has(&head);
    source.tensor(if only_head { &head } else { &embed }, &[cfg.d_vocab, cfg.d_embed])
}

/// The unembedding `[d_embed, d_vocab]`: the transposed embedding where the two are tied, else a tensor of its own.
fn unembedding(cfg: &ModelConfig, source: &WeightSource, w_e: &Tensor, name: &str) -> Result<Tensor> {
    let w_u = match cfg.tie_word_embeddings {
        true => source.tied_head(name, w_e)?,
        false => source.linear(name, cfg.d_embed, cfg.d_vocab)?.w,
    };
    // A multiplier of the logits is made part of the map, so that its columns are what moves a logit.
    if cfg.logits_multiplier == 1.0 { Ok(w_u) } else { Ok((w_u * cfg.logits_multiplier)?) }
}

#[cfg(test)]
mod tests {
    use super::FAMILIES;
    use crate::hub::known_models;

    #[test]
    fn every_model_of_the_registry_is_of_a_known_family() {
        for model in known_models().iter() {
            // The wrapper of the larger Gemma 3, whose language model is found inside of it.
            let family = if model.family == "gemma3" { "gemma3_text" } else { model.family };
            assert!(FAMILIES.iter().any(|known| known.model_type == family), "{}: {family}", model.name);
        }
    }
}
