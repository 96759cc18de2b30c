//! Mamba (Gu and Dao 2023, arXiv 2312.00752), and what Mamba-2 shares with it.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Normalization, Positions, Sizes, StateSpace};
use crate::weights::{BlockWeights, MambaWeights, MixerWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "mamba", config, weights };

/// A state has no end, so the context is as long as positions can be counted.
const N_CTX: usize = 1 << 24;

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size_or("hidden_size", 768)?;
    let d_inner = json.size_or("intermediate_size", inner_size(json, d_model)?)?;
    // "auto" stands for a sixteenth of the width.
    let auto = d_model.div_ceil(16);
    let dt_rank = match json.value("time_step_rank") {
        Some(value) if value.as_str() == Some("auto") => auto,
        _ => json.size_or("time_step_rank", auto)?,
    };
    let settings = StateSpace {
        d_inner,
        d_state: json.size_or("state_size", 16)?,
        kernel: json.size_or("conv_kernel", 4)?,
        dt_rank,
        n_groups: 1,
        dt_limit: (0.0, f64::INFINITY),
    };
    state_space(json, [d_model, 32, 50280], [1, d_inner], true, settings)
}

/// A model of norms and state-space mixers: these defaults of width, layers and vocabulary, and this many heads of this width.
pub(super) fn state_space(
    json: &ConfigJson,
    [d_model, n_layers, d_vocab]: [usize; 3],
    [n_heads, d_head]: [usize; 2],
    tied: bool,
    settings: StateSpace,
) -> Result<ModelConfig> {
    let sizes = Sizes {
        n_layers: json.size_or("num_hidden_layers", n_layers)?,
        d_model,
        n_ctx: N_CTX,
        n_heads,
        d_head,
        d_mlp: 0,
        d_vocab: json.size_or("vocab_size", d_vocab)?,
    };
    let act_fn = json.activation_or("hidden_act", Activation::Silu)?;
    Ok(ModelConfig {
        normalization: Normalization::Rms,
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        positions: Positions::None,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", tied)?,
        state_space: Some(settings),
        ..ModelConfig::new(&json.string("model_type")?, act_fn, sizes)
    })
}

/// expand · hidden_size; expand may be a fraction.
pub(super) fn inner_size(json: &ConfigJson, d_model: usize) -> Result<usize> {
    let width = json.number_or("expand", 2.0)? * d_model as f64;
    if (1.0..1e9).contains(&width) {
        Ok(width as usize)
    } else {
        Err(json.error(format!("'expand' makes {width} channels of {d_model}")))
    }
}

/// Weights under Mamba's names, with the mixer that `mixer` reads from `layers.l.mixer`.
pub(super) fn weights_with(
    cfg: &ModelConfig,
    source: &WeightSource,
    mixer: impl Fn(&ModelConfig, &WeightSource, &str) -> Result<MixerWeights> + Send + Sync + 'static,
) -> Result<Weights> {
    let source = source.with_optional_prefix("backbone.");
    let embed = if source.has("embedding.weight") { "embedding" } else { "embeddings" };
    layout::decoder(
        cfg,
        &source,
        [embed, "norm_f", "lm_head"],
        move |cfg: &ModelConfig, source: &WeightSource, layer| {
            Ok(BlockWeights {
                ln1: Some(source.norm(&format!("layers.{layer}.norm"), cfg.d_model)?),
                mixer: mixer(cfg, source, &format!("layers.{layer}.mixer"))?,
                ln1_post: None,
                ln2: None,
                feed_forward: None,
                ln2_post: None,
                cross_attention: None,
                ln3: None,
            })
        },
    )
}

/// The settings of the state-space mixers.
pub(super) fn settings(cfg: &ModelConfig) -> Result<&StateSpace> {
    cfg.state_space.as_ref().ok_or_else(|| crate::Error::msg("no settings of the state-space mixers"))
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    weights_with(cfg, source, |cfg, source, module| {
        let &StateSpace { d_inner, d_state, kernel, dt_rank, .. } = settings(cfg)?;
        let name = |part: &str| format!("{module}.{part}");
        let w_in = source.linear(&name("in_proj"), cfg.d_model, 2 * d_inner)?;
        let w_dt = source.linear(&name("dt_proj"), dt_rank, d_inner)?;
        let w_out = source.linear(&name("out_proj"), d_inner, cfg.d_model)?;
        Ok(MixerWeights::Mamba(MambaWeights {
            w_in: w_in.w,
            b_in: w_in.b,
            w_conv: source.tensor(&name("conv1d.weight"), &[d_inner, 1, kernel])?.squeeze(1)?,
            b_conv: source.optional(&name("conv1d.bias"), &[d_inner])?,
            w_x: source.linear(&name("x_proj"), d_inner, dt_rank + 2 * d_state)?.w,
            w_dt: w_dt.w,
            b_dt: w_dt.b,
            a_log: source.tensor(&name("A_log"), &[d_inner, d_state])?,
            d: source.tensor(&name("D"), &[d_inner])?,
            w_out: w_out.w,
            b_out: w_out.b,
        }))
    })
}
