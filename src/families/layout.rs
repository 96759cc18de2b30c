//! Arrangements of tensors that several families share.

use super::{ConfigJson, embedding, llama, unembedding};
use crate::Result;
use crate::model::{ModelConfig, Normalization, QkNorm, Sizes};
use crate::weights::{
    AttentionWeights, Linear, MixerWeights, MlpWeights, NormWeights, ReadBlock, WeightSource, Weights,
};

/// A decoder whose embedding, last norm and head have these names. The head is the transposed embedding where the two
/// are tied; its bias is read if there is one.
pub(super) fn decoder(
    cfg: &ModelConfig,
    source: &WeightSource,
    [embed, ln_final, head]: [&str; 3],
    block: impl ReadBlock,
) -> Result<Weights> {
    decoder_with_norm(cfg, source, [embed, head], source.norm(ln_final, cfg.d_model)?, block)
}

/// The same with this last norm.
pub(super) fn decoder_with_norm(
    cfg: &ModelConfig,
    source: &WeightSource,
    [embed, head]: [&str; 2],
    ln_final: NormWeights,
    block: impl ReadBlock,
) -> Result<Weights> {
    let w_e = embedding(cfg, source, [embed, head])?;
    let w_u = unembedding(cfg, source, &w_e, head)?;
    let blocks = source.blocks(cfg, block)?;
    let mut weights = Weights::new(w_e, blocks, Some(ln_final), w_u);
    weights.b_u = source.optional(&format!("{head}.bias"), &[cfg.d_vocab])?;
    Ok(weights)
}

/// Attention from four linear layers of these names: queries, keys, values, output.
pub(super) fn attention(cfg: &ModelConfig, source: &WeightSource, [q, k, v, o]: [&str; 4]) -> Result<AttentionWeights> {
    let (width, kv_width) = (cfg.n_heads * cfg.d_head, cfg.n_key_value_heads * cfg.d_head);
    let linears = [
        source.linear(q, cfg.d_model, width)?,
        source.linear(k, cfg.d_model, kv_width)?,
        source.linear(v, cfg.d_model, kv_width)?,
        source.linear(o, width, cfg.d_model)?,
    ];
    AttentionWeights::from_linears(linears, cfg.n_heads, cfg.n_key_value_heads)
}

/// Attention from one linear layer for queries, keys and values, and one for the output. The first one's rows are
/// `groups` runs of the same make, each with some queries, then keys, then values.
pub(super) fn fused_attention(
    cfg: &ModelConfig,
    source: &WeightSource,
    groups: usize,
    [qkv, o]: [&str; 2],
) -> Result<AttentionWeights> {
    let (width, kv_width) = (cfg.n_heads * cfg.d_head, cfg.n_key_value_heads * cfg.d_head);
    let fused = source.linear(qkv, cfg.d_model, width + 2 * kv_width)?;
    let [q, k, v] = fused.split(groups, [width, kv_width, kv_width])?;
    let o = source.linear(o, width, cfg.d_model)?;
    AttentionWeights::from_linears([q, k, v, o], cfg.n_heads, cfg.n_key_value_heads)
}

/// An MLP without a gate, from two linear layers of these names.
pub(super) fn mlp(cfg: &ModelConfig, source: &WeightSource, [w_in, w_out]: [&str; 2]) -> Result<MlpWeights> {
    let linears: [Linear; 2] =
        [source.linear(w_in, cfg.d_model, cfg.d_mlp)?, source.linear(w_out, cfg.d_mlp, cfg.d_model)?];
    let [w_in, w_out] = linears;
    Ok(MlpWeights::plain(w_in, w_out))
}

/// A LayerNorm on the queries and keys of each head, before they are rotated.
pub(super) const QK_LAYER_NORM: QkNorm =
    QkNorm { normalization: Normalization::LayerNorm, joint: false, after_rotary: false };

/// An RMSNorm on the queries and keys of each head, before they are rotated.
pub(super) const QK_RMS_NORM: QkNorm = QkNorm { normalization: Normalization::Rms, joint: false, after_rotary: false };

/// Llama's weights with `q_norm` and `k_norm`.
pub(super) fn qk_normed_weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let block = |cfg: &ModelConfig, source: &WeightSource, layer: usize| {
        let mut block = llama::block(cfg, source, layer)?;
        block.mixer = MixerWeights::Attention(qk_normed_attention(cfg, source, layer, ["q_norm", "k_norm"])?);
        Ok(block)
    };
    llama_like(cfg, source, block)
}

/// A decoder whose embedding, last norm and head are named as Llama's.
pub(super) fn llama_like(cfg: &ModelConfig, source: &WeightSource, block: impl ReadBlock) -> Result<Weights> {
    decoder(cfg, &source.with_optional_prefix("model."), ["embed_tokens", "norm", "lm_head"], block)
}

/// Llama's attention with norms of these names on queries and keys, over each head or over all of them.
pub(super) fn qk_normed_attention(
    cfg: &ModelConfig,
    source: &WeightSource,
    layer: usize,
    [q, k]: [&str; 2],
) -> Result<AttentionWeights> {
    let mut attention = llama::attention(cfg, source, layer)?;
    let joint = cfg.qk_norm.is_some_and(|norm| norm.joint);
    let width = |heads: usize| if joint { heads * cfg.d_head } else { cfg.d_head };
    let norm = |part: &str, heads| source.norm(&format!("layers.{layer}.self_attn.{part}"), width(heads));
    attention.q_norm = Some(norm(q, cfg.n_heads)?);
    attention.k_norm = Some(norm(k, cfg.n_key_value_heads)?);
    Ok(attention)
}

/// A gated MLP whose gate and linear branch are one layer, gate first.
pub(super) fn fused_gated_mlp(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<MlpWeights> {
    let name = |part: &str| format!("layers.{layer}.mlp.{part}");
    let fused = source.linear(&name("gate_up_proj"), cfg.d_model, 2 * cfg.d_mlp)?;
    let [gate, up] = fused.split(1, [cfg.d_mlp, cfg.d_mlp])?;
    Ok(MlpWeights::gated(gate, up, source.linear(&name("down_proj"), cfg.d_mlp, cfg.d_model)?))
}

/// The same rotary positions with pairs (2i, 2i + 1).
pub(super) fn in_adjacent_pairs(mut cfg: ModelConfig) -> ModelConfig {
    for rotary in cfg.layers.iter_mut().filter_map(|layer| layer.rotary.as_mut()) {
        rotary.adjacent_pairs = true;
    }
    cfg
}

/// The same, rotating only in the layers that have a window.
pub(super) fn rotating_where_sliding(mut cfg: ModelConfig) -> ModelConfig {
    for layer in &mut cfg.layers {
        layer.rotary = layer.rotary.take().filter(|_| layer.window.is_some());
    }
    cfg
}

/// The sizes of a model by the keys that most configurations have.
pub(super) fn sizes(json: &ConfigJson) -> Result<Sizes> {
    let d_head = match json.value("head_dim") {
        Some(_) => json.size("head_dim")?,
        None => {
            let (d_model, n_heads) = (json.size("hidden_size")?, json.size("num_attention_heads")?);
            json.divide("hidden_size / num_attention_heads", d_model, n_heads)?
        }
    };
    sizes_with_head(json, d_head)
}

/// The same with heads of this width.
pub(super) fn sizes_with_head(json: &ConfigJson, d_head: usize) -> Result<Sizes> {
    Ok(Sizes {
        n_layers: json.size("num_hidden_layers")?,
        d_model: json.size("hidden_size")?,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads: json.size("num_attention_heads")?,
        d_head,
        d_mlp: json.size("intermediate_size")?,
        d_vocab: json.size("vocab_size")?,
    })
}

/// How many key and value heads there are; as many as query heads unless `num_key_value_heads` says otherwise.
pub(super) fn key_value_heads(json: &ConfigJson, sizes: &Sizes) -> Result<usize> {
    let heads = json.size_or("num_key_value_heads", sizes.n_heads)?;
    json.divide("num_attention_heads / num_key_value_heads", sizes.n_heads, heads)?;
    Ok(heads)
}
