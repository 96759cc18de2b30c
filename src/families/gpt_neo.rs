//! GPT-Neo (EleutherAI 2021) and the TinyStories models: unscaled scores, every other layer looks back only so far.

use super::{ConfigJson, Family, unembedding};
use crate::Result;
use crate::model::{ModelConfig, Normalization, Positions};
use crate::weights::{AttentionWeights, BlockWeights, MlpWeights, WeightSource, Weights, heads_in, heads_out};

pub(super) static FAMILY: Family = Family { model_type: "gpt_neo", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size("hidden_size")?;
    let n_heads = json.size("num_heads")?;
    let n_layers = json.size("num_layers")?;
    Ok(ModelConfig {
        model_name: String::new(),
        model_type: "gpt_neo".to_string(),
        n_layers,
        d_model,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads,
        n_key_value_heads: n_heads,
        d_head: json.divide("hidden_size / num_heads", d_model, n_heads)?,
        d_mlp: json.size_or("intermediate_size", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
        act_fn: json.activation("activation_function")?,
        normalization: Normalization::LayerNorm,
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        positions: Positions::Learned,
        gated_mlp: false,
        parallel_attn_mlp: false,
        attn_scale: 1.0,
        scale_attn_by_inverse_layer_idx: false,
        windows: windows(json, n_layers)?,
        default_prepend_bos: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
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

fn weights(cfg: &ModelConfig, source: WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("transformer.");
    let w_e = source.tensor("wte.weight", &[cfg.d_vocab, cfg.d_model])?;
    let w_u = unembedding(cfg, &source, &w_e, "lm_head")?;
    Ok(Weights {
        w_e,
        w_pos: Some(source.tensor("wpe.weight", &[cfg.n_ctx, cfg.d_model])?),
        blocks: (0..cfg.n_layers).map(|layer| block(cfg, &source, layer)).collect::<Result<_>>()?,
        ln_final: source.norm("ln_f", cfg.d_model)?,
        w_u,
        b_u: None,
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("h.{layer}.{part}");
    let width = cfg.n_heads * cfg.d_head;
    let into_heads = |part: &str| {
        let w = source.linear(&name(&format!("attn.attention.{part}")), cfg.d_model, width)?.w;
        heads_in(&w, cfg.n_heads)
    };
    let out = source.linear(&name("attn.attention.out_proj"), width, cfg.d_model)?;
    let c_fc = source.linear(&name("mlp.c_fc"), cfg.d_model, cfg.d_mlp)?;
    let c_proj = source.linear(&name("mlp.c_proj"), cfg.d_mlp, cfg.d_model)?;
    Ok(BlockWeights {
        ln1: source.norm(&name("ln_1"), cfg.d_model)?,
        attn: AttentionWeights {
            w_q: into_heads("q_proj")?,
            b_q: None,
            w_k: into_heads("k_proj")?,
            b_k: None,
            w_v: into_heads("v_proj")?,
            b_v: None,
            w_o: heads_out(&out.w, cfg.n_heads)?,
            b_o: out.b,
        },
        ln2: source.norm(&name("ln_2"), cfg.d_model)?,
        mlp: MlpWeights { w_in: c_fc.w, b_in: c_fc.b, w_gate: None, b_gate: None, w_out: c_proj.w, b_out: c_proj.b },
    })
}
