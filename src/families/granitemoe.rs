//! Granite 3 with experts: Granite's multipliers, and a softmax over the chosen experts.

use super::{ConfigJson, Family, experts, granite};
use crate::Result;
use crate::model::{Experts, ModelConfig, RouterScores, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "granitemoe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = granite::config(json)?;
    let routing =
        Routing { scores: RouterScores::SoftmaxOfChosen, ..Routing::new(json.size_or("num_experts_per_tok", 2)?) };
    let n_experts = json.size_of_or(&["num_local_experts", "num_experts"], 8)?;
    let settings = Experts::new(cfg.n_layers, n_experts, cfg.d_mlp, routing);
    experts::with_experts(json, cfg, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        let module = format!("{layer}.block_sparse_moe");
        let name = |tail: &str| format!("{module}.{tail}");
        if source.has(&name("input_linear.weight")) {
            let tensors = [name("input_linear.weight"), name("output_linear.weight")];
            return ExpertsWeights::load_fused(source, &name("router.layer"), &tensors, cfg.d_model, settings);
        }
        ExpertsWeights::load(source, &module, "router", PROJ, cfg.d_model, settings)
    })
}
