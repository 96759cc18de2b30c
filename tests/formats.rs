//! One model in several formats gives the same logits.

mod common;
#[path = "common/writers.rs"]
mod writers;

use std::fs;
use std::path::{Path, PathBuf};

use candlescope::candle_core::quantized::GgmlDType;
use candlescope::candle_core::quantized::gguf_file::Value;
use candlescope::prelude::*;
use common::{fixture, max_difference};
use writers::{Tensors, interleave, llama_cpp_name, write_gguf, write_safetensors, write_torch};

const PROMPT: [u32; 8] = [5, 80, 17, 200, 3, 119, 42, 7];

fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("formats").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder with the small files of a fixture.
fn without_weights(test: &str, name: &str) -> PathBuf {
    let folder = folder(test);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture(name).join(file), folder.join(file)).unwrap();
    }
    folder
}

fn logits(path: &Path) -> Tensor {
    let name = path.to_string_lossy();
    let model = HookedTransformer::from_pretrained_no_processing(&name).unwrap();
    model.forward(PROMPT.to_vec()).unwrap().tensor().clone()
}

#[test]
fn shards_and_checkpoints_are_the_same_model() {
    for name in ["llama", "gpt2"] {
        let expected = logits(&fixture(name));
        let tensors = writers::read(&fixture(name).join("model.safetensors"));
        let same = |folder: &Path| assert_eq!(max_difference(&logits(folder), &expected), 0.0, "{}", folder.display());

        let shards = without_weights(&format!("{name}_shards"), name);
        writers::sharded(&shards, &tensors, 3, "model.safetensors", write_safetensors);
        same(&shards);
        same(&shards.join("model.safetensors.index.json"));

        let bin = without_weights(&format!("{name}_bin"), name);
        write_torch(&bin.join("pytorch_model.bin"), &tensors);
        same(&bin);
        same(&bin.join("pytorch_model.bin"));

        let bins = without_weights(&format!("{name}_bins"), name);
        writers::sharded(&bins, &tensors, 2, "pytorch_model.bin", write_torch);
        same(&bins);

        let pth = without_weights(&format!("{name}_pth"), name);
        write_torch(&pth.join("model_final.pth"), &tensors);
        fs::write(pth.join("model_100.pth"), "not this one").unwrap();
        same(&pth);
    }
}

#[test]
fn narrow_and_wide_types_are_cast() {
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        // The same rounded numbers in the narrow type and in float32.
        let narrow: Tensors =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(dtype).unwrap())).collect();
        let wide: Tensors =
            narrow.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(DType::F32).unwrap())).collect();
        let found = [("narrow", narrow), ("wide", wide)].map(|(kind, tensors)| {
            let folder = without_weights(&format!("cast_{dtype:?}_{kind}"), "llama");
            write_safetensors(&folder.join("model.safetensors"), &tensors);
            logits(&folder)
        });
        assert_eq!(max_difference(&found[0], &found[1]), 0.0, "{dtype:?}");
    }
}

/// Metadata that llama.cpp's converter writes for a model of Llama's layout.
fn metadata(arch: &'static str, sizes: &Sizes, tokenizer: bool) -> Vec<(&'static str, Value)> {
    let key = |key: &str| -> &'static str { Box::leak(format!("{arch}.{key}").into_boxed_str()) };
    let int = |value: usize| Value::U32(value as u32);
    let mut metadata = vec![
        ("general.architecture", Value::String(arch.to_string())),
        (key("block_count"), int(sizes.layers)),
        (key("embedding_length"), int(sizes.d_model)),
        (key("feed_forward_length"), int(sizes.d_mlp)),
        (key("context_length"), int(64)),
        (key("attention.head_count"), int(sizes.heads)),
        (key("attention.head_count_kv"), int(sizes.key_value_heads)),
        (key("attention.layer_norm_rms_epsilon"), Value::F32(1e-6)),
        (key("rope.freq_base"), Value::F32(10000.0)),
        (key("rope.dimension_count"), int(sizes.d_model / sizes.heads)),
    ];
    if tokenizer {
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(fixture("llama").join("tokenizer.json")).unwrap()).unwrap();
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        let mut tokens = vec![String::new(); vocabulary.len()];
        for (token, id) in vocabulary {
            tokens[id.as_u64().unwrap() as usize] = token.clone();
        }
        let merge = |merge: &serde_json::Value| match merge.as_array() {
            Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            None => merge.as_str().unwrap().to_string(),
        };
        let merges = json["model"]["merges"].as_array().unwrap().iter().map(merge);
        let control = |token: &String| Value::I32(if token == "<|endoftext|>" { 3 } else { 1 });
        let kinds = tokens.iter().map(control).collect();
        metadata.extend([
            ("tokenizer.ggml.model", Value::String("gpt2".to_string())),
            ("tokenizer.ggml.pre", Value::String("gpt-2".to_string())),
            ("tokenizer.ggml.merges", Value::Array(merges.map(Value::String).collect())),
            ("tokenizer.ggml.token_type", Value::Array(kinds)),
            ("tokenizer.ggml.tokens", Value::Array(tokens.into_iter().map(Value::String).collect())),
            ("tokenizer.ggml.bos_token_id", Value::U32(0)),
            ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ]);
    }
    metadata
}

struct Sizes {
    layers: usize,
    d_model: usize,
    d_mlp: usize,
    heads: usize,
    key_value_heads: usize,
}

/// The tensors under llama.cpp's names, in its layout for the architecture.
fn converted(tensors: &Tensors, arch: &str, sizes: &Sizes) -> Vec<(String, Tensor)> {
    let convert = |(name, tensor): (&String, &Tensor)| {
        let tensor = match arch {
            "llama" if name.contains("q_proj") => interleave(tensor, sizes.heads),
            "llama" if name.contains("k_proj") => interleave(tensor, sizes.key_value_heads),
            _ => tensor.clone(),
        };
        (llama_cpp_name(name), tensor)
    };
    tensors.iter().map(convert).collect()
}

#[test]
fn a_gguf_file_is_a_model_by_itself() {
    let sizes = Sizes { layers: 3, d_model: 32, d_mlp: 48, heads: 4, key_value_heads: 2 };
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    let folder = folder("gguf_alone");
    let path = folder.join("llama-f32.gguf");
    write_gguf(&path, &metadata("llama", &sizes, true), &converted(&tensors, "llama", &sizes), GgmlDType::F32);
    let expected = logits(&fixture("llama"));
    assert_eq!(max_difference(&logits(&folder), &expected), 0.0);
    assert_eq!(max_difference(&logits(&path), &expected), 0.0);

    // Its tokenizer is that of tokenizer.json.
    let from_gguf = HookedTransformer::from_pretrained(&path.to_string_lossy()).unwrap();
    let from_json = common::model("llama");
    for text in ["the quick brown fox", "  two  spaces\n\nlines", "it's 12345 <|endoftext|> naïve 日本", ""] {
        let ids = |model: &HookedTransformer| model.to_tokens(text).unwrap().ids().to_vec();
        assert_eq!(ids(&from_gguf), ids(&from_json), "{text:?}");
        assert_eq!(from_gguf.to_str_tokens(text).unwrap(), from_json.to_str_tokens(text).unwrap());
    }

    // A way of splitting text that is not known: the model runs on ids and says why not on text.
    let mut other = metadata("llama", &sizes, true);
    other.iter_mut().find(|(key, _)| *key == "tokenizer.ggml.pre").unwrap().1 = Value::String("martian".to_string());
    let path = folder.join("other.gguf");
    write_gguf(&path, &other, &converted(&tensors, "llama", &sizes), GgmlDType::F32);
    assert_eq!(max_difference(&logits(&path), &expected), 0.0);
    let model = HookedTransformer::from_pretrained(&path.to_string_lossy()).unwrap();
    let why = model.forward("the fox").err().unwrap().to_string();
    assert!(why.contains("martian") && why.contains("other.gguf") && why.contains("tokenizer.json"), "{why}");
}

#[test]
fn gpt2s_transposed_matrices_are_turned_back() {
    let tensors = writers::read(&fixture("gpt2").join("model.safetensors"));
    let mut converted = Vec::new();
    for (name, tensor) in &tensors {
        let name = name.strip_prefix("transformer.").unwrap_or(name);
        let is_conv = [".c_attn.weight", ".c_proj.weight", ".c_fc.weight"].iter().any(|ending| name.ends_with(ending));
        let tensor = if is_conv { tensor.t().unwrap().contiguous().unwrap() } else { tensor.clone() };
        if let Some(rest) = name.strip_prefix("h.") {
            let (layer, part) = rest.split_once('.').unwrap();
            let part = part
                .replace("attn.c_attn", "attn_qkv")
                .replace("attn.c_proj", "attn_output")
                .replace("mlp.c_fc", "ffn_up")
                .replace("mlp.c_proj", "ffn_down")
                .replace("ln_1", "attn_norm")
                .replace("ln_2", "ffn_norm");
            converted.push((format!("blk.{layer}.{part}"), tensor));
        } else {
            let outer =
                name.replace("wte", "token_embd").replace("wpe", "position_embd").replace("ln_f", "output_norm");
            converted.push((outer, tensor));
        }
    }
    let metadata = [
        ("general.architecture", Value::String("gpt2".to_string())),
        ("gpt2.block_count", Value::U32(3)),
        ("gpt2.embedding_length", Value::U32(32)),
        ("gpt2.feed_forward_length", Value::U32(128)),
        ("gpt2.context_length", Value::U32(64)),
        ("gpt2.attention.head_count", Value::U32(4)),
        ("gpt2.attention.layer_norm_epsilon", Value::F32(1e-5)),
    ];
    let path = folder("gguf_gpt2").join("gpt2.gguf");
    write_gguf(&path, &metadata, &converted, GgmlDType::F32);
    assert_eq!(max_difference(&logits(&path), &logits(&fixture("gpt2"))), 0.0);
}

/// A random model, wide enough for blocks of 256, whose weights have the size that trained ones have.
fn random(sizes: &Sizes, d_vocab: usize, biases: bool) -> Tensors {
    // A fixed sequence, so that the measured errors are always the same.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f32 / (1u64 << 53) as f32
    };
    let mut tensors = Tensors::new();
    let mut add = |name: String, dims: &[usize], scale: f32, centre: f32| {
        let count = dims.iter().product();
        let normal = |_| (-2.0 * (uniform() + 1e-12).ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos();
        let values: Vec<f32> = (0..count).map(normal).map(|value| centre + scale * value).collect();
        tensors.insert(name, Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
    };
    let Sizes { layers, d_model, d_mlp, heads, key_value_heads } = *sizes;
    let width = |heads: usize| heads * d_model / sizes.heads;
    let scale = 1.0 / (d_model as f32).sqrt();
    add("model.embed_tokens.weight".into(), &[d_vocab, d_model], 1.0, 0.0);
    add("lm_head.weight".into(), &[d_vocab, d_model], scale, 0.0);
    add("model.norm.weight".into(), &[d_model], 0.1, 1.0);
    for layer in 0..layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        for (part, rows, columns) in [
            ("self_attn.q_proj", width(heads), d_model),
            ("self_attn.k_proj", width(key_value_heads), d_model),
            ("self_attn.v_proj", width(key_value_heads), d_model),
            ("self_attn.o_proj", d_model, width(heads)),
            ("mlp.gate_proj", d_mlp, d_model),
            ("mlp.up_proj", d_mlp, d_model),
            ("mlp.down_proj", d_model, d_mlp),
        ] {
            add(name(&format!("{part}.weight")), &[rows, columns], scale, 0.0);
            if biases && part.starts_with("self_attn") && !part.contains("o_proj") {
                add(name(&format!("{part}.bias")), &[rows], 0.1, 0.0);
            }
        }
        add(name("input_layernorm.weight"), &[d_model], 0.1, 1.0);
        add(name("post_attention_layernorm.weight"), &[d_model], 0.1, 1.0);
    }
    tensors
}

/// The root mean square of a difference, relative to that of the values.
fn relative_error(found: &Tensor, expected: &Tensor) -> f32 {
    let square = |tensor: &Tensor| tensor.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    (square(&(found - expected).unwrap()) / square(expected)).sqrt()
}

#[test]
fn quantised_models_are_as_near_as_their_format_allows() {
    let sizes = Sizes { layers: 2, d_model: 256, d_mlp: 512, heads: 8, key_value_heads: 4 };
    for arch in ["llama", "qwen2"] {
        let tensors = random(&sizes, 320, arch == "qwen2");
        let folder = folder(&format!("quantised_{arch}"));
        let config = serde_json::json!({
            "model_type": arch, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
            "num_key_value_heads": 4, "intermediate_size": 512, "vocab_size": 320, "max_position_embeddings": 64,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false,
        });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        write_safetensors(&folder.join("model.safetensors"), &tensors);
        let expected = logits(&folder);
        let mut line = format!("{arch}:");
        // What the logits of this model may be off by, about a third above what was measured.
        for (dtype, allowed) in [
            (GgmlDType::F32, 0.0),
            (GgmlDType::F16, 1e-3),
            (GgmlDType::BF16, 8e-3),
            (GgmlDType::Q8_0, 0.02),
            (GgmlDType::Q6K, 0.06),
            (GgmlDType::Q5K, 0.12),
            (GgmlDType::Q5_1, 0.12),
            (GgmlDType::Q5_0, 0.12),
            (GgmlDType::Q4K, 0.25),
            (GgmlDType::Q4_1, 0.25),
            (GgmlDType::Q4_0, 0.25),
            (GgmlDType::Q3K, 0.45),
            (GgmlDType::Q2K, 0.8),
        ] {
            let path = folder.join(format!("{dtype:?}.gguf"));
            write_gguf(&path, &metadata(arch, &sizes, false), &converted(&tensors, arch, &sizes), dtype);
            let error = relative_error(&logits(&path), &expected);
            line += &format!(" {dtype:?} {error:.2e}");
            assert!(error <= allowed, "{arch} {dtype:?}: {error} of {allowed}");
            assert!(dtype == GgmlDType::F32 || error > 0.0, "{dtype:?} can't be exact");
        }
        println!("{line}");
    }
}
