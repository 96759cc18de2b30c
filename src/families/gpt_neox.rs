//! GPT-NeoX (Black et al. 2022) and Pythia: partial rotary positions, attention and MLP usually parallel.

use candle_core::Tensor;

use super::{ConfigJson, Family, unembedding};
use crate::Result;
use crate::model::{ModelConfig, Normalization, Positions};
use crate::weights::{AttentionWeights, BlockWeights, MlpWeights, WeightSource, Weights, heads_out};

pub(super) static FAMILY: Family = Family { model_type: "gpt_neox", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size("hidden_size")?;
    let n_heads = json.size("num_attention_heads")?;
    let n_layers = json.size("num_hidden_layers")?;
    let d_head = json.divide("hidden_size / num_attention_heads", d_model, n_heads)?;
    Ok(ModelConfig {
        model_name: String::new(),
        model_type: "gpt_neox".to_string(),
        n_layers,
        d_model,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads,
        n_key_value_heads: n_heads,
        d_head,
        d_mlp: json.size("intermediate_size")?,
        d_vocab: json.size("vocab_size")?,
        act_fn: json.activation("hidden_act")?,
        normalization: Normalization::LayerNorm,
        eps: json.number_or("layer_norm_eps", 1e-5)?,
        positions: Positions::Rotary(json.rotary(d_head, 0.25, 10000.0)?),
        gated_mlp: false,
        parallel_attn_mlp: json.flag_or("use_parallel_residual", true)?,
        attn_scale: (d_head as f64).sqrt(),
        scale_attn_by_inverse_layer_idx: false,
        windows: vec![None; n_layers],
        default_prepend_bos: false,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
    })
}

fn weights(cfg: &ModelConfig, source: WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("gpt_neox.");
    let w_e = source.tensor("embed_in.weight", &[cfg.d_vocab, cfg.d_model])?;
    let w_u = unembedding(cfg, &source, &w_e, "embed_out")?;
    Ok(Weights {
        w_e,
        w_pos: None,
        blocks: (0..cfg.n_layers).map(|layer| block(cfg, &source, layer)).collect::<Result<_>>()?,
        ln_final: source.norm("final_layer_norm", cfg.d_model)?,
        w_u,
        b_u: None,
    })
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let (heads, d_head, width) = (cfg.n_heads, cfg.d_head, cfg.n_heads * cfg.d_head);
    // The rows of query_key_value go head by head, and within a head queries, keys, values.
    let qkv = source.linear(&name("attention.query_key_value"), cfg.d_model, 3 * width)?;
    let w = |part: usize| -> Result<Tensor> {
        let by_head = qkv.w.t()?.reshape((heads, 3, d_head, cfg.d_model))?;
        Ok(by_head.narrow(1, part, 1)?.squeeze(1)?.transpose(1, 2)?)
    };
    let b = |part: usize| -> Result<Option<Tensor>> {
        let Some(b) = &qkv.b else { return Ok(None) };
        Ok(Some(b.reshape((heads, 3, d_head))?.narrow(1, part, 1)?.squeeze(1)?))
    };
    let out = source.linear(&name("attention.dense"), width, cfg.d_model)?;
    let mlp_in = source.linear(&name("mlp.dense_h_to_4h"), cfg.d_model, cfg.d_mlp)?;
    let mlp_out = source.linear(&name("mlp.dense_4h_to_h"), cfg.d_mlp, cfg.d_model)?;
    Ok(BlockWeights {
        ln1: source.norm(&name("input_layernorm"), cfg.d_model)?,
        attn: AttentionWeights {
            w_q: w(0)?,
            b_q: b(0)?,
            w_k: w(1)?,
            b_k: b(1)?,
            w_v: w(2)?,
            b_v: b(2)?,
            w_o: heads_out(&out.w, heads)?,
            b_o: out.b,
        },
        ln2: source.norm(&name("post_attention_layernorm"), cfg.d_model)?,
        mlp: MlpWeights {
            w_in: mlp_in.w,
            b_in: mlp_in.b,
            w_gate: None,
            b_gate: None,
            w_out: mlp_out.w,
            b_out: mlp_out.b,
        },
    })
}
