//! nanochat (Karpathy 2025): RMSNorms without weights, also on the embedding and on rotated queries and keys, which
//! turn the other way round.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig, QkNorm};
use crate::weights::{BlockWeights, NormWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "nanochat", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults = llama::Defaults { act_fn: Activation::Relu2, ..Default::default() };
    let mut cfg = ModelConfig {
        gated_mlp: false,
        qk_norm: Some(QkNorm { after_rotary: true, ..layout::QK_RMS_NORM }),
        output_logits_soft_cap: json.optional_number("final_logit_softcapping")?,
        ..llama::config_with(json, defaults)?
    };
    for rotary in cfg.layers.iter_mut().filter_map(|layer| layer.rotary.as_mut()) {
        rotary.reversed = true;
    }
    Ok(cfg)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    let none = NormWeights::default;
    let block = move |cfg: &ModelConfig, source: &WeightSource, layer: usize| {
        let name = |part: &str| format!("layers.{layer}.mlp.{part}");
        let mut attention = llama::attention(cfg, source, layer)?;
        (attention.q_norm, attention.k_norm) = (Some(none()), Some(none()));
        let mlp = layout::mlp(cfg, source, [&name("fc1"), &name("fc2")])?;
        Ok(BlockWeights::new(none(), attention, none(), mlp))
    };
    let weights = layout::decoder_with_norm(cfg, &source, ["embed_tokens", "lm_head"], none(), block)?;
    Ok(Weights { embed_ln: Some(none()), ..weights })
}
