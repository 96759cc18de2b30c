//! Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in every layer.

use super::{ConfigJson, Family, experts, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, Routing};
use crate::weights::{ExpertsWeights, W123, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "mixtral", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let rotary = json.rotary(cfg.d_head, 1.0, 1e6)?;
    let window = json.optional_size("sliding_window")?;
    let cfg = ModelConfig { eps: json.number_or("rms_norm_eps", 1e-5)?, ..cfg }
        .with_rotary(rotary)
        .with_windows(std::iter::repeat(window));
    let n_experts = json.size_of_or(&["num_local_experts", "num_experts"], 8)?;
    let routing = Routing { normalize: Some(0.0), ..Routing::new(json.size_or("num_experts_per_tok", 2)?) };
    let settings = Experts::new(cfg.n_layers, n_experts, cfg.d_mlp, routing);
    experts::with_experts(json, cfg, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        let module = format!("{layer}.{}", module(source, layer));
        ExpertsWeights::load(source, &module, "gate", W123, cfg.d_model, settings)
    })
}

/// What the file calls the layer's experts: `mlp` in newer ones.
fn module(source: &WeightSource, layer: &str) -> &'static str {
    if source.has(&format!("{layer}.mlp.gate.weight")) { "mlp" } else { "block_sparse_moe" }
}
