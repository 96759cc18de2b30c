//! Gemma 3 (Gemma Team 2025), text: Gemma 2 with a norm on queries and keys, and two speeds of rotation.

use super::{ConfigJson, Family, gemma, layout};
use crate::Result;
use crate::model::{ModelConfig, Rotary};
use crate::weights::{WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gemma3_text", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = gemma::config(json)?;
    let window = json.size_or("sliding_window", 4096)?;
    // Half of it to either side, the token itself included.
    let window = if cfg.bidirectional { window / 2 + 1 } else { window };
    let pattern = json.size_of_or(&["sliding_window_pattern", "_sliding_window_pattern"], 6)?;
    let windows = json.windows(cfg.n_layers, Some(window), |layer| !(layer + 1).is_multiple_of(pattern))?;
    // Older files have rope_theta and rope_scaling for the layers that see everything, rope_local_base_freq for the rest.
    let global = match json.rotary_of("full_attention", cfg.d_head, 1e6)? {
        Some(rotary) => rotary,
        None => json.rotary(cfg.d_head, 1.0, 1e6)?,
    };
    let local = match json.rotary_of("sliding_attention", cfg.d_head, 1e4)? {
        Some(rotary) => rotary,
        None => Rotary::new(cfg.d_head, json.number_or("rope_local_base_freq", 1e4)?),
    };
    let mut cfg = ModelConfig {
        attn_scale: json.number_or("query_pre_attn_scalar", 256.0)?.sqrt(),
        attn_scores_soft_cap: json.optional_number("attn_logit_softcapping")?,
        output_logits_soft_cap: json.optional_number("final_logit_softcapping")?,
        qk_norm: Some(layout::QK_RMS_NORM),
        ..cfg.with_windows(windows)
    };
    for layer in &mut cfg.layers {
        layer.rotary = Some(if layer.window.is_some() { local.clone() } else { global.clone() });
    }
    Ok(cfg)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    gemma::decoder(cfg, source, gemma::sandwich)
}
