//! StableLM 2 and 3B-4e1t (Bellagente et al. 2024): Llama's layout with LayerNorm and partial rotary positions.

use candle_core::Tensor;

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, NormWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "stablelm", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let sizes = layout::sizes(json)?;
    let rotary = json.rotary(sizes.d_head, 0.25, 10000.0)?;
    let act_fn = json.activation_or("hidden_act", Activation::Silu)?;
    Ok(ModelConfig {
        n_key_value_heads: layout::key_value_heads(json, &sizes)?,
        gated_mlp: true,
        eps: json.number_or("layer_norm_eps", 1e-5)?,
        parallel_attn_mlp: json.flag_or("use_parallel_residual", false)?,
        qk_norm: json.flag_or("qk_layernorm", false)?.then_some(layout::QK_LAYER_NORM),
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        ..ModelConfig::new("stablelm", act_fn, sizes).with_rotary(rotary)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::decoder(cfg, &source.with_optional_prefix("model."), ["embed_tokens", "norm", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let norm = |part: &str| source.norm(&name(part), cfg.d_model);
    let mut attention = llama::attention(cfg, source, layer)?;
    if cfg.qk_norm.is_some() {
        attention.q_norm = Some(head_norms(cfg, source, &name("self_attn.q_layernorm"), cfg.n_heads)?);
        attention.k_norm = Some(head_norms(cfg, source, &name("self_attn.k_layernorm"), cfg.n_key_value_heads)?);
    }
    let mlp = llama::mlp(cfg, source, layer)?;
    Ok(if cfg.parallel_attn_mlp {
        BlockWeights::parallel(norm("input_layernorm")?, attention, mlp)
    } else {
        BlockWeights::new(norm("input_layernorm")?, attention, norm("post_attention_layernorm")?, mlp)
    })
}

/// A norm for each head, with a factor of its own, `[heads, d_head]`.
fn head_norms(cfg: &ModelConfig, source: &WeightSource, name: &str, heads: usize) -> Result<NormWeights> {
    let head = |head: usize| source.tensor(&format!("{name}.norms.{head}.weight"), &[cfg.d_head]);
    let w = Tensor::stack(&(0..heads).map(head).collect::<Result<Vec<_>>>()?, 0)?;
    Ok(NormWeights { w: Some(w), b: None })
}
