//! GLM-4.5 to 4.7 with experts: a sigmoid router with a correction bias, shared experts, dense first layers.

use super::{ConfigJson, Family, experts, layout, llama};
use crate::Result;
use crate::model::{ExpertGroups, Experts, GroupScore, ModelConfig, RouterScores, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "glm4_moe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let n_layers = cfg.n_layers;
    let rotary = json.rotary(cfg.d_head, 0.5, 10_000.0)?;
    let cfg = ModelConfig {
        eps: json.number_or("rms_norm_eps", 1e-5)?,
        qk_norm: json.flag_or("use_qk_norm", false)?.then_some(layout::QK_RMS_NORM),
        default_prepend_bos: false,
        ..cfg.with_rotary(rotary)
    };
    let d_expert = json.size_or("moe_intermediate_size", 1408)?;
    let dense = json.count_or("first_k_dense_replace", 1)?;
    let n_experts = json.size_of_or(&["n_routed_experts", "num_local_experts"], 128)?;
    let settings = Experts {
        d_shared: d_expert * json.count_or("n_shared_experts", 1)?,
        layers: (0..n_layers).map(|layer| layer >= dense).collect(),
        ..Experts::new(n_layers, n_experts, d_expert, sigmoid_routing(json)?)
    };
    experts::with_experts(json, cfg, settings)
}

/// The routing of GLM-4.5 and DeepSeek V3: a sigmoid, the best two of a group, a normalised and scaled weight.
fn sigmoid_routing(json: &ConfigJson) -> Result<Routing> {
    let (n_groups, kept) = (json.size_or("n_group", 1)?, json.size_or("topk_group", 1)?);
    let groups = ExpertGroups { n_groups, kept, by: GroupScore::BestTwo };
    Ok(Routing {
        experts_per_token: json.size_or("num_experts_per_tok", 8)?,
        scores: RouterScores::Sigmoid,
        groups: (n_groups != 1 || kept != 1).then_some(groups),
        normalize: json.flag_or("norm_topk_prob", true)?.then_some(1e-20),
        scale: json.number_or("routed_scaling_factor", 1.0)?,
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    // Layers behind the last predict further tokens, for training and speculation.
    source.ignore(&format!("model.layers.{}.", cfg.n_layers));
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        let module = format!("{layer}.mlp");
        let routed = ExpertsWeights::load(source, &module, "gate", PROJ, cfg.d_model, settings)?;
        if settings.d_shared == 0 {
            return Ok(routed);
        }
        let shared = experts::shared(cfg, source, &format!("{module}.shared_experts"), settings.d_shared)?;
        Ok(routed.with_shared(shared))
    })
}
