//! Gemma 1 (Gemma Team 2024), and what all Gemmas share: norms stored less one, embeddings times √d_model.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{Activation, ModelConfig};
use crate::weights::{BlockWeights, NormWeights, ReadBlock, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gemma", config, weights };

/// The settings that all Gemmas share.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let bidirectional = json.flag_or("use_bidirectional_attention", false)?;
    let defaults =
        llama::Defaults { head_dim: Some(256), act_fn: Activation::GeluNew, tied: true, ..Default::default() };
    let cfg = llama::config_with(json, defaults)?;
    // The first files said "gelu" and meant its approximation; newer ones say so under another key.
    let act_fn = match json.activation_or("hidden_activation", cfg.act_fn)? {
        Activation::Gelu => Activation::GeluNew,
        act_fn => act_fn,
    };
    Ok(ModelConfig {
        act_fn,
        embedding_multiplier: (cfg.d_model as f64).sqrt(),
        // An encoder then (EmbeddingGemma): its texts get what the tokenizer puts around them.
        bidirectional,
        tokenizer_template: bidirectional,
        ..cfg
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    decoder(cfg, source, |cfg, source, layer| {
        let mut block = llama::block(cfg, source, layer)?;
        for norm in [&mut block.ln1, &mut block.ln2].into_iter().flatten() {
            add_one(norm)?;
        }
        Ok(block)
    })
}

/// A decoder with Llama's names and a last norm stored less one.
pub(super) fn decoder(cfg: &ModelConfig, source: &WeightSource, block: impl ReadBlock) -> Result<Weights> {
    let mut weights = layout::llama_like(cfg, source, block)?;
    if let Some(norm) = &mut weights.ln_final {
        add_one(norm)?;
    }
    Ok(weights)
}

/// A block of Gemma 2 or 3: a norm before and after attention and MLP.
pub(super) fn sandwich(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let norm = |part: &str| -> Result<NormWeights> {
        let mut norm = source.norm(&format!("layers.{layer}.{part}"), cfg.d_model)?;
        add_one(&mut norm)?;
        Ok(norm)
    };
    let mut attention = match cfg.qk_norm {
        Some(_) => layout::qk_normed_attention(cfg, source, layer, ["q_norm", "k_norm"])?,
        None => llama::attention(cfg, source, layer)?,
    };
    for norm in [&mut attention.q_norm, &mut attention.k_norm].into_iter().flatten() {
        add_one(norm)?;
    }
    let (ln1, ln2) = (norm("input_layernorm")?, norm("pre_feedforward_layernorm")?);
    Ok(BlockWeights {
        ln1_post: Some(norm("post_attention_layernorm")?),
        ln2_post: Some(norm("post_feedforward_layernorm")?),
        ..BlockWeights::new(ln1, attention, ln2, llama::mlp(cfg, source, layer)?)
    })
}

fn add_one(norm: &mut NormWeights) -> Result<()> {
    norm.w = norm.w.as_ref().map(|w| w + 1.0).transpose()?;
    Ok(())
}
