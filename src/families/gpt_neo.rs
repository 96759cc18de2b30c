//! GPT-Neo (EleutherAI 2021) and the TinyStories models: unscaled scores, every other layer looks back only so far.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Sizes};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gpt_neo", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let (d_model, n_heads) = (json.size("hidden_size")?, json.size("num_heads")?);
    let sizes = Sizes {
        n_layers: json.size("num_layers")?,
        d_model,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads,
        d_head: json.divide("hidden_size / num_heads", d_model, n_heads)?,
        d_mlp: json.size_or("intermediate_size", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
    };
    let windows = windows(json, sizes.n_layers)?;
    let act_fn = json.activation_or("activation_function", Activation::GeluNew)?;
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        attn_scale: 1.0,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("gpt_neo", act_fn, sizes).with_windows(windows)
    })
}

/// `attention_types`, [[["global", "local"], 6]], is a pattern and how often it is repeated.
fn windows(json: &ConfigJson, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = json.size_or("window_size", 256)?;
    let malformed = || json.error("'attention_types' is not a list of [[kinds], times] with kinds global and local");
    let mut windows = Vec::new();
    for group in json.value("attention_types").and_then(|v| v.as_array()).ok_or_else(malformed)? {
        let kinds = group.get(0).and_then(|v| v.as_array()).ok_or_else(malformed)?;
        let times = group.get(1).and_then(|v| v.as_u64()).filter(|&n| n <= n_layers as u64).ok_or_else(malformed)?;
        for _ in 0..times {
            for kind in kinds {
                windows.push(match kind.as_str() {
                    Some("global") => None,
                    Some("local") => Some(window),
                    _ => return Err(malformed()),
                });
            }
        }
    }
    if windows.len() != n_layers {
        return Err(
            json.error(format!("'attention_types' describes {} layers, and num_layers is {n_layers}", windows.len()))
        );
    }
    Ok(windows)
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("transformer.");
    let mut weights = layout::decoder(cfg, &source, ["wte", "ln_f", "lm_head"], block)?;
    weights.w_pos = Some(source.tensor("wpe.weight", &[cfg.n_ctx, cfg.d_model])?);
    Ok(weights)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("h.{layer}.{part}");
    let [q, k, v, o] = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| name(&format!("attn.attention.{part}")));
    Ok(BlockWeights::new(
        source.norm(&name("ln_1"), cfg.d_model)?,
        layout::attention(cfg, source, [&q, &k, &v, &o])?,
        source.norm(&name("ln_2"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("mlp.c_fc"), &name("mlp.c_proj")])?,
    ))
}
