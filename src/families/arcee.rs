//! AFM (Arcee 2025): Llama with a plain MLP of squared ReLUs.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "arcee", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults = llama::Defaults { act_fn: Activation::Relu2, eps: 1e-5, ..Default::default() };
    Ok(ModelConfig { gated_mlp: false, ..llama::config_with(json, defaults)? })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| {
        let name = |part: &str| format!("layers.{layer}.{part}");
        Ok(BlockWeights::new(
            source.norm(&name("input_layernorm"), cfg.d_model)?,
            llama::attention(cfg, source, layer)?,
            source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
            layout::mlp(cfg, source, [&name("mlp.up_proj"), &name("mlp.down_proj")])?,
        ))
    })
}
