//! DeepSeek V3 and R1 (DeepSeek-AI 2024, arXiv 2412.19437): V2 with a sigmoid router.

use super::{ConfigJson, Family, deepseek_v2};
use crate::Result;
use crate::model::{ExpertGroups, GroupScore, ModelConfig, RouterScores, Routing};

pub(super) static FAMILY: Family = Family { model_type: "deepseek_v3", config, weights: deepseek_v2::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = deepseek_v2::latent_config(json, json.flag_or("rope_interleave", true)?)?;
    for (key, only) in [("topk_method", "noaux_tc"), ("scoring_func", "sigmoid")] {
        let found = json.string_or(key, only)?;
        if found != only {
            return Err(json.error(format!("'{key}' is '{found}', and only '{only}' is known here")));
        }
    }
    let (n_groups, kept) = (json.size_or("n_group", 8)?, json.size_or("topk_group", 4)?);
    let routing = Routing {
        experts_per_token: json.size_or("num_experts_per_tok", 8)?,
        scores: RouterScores::Sigmoid,
        groups: (n_groups != 1).then_some(ExpertGroups { n_groups, kept, by: GroupScore::BestTwo }),
        normalize: json.flag_or("norm_topk_prob", true)?.then_some(1e-20),
        scale: json.number_or("routed_scaling_factor", 2.5)?,
    };
    deepseek_v2::with_experts(json, cfg, routing, [3, 256, 2048, 1])
}
