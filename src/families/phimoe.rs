//! Phi-3.5-MoE (Abdin et al. 2024): LayerNorm, and experts that SparseMixer chooses.

use super::{ConfigJson, Family, experts, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig, Normalization, RopeScaling, RouterScores, Routing};
use crate::weights::{ExpertsWeights, W123, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "phimoe", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config(json)?;
    let mut rotary = json.rotary(cfg.d_head, 1.0, 1e6)?;
    match (&mut rotary.scaling, mscale(json)?) {
        (RopeScaling::None, _) => {}
        (RopeScaling::LongRope { attention_factor, .. }, Some(mscale)) => *attention_factor = mscale,
        _ => {
            return Err(json.error(
                "this family's rotary positions are 'default', or 'longrope' with short_mscale and long_mscale",
            ));
        }
    }
    let cfg = ModelConfig {
        normalization: Normalization::LayerNorm,
        eps: json.number_or("rms_norm_eps", 1e-5)?,
        default_prepend_bos: false,
        ..cfg.with_rotary(rotary).with_windows(std::iter::repeat(json.optional_size("sliding_window")?))
    };
    let n_experts = json.size_of_or(&["num_local_experts", "num_experts"], 16)?;
    let jitter = json.number_or("router_jitter_noise", 0.01)?;
    let routing = Routing {
        scores: RouterScores::SparseMixer { jitter },
        ..Routing::new(json.size_or("num_experts_per_tok", 2)?)
    };
    let settings = Experts::new(cfg.n_layers, n_experts, cfg.d_mlp, routing);
    experts::with_experts(json, cfg, settings)
}

/// What rotated queries and keys are multiplied by, if the file says so; the same number for short and long prompts.
fn mscale(json: &ConfigJson) -> Result<Option<f64>> {
    let rope = json.value("rope_parameters").or_else(|| json.value("rope_scaling"));
    let number = |key: &str| rope.and_then(|rope| rope.get(key)).and_then(|number| number.as_f64());
    let (short, long) = (number("short_mscale"), number("long_mscale"));
    json.refuse_if(short != long, "long_mscale other than short_mscale")?;
    Ok(short)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights(cfg, source, |cfg, source, layer, settings| {
        // Newer files call the module mlp, and its router router.
        let (module, router) = if source.has(&format!("{layer}.mlp.router.weight")) {
            (format!("{layer}.mlp"), "router")
        } else {
            (format!("{layer}.block_sparse_moe"), "gate")
        };
        ExpertsWeights::load(source, &module, router, W123, cfg.d_model, settings)
    })
}
