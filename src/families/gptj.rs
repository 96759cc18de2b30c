//! GPT-J (Wang and Komatsuzaki 2021): partial rotary positions in adjacent pairs, attention and MLP behind one norm.

use super::{ConfigJson, Family, layout};
use crate::Result;
use crate::model::{Activation, ModelConfig, Rotary, Sizes};
use crate::weights::{AttentionWeights, BlockWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "gptj", config, weights };

/// The configuration of GPT-J, and of CodeGen.
pub(super) fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let (d_model, n_heads) = (json.size("n_embd")?, json.size("n_head")?);
    let sizes = Sizes {
        n_layers: json.size("n_layer")?,
        d_model,
        n_ctx: json.size_or("n_positions", 2048)?,
        n_heads,
        d_head: json.divide("n_embd / n_head", d_model, n_heads)?,
        d_mlp: json.size_or("n_inner", 4 * d_model)?,
        d_vocab: json.size("vocab_size")?,
    };
    let rotary_dim = json.size_or("rotary_dim", 64)?;
    if !rotary_dim.is_multiple_of(2) || rotary_dim > sizes.d_head {
        let why = format!("'rotary_dim' is {rotary_dim}; an even number up to {} (a head) is needed", sizes.d_head);
        return Err(json.error(why));
    }
    let rotary = Rotary { adjacent_pairs: true, ..Rotary::new(rotary_dim, 10000.0) };
    let act_fn = json.activation_or("activation_function", Activation::GeluNew)?;
    Ok(ModelConfig {
        eps: json.number_or("layer_norm_epsilon", 1e-5)?,
        parallel_attn_mlp: true,
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        ..ModelConfig::new(&json.string("model_type")?, act_fn, sizes).with_rotary(rotary)
    })
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    decoder(cfg, source, |cfg, source, name| {
        let [q, k, v, o] = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| format!("{name}.{part}"));
        layout::attention(cfg, source, [&q, &k, &v, &o])
    })
}

/// GPT-J's weights around an attention that is read from the tensors under a name such as `h.0.attn`.
pub(super) fn decoder(
    cfg: &ModelConfig,
    source: &WeightSource,
    attention: fn(&ModelConfig, &WeightSource, &str) -> Result<AttentionWeights>,
) -> Result<Weights> {
    let source = source.with_optional_prefix("transformer.");
    layout::decoder(cfg, &source, ["wte", "ln_f", "lm_head"], move |cfg: &ModelConfig, source: &WeightSource, layer| {
        let name = |part: &str| format!("h.{layer}.{part}");
        Ok(BlockWeights::parallel(
            source.norm(&name("ln_1"), cfg.d_model)?,
            attention(cfg, source, &name("attn"))?,
            layout::mlp(cfg, source, [&name("mlp.fc_in"), &name("mlp.fc_out")])?,
        ))
    })
}
