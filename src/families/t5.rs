//! T5, Flan-T5 and mT5 (Raffel et al. 2019): an encoder-decoder with RMSNorm, no biases, learned numbers for distances
//! instead of positions, and scores that are not scaled.

use super::{ConfigJson, Family};
use crate::Result;
use crate::model::{Activation, ModelConfig, Normalization, Positions, Sizes};
use crate::weights::{
    AttentionWeights, BlockWeights, EncoderWeights, FeedForwardWeights, MixerWeights, MlpWeights, Processing,
    WeightSource, Weights,
};

pub(super) static FAMILY: Family = Family { model_type: "t5", config, weights };
pub(super) static MT5: Family = Family { model_type: "mt5", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let model_type = json.string("model_type")?;
    let multilingual = model_type == "mt5";
    let n_layers = json.size_or("num_layers", if multilingual { 8 } else { 6 })?;
    let (act_fn, gated) = activation(json, if multilingual { "gated-gelu" } else { "relu" })?;
    let buckets = json.size_or("relative_attention_num_buckets", 32)?;
    let max_distance = json.size_or("relative_attention_max_distance", 128)?;
    if buckets < 4 || !buckets.is_multiple_of(4) || max_distance <= buckets / 2 {
        return Err(json.error(format!(
            "relative_attention_num_buckets is {buckets} and relative_attention_max_distance {max_distance}; a multiple of 4 and more than half of it are needed"
        )));
    }
    let tied = json.flag_or("tie_word_embeddings", !multilingual)?;
    let stack = |n_layers: usize| -> Result<ModelConfig> {
        let sizes = Sizes {
            n_layers,
            d_model: json.size_or("d_model", 512)?,
            n_ctx: json.size_or("n_positions", 512)?,
            n_heads: json.size_or("num_heads", if multilingual { 6 } else { 8 })?,
            d_head: json.size_or("d_kv", 64)?,
            d_mlp: json.size_or("d_ff", if multilingual { 1024 } else { 2048 })?,
            d_vocab: json.size("vocab_size")?,
        };
        Ok(ModelConfig {
            gated_mlp: gated,
            normalization: Normalization::Rms,
            eps: json.number_or("layer_norm_epsilon", 1e-6)?,
            positions: Positions::RelativeBias { buckets, max_distance },
            attn_scale: 1.0,
            processing: Processing { center_unembed: true, ..Processing::none() },
            default_prepend_bos: false,
            tokenizer_template: true,
            tie_word_embeddings: tied,
            ..ModelConfig::new(&model_type, act_fn, sizes)
        })
    };
    let encoder = ModelConfig { bidirectional: true, ..stack(n_layers)? };
    let start = match json.value("decoder_start_token_id") {
        Some(_) => json.token("decoder_start_token_id")?,
        None if json.value("pad_token_id").is_some() => json.token("pad_token_id")?,
        None => 0,
    };
    Ok(ModelConfig {
        encoder: Some(Box::new(encoder)),
        decoder_start_token: Some(start),
        // Folded into the unembedding: the original T5 divides by the root of d_model before its tied unembedding. Newer
        // files say so in a switch of its own, older ones mean it by tying.
        output_multiplier: match json.flag_or("scale_decoder_outputs", tied)? {
            true => (json.size_or("d_model", 512)? as f64).powf(-0.5),
            false => 1.0,
        },
        ..stack(json.size_or("num_decoder_layers", n_layers)?)?
    })
}

/// `feed_forward_proj` is an activation function, or `gated-` and one; gated GELU means the tanh approximation.
fn activation(json: &ConfigJson, default: &str) -> Result<(Activation, bool)> {
    let projection = match json.value("feed_forward_proj") {
        Some(_) => json.string("feed_forward_proj")?,
        None => default.to_string(),
    };
    let parse = |name: &str| Activation::parse(name).map_err(|e| json.error(format!("'feed_forward_proj': {e}")));
    match projection.strip_prefix("gated-") {
        Some("gelu") => Ok((Activation::GeluNew, true)),
        Some(name) => Ok((parse(name)?, true)),
        None => Ok((parse(&projection)?, false)),
    }
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    // Left in the first files, and never used.
    source.ignore("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.");
    let shape = [cfg.d_vocab, cfg.d_model];
    let names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
    let name = names.into_iter().find(|name| source.has(name)).unwrap_or("shared.weight");
    let w_e = source.tensor(name, &shape)?;
    let w_u = match source.has("lm_head.weight") {
        true => source.linear("lm_head", cfg.d_model, cfg.d_vocab)?.w,
        false => w_e.t()?,
    };
    let decoder = stack(cfg, source, "decoder")?;
    let encoder = match &cfg.encoder {
        Some(cfg) => Some(Box::new(stack(cfg, source, "encoder")?)),
        None => None,
    };
    let w_u = (w_u * cfg.output_multiplier)?;
    let EncoderWeights { relative_bias, blocks, ln_final, .. } = decoder;
    Ok(Weights { relative_bias, encoder, ..Weights::new(w_e, blocks, ln_final, w_u) })
}

fn stack(cfg: &ModelConfig, source: &WeightSource, stack: &str) -> Result<EncoderWeights> {
    let Positions::RelativeBias { buckets, .. } = cfg.positions else {
        return Err(crate::Error::msg("T5's positions are distances"));
    };
    let bias = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    Ok(EncoderWeights {
        w_pos: None,
        embed_ln: None,
        relative_bias: Some(source.tensor(&bias, &[buckets, cfg.n_heads])?),
        blocks: (0..cfg.n_layers).map(|layer| block(cfg, source, stack, layer)).collect::<Result<_>>()?,
        ln_final: Some(source.norm(&format!("{stack}.final_layer_norm"), cfg.d_model)?),
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, stack: &str, layer: usize) -> Result<BlockWeights> {
    let decodes = cfg.encoder.is_some();
    let name = |sub: usize, part: &str| format!("{stack}.block.{layer}.layer.{sub}.{part}");
    let width = cfg.n_heads * cfg.d_head;
    let attention = |sub: usize, kind: &str| -> Result<AttentionWeights> {
        let into = |part: &str| source.linear(&name(sub, &format!("{kind}.{part}")), cfg.d_model, width);
        let out = source.linear(&name(sub, &format!("{kind}.o")), width, cfg.d_model)?;
        AttentionWeights::from_linears([into("q")?, into("k")?, into("v")?, out], cfg.n_heads, cfg.n_heads)
    };
    let norm = |sub: usize| source.norm(&name(sub, "layer_norm"), cfg.d_model);
    let last = if decodes { 2 } else { 1 };
    let into = |part: &str| source.linear(&name(last, &format!("DenseReluDense.{part}")), cfg.d_model, cfg.d_mlp);
    let out = source.linear(&name(last, "DenseReluDense.wo"), cfg.d_mlp, cfg.d_model)?;
    let mlp = match cfg.gated_mlp {
        true => MlpWeights::gated(into("wi_0")?, into("wi_1")?, out),
        false => MlpWeights::plain(into("wi")?, out),
    };
    Ok(BlockWeights {
        ln1: Some(norm(0)?),
        mixer: MixerWeights::Attention(attention(0, "SelfAttention")?),
        ln1_post: None,
        ln2: Some(norm(1)?),
        feed_forward: Some(FeedForwardWeights::Mlp(mlp)),
        ln2_post: None,
        cross_attention: if decodes { Some(attention(1, "EncDecAttention")?) } else { None },
        ln3: if decodes { Some(norm(2)?) } else { None },
    })
}
