//! GPT-2 (Radford et al. 2019), DistilGPT-2, and the stanford-crfm models.

use candle_core::Tensor;

use super::{ConfigJson, Family, unembedding};
use crate::Result;
use crate::model::{ModelConfig, Normalization, Positions};
use crate::weights::{
    AttentionWeights, BlockWeights, MlpWeights, WeightSource, Weights, heads_bias, heads_in, heads_out,
};

pub(super) static FAMILY: Family = Family { model_type: "gpt2", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    json.refuse_if(json.flag_or("add_cross_attention", false)?, "add_cross_attention")?;
    let d_model = json.size("n_embd")?;
    let n_heads = json.size("n_head")?;
    let n_layers = json.size("n_layer")?;
    let d_head = json.divide("n_embd / n_head", d_model, n_heads)?;
    Ok(ModelConfig {
        model_name: String::new(),
        model_type: "gpt2".to_string(),
        n_layers,
        d_model,
        n_ctx: json.size("n_positions")?,
        n_heads,
        n_key_value_heads: n_heads,
        d_head,
        d_mlp: json.size_or("n_inner", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
        act_fn: json.activation("activation_function")?,
        normalization: Normalization::LayerNorm,
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        positions: Positions::Learned,
        gated_mlp: false,
        parallel_attn_mlp: false,
        attn_scale: if json.flag_or("scale_attn_weights", true)? { (d_head as f64).sqrt() } else { 1.0 },
        scale_attn_by_inverse_layer_idx: json.flag_or("scale_attn_by_inverse_layer_idx", false)?,
        windows: vec![None; n_layers],
        default_prepend_bos: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
    })
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
    // The columns of c_attn are queries, then keys, then values.
    let qkv = source.conv1d(&name("attn.c_attn"), cfg.d_model, 3 * width)?;
    let w = |part: usize| -> Result<Tensor> { heads_in(&qkv.w.narrow(1, part * width, width)?, cfg.n_heads) };
    let b = |part: usize| -> Result<Option<Tensor>> {
        qkv.b.as_ref().map(|b| heads_bias(&b.narrow(0, part * width, width)?, cfg.n_heads)).transpose()
    };
    let out = source.conv1d(&name("attn.c_proj"), width, cfg.d_model)?;
    let c_fc = source.conv1d(&name("mlp.c_fc"), cfg.d_model, cfg.d_mlp)?;
    let c_proj = source.conv1d(&name("mlp.c_proj"), cfg.d_mlp, cfg.d_model)?;
    Ok(BlockWeights {
        ln1: source.norm(&name("ln_1"), cfg.d_model)?,
        attn: AttentionWeights {
            w_q: w(0)?,
            b_q: b(0)?,
            w_k: w(1)?,
            b_k: b(1)?,
            w_v: w(2)?,
            b_v: b(2)?,
            w_o: heads_out(&out.w, cfg.n_heads)?,
            b_o: out.b,
        },
        ln2: source.norm(&name("ln_2"), cfg.d_model)?,
        mlp: MlpWeights { w_in: c_fc.w, b_in: c_fc.b, w_gate: None, b_gate: None, w_out: c_proj.w, b_out: c_proj.b },
    })
}
