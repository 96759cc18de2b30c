//! Qwen3-MoE (Yang et al. 2025): Qwen3 with experts.

use super::{ConfigJson, Family, experts, layout, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "qwen3_moe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let n_layers = cfg.n_layers;
    let uses_window = json.flag_or("use_sliding_window", false)?;
    let window = if uses_window { Some(json.size_or("sliding_window", 4096)?) } else { None };
    let cfg = ModelConfig {
        qk_norm: Some(layout::QK_RMS_NORM),
        default_prepend_bos: false,
        ..cfg.with_windows(vec![window; n_layers])
    };
    let routing = Routing {
        normalize: json.flag_or("norm_topk_prob", false)?.then_some(0.0),
        ..Routing::new(json.size_or("num_experts_per_tok", 8)?)
    };
    let n_experts = json.size_of_or(&["num_experts", "num_local_experts"], 128)?;
    let settings = Experts {
        layers: experts::sparse_layers(json, n_layers)?,
        ..Experts::new(n_layers, n_experts, json.size_or("moe_intermediate_size", 768)?, routing)
    };
    experts::with_experts(json, cfg, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        ExpertsWeights::load(source, &format!("{layer}.mlp"), "gate", PROJ, cfg.d_model, settings)
    })
}
