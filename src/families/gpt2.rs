//! GPT-2 (Radford et al. 2019), DistilGPT-2, and the stanford-crfm models.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Sizes};
use crate::weights::{AttentionWeights, BlockWeights, MlpWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gpt2", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    json.refuse_if(json.flag_or("add_cross_attention", false)?, "add_cross_attention")?;
    let (d_model, n_heads) = (json.size("n_embd")?, json.size("n_head")?);
    let sizes = Sizes {
        n_layers: json.size("n_layer")?,
        d_model,
        n_ctx: json.size("n_positions")?,
        n_heads,
        d_head: json.divide("n_embd / n_head", d_model, n_heads)?,
        d_mlp: json.size_or("n_inner", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
    };
    let d_head = sizes.d_head as f64;
    let act_fn = json.activation_or("activation_function", Activation::GeluNew)?;
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        attn_scale: if json.flag_or("scale_attn_weights", true)? { d_head.sqrt() } else { 1.0 },
        scale_attn_by_inverse_layer_idx: json.flag_or("scale_attn_by_inverse_layer_idx", false)?,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("gpt2", act_fn, sizes)
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
    let width = cfg.n_heads * cfg.d_head;
    let [q, k, v] = source.conv1d(&name("attn.c_attn"), cfg.d_model, 3 * width)?.split(1, [width; 3])?;
    let o = source.conv1d(&name("attn.c_proj"), width, cfg.d_model)?;
    let mlp_in = source.conv1d(&name("mlp.c_fc"), cfg.d_model, cfg.d_mlp)?;
    let mlp_out = source.conv1d(&name("mlp.c_proj"), cfg.d_mlp, cfg.d_model)?;
    Ok(BlockWeights::new(
        source.norm(&name("ln_1"), cfg.d_model)?,
        AttentionWeights::from_linears([q, k, v, o], cfg.n_heads, cfg.n_heads)?,
        source.norm(&name("ln_2"), cfg.d_model)?,
        MlpWeights::plain(mlp_in, mlp_out),
    ))
}
