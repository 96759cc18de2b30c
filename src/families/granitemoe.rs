//! Granite 3 with experts: Granite's multipliers, and a softmax over the chosen experts.

use super::{ConfigJson, Family, experts, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, RouterScores, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "granitemoe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    json.refuse_if(json.number_or("logits_scaling", 1.0)? != 1.0, "logits_scaling")?;
    let cfg = ModelConfig {
        attn_scale: 1.0 / json.number_or("attention_multiplier", 1.0)?,
        embedding_multiplier: json.number_or("embedding_multiplier", 1.0)?,
        residual_multiplier: json.number_or("residual_multiplier", 1.0)?,
        ..cfg
    };
    let routing =
        Routing { scores: RouterScores::SoftmaxOfChosen, ..Routing::new(json.size_or("num_experts_per_tok", 2)?) };
    let n_experts = experts::size_of(json, &["num_local_experts", "num_experts"], 8)?;
    let settings = Experts::new(cfg.n_layers, n_experts, cfg.d_mlp, routing);
    experts::with_experts(json, cfg, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |source, layer, settings| {
        let module = format!("{layer}.block_sparse_moe");
        let name = |tail: &str| format!("{module}.{tail}");
        if source.has(&name("input_linear.weight")) {
            let tensors = [name("input_linear.weight"), name("output_linear.weight")];
            return ExpertsWeights::load_fused(source, &name("router.layer"), &tensors, cfg.d_model, settings);
        }
        ExpertsWeights::load(source, &module, "router", PROJ, cfg.d_model, settings)
    })
}
