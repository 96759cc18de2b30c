//! GPT-BigCode (Ben Allal et al. 2023; SantaCoder, StarCoder): GPT-2 whose query heads share one key and value head.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Sizes};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gpt_bigcode", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    json.refuse_if(json.flag_or("add_cross_attention", false)?, "add_cross_attention")?;
    let (d_model, n_heads) = (json.size("n_embd")?, json.size("n_head")?);
    let sizes = Sizes {
        n_layers: json.size("n_layer")?,
        d_model,
        n_ctx: json.size_or("n_positions", 1024)?,
        n_heads,
        d_head: json.divide("n_embd / n_head", d_model, n_heads)?,
        d_mlp: json.size_or("n_inner", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
    };
    let d_head = sizes.d_head as f64;
    let act_fn = json.activation_or("activation_function", Activation::GeluNew)?;
    Ok(ModelConfig {
        n_key_value_heads: if json.flag_or("multi_query", true)? { 1 } else { n_heads },
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        attn_scale: if json.flag_or("scale_attn_weights", true)? { d_head.sqrt() } else { 1.0 },
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("gpt_bigcode", act_fn, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("transformer.");
    let mut weights = layout::decoder(cfg, &source, ["wte", "ln_f", "lm_head"], block)?;
    weights.w_pos = Some(source.tensor("wpe.weight", &[cfg.n_ctx, cfg.d_model])?);
    Ok(weights)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("h.{layer}.{part}");
    // One group of all queries, a key and a value; or, with as many keys as queries, a group for each head.
    let groups = cfg.n_key_value_heads;
    Ok(BlockWeights::new(
        source.norm(&name("ln_1"), cfg.d_model)?,
        layout::fused_attention(cfg, source, groups, [&name("attn.c_attn"), &name("attn.c_proj")])?,
        source.norm(&name("ln_2"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("mlp.c_fc"), &name("mlp.c_proj")])?,
    ))
}
