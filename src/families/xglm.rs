//! XGLM (Lin et al. 2021): OPT's layout with positions made of sines and cosines, and a scaled embedding.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Positions, Sizes};
use crate::weights::{BlockWeights, Processing, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "xglm", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    json.refuse_if(json.flag_or("add_cross_attention", false)?, "add_cross_attention")?;
    let (d_model, n_heads) = (json.size("d_model")?, json.size("attention_heads")?);
    let sizes = Sizes {
        n_layers: json.size("num_layers")?,
        d_model,
        n_ctx: json.size_or("max_position_embeddings", 2048)?,
        n_heads,
        d_head: json.divide("d_model / attention_heads", d_model, n_heads)?,
        d_mlp: json.size("ffn_dim")?,
        d_vocab: json.size("vocab_size")?,
    };
    let scaled = json.flag_or("scale_embedding", true)?;
    let act_fn = json.activation_or("activation_function", Activation::Gelu)?;
    Ok(ModelConfig {
        positions: Positions::Sinusoidal,
        embedding_multiplier: if scaled { (d_model as f64).sqrt() } else { 1.0 },
        // The table of sines can't be centred, so nothing else is.
        processing: Processing { center_writing_weights: false, ..Processing::default() },
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..ModelConfig::new("xglm", act_fn, sizes)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("model.");
    layout::decoder(cfg, &source, ["embed_tokens", "layer_norm", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("layers.{layer}.{part}");
    let [q, k, v, o] = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| name(&format!("self_attn.{part}")));
    Ok(BlockWeights::new(
        source.norm(&name("self_attn_layer_norm"), cfg.d_model)?,
        layout::attention(cfg, source, [&q, &k, &v, &o])?,
        source.norm(&name("final_layer_norm"), cfg.d_model)?,
        layout::mlp(cfg, source, [&name("fc1"), &name("fc2")])?,
    ))
}
