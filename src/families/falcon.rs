//! Falcon (Almazrouei et al. 2023), of three makes: 7B (one key head, one norm), 40B and later (`new_decoder_architecture`:
//! a key head per group, a norm for each branch), and the RefinedWeb models (ALiBi, attention before MLP).

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, AlibiStyle, ModelConfig, Positions, Sizes};
use crate::weights::{BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "falcon", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let d_model = json.size_of(&["hidden_size", "n_embed"])?;
    let n_heads = json.size_of(&["num_attention_heads", "n_head"])?;
    let sizes = Sizes {
        n_layers: json.size_of(&["num_hidden_layers", "n_layer"])?,
        d_model,
        n_ctx: json.size_or("max_position_embeddings", 2048)?,
        n_heads,
        d_head: json.divide("hidden_size / num_attention_heads", d_model, n_heads)?,
        d_mlp: json.size_or("ffn_hidden_size", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
    };
    let grouped = json.flag_or("new_decoder_architecture", false)?;
    let parallel = json.flag_or("parallel_attn", true)?;
    if grouped && !parallel {
        return Err(json.error("'new_decoder_architecture' is set, which needs 'parallel_attn'"));
    }
    let norms = json.size_or("num_ln_in_parallel_attn", if grouped { 2 } else { 1 })?;
    if parallel && norms != 1 && !(grouped && norms == 2) {
        let why =
            format!("'num_ln_in_parallel_attn' is {norms}: 1, or 2 with 'new_decoder_architecture', was expected");
        return Err(json.error(why));
    }
    let n_key_value_heads = if grouped {
        json.size_of_or(&["num_kv_heads", "n_head_kv"], n_heads)?
    } else if json.flag_or("multi_query", true)? {
        1
    } else {
        n_heads
    };
    json.divide("num_attention_heads / num_kv_heads", n_heads, n_key_value_heads)?;
    let act_fn = json.activation_or("activation", Activation::Gelu)?;
    let cfg = ModelConfig::new("falcon", act_fn, sizes);
    let cfg = if json.flag_or("alibi", false)? {
        ModelConfig { positions: Positions::Alibi { bias_max: 8.0, style: AlibiStyle::Falcon }, ..cfg }
    } else {
        let rotary = json.rotary(cfg.d_head, 1.0, 10000.0)?;
        cfg.with_rotary(rotary)
    };
    Ok(ModelConfig {
        n_key_value_heads,
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        parallel_attn_mlp: parallel,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", true)?,
        ..cfg
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let source = source.with_optional_prefix("transformer.");
    layout::decoder(cfg, &source, ["word_embeddings", "ln_f", "lm_head"], block)
}

fn block(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<BlockWeights> {
    let name = |part: &str| format!("h.{layer}.{part}");
    let norm = |part: &str| source.norm(&name(part), cfg.d_model);
    // Each key head's queries lie together with it; so all makes have as many groups as key heads.
    let [qkv, o] = ["self_attention.query_key_value", "self_attention.dense"].map(name);
    let attention = layout::fused_attention(cfg, source, cfg.n_key_value_heads, [&qkv, &o])?;
    let mlp = layout::mlp(cfg, source, [&name("mlp.dense_h_to_4h"), &name("mlp.dense_4h_to_h")])?;
    Ok(if !cfg.parallel_attn_mlp {
        BlockWeights::new(norm("input_layernorm")?, attention, norm("post_attention_layernorm")?, mlp)
    } else if source.has(&name("ln_attn.weight")) {
        BlockWeights::new(norm("ln_attn")?, attention, norm("ln_mlp")?, mlp)
    } else {
        BlockWeights::parallel(norm("input_layernorm")?, attention, mlp)
    })
}
