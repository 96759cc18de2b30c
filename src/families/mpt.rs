//! MPT (MosaicML 2023): ALiBi, no biases anywhere.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, AlibiStyle, ModelConfig, Positions, QkNorm, Sizes};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "mpt", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let attn = json.nested("attn_config")?;
    for key in ["prefix_lm", "attn_uses_sequence_id"] {
        attn.refuse_if(attn.flag_or(key, false)?, key)?;
    }
    json.refuse_if(json.value("logit_scale").is_some(), "logit_scale")?;
    attn.refuse_if(attn.string_or("attn_type", "multihead_attention")? != "multihead_attention", "attn_type")?;
    if !attn.flag_or("alibi", true)? {
        return Err(attn.error("'alibi' is false, and candlescope supports MPT with ALiBi only"));
    }
    let (d_model, n_heads) = (json.size("d_model")?, json.size("n_heads")?);
    let sizes = Sizes {
        n_layers: json.size("n_layers")?,
        d_model,
        n_ctx: json.size_or("max_seq_len", 2048)?,
        n_heads,
        d_head: json.divide("d_model / n_heads", d_model, n_heads)?,
        // Hugging Face's model has this width whatever `expansion_ratio` says.
        d_mlp: 4 * d_model,
        d_vocab: json.size("vocab_size")?,
    };
    let qk_norm = QkNorm { joint: true, ..layout::QK_LAYER_NORM };
    let d_head = sizes.d_head as f64;
    let scale = attn.number_or("softmax_scale", 1.0 / d_head.sqrt())?;
    let clip = attn.number_or("clip_qkv", 0.0)?;
    if scale == 0.0 {
        return Err(attn.error("'softmax_scale' is 0"));
    }
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        positions: Positions::Alibi { bias_max: attn.number_or("alibi_bias_max", 8.0)?, style: AlibiStyle::Mpt },
        attn_scale: 1.0 / scale,
        clip_qkv: (clip != 0.0).then_some(clip),
        qk_norm: attn.flag_or("qk_ln", false)?.then_some(qk_norm),
        default_prepend_bos: false,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("mpt", Activation::Gelu, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::decoder(cfg, &source.with_optional_prefix("transformer."), ["wte", "norm_f", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("blocks.{layer}.{part}");
    let mut attention = layout::fused_attention(cfg, source, 1, [&name("attn.Wqkv"), &name("attn.out_proj")])?;
    if cfg.qk_norm.is_some() {
        attention.q_norm = Some(source.norm(&name("attn.q_ln"), cfg.d_model)?);
        attention.k_norm = Some(source.norm(&name("attn.k_ln"), cfg.d_model)?);
    }
    Ok(BlockWeights::new(
        source.norm(&name("norm_1"), cfg.d_model)?,
        attention,
        source.norm(&name("norm_2"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("ffn.up_proj"), &name("ffn.down_proj")])?,
    ))
}
