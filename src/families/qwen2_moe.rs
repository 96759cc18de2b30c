//! Qwen1.5-MoE and Qwen2-MoE (Yang et al. 2024): Qwen2 with experts, one of which every token goes to through a gate.

use super::{ConfigJson, Family, experts, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "qwen2_moe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let n_layers = cfg.n_layers;
    let uses_window = json.flag_or("use_sliding_window", false)?;
    let until = json.count_or("max_window_layers", 28)?;
    // The even ones of the first layers, as Hugging Face's configuration has it.
    let window = if uses_window { Some(json.size_or("sliding_window", 4096)?) } else { None };
    let windows = json.windows(n_layers, window, |layer| uses_window && layer < until && layer.is_multiple_of(2))?;
    let cfg = cfg.with_windows(windows);
    let routing = Routing {
        normalize: json.flag_or("norm_topk_prob", false)?.then_some(0.0),
        ..Routing::new(json.size_or("num_experts_per_tok", 4)?)
    };
    let n_experts = json.size_of_or(&["num_experts", "num_local_experts"], 60)?;
    let settings = Experts {
        d_shared: json.size_or("shared_expert_intermediate_size", 5632)?,
        layers: experts::sparse_layers(json, n_layers)?,
        shared_name: "shared_expert",
        flat_shared: true,
        ..Experts::new(n_layers, n_experts, json.size_or("moe_intermediate_size", 1408)?, routing)
    };
    experts::with_experts(json, ModelConfig { default_prepend_bos: false, ..cfg }, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        let module = format!("{layer}.mlp");
        let shared = experts::shared(cfg, source, &format!("{module}.shared_expert"), settings.d_shared)?;
        let gate = source.linear(&format!("{module}.shared_expert_gate"), cfg.d_model, 1)?;
        let routed = ExpertsWeights::load(source, &module, "gate", PROJ, cfg.d_model, settings)?;
        Ok(ExpertsWeights { w_shared_gate: Some(gate.w), b_shared_gate: gate.b, ..routed.with_shared(shared) })
    })
}
