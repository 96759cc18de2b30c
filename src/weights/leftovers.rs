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

/// Whether a tensor may be left unread: `is_read` says whether one of the same shape was read.
pub(super) fn is_harmless(meta: &TensorMeta, is_read: impl Fn(&[usize]) -> bool) -> bool {
    let ends = |endings: &[&str]| endings.iter().any(|ending| meta.name.ends_with(ending));
    let is_mask = || meta.shape.len() != 1 || !meta.is_float;
    ends(BUFFERS) || (ends(MASKS) && is_mask()) || (ends(TIED) && is_read(&meta.shape))
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
        let never = |_: &[usize]| false;
        assert!(is_harmless(&meta("h.0.attn.bias", &[1, 1, 64, 64], true), never));
        assert!(is_harmless(&meta("gpt_neox.layers.0.attention.masked_bias", &[], true), never));
        assert!(is_harmless(&meta("gpt_neox.layers.0.attention.bias", &[1, 1, 8, 8], false), never));
        assert!(is_harmless(&meta("model.layers.0.self_attn.rotary_emb.inv_freq", &[16], true), never));
        assert!(!is_harmless(&meta("layers.0.attention.bias", &[64], true), never));
        assert!(!is_harmless(&meta("layers.0.mlp.up_proj.bias", &[64], true), never));
    }

    #[test]
    fn a_tied_copy_is_harmless_only_beside_its_original() {
        let head = meta("lm_head.weight", &[320, 32], true);
        assert!(is_harmless(&head, |shape| shape == [320, 32]));
        assert!(!is_harmless(&head, |_| false));
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
