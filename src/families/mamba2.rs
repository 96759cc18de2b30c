//! Mamba-2 (Dao and Gu 2024, arXiv 2405.21060).

use serde_json::Value;

use super::{ConfigJson, Family, mamba};
use crate::Result;
use crate::model::{ModelConfig, StateSpace};
use crate::weights::{Mamba2Weights, MixerWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "mamba2", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size_or("hidden_size", 4096)?;
    let d_inner = mamba::inner_size(json, d_model)?;
    let (n_heads, d_head) = (json.size_or("num_heads", 128)?, json.size_or("head_dim", 64)?);
    if n_heads.checked_mul(d_head) != Some(d_inner) {
        return Err(json.error(format!(
            "num_heads ({n_heads}) times head_dim ({d_head}) must be expand times hidden_size ({d_inner})"
        )));
    }
    // `norm_before_gate` is not asked for: Mamba-Codestral's file has it set by mistake, and Hugging Face's code puts the
    // norm behind the gate for every model, as that one was trained.
    json.refuse_if(!json.flag_or("rms_norm", true)?, "rms_norm: false")?;
    let n_groups = json.size_or("n_groups", 8)?;
    json.divide("num_heads / n_groups", n_heads, n_groups)?;
    let settings = StateSpace {
        d_inner,
        d_state: json.size_or("state_size", 128)?,
        kernel: json.size_or("conv_kernel", 4)?,
        dt_rank: 0,
        n_groups,
        dt_limit: time_step_limit(json)?,
    };
    mamba::state_space(json, [d_model, 64, 32768], [n_heads, d_head], false, settings)
}

/// The smallest and the largest time step.
fn time_step_limit(json: &ConfigJson) -> Result<(f64, f64)> {
    let Some(value) = json.value("time_step_limit") else { return Ok((0.0, f64::INFINITY)) };
    let limits: Option<Vec<f64>> = value.as_array().and_then(|limits| limits.iter().map(limit).collect());
    match limits.as_deref() {
        Some(&[least, most]) if least <= most => Ok((least, most)),
        _ => {
            Err(json
                .error(format!("'time_step_limit' is {value}, and two numbers were expected, the smaller one first")))
        }
    }
}

/// A number; JSON has no infinity, so it is written as a word, alone or in an object of Hugging Face's.
fn limit(value: &Value) -> Option<f64> {
    let word = value.get("__float__").unwrap_or(value);
    match word.as_str() {
        Some("Infinity" | "inf") => Some(f64::INFINITY),
        Some("-Infinity" | "-inf") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => word.as_f64(),
    }
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    mamba::weights_with(cfg, source, |cfg, source, module| {
        let &StateSpace { d_inner, d_state, kernel, n_groups, .. } = mamba::settings(cfg)?;
        let name = |part: &str| format!("{module}.{part}");
        let conv_width = d_inner + 2 * n_groups * d_state;
        let w_in = source.linear(&name("in_proj"), cfg.d_model, d_inner + conv_width + cfg.n_heads)?;
        let w_out = source.linear(&name("out_proj"), d_inner, cfg.d_model)?;
        Ok(MixerWeights::Mamba2(Mamba2Weights {
            w_in: w_in.w,
            b_in: w_in.b,
            w_conv: source.tensor(&name("conv1d.weight"), &[conv_width, 1, kernel])?.squeeze(1)?,
            b_conv: source.optional(&name("conv1d.bias"), &[conv_width])?,
            dt_bias: source.tensor(&name("dt_bias"), &[cfg.n_heads])?,
            a_log: source.tensor(&name("A_log"), &[cfg.n_heads])?,
            d: source.tensor(&name("D"), &[cfg.n_heads])?,
            norm: source.norm(&name("norm"), d_inner)?,
            w_out: w_out.w,
            b_out: w_out.b,
        }))
    })
}
