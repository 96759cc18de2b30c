//! Llama 1 to 3.3 (Touvron et al. 2023), and what Mistral and Qwen2 share with it.

use candle_core::Tensor;

use super::{ConfigJson, Family, unembedding};
use crate::Result;
use crate::model::{ModelConfig, Normalization, Positions};
use crate::weights::{
    AttentionWeights, BlockWeights, Linear, MlpWeights, WeightSource, Weights, heads_bias, heads_in, heads_out,
};

pub(super) static FAMILY: Family = Family { model_type: "llama", config, weights };

/// The configuration of a model with RMSNorm, rotary positions, shared key heads and a gated MLP.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size("hidden_size")?;
    let n_heads = json.size("num_attention_heads")?;
    let n_layers = json.size("num_hidden_layers")?;
    let n_key_value_heads = json.size_or("num_key_value_heads", n_heads)?;
    json.divide("num_attention_heads / num_key_value_heads", n_heads, n_key_value_heads)?;
    let d_head = match json.value("head_dim") {
        Some(_) => json.size("head_dim")?,
        None => json.divide("hidden_size / num_attention_heads", d_model, n_heads)?,
    };
    Ok(ModelConfig {
        model_name: String::new(),
        model_type: json.string("model_type")?,
        n_layers,
        d_model,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads,
        n_key_value_heads,
        d_head,
        d_mlp: json.size("intermediate_size")?,
        d_vocab: json.size("vocab_size")?,
        act_fn: json.activation("hidden_act")?,
        normalization: Normalization::Rms,
        eps: json.number_or("rms_norm_eps", 1e-6)?,
        positions: Positions::Rotary(json.rotary(d_head, 1.0, 10000.0)?),
        gated_mlp: true,
        parallel_attn_mlp: false,
        attn_scale: (d_head as f64).sqrt(),
        scale_attn_by_inverse_layer_idx: false,
        windows: vec![None; n_layers],
        default_prepend_bos: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
    })
}

/// Weights under Llama's names. A bias is read wherever the file has one (Qwen2, `attention_bias`, `mlp_bias`).
pub(super) fn weights(cfg: &ModelConfig, source: WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    let w_e = source.tensor("embed_tokens.weight", &[cfg.d_vocab, cfg.d_model])?;
    let w_u = unembedding(cfg, &source, &w_e, "lm_head")?;
    Ok(Weights {
        w_e,
        w_pos: None,
        blocks: (0..cfg.n_layers).map(|layer| block(cfg, &source, layer)).collect::<Result<_>>()?,
        ln_final: source.norm("norm", cfg.d_model)?,
        w_u,
        b_u: None,
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let into_heads = |part: &str, heads: usize| -> Result<(Tensor, Option<Tensor>)> {
        let Linear { w, b } = source.linear(&name(&format!("self_attn.{part}")), cfg.d_model, heads * cfg.d_head)?;
        Ok((heads_in(&w, heads)?, b.map(|b| heads_bias(&b, heads)).transpose()?))
    };
    let (w_q, b_q) = into_heads("q_proj", cfg.n_heads)?;
    let (w_k, b_k) = into_heads("k_proj", cfg.n_key_value_heads)?;
    let (w_v, b_v) = into_heads("v_proj", cfg.n_key_value_heads)?;
    let out = source.linear(&name("self_attn.o_proj"), cfg.n_heads * cfg.d_head, cfg.d_model)?;
    let gate = source.linear(&name("mlp.gate_proj"), cfg.d_model, cfg.d_mlp)?;
    let up = source.linear(&name("mlp.up_proj"), cfg.d_model, cfg.d_mlp)?;
    let down = source.linear(&name("mlp.down_proj"), cfg.d_mlp, cfg.d_model)?;
    Ok(BlockWeights {
        ln1: source.norm(&name("input_layernorm"), cfg.d_model)?,
        attn: AttentionWeights { w_q, b_q, w_k, b_k, w_v, b_v, w_o: heads_out(&out.w, cfg.n_heads)?, b_o: out.b },
        ln2: source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        mlp: MlpWeights { w_in: up.w, b_in: up.b, w_gate: Some(gate.w), b_gate: gate.b, w_out: down.w, b_out: down.b },
    })
}
