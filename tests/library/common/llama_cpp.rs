//! What llama.cpp's converter (convert_hf_to_gguf.py) makes of a model in Hugging Face's form: its metadata, its names of
//! the tensors, and what it does to their numbers. Written from that program, with nothing of the library's own reading.

use candlescope::candle_core::quantized::gguf_file::Value;
use candlescope::prelude::*;
use serde_json::Value as Json;

use crate::common::writers::Tensors;

/// What a GGUF file holds: metadata and tensors, by name.
type Contents = (Vec<(String, Value)>, Vec<(String, Tensor)>);

/// The metadata of a model of this config.json, without a tokenizer, and its tensors.
pub fn convert(config: &Json, tensors: &Tensors) -> Contents {
    // Mistral is a Llama to llama.cpp.
    let arch = match config["model_type"].as_str().unwrap() {
        "mistral" => "llama",
        other => other,
    };
    let mut extra = Vec::new();
    let metadata = metadata(arch, config, &mut extra);
    let converted = tensors.iter().filter(|(name, _)| !(arch.starts_with("gemma") && *name == "lm_head.weight"));
    extra.extend(converted.map(|(name, tensor)| (tensor_name(arch, name), numbers(arch, config, name, tensor))));
    (metadata, extra)
}

fn metadata(arch: &str, config: &Json, extra: &mut Vec<(String, Tensor)>) -> Vec<(String, Value)> {
    let size = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}")) as u32;
    let number = |key: &str| config[key].as_f64().unwrap_or_else(|| panic!("no {key}")) as f32;
    let mut metadata = vec![("general.architecture".to_string(), Value::String(arch.to_string()))];
    let mut add = |key: &str, value: Value| metadata.push((format!("{arch}.{key}"), value));
    let heads = size("num_attention_heads");
    let d_head = config["head_dim"].as_u64().map(|d_head| d_head as u32);
    let width = d_head.unwrap_or(size("hidden_size") / heads);
    add("block_count", Value::U32(size("num_hidden_layers")));
    add("context_length", Value::U32(size("max_position_embeddings")));
    add("embedding_length", Value::U32(size("hidden_size")));
    add("feed_forward_length", Value::U32(size("intermediate_size")));
    add("attention.head_count", Value::U32(heads));
    add("attention.head_count_kv", Value::U32(config["num_key_value_heads"].as_u64().unwrap_or(heads.into()) as u32));
    add("attention.layer_norm_rms_epsilon", Value::F32(number("rms_norm_eps")));
    if let (Some(d_head), false) = (d_head, arch == "phi3") {
        add("attention.key_length", Value::U32(d_head));
        add("attention.value_length", Value::U32(d_head));
    }
    // Gemma's files leave the base to llama.cpp's default of 10000.
    if !arch.starts_with("gemma") {
        add("rope.freq_base", Value::F32(number("rope_theta")));
    }
    let scaling = &config["rope_scaling"];
    match arch {
        "gemma2" => {
            add("attn_logit_softcapping", Value::F32(number("attn_logit_softcapping")));
            add("final_logit_softcapping", Value::F32(number("final_logit_softcapping")));
            add("attention.sliding_window", Value::U32(size("sliding_window")));
        }
        "phi3" => {
            let partial = config["partial_rotary_factor"].as_f64().unwrap_or(1.0);
            let original = size("original_max_position_embeddings");
            add("rope.dimension_count", Value::U32((partial * f64::from(size("hidden_size"))) as u32 / heads));
            add("rope.scaling.original_context_length", Value::U32(original));
            add("attention.sliding_window", Value::U32(config["sliding_window"].as_u64().unwrap_or(0) as u32));
            if scaling["type"] == "longrope" {
                let scale = f64::from(size("max_position_embeddings")) / f64::from(original);
                let stretch = if scale > 1.0 { (1.0 + scale.ln() / f64::from(original).ln()).sqrt() } else { 1.0 };
                add("rope.scaling.attn_factor", Value::F32(stretch as f32));
                for which in ["long", "short"] {
                    extra.push((format!("rope_factors_{which}.weight"), vector(&scaling[format!("{which}_factor")])));
                }
            }
        }
        "llama" => {
            add("vocab_size", Value::U32(size("vocab_size")));
            add("rope.dimension_count", Value::U32(width));
            if scaling["rope_type"] == "llama3" {
                extra.push(("rope_freqs.weight".to_string(), llama3_factors(scaling, number("rope_theta"), width)));
            }
        }
        _ => {}
    }
    if scaling["type"] == "yarn" {
        add("rope.scaling.type", Value::String("yarn".to_string()));
        add("rope.scaling.factor", Value::F32(scaling["factor"].as_f64().unwrap() as f32));
        let original = scaling["original_max_position_embeddings"].as_u64().unwrap() as u32;
        add("rope.scaling.original_context_length", Value::U32(original));
    }
    if scaling["type"] == "linear" {
        add("rope.scaling.type", Value::String("linear".to_string()));
        add("rope.scaling.factor", Value::F32(scaling["factor"].as_f64().unwrap() as f32));
    }
    metadata
}

fn vector(numbers: &Json) -> Tensor {
    let numbers: Vec<f32> = numbers.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect();
    Tensor::new(numbers, &Device::Cpu).unwrap()
}

/// What Llama 3 divides each frequency by (Llama 3.1's reference code).
fn llama3_factors(scaling: &Json, base: f32, width: u32) -> Tensor {
    let number = |key: &str| scaling[key].as_f64().unwrap();
    let (factor, original) = (number("factor"), number("original_max_position_embeddings"));
    let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
    let of = |pair: u32| {
        let wavelength = std::f64::consts::TAU * f64::from(base).powf(f64::from(2 * pair) / f64::from(width));
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor as f32
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        }
    };
    Tensor::new((0..width / 2).map(of).collect::<Vec<f32>>(), &Device::Cpu).unwrap()
}

/// llama.cpp's name of one of Hugging Face's tensors.
pub fn tensor_name(arch: &str, name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let Some((layer, part)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) else {
        return match name {
            "embed_tokens.weight" => "token_embd.weight",
            "norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            other => panic!("llama.cpp does not convert '{other}'"),
        }
        .to_string();
    };
    let (module, kind) = part.rsplit_once('.').unwrap();
    let module = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" if arch == "gemma2" => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => panic!("llama.cpp does not convert '{other}'"),
    };
    format!("blk.{layer}.{module}.{kind}")
}

/// What the converter makes of a tensor's numbers.
fn numbers(arch: &str, config: &Json, name: &str, tensor: &Tensor) -> Tensor {
    let heads = |key: &str| config[key].as_u64().or(config["num_attention_heads"].as_u64()).unwrap() as usize;
    match arch {
        "llama" if name.contains("q_proj") => permuted(tensor, heads("num_attention_heads")),
        "llama" if name.contains("k_proj") => permuted(tensor, heads("num_key_value_heads")),
        "gemma" | "gemma2" if name.ends_with("norm.weight") => (tensor + 1.0).unwrap(),
        _ => tensor.clone(),
    }
}

/// The rows of Llama's queries and keys, or their biases: halves of a head become neighbouring pairs.
fn permuted(tensor: &Tensor, heads: usize) -> Tensor {
    let rows = tensor.dim(0).unwrap();
    let split = tensor.reshape((heads, 2, rows / heads / 2, tensor.elem_count() / rows)).unwrap();
    split.transpose(1, 2).unwrap().contiguous().unwrap().reshape(tensor.shape()).unwrap()
}
