//! Command-R (Cohere 2024): attention and MLP in parallel behind one LayerNorm without shift, scaled logits.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{ModelConfig, Normalization};
use crate::weights::{BlockWeights, NormWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "cohere", config, weights };

/// What both generations share.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config_with(json, llama::Defaults { rope_theta: 500_000.0, tied: true, ..Default::default() })?;
    Ok(layout::in_adjacent_pairs(ModelConfig {
        normalization: Normalization::LayerNorm,
        eps: json.number_or("layer_norm_eps", 1e-5)?,
        parallel_attn_mlp: true,
        qk_norm: json.flag_or("use_qk_norm", false)?.then_some(layout::QK_LAYER_NORM),
        logits_multiplier: json.number_or("logit_scale", 0.0625)?,
        ..cfg
    }))
}

pub(super) fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| {
        let mut attention = llama::attention(cfg, source, layer)?;
        if cfg.qk_norm.is_some() {
            // Each head has factors of its own.
            let norm = |part: &str, heads: usize| -> Result<Option<NormWeights>> {
                let name = format!("layers.{layer}.self_attn.{part}.weight");
                Ok(Some(NormWeights { w: Some(source.tensor(&name, &[heads, cfg.d_head])?), b: None }))
            };
            attention.q_norm = norm("q_norm", cfg.n_heads)?;
            attention.k_norm = norm("k_norm", cfg.n_key_value_heads)?;
        }
        let ln1 = source.norm(&format!("layers.{layer}.input_layernorm"), cfg.d_model)?;
        Ok(BlockWeights::parallel(ln1, attention, llama::mlp(cfg, source, layer)?))
    })
}
