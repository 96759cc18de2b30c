//! What the families with experts share: Llama's layout, with experts in place of (some) MLPs.

use super::{ConfigJson, llama, unembedding};
use crate::Result;
use crate::model::{Experts, ModelConfig, QkNorm};
use crate::weights::{AttentionWeights, BlockWeights, ExpertsWeights, FeedForwardWeights, MixerWeights, MlpWeights};
use crate::weights::{WeightSource, Weights};

/// Weights under Llama's names, with what `experts` reads (from the module `layers.l`) in the layers that have experts.
pub(super) fn weights(
    cfg: &ModelConfig,
    source: &WeightSource,
    experts: impl Fn(&WeightSource, &str, &Experts) -> Result<ExpertsWeights>,
) -> Result<Weights> {
    weights_with(cfg, source, attention, experts)
}

/// The same with another attention than Llama's.
pub(super) fn weights_with(
    cfg: &ModelConfig,
    source: &WeightSource,
    attention: impl Fn(&ModelConfig, &WeightSource, usize) -> Result<AttentionWeights>,
    experts: impl Fn(&WeightSource, &str, &Experts) -> Result<ExpertsWeights>,
) -> Result<Weights> {
    let mixer = |cfg: &ModelConfig, source: &WeightSource, layer: usize| {
        attention(cfg, source, layer).map(MixerWeights::Attention)
    };
    weights_with_mixer(cfg, source, mixer, experts)
}

/// The same with another mixer than attention of the usual kind.
pub(super) fn weights_with_mixer(
    cfg: &ModelConfig,
    source: &WeightSource,
    mixer: impl Fn(&ModelConfig, &WeightSource, usize) -> Result<MixerWeights>,
    experts: impl Fn(&WeightSource, &str, &Experts) -> Result<ExpertsWeights>,
) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    let w_e = source.tensor("embed_tokens.weight", &[cfg.d_vocab, cfg.d_model])?;
    let w_u = unembedding(cfg, &source, &w_e, "lm_head")?;
    let block = |layer: usize| -> Result<BlockWeights> {
        let module = format!("layers.{layer}");
        let norm = |name: &str| source.norm(&format!("{module}.{name}"), cfg.d_model);
        let feed_forward = match &cfg.experts {
            Some(settings) if settings.has(layer) => FeedForwardWeights::Experts(experts(&source, &module, settings)?),
            _ => FeedForwardWeights::Mlp(llama::mlp(cfg, &source, layer)?),
        };
        Ok(BlockWeights {
            ln1: Some(norm("input_layernorm")?),
            mixer: mixer(cfg, &source, layer)?,
            ln1_post: None,
            ln2: Some(norm("post_attention_layernorm")?),
            feed_forward: Some(feed_forward),
            ln2_post: None,
            cross_attention: None,
            ln3: None,
        })
    };
    let blocks = (0..cfg.n_layers).map(block).collect::<Result<_>>()?;
    let b_u = source.optional("lm_head.bias", &[cfg.d_vocab])?;
    Ok(Weights { b_u, ..Weights::new(w_e, blocks, Some(source.norm("norm", cfg.d_model)?), w_u) })
}

/// Llama's attention, with norms on queries and keys where the configuration has them.
fn attention(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<AttentionWeights> {
    let mut attention = llama::attention(cfg, source, layer)?;
    if let Some(QkNorm { joint, .. }) = cfg.qk_norm {
        let norm = |which: &str, heads: usize| {
            let width = if joint { heads * cfg.d_head } else { cfg.d_head };
            source.norm(&format!("layers.{layer}.self_attn.{which}"), width)
        };
        attention.q_norm = Some(norm("q_norm", cfg.n_heads)?);
        attention.k_norm = Some(norm("k_norm", cfg.n_key_value_heads)?);
    }
    Ok(attention)
}

/// A gated MLP under `module`, with Llama's names, of this width: a shared expert.
pub(super) fn shared(cfg: &ModelConfig, source: &WeightSource, module: &str, width: usize) -> Result<MlpWeights> {
    let name = |part: &str| format!("{module}.{part}");
    Ok(MlpWeights::gated(
        source.linear(&name("gate_proj"), cfg.d_model, width)?,
        source.linear(&name("up_proj"), cfg.d_model, width)?,
        source.linear(&name("down_proj"), width, cfg.d_model)?,
    ))
}

/// The settings, checked, in place of none.
pub(super) fn with_experts(json: &ConfigJson, cfg: ModelConfig, experts: Experts) -> Result<ModelConfig> {
    experts.routing.check(experts.n_experts).map_err(|e| json.error(e.to_string()))?;
    Ok(ModelConfig { experts: Some(experts), ..cfg })
}

/// A size under the first of these names that is there.
pub(super) fn size_of(json: &ConfigJson, keys: &[&str], default: usize) -> Result<usize> {
    match keys.iter().find(|key| json.value(key).is_some()) {
        Some(key) => json.size(key),
        None => Ok(default),
    }
}

/// A whole number that may be zero.
pub(super) fn count(json: &ConfigJson, key: &str, default: usize) -> Result<usize> {
    match json.value(key) {
        None => Ok(default),
        Some(value) => {
            let count = value.as_u64().filter(|&count| count <= 1 << 32);
            let wrong = || json.error(format!("'{key}' is {value}, and a whole number was expected"));
            count.map(|count| count as usize).ok_or_else(wrong)
        }
    }
}

/// Which layers have experts by Qwen's two keys: every `decoder_sparse_step`-th, but for those in `mlp_only_layers`.
pub(super) fn sparse_layers(json: &ConfigJson, n_layers: usize) -> Result<Vec<bool>> {
    let step = json.size_or("decoder_sparse_step", 1)?;
    let dense: Vec<u64> = match json.value("mlp_only_layers") {
        None => Vec::new(),
        Some(layers) => layers
            .as_array()
            .and_then(|layers| layers.iter().map(|layer| layer.as_u64()).collect())
            .ok_or_else(|| json.error("'mlp_only_layers' is not a list of layers"))?,
    };
    Ok((0..n_layers).map(|layer| !dense.contains(&(layer as u64)) && (layer + 1).is_multiple_of(step)).collect())
}

/// A window in every layer, if the configuration has one.
pub(super) fn window(json: &ConfigJson, cfg: ModelConfig) -> Result<ModelConfig> {
    let window = json.value("sliding_window").map(|_| json.size("sliding_window")).transpose()?;
    let n_layers = cfg.n_layers;
    Ok(cfg.with_windows(vec![window; n_layers]))
}

/// Whether each layer's attention is a sliding window by `layer_types`; `default` where the key is absent.
pub(super) fn sliding_layers(json: &ConfigJson, n_layers: usize, default: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(kinds) = json.value("layer_types") else { return Ok((0..n_layers).map(default).collect()) };
    let sliding = |kind: &serde_json::Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            Err(json.error(format!("'layer_types' holds {kind}, and sliding_attention or full_attention was expected")))
        }
    };
    let kinds: Vec<bool> = kinds
        .as_array()
        .ok_or_else(|| json.error("'layer_types' is not a list"))?
        .iter()
        .map(sliding)
        .collect::<Result<_>>()?;
    if kinds.len() == n_layers {
        Ok(kinds)
    } else {
        Err(json.error(format!("'layer_types' has {} entries for {n_layers} layers", kinds.len())))
    }
}
