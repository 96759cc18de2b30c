//! OLMoE (Muennighoff et al. 2024): experts in every layer, and a norm over all queries and over all keys.

use super::olmo::clip_qkv;
use super::{ConfigJson, Family, experts, layout, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, QkNorm, Routing};
use crate::weights::{ExpertsWeights, PROJ, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "olmoe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = ModelConfig {
        eps: json.number_or("rms_norm_eps", 1e-5)?,
        clip_qkv: clip_qkv(json)?,
        clip_after_qk_norm: true,
        qk_norm: Some(QkNorm { joint: true, ..layout::QK_RMS_NORM }),
        ..llama::config(json)?
    };
    let routing = Routing {
        normalize: json.flag_or("norm_topk_prob", false)?.then_some(0.0),
        ..Routing::new(json.size_or("num_experts_per_tok", 8)?)
    };
    let n_experts = json.size_of_or(&["num_experts", "num_local_experts"], 64)?;
    let settings = Experts::new(cfg.n_layers, n_experts, cfg.d_mlp, routing);
    experts::with_experts(json, cfg, settings)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        ExpertsWeights::load(source, &format!("{layer}.mlp"), "gate", PROJ, cfg.d_model, settings)
    })
}
