//! DistilBERT (Sanh et al. 2019): a smaller BERT without kinds of tokens, under other names.

use super::{ConfigJson, Family};
use crate::Result;
use crate::model::{Activation, ModelConfig, Sizes};
use crate::weights::{AttentionWeights, BlockWeights, HeadWeights, MlpWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "distilbert", config, weights };

// `sinusoidal_pos_embds` only says what the position table was initialised with; it is in the file either way.
fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size_or("dim", 768)?;
    let n_heads = json.size_or("n_heads", 12)?;
    let sizes = Sizes {
        n_layers: json.size_or("n_layers", 6)?,
        d_model,
        n_ctx: json.size_or("max_position_embeddings", 512)?,
        n_heads,
        d_head: json.divide("dim / n_heads", d_model, n_heads)?,
        d_mlp: json.size_or("hidden_dim", 3072)?,
        d_vocab: json.size("vocab_size")?,
    };
    let act_fn = json.activation_or("activation", Activation::Gelu)?;
    Ok(ModelConfig {
        post_norm: true,
        bidirectional: true,
        attn_out_is_normalized: true,
        eps: 1e-12,
        head_act_fn: Some(act_fn),
        tokenizer_template: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("distilbert", act_fn, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let d_model = cfg.d_model;
    let name = |part: &str| format!("distilbert.embeddings.{part}");
    let w_e = source.tensor(&name("word_embeddings.weight"), &[cfg.d_vocab, d_model])?;
    let transform = source.linear("vocab_transform", d_model, d_model)?;
    let w_u = match cfg.tie_word_embeddings {
        true => source.tied_head("vocab_projector", &w_e)?,
        false => source.linear("vocab_projector", d_model, cfg.d_vocab)?.w,
    };
    let blocks = (0..cfg.n_layers).map(|layer| block(cfg, source, layer)).collect::<Result<_>>()?;
    let ln_final = source.norm("vocab_layer_norm", d_model)?;
    Ok(Weights {
        w_pos: Some(source.tensor(&name("position_embeddings.weight"), &[cfg.n_ctx, d_model])?),
        embed_ln: Some(source.norm(&name("LayerNorm"), d_model)?),
        b_u: Some(source.tensor("vocab_projector.bias", &[cfg.d_vocab])?),
        head: Some(HeadWeights { w: transform.w, b: transform.b }),
        ..Weights::new(w_e, blocks, Some(ln_final), w_u)
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("distilbert.transformer.layer.{layer}.{part}");
    let attention = |part: &str| source.linear(&name(&format!("attention.{part}")), cfg.d_model, cfg.d_model);
    let maps = [attention("q_lin")?, attention("k_lin")?, attention("v_lin")?, attention("out_lin")?];
    Ok(BlockWeights::new(
        source.norm(&name("sa_layer_norm"), cfg.d_model)?,
        AttentionWeights::from_linears(maps, cfg.n_heads, cfg.n_heads)?,
        source.norm(&name("output_layer_norm"), cfg.d_model)?,
        MlpWeights::plain(
            source.linear(&name("ffn.lin1"), cfg.d_model, cfg.d_mlp)?,
            source.linear(&name("ffn.lin2"), cfg.d_mlp, cfg.d_model)?,
        ),
    ))
}
