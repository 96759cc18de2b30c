//! How llama.cpp's names and layouts of tensors become those of Hugging Face.
//!
//! llama.cpp's converter reorders the rows of Llama's queries and keys (it turns neighbouring pairs of dimensions, and
//! Hugging Face halves), adds one to Gemma's norms (which multiply by 1 + w), and transposes GPT-2's matrices. All of
//! this is undone.

use candle_core::Tensor;

use crate::Result;

/// What was done to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Same,
    /// Rows reordered for rotation by neighbouring pairs, within each of so many heads.
    Interleaved(usize),
    PlusOne,
    Transposed,
}

impl Layout {
    /// The shape that the tensor has when it is undone.
    pub(super) fn shape(self, mut shape: Vec<usize>) -> Vec<usize> {
        if self == Self::Transposed {
            shape.reverse();
        }
        shape
    }

    pub(super) fn undo(self, tensor: Tensor) -> Result<Tensor> {
        match self {
            Self::Same => Ok(tensor),
            Self::PlusOne => Ok((tensor - 1.0)?),
            Self::Transposed => Ok(tensor.t()?.contiguous()?),
            Self::Interleaved(heads) => {
                let dims = tensor.dims().to_vec();
                let rows = dims.first().copied().unwrap_or(0);
                if heads == 0 || !rows.is_multiple_of(2 * heads) {
                    return Err(crate::Error::msg(format!(
                        "{rows} rows can't be those of {heads} heads of even width"
                    )));
                }
                let split = tensor.reshape((heads, rows / heads / 2, 2, tensor.elem_count() / rows))?;
                Ok(split.transpose(1, 2)?.contiguous()?.reshape(dims)?)
            }
        }
    }
}

/// The architecture and what of it the layouts depend on.
pub(super) struct Names<'a> {
    pub(super) arch: &'a str,
    pub(super) heads: usize,
    pub(super) key_value_heads: usize,
}

impl Names<'_> {
    /// Hugging Face's name of a tensor and its layout; `None` for what became a part of the configuration. A name
    /// that is not known is kept.
    pub(super) fn translate(&self, name: &str) -> Option<(String, Layout)> {
        if matches!(name, "rope_freqs.weight" | "rope_factors_long.weight" | "rope_factors_short.weight") {
            return None;
        }
        let kept = || Some((name.to_string(), Layout::Same));
        let Some((stem, kind)) = name.rsplit_once('.') else { return kept() };
        let translated = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, part)) => self.part(part).map(|(block, part)| format!("{block}.{layer}.{part}")),
            None => self.outer(stem).map(str::to_string),
        };
        let Some(translated) = translated else { return kept() };
        let full = format!("{translated}.{kind}");
        let layout = self.layout(&full);
        Some((full, layout))
    }

    fn outer(&self, stem: &str) -> Option<&'static str> {
        let gpt2 = self.arch == "gpt2";
        Some(match stem {
            "token_embd" if gpt2 => "transformer.wte",
            "position_embd" if gpt2 => "transformer.wpe",
            "output_norm" if gpt2 => "transformer.ln_f",
            "token_embd" => "model.embed_tokens",
            "output_norm" => "model.norm",
            "output" => "lm_head",
            _ => return None,
        })
    }

    fn part(&self, part: &str) -> Option<(&'static str, &'static str)> {
        let translated = if self.arch == "gpt2" {
            match part {
                "attn_norm" => "ln_1",
                "attn_qkv" => "attn.c_attn",
                "attn_output" => "attn.c_proj",
                "ffn_norm" => "ln_2",
                "ffn_up" => "mlp.c_fc",
                "ffn_down" => "mlp.c_proj",
                _ => return None,
            }
        } else {
            let sandwich = self.arch == "gemma2";
            match part {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_qkv" => "self_attn.qkv_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "post_attention_norm" if sandwich => "post_attention_layernorm",
                "ffn_norm" if sandwich => "pre_feedforward_layernorm",
                "post_ffw_norm" if sandwich => "post_feedforward_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                // Phi-3 stores gate and up projection as one.
                "ffn_up" if self.arch == "phi3" => "mlp.gate_up_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            }
        };
        Some((if self.arch == "gpt2" { "transformer.h" } else { "model.layers" }, translated))
    }

    fn layout(&self, name: &str) -> Layout {
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match self.arch {
            "llama" if ends(&["q_proj.weight", "q_proj.bias"]) => Layout::Interleaved(self.heads),
            "llama" if ends(&["k_proj.weight", "k_proj.bias"]) => Layout::Interleaved(self.key_value_heads),
            "gemma" | "gemma2" if name.ends_with("norm.weight") => Layout::PlusOne,
            "gpt2" if ends(&["c_attn.weight", "c_proj.weight", "c_fc.weight"]) => Layout::Transposed,
            _ => Layout::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn names(arch: &str) -> Names<'_> {
        Names { arch, heads: 4, key_value_heads: 2 }
    }

    #[test]
    fn every_architecture_gets_its_own_names() {
        for (arch, from, to) in [
            ("llama", "blk.12.attn_q.weight", "model.layers.12.self_attn.q_proj.weight"),
            ("qwen2", "blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias"),
            ("qwen3", "blk.0.attn_q_norm.weight", "model.layers.0.self_attn.q_norm.weight"),
            ("llama", "blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
            ("gemma2", "blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight"),
            ("gemma2", "blk.0.post_ffw_norm.weight", "model.layers.0.post_feedforward_layernorm.weight"),
            ("gemma2", "blk.0.post_attention_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
            ("phi3", "blk.0.attn_qkv.weight", "model.layers.0.self_attn.qkv_proj.weight"),
            ("phi3", "blk.0.ffn_up.weight", "model.layers.0.mlp.gate_up_proj.weight"),
            ("gpt2", "blk.0.ffn_up.bias", "transformer.h.0.mlp.c_fc.bias"),
            ("gpt2", "position_embd.weight", "transformer.wpe.weight"),
            ("llama", "output.weight", "lm_head.weight"),
            ("llama", "something.else", "something.else"),
        ] {
            assert_eq!(names(arch).translate(from).unwrap().0, to, "{arch}");
        }
        assert_eq!(names("llama").translate("rope_freqs.weight"), None);
    }

    #[test]
    fn layouts_are_those_of_the_architecture() {
        for (arch, name, layout) in [
            ("llama", "blk.0.attn_q.weight", Layout::Interleaved(4)),
            ("llama", "blk.0.attn_k.bias", Layout::Interleaved(2)),
            ("llama", "blk.0.attn_v.weight", Layout::Same),
            ("qwen2", "blk.0.attn_q.weight", Layout::Same),
            ("gemma2", "blk.0.post_ffw_norm.weight", Layout::PlusOne),
            ("gemma2", "output_norm.weight", Layout::PlusOne),
            ("llama", "output_norm.weight", Layout::Same),
            ("gpt2", "blk.0.attn_output.weight", Layout::Transposed),
        ] {
            assert_eq!(names(arch).translate(name).unwrap().1, layout, "{arch} {name}");
        }
    }

    #[test]
    fn pairs_become_halves() {
        // One head of four dimensions: neighbouring pairs (a, b) are a from the first half and b from the second.
        let pairs = Tensor::new(&[[0f32], [2.], [1.], [3.]], &Device::Cpu).unwrap();
        let halves = Layout::Interleaved(1).undo(pairs).unwrap();
        assert_eq!(halves.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0., 1., 2., 3.]);
        let odd = Tensor::new(&[[0f32], [2.], [1.]], &Device::Cpu).unwrap();
        assert!(Layout::Interleaved(1).undo(odd).is_err());
    }
}
