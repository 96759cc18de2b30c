//! Apertus (Swiss AI 2025): Llama 3's rotation, norms on queries and keys, a plain MLP with a learned activation.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, WeightSource, Weights, XieluWeights};

pub(super) static FAMILY: Family = Family { model_type: "apertus", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults = llama::Defaults { act_fn: Activation::Xielu, rope_theta: 12e6, eps: 1e-5, ..Default::default() };
    let cfg = llama::config_with(json, defaults)?;
    Ok(ModelConfig { gated_mlp: false, qk_norm: Some(layout::QK_RMS_NORM), ..cfg })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let mut mlp = layout::mlp(cfg, source, [&name("mlp.up_proj"), &name("mlp.down_proj")])?;
        if cfg.act_fn == Activation::Xielu {
            let number = |part: &str, shape: &[usize]| source.tensor(&name(&format!("mlp.act_fn.{part}")), shape);
            mlp.xielu = Some(XieluWeights {
                alpha_p: number("alpha_p", &[1])?,
                alpha_n: number("alpha_n", &[1])?,
                beta: number("beta", &[])?,
                eps: number("eps", &[])?,
            });
        }
        Ok(BlockWeights::new(
            source.norm(&name("attention_layernorm"), cfg.d_model)?,
            layout::qk_normed_attention(cfg, source, layer, ["q_norm", "k_norm"])?,
            source.norm(&name("feedforward_layernorm"), cfg.d_model)?,
            mlp,
        ))
    })
}
