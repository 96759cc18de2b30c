//! ERNIE 4.5 with experts (Baidu 2025): a softmax router with a correction bias, shared experts, dense first layers.

use super::{ConfigJson, Family, experts, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, Rotary, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "ernie4_5_moe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let n_layers = cfg.n_layers;
    let rotary = Rotary { adjacent_pairs: true, ..json.rotary(cfg.d_head, 1.0, 500_000.0)? };
    let cfg = ModelConfig {
        eps: json.number_or("rms_norm_eps", 1e-5)?,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..cfg.with_rotary(rotary)
    };
    let d_expert = json.size_or("moe_intermediate_size", 1536)?;
    let n_experts = json.size_of_or(&["moe_num_experts", "num_experts"], 64)?;
    let least = json.number_or("moe_norm_min", 1e-12)?;
    let chosen = json.size_of_or(&["moe_k", "num_experts_per_tok"], 6)?;
    let routing = Routing { normalize: Some(least), ..Routing::new(chosen) };
    let start = json.count_or("moe_layer_start_index", 1)?;
    let end = match json.value("moe_layer_end_index").and_then(|end| end.as_i64()) {
        Some(-1) => n_layers,
        _ => json.count_or("moe_layer_end_index", n_layers)?,
    };
    let interval = json.size_or("moe_layer_interval", 1)?;
    let has_experts = |layer: usize| (layer + 1).is_multiple_of(interval) && (start..=end).contains(&layer);
    let settings = Experts {
        d_shared: d_expert * json.count_or("moe_num_shared_experts", 2)?,
        layers: (0..n_layers).map(has_experts).collect(),
        flat_shared: true,
        ..Experts::new(n_layers, n_experts, d_expert, routing)
    };
    experts::with_experts(json, cfg, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    // They predict further tokens, for training and speculation.
    source.ignore("model.mtp_");
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        let module = format!("{layer}.mlp");
        let mut experts = ExpertsWeights::load(source, &module, "gate", PROJ, cfg.d_model, settings)?;
        if settings.d_shared > 0 {
            let shared = experts::shared(cfg, source, &format!("{module}.shared_experts"), settings.d_shared)?;
            experts = experts.with_shared(shared);
        }
        // Newer files have it in the router.
        let newer = format!("{module}.gate.moe_statics.e_score_correction_bias");
        let name = if source.has(&newer) { newer } else { format!("{module}.moe_statics.e_score_correction_bias") };
        experts.correction = Some(source.tensor(&name, &[1, settings.n_experts])?.squeeze(0)?);
        Ok(experts)
    })
}
