//! What it means when a file has tensors that a model does not ask for.

use super::files::TensorMeta;

/// Names' endings under which the embedding is stored once more where a model ties it.
const TIED: &[&str] = &[
    "lm_head.weight",
    "embed_out.weight",
    "shared.weight",
    "wte.weight",
    "embed_tokens.weight",
    "word_embeddings.weight",
    "lm_head.decoder.weight",
    "predictions.decoder.weight",
];

/// Buffers that code keeps beside its weights, and computes anew.
const BUFFERS: &[&str] = &["rotary_emb.inv_freq", "position_ids", "num_batches_tracked"];

/// Where causal masks are kept. The same names with one dimension are biases.
const MASKS: &[&str] = &[".attn.bias", ".attention.bias", ".masked_bias", ".attn.mask"];

/// Endings of names, how the weights beside them are quantised, and what to use instead.
const QUANTISED: &[(&str, &str)] = &[
    (".qweight", "as GPTQ or AWQ do"),
    (".qzeros", "as GPTQ or AWQ do"),
    (".weight_packed", "as compressed-tensors do"),
    (".weight_scale", "to 8 bits with a scale"),
    (".weight_scale_inv", "to 8 bits with a scale for each block"),
    (".absmax", "as bitsandbytes does"),
    (".SCB", "as bitsandbytes does"),
    ("_blocks", "to MXFP4"),
    ("_scales", "to MXFP4"),
];

/// Whether a tensor carries no weights, and may be left unread.
pub(super) fn is_buffer(meta: &TensorMeta) -> bool {
    let is_mask = || meta.shape.len() != 1 || !meta.is_float;
    ends(meta, BUFFERS) || (ends(meta, MASKS) && is_mask())
}

/// Whether a tensor may be left unread if it is a copy of one that was read.
pub(super) fn is_tied(meta: &TensorMeta) -> bool {
    ends(meta, TIED) && meta.shape.len() == 2 && meta.is_float
}

fn ends(meta: &TensorMeta, endings: &[&str]) -> bool {
    endings.iter().any(|ending| meta.name.ends_with(ending))
}

/// A sentence if the tensors are quantised in a way that is not read.
pub(super) fn quantised<'a>(tensors: impl Iterator<Item = &'a TensorMeta>) -> Option<String> {
    let found = tensors.filter_map(|meta| {
        let how = QUANTISED.iter().find(|(ending, _)| meta.name.ends_with(ending))?;
        Some((meta.name.as_str(), how.1))
    });
    let (name, how) = found.min()?;
    Some(format!(
        "the weights are quantised {how} (the tensor '{name}'), and candlescope does not read that; use the model's \
         bfloat16 or float16 version, or a GGUF file (Q4_0 to Q8_0, Q2_K to Q6_K)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, shape: &[usize], is_float: bool) -> TensorMeta {
        TensorMeta { name: name.to_string(), dtype: "F32".to_string(), is_float, shape: shape.to_vec() }
    }

    #[test]
    fn masks_are_harmless_and_biases_are_not() {
        assert!(is_buffer(&meta("h.0.attn.bias", &[1, 1, 64, 64], true)));
        assert!(is_buffer(&meta("gpt_neox.layers.0.attention.masked_bias", &[], true)));
        assert!(is_buffer(&meta("gpt_neox.layers.0.attention.bias", &[1, 1, 8, 8], false)));
        assert!(is_buffer(&meta("model.layers.0.self_attn.rotary_emb.inv_freq", &[16], true)));
        assert!(!is_buffer(&meta("layers.0.attention.bias", &[64], true)));
        assert!(!is_buffer(&meta("layers.0.mlp.up_proj.bias", &[64], true)));
    }

    #[test]
    fn quantised_weights_are_said_to_be_so() {
        for (name, expected) in [
            ("model.layers.0.self_attn.q_proj.qweight", "GPTQ"),
            ("model.layers.0.mlp.experts.gate_up_proj_blocks", "MXFP4"),
            ("model.layers.0.self_attn.q_proj.weight_scale_inv", "8 bits"),
        ] {
            let metas = [meta(name, &[4, 4], false)];
            let why = quantised(metas.iter()).unwrap();
            assert!(why.contains(expected) && why.contains(name) && why.contains("GGUF"), "{why}");
        }
        assert!(quantised([meta("lm_head.weight", &[4, 4], true)].iter()).is_none());
    }
}
