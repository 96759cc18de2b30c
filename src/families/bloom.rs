//! BLOOM (BigScience 2022): ALiBi instead of positions, and a norm on the embedding.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, AlibiStyle, ModelConfig, Positions, Sizes};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "bloom", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let key = "apply_residual_connection_post_layernorm";
    json.refuse_if(json.flag_or(key, false)?, key)?;
    let d_model = json.size_of(&["hidden_size", "n_embed"])?;
    let n_heads = json.size_of(&["n_head", "num_attention_heads"])?;
    let sizes = Sizes {
        n_layers: json.size_of(&["n_layer", "num_hidden_layers"])?,
        d_model,
        // ALiBi has no last position; this is the length that the models were trained on.
        n_ctx: json.size_or("seq_length", 2048)?,
        n_heads,
        d_head: json.divide("hidden_size / n_head", d_model, n_heads)?,
        d_mlp: 4 * d_model,
        d_vocab: json.size("vocab_size")?,
    };
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        positions: Positions::Alibi { bias_max: 8.0, style: AlibiStyle::Bloom },
        default_prepend_bos: false,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("bloom", Activation::GeluNew, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("transformer.");
    let mut weights = layout::decoder(cfg, &source, ["word_embeddings", "ln_f", "lm_head"], block)?;
    weights.embed_ln = Some(source.norm("word_embeddings_layernorm", cfg.d_model)?);
    Ok(weights)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("h.{layer}.{part}");
    let [qkv, o] = ["self_attention.query_key_value", "self_attention.dense"].map(name);
    Ok(BlockWeights::new(
        source.norm(&name("input_layernorm"), cfg.d_model)?,
        layout::fused_attention(cfg, source, cfg.n_heads, [&qkv, &o])?,
        source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("mlp.dense_h_to_4h"), &name("mlp.dense_4h_to_h")])?,
    ))
}
