//! BERT (Devlin et al. 2018): an encoder with norms after the additions, learned positions, two kinds of tokens and a head
//! for masked tokens. The heads for sentence pairs (`pooler`, `cls.seq_relationship`) are left aside.

use super::{ConfigJson, Family};
use crate::Result;
use crate::model::{Activation, ModelConfig, Sizes};
use crate::weights::{AttentionWeights, BlockWeights, HeadWeights, MlpWeights, NormWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "bert", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let n_ctx = json.size_or("max_position_embeddings", 512)?;
    let cfg = encoder(json, "bert", n_ctx)?;
    Ok(ModelConfig { head_act_fn: Some(cfg.act_fn), ..cfg })
}

/// The configuration that BERT and RoBERTa share.
pub(super) fn encoder(json: &ConfigJson, model_type: &str, n_ctx: usize) -> Result<ModelConfig> {
    json.refuse_if(json.flag_or("is_decoder", false)?, "is_decoder")?;
    json.refuse_if(json.flag_or("add_cross_attention", false)?, "add_cross_attention")?;
    if json.value("position_embedding_type").is_some() {
        let kind = json.string("position_embedding_type")?;
        json.refuse_if(kind != "absolute", "position_embedding_type")?;
    }
    let d_model = json.size_or("hidden_size", 768)?;
    let n_heads = json.size_or("num_attention_heads", 12)?;
    let sizes = Sizes {
        n_layers: json.size_or("num_hidden_layers", 12)?,
        d_model,
        n_ctx,
        n_heads,
        d_head: json.divide("hidden_size / num_attention_heads", d_model, n_heads)?,
        d_mlp: json.size_or("intermediate_size", 3072)?,
        d_vocab: json.size("vocab_size")?,
    };
    Ok(ModelConfig {
        post_norm: true,
        bidirectional: true,
        attn_out_is_normalized: true,
        n_token_types: json.size_or("type_vocab_size", 2)?,
        eps: json.number_or("layer_norm_eps", 1e-12)?,
        tokenizer_template: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new(model_type, json.activation_or("hidden_act", Activation::Gelu)?, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    for head in ["bert.pooler.", "cls.seq_relationship."] {
        source.ignore(head);
    }
    // The same once more, in files of an older code.
    source.ignore("cls.predictions.decoder.bias");
    let stack = stack(cfg, source, "bert.", 0)?;
    let transform = source.linear("cls.predictions.transform.dense", cfg.d_model, cfg.d_model)?;
    let ln_final = norm(source, "cls.predictions.transform.LayerNorm", cfg.d_model)?;
    let w_u = match cfg.tie_word_embeddings {
        true => source.tied_head("cls.predictions.decoder", &stack.w_e)?,
        false => source.linear("cls.predictions.decoder", cfg.d_model, cfg.d_vocab)?.w,
    };
    let b_u = match source.has("cls.predictions.bias") {
        true => source.tensor("cls.predictions.bias", &[cfg.d_vocab])?,
        false => source.tensor("cls.predictions.decoder.bias", &[cfg.d_vocab])?,
    };
    let head = HeadWeights { w: transform.w, b: transform.b };
    Ok(Weights { ln_final: Some(ln_final), w_u, b_u: Some(b_u), head: Some(head), ..stack })
}

/// Everything but the head, under the names that BERT and RoBERTa share. The first `offset` rows of the position table
/// belong to no position. The unembedding is the transposed embedding.
pub(super) fn stack(cfg: &ModelConfig, source: &WeightSource, prefix: &str, offset: usize) -> Result<Weights> {
    let name = |part: &str| format!("{prefix}embeddings.{part}");
    let w_e = source.tensor(&name("word_embeddings.weight"), &[cfg.d_vocab, cfg.d_model])?;
    let positions = source.tensor(&name("position_embeddings.weight"), &[cfg.n_ctx + offset, cfg.d_model])?;
    let kinds = source.tensor(&name("token_type_embeddings.weight"), &[cfg.n_token_types, cfg.d_model])?;
    let blocks = (0..cfg.n_layers).map(|layer| block(cfg, source, prefix, layer)).collect::<Result<_>>()?;
    let w_u = w_e.t()?;
    Ok(Weights {
        w_pos: Some(positions.narrow(0, offset, cfg.n_ctx)?),
        w_token_type: Some(kinds),
        embed_ln: Some(norm(source, &name("LayerNorm"), cfg.d_model)?),
        ..Weights::new(w_e, blocks, None, w_u)
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, prefix: &str, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("{prefix}encoder.layer.{layer}.{part}");
    let (d_model, d_mlp) = (cfg.d_model, cfg.d_mlp);
    let attention = |part: &str| source.linear(&name(&format!("attention.{part}")), d_model, d_model);
    let maps = [attention("self.query")?, attention("self.key")?, attention("self.value")?, attention("output.dense")?];
    let mlp = MlpWeights::plain(
        source.linear(&name("intermediate.dense"), d_model, d_mlp)?,
        source.linear(&name("output.dense"), d_mlp, d_model)?,
    );
    Ok(BlockWeights::new(
        norm(source, &name("attention.output.LayerNorm"), d_model)?,
        AttentionWeights::from_linears(maps, cfg.n_heads, cfg.n_heads)?,
        norm(source, &name("output.LayerNorm"), d_model)?,
        mlp,
    ))
}

/// A norm; files made from the first TensorFlow releases call its weights gamma and beta.
fn norm(source: &WeightSource, name: &str, width: usize) -> Result<NormWeights> {
    if !source.has(&format!("{name}.gamma")) {
        return source.norm(name, width);
    }
    let w = source.tensor(&format!("{name}.gamma"), &[width])?;
    Ok(NormWeights { w: Some(w), b: source.optional(&format!("{name}.beta"), &[width])? })
}
