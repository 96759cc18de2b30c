//! Gemma 2 (Gemma Team 2024): four norms, soft caps, every second layer slides.

use super::{ConfigJson, Family, gemma};
use crate::Result;
use crate::model::ModelConfig;
use crate::weights::{WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gemma2", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = gemma::config(json)?;
    let window = json.size_or("sliding_window", 4096)?;
    let windows = json.windows(cfg.n_layers, Some(window), |layer| layer.is_multiple_of(2))?;
    Ok(ModelConfig {
        attn_scale: json.number_or("query_pre_attn_scalar", 256.0)?.sqrt(),
        attn_scores_soft_cap: json.optional_number("attn_logit_softcapping")?,
        output_logits_soft_cap: json.optional_number("final_logit_softcapping")?,
        ..cfg.with_windows(windows)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    gemma::decoder(cfg, source, gemma::sandwich)
}
