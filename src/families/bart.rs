//! BART (Lewis et al. 2019): an encoder-decoder with norms after the additions, learned positions and biases.

use super::{ConfigJson, Family};
use crate::Result;
use crate::model::{Activation, ModelConfig, Sizes};
use crate::weights::{
    AttentionWeights, BlockWeights, EncoderWeights, FeedForwardWeights, MixerWeights, MlpWeights, Processing,
    WeightSource, Weights,
};

pub(super) static FAMILY: Family = Family { model_type: "bart", config, weights };

/// How many rows of the position table lie before the first position.
const OFFSET: usize = 2;

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size_or("d_model", 1024)?;
    let embedding_multiplier = if json.flag_or("scale_embedding", false)? { (d_model as f64).sqrt() } else { 1.0 };
    let stack = |which: &str| -> Result<ModelConfig> {
        let n_heads = json.size_or(&format!("{which}_attention_heads"), 16)?;
        let sizes = Sizes {
            n_layers: json.size_or(&format!("{which}_layers"), 12)?,
            d_model,
            n_ctx: json.size_or("max_position_embeddings", 1024)?,
            n_heads,
            d_head: json.divide(&format!("d_model / {which}_attention_heads"), d_model, n_heads)?,
            d_mlp: json.size_or(&format!("{which}_ffn_dim"), 4096)?,
            d_vocab: json.size("vocab_size")?,
        };
        let act_fn = json.activation_or("activation_function", Activation::Gelu)?;
        Ok(ModelConfig {
            post_norm: true,
            processing: Processing { center_unembed: true, ..Processing::none() },
            embedding_multiplier,
            tokenizer_template: true,
            tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
            ..ModelConfig::new("bart", act_fn, sizes)
        })
    };
    let encoder = ModelConfig { bidirectional: true, ..stack("encoder")? };
    let start = match json.value("decoder_start_token_id") {
        Some(_) => json.token("decoder_start_token_id")?,
        None => 2,
    };
    Ok(ModelConfig { encoder: Some(Box::new(encoder)), decoder_start_token: Some(start), ..stack("decoder")? })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    // A bare model's file goes without the first part of the names.
    let prefix = if source.has("shared.weight") || source.has("encoder.layers.0.fc1.weight") { "" } else { "model." };
    let shape = [cfg.d_vocab, cfg.d_model];
    let names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    let names = names.map(|name| format!("{prefix}{name}"));
    let name = names.iter().find(|name| source.has(name)).unwrap_or(&names[0]);
    let w_e = source.tensor(name, &shape)?;
    let w_u = match cfg.tie_word_embeddings {
        true => source.tied_head("lm_head", &w_e)?,
        false => source.linear("lm_head", cfg.d_model, cfg.d_vocab)?.w,
    };
    let b_u = source.optional("final_logits_bias", &[1, cfg.d_vocab])?.map(|b| b.squeeze(0)).transpose()?;
    let encoder = match &cfg.encoder {
        Some(cfg) => Some(Box::new(stack(cfg, source, &format!("{prefix}encoder"))?)),
        None => None,
    };
    let EncoderWeights { w_pos, embed_ln, blocks, .. } = stack(cfg, source, &format!("{prefix}decoder"))?;
    Ok(Weights { w_pos, embed_ln, b_u, encoder, ..Weights::new(w_e, blocks, None, w_u) })
}

fn stack(cfg: &ModelConfig, source: &WeightSource, stack: &str) -> Result<EncoderWeights> {
    let positions = source.tensor(&format!("{stack}.embed_positions.weight"), &[cfg.n_ctx + OFFSET, cfg.d_model])?;
    Ok(EncoderWeights {
        w_pos: Some(positions.narrow(0, OFFSET, cfg.n_ctx)?),
        embed_ln: Some(source.norm(&format!("{stack}.layernorm_embedding"), cfg.d_model)?),
        relative_bias: None,
        blocks: (0..cfg.n_layers).map(|layer| block(cfg, source, stack, layer)).collect::<Result<_>>()?,
        ln_final: None,
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, stack: &str, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("{stack}.layers.{layer}.{part}");
    let attention = |kind: &str| -> Result<AttentionWeights> {
        let linear = |part: &str| source.linear(&name(&format!("{kind}.{part}")), cfg.d_model, cfg.d_model);
        let maps = [linear("q_proj")?, linear("k_proj")?, linear("v_proj")?, linear("out_proj")?];
        AttentionWeights::from_linears(maps, cfg.n_heads, cfg.n_heads)
    };
    let norm = |part: &str| source.norm(&name(part), cfg.d_model);
    let mlp = MlpWeights::plain(
        source.linear(&name("fc1"), cfg.d_model, cfg.d_mlp)?,
        source.linear(&name("fc2"), cfg.d_mlp, cfg.d_model)?,
    );
    let (cross_attention, ln2, ln3) = match cfg.encoder {
        Some(_) => {
            (Some(attention("encoder_attn")?), norm("encoder_attn_layer_norm")?, Some(norm("final_layer_norm")?))
        }
        None => (None, norm("final_layer_norm")?, None),
    };
    Ok(BlockWeights {
        ln1: Some(norm("self_attn_layer_norm")?),
        mixer: MixerWeights::Attention(attention("self_attn")?),
        ln1_post: None,
        ln2: Some(ln2),
        feed_forward: Some(FeedForwardWeights::Mlp(mlp)),
        ln2_post: None,
        cross_attention,
        ln3,
    })
}
