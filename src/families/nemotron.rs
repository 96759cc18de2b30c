//! Nemotron 3 and 4, Minitron (Parmar et al. 2024): LayerNorm whose stored factor is one too small, squared ReLU, partial
//! rotary positions.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, NormWeights, Processing, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "nemotron", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let sizes = layout::sizes(json)?;
    let rotary = json.rotary(sizes.d_head, 0.5, 10000.0)?;
    let act_fn = json.activation_or("hidden_act", Activation::Relu2)?;
    Ok(ModelConfig {
        n_key_value_heads: layout::key_value_heads(json, &sizes)?,
        eps: json.number_or("norm_eps", 1e-5)?,
        // TransformerLens leaves the norms and the writers of this family as they are.
        processing: Processing { fold_ln: false, center_writing_weights: false, ..Processing::default() },
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        ..ModelConfig::new("nemotron", act_fn, sizes).with_rotary(rotary)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    let mut weights = layout::decoder(cfg, &source, ["embed_tokens", "norm", "lm_head"], block)?;
    weights.ln_final = weights.ln_final.map(one_plus).transpose()?;
    Ok(weights)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    Ok(BlockWeights::new(
        one_plus(source.norm(&name("input_layernorm"), cfg.d_model)?)?,
        llama::attention(cfg, source, layer)?,
        one_plus(source.norm(&name("post_attention_layernorm"), cfg.d_model)?)?,
        layout::mlp(cfg, source, [&name("mlp.up_proj"), &name("mlp.down_proj")])?,
    ))
}

/// The norm that multiplies by one more than it stores ("LayerNorm1P").
fn one_plus(norm: NormWeights) -> Result<NormWeights> {
    let w = norm.w.map(|w| w + 1.0).transpose()?;
    Ok(NormWeights { w, ..norm })
}
