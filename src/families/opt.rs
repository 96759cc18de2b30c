//! OPT (Zhang et al. 2022). OPT-350m is the odd one: norms after the addition, and a narrower embedding.

use super::{ConfigJson, Family, embedding, layout, unembedding};
use crate::Result;
use crate::model::{Activation, ModelConfig, Normalization, Sizes};
use crate::weights::{BlockWeights, NormWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "opt", config, weights };

/// Rows of the table of positions before the first one.
const OFFSET: usize = 2;

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let (d_model, n_heads) = (json.size("hidden_size")?, json.size("num_attention_heads")?);
    let sizes = Sizes {
        n_layers: json.size("num_hidden_layers")?,
        d_model,
        n_ctx: json.size_or("max_position_embeddings", 2048)?,
        n_heads,
        d_head: json.divide("hidden_size / num_attention_heads", d_model, n_heads)?,
        d_mlp: json.size("ffn_dim")?,
        d_vocab: json.size("vocab_size")?,
    };
    let post_norm = !json.flag_or("do_layer_norm_before", true)?;
    let no_final_norm = post_norm || json.flag_or("_remove_final_layer_norm", false)?;
    let act_fn = json.activation_or("activation_function", Activation::Relu)?;
    Ok(ModelConfig {
        d_embed: json.size_or("word_embed_proj_dim", d_model)?,
        post_norm,
        final_normalization: no_final_norm.then_some(Normalization::None),
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("opt", act_fn, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    // The whole model's names start with model., those of the model without its head with decoder.
    let source = source.with_optional_prefix("model.").with_optional_prefix("decoder.");
    let w_e = embedding(cfg, &source, ["embed_tokens", "lm_head"])?;
    let w_u = unembedding(cfg, &source, &w_e, "lm_head")?;
    let blocks = source.blocks(cfg, block)?;
    let ln_final = match cfg.final_normalization {
        Some(Normalization::None) => None,
        _ => Some(norm(cfg, &source, "final_layer_norm")?),
    };
    let mut weights = Weights::new(w_e, blocks, ln_final, w_u);
    let positions = source.tensor("embed_positions.weight", &[cfg.n_ctx + OFFSET, cfg.d_model])?;
    weights.w_pos = Some(positions.narrow(0, OFFSET, cfg.n_ctx)?.contiguous()?);
    if cfg.d_embed != cfg.d_model {
        weights.project_in = Some(source.linear("project_in", cfg.d_embed, cfg.d_model)?.w);
        weights.project_out = Some(source.linear("project_out", cfg.d_model, cfg.d_embed)?.w);
    }
    Ok(weights)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let [q, k, v, o] = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| name(&format!("self_attn.{part}")));
    Ok(BlockWeights::new(
        norm(cfg, source, &name("self_attn_layer_norm"))?,
        layout::attention(cfg, source, [&q, &k, &v, &o])?,
        norm(cfg, source, &name("final_layer_norm"))?,
        layout::mlp(cfg, source, [&name("fc1"), &name("fc2")])?,
    ))
}

/// A norm; with `layer_norm_elementwise_affine` false none of them has weights.
fn norm(cfg: &ModelConfig, source: &WeightSource, name: &str) -> Result<NormWeights> {
    let have_weights = source.has("layers.0.self_attn_layer_norm.weight") || source.has(&format!("{name}.weight"));
    if have_weights { source.norm(name, cfg.d_model) } else { Ok(NormWeights::default()) }
}
