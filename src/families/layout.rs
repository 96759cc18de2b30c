//! Arrangements of tensors that several families share.

use super::{ConfigJson, unembedding};
use crate::Result;
use crate::model::{ModelConfig, Normalization, QkNorm, Sizes};
use crate::weights::{AttentionWeights, BlockWeights, Linear, MlpWeights, WeightSource, Weights};

/// A decoder whose embedding, last norm and head have these names. The head is the transposed embedding where the two
/// are tied; its bias is read if there is one.
pub(super) fn decoder(
    cfg: &ModelConfig,
    source: &WeightSource,
    [embed, ln_final, head]: [&str; 3],
    block: impl Fn(&ModelConfig, &WeightSource, usize) -> Result<BlockWeights>,
) -> Result<Weights> {
    let w_e = source.tensor(&format!("{embed}.weight"), &[cfg.d_vocab, cfg.d_embed])?;
    let w_u = unembedding(cfg, source, &w_e, head)?;
    let blocks = (0..cfg.n_layers).map(|layer| block(cfg, source, layer)).collect::<Result<_>>()?;
    let mut weights = Weights::new(w_e, blocks, Some(source.norm(ln_final, cfg.d_model)?), w_u);
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

/// The sizes of a model by the keys that most configurations have.
pub(super) fn sizes(json: &ConfigJson) -> Result<Sizes> {
    let (d_model, n_heads) = (json.size("hidden_size")?, json.size("num_attention_heads")?);
    Ok(Sizes {
        n_layers: json.size("num_hidden_layers")?,
        d_model,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads,
        d_head: match json.value("head_dim") {
            Some(_) => json.size("head_dim")?,
            None => json.divide("hidden_size / num_attention_heads", d_model, n_heads)?,
        },
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
