//! GPT-OSS (OpenAI 2025): attention sinks, alternate windows, and experts with biases and a clamped SwiGLU.

use super::{ConfigJson, Family, experts, llama};
use crate::Result;
use crate::model::{ExpertJoin, Experts, ModelConfig, RopeScaling, Rotary, RouterScores, Routing};
use crate::weights::{AttentionWeights, ExpertsWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gpt_oss", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config_with(json, llama::Defaults { head_dim: Some(64), ..Default::default() })?;
    let n_layers = cfg.n_layers;
    let window = json.size_or("sliding_window", 128)?;
    let windows = json.windows(n_layers, Some(window), |layer| layer.is_multiple_of(2))?;
    let cfg = ModelConfig { eps: json.number_or("rms_norm_eps", 1e-5)?, ..cfg }
        .with_rotary(rotary(json, cfg.d_head)?)
        .with_windows(windows);
    let routing = Routing {
        scores: RouterScores::SoftmaxOfChosen,
        ..Routing::new(json.size_of_or(&["num_experts_per_tok", "experts_per_token"], 4)?)
    };
    let n_experts = json.size_of_or(&["num_local_experts", "num_experts"], 128)?;
    let settings = Experts {
        join: ExpertJoin::ClampedSwiglu {
            alpha: json.number_or("swiglu_alpha", 1.702)?,
            limit: json.number_or("swiglu_limit", 7.0)?,
        },
        router_name: "router",
        ..Experts::new(n_layers, n_experts, cfg.d_mlp, routing)
    };
    experts::with_experts(json, cfg, settings)
}

/// YaRN with the released models' numbers, where the file says nothing.
fn rotary(json: &ConfigJson, d_head: usize) -> Result<Rotary> {
    let mut rotary = json.rotary(d_head, 1.0, 150_000.0)?;
    if json.value("rope_parameters").is_none() && json.value("rope_scaling").is_none() {
        let factor = 32f64;
        rotary.scaling = RopeScaling::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_n_ctx: 4096.0,
            truncate: false,
            attention_factor: 0.1 * factor.ln() + 1.0,
        };
    }
    Ok(rotary)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    experts::weights_with(cfg, source, attention, |cfg, source, layer, settings| {
        ExpertsWeights::load_interleaved(source, &format!("{layer}.mlp"), "router", cfg.d_model, settings)
    })
}

fn attention(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<AttentionWeights> {
    let sinks = source.tensor(&format!("layers.{layer}.self_attn.sinks"), &[cfg.n_heads])?;
    Ok(AttentionWeights { sinks: Some(sinks), ..llama::attention(cfg, source, layer)? })
}
