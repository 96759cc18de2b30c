//! What the families with experts share: Llama's layout, with experts in place of (some) MLPs.

use super::{ConfigJson, layout, llama};
use crate::Result;
use crate::model::{Experts, ModelConfig};
use crate::weights::{AttentionWeights, BlockWeights, ExpertsWeights, FeedForwardWeights, MixerWeights, MlpWeights};
use crate::weights::{WeightSource, Weights};

/// Weights under Llama's names, with what `experts` reads (from the module `layers.l`) in the layers that have experts.
pub(super) fn weights(
    cfg: &ModelConfig,
    source: &WeightSource,
    experts: impl Fn(&ModelConfig, &WeightSource, &str, &Experts) -> Result<ExpertsWeights> + Send + Sync + 'static,
) -> Result<Weights> {
    weights_with(cfg, source, attention, experts)
}

/// The same with another attention than Llama's.
pub(super) fn weights_with(
    cfg: &ModelConfig,
    source: &WeightSource,
    attention: impl Fn(&ModelConfig, &WeightSource, usize) -> Result<AttentionWeights> + Send + Sync + 'static,
    experts: impl Fn(&ModelConfig, &WeightSource, &str, &Experts) -> Result<ExpertsWeights> + Send + Sync + 'static,
) -> Result<Weights> {
    let mixer = move |cfg: &ModelConfig, source: &WeightSource, layer: usize| {
        attention(cfg, source, layer).map(MixerWeights::Attention)
    };
    weights_with_mixer(cfg, source, mixer, experts)
}

/// The same with another mixer than attention of the usual kind.
pub(super) fn weights_with_mixer(
    cfg: &ModelConfig,
    source: &WeightSource,
    mixer: impl Fn(&ModelConfig, &WeightSource, usize) -> Result<MixerWeights> + Send + Sync + 'static,
    experts: impl Fn(&ModelConfig, &WeightSource, &str, &Experts) -> Result<ExpertsWeights> + Send + Sync + 'static,
) -> Result<Weights> {
    layout::llama_like(cfg, source, move |cfg: &ModelConfig, source: &WeightSource, layer| {
        let module = format!("layers.{layer}");
        let norm = |name: &str| source.norm(&format!("{module}.{name}"), cfg.d_model);
        let feed_forward = match &cfg.experts {
            Some(settings) if settings.has(layer) => {
                FeedForwardWeights::Experts(experts(cfg, source, &module, settings)?)
            }
            _ => FeedForwardWeights::Mlp(llama::mlp(cfg, source, layer)?),
        };
        Ok(BlockWeights {
            ln1: Some(norm("input_layernorm")?),
            mixer: mixer(cfg, source, layer)?,
            ln1_post: None,
            ln2: Some(norm("post_attention_layernorm")?),
            feed_forward: Some(feed_forward),
            ln2_post: None,
            cross_attention: None,
            ln3: None,
        })
    })
}

/// Llama's attention, with norms on queries and keys where the configuration has them.
fn attention(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<AttentionWeights> {
    match cfg.qk_norm {
        Some(_) => layout::qk_normed_attention(cfg, source, layer, ["q_norm", "k_norm"]),
        None => llama::attention(cfg, source, layer),
    }
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
