//! A model as llama.cpp's converter writes it gives the logits of the same weights as safetensors.

use crate::common::llama_cpp;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::writers::{self, Tensors, write_gguf, write_safetensors};
use crate::common::{fixture, max_difference};
use candlescope::candle_core::quantized::GgmlDType;
use candlescope::candle_core::quantized::gguf_file::Value;
use candlescope::prelude::*;
use serde_json::{Value as Json, json};

const PROMPT: [u32; 8] = [5, 80, 17, 200, 3, 119, 42, 7];

fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gguf").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn load(path: &Path) -> HookedTransformer {
    HookedTransformer::from_pretrained_no_processing(&path.to_string_lossy()).unwrap()
}

fn logits(path: &Path) -> Tensor {
    load(path).forward(PROMPT.to_vec()).unwrap().tensor().clone()
}

/// Logits of these weights and this config.json as a folder with safetensors.
fn reference(folder: &Path, config: &Json, tensors: &Tensors) -> Tensor {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    write_safetensors(&folder.join("model.safetensors"), tensors);
    logits(folder)
}

/// A config.json of this type for `random`, with changes.
fn config(model_type: &str, changes: Json) -> Json {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 4, "intermediate_size": 512, "vocab_size": 323, "max_position_embeddings": 64,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

/// Random weights for a config.json, wide enough for blocks of 256, of the size that trained ones have.
fn random(config: &Json) -> Tensors {
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
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let model_type = config["model_type"].as_str().unwrap();
    let (d_model, d_mlp, heads) = (size("hidden_size"), size("intermediate_size"), size("num_attention_heads"));
    let d_head = config["head_dim"].as_u64().map_or(d_model / heads, |d_head| d_head as usize);
    let (width, kv_width) = (heads * d_head, size("num_key_value_heads") * d_head);
    let scale = 1.0 / (d_model as f32).sqrt();
    let gemma = model_type.starts_with("gemma");
    // Gemma stores what is to be added to one.
    let centre = if gemma { 0.0 } else { 1.0 };
    // Gemma multiplies the embedding by the root of d_model.
    add("model.embed_tokens.weight".into(), &[size("vocab_size"), d_model], if gemma { scale } else { 1.0 }, 0.0);
    if config["tie_word_embeddings"] == false {
        add("lm_head.weight".into(), &[size("vocab_size"), d_model], scale, 0.0);
    }
    add("model.norm.weight".into(), &[d_model], 0.1, centre);
    let (mut linears, mut norms) = (Vec::new(), vec!["input_layernorm", "post_attention_layernorm"]);
    if model_type == "phi3" {
        linears
            .extend([("self_attn.qkv_proj", width + 2 * kv_width, d_model), ("mlp.gate_up_proj", 2 * d_mlp, d_model)]);
    } else {
        linears.extend([("self_attn.q_proj", width, d_model), ("self_attn.k_proj", kv_width, d_model)]);
        linears.extend([("self_attn.v_proj", kv_width, d_model)]);
        linears.extend([("mlp.gate_proj", d_mlp, d_model), ("mlp.up_proj", d_mlp, d_model)]);
    }
    linears.extend([("self_attn.o_proj", d_model, width), ("mlp.down_proj", d_model, d_mlp)]);
    if model_type == "gemma2" {
        norms.extend(["pre_feedforward_layernorm", "post_feedforward_layernorm"]);
    }
    let biased = |part: &str| match model_type {
        "qwen2" => part.starts_with("self_attn") && !part.contains("o_proj"),
        _ => config["attention_bias"] == true && part.starts_with("self_attn"),
    };
    for layer in 0..size("num_hidden_layers") {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        for (part, rows, columns) in &linears {
            add(name(&format!("{part}.weight")), &[*rows, *columns], scale, 0.0);
            if biased(part) {
                add(name(&format!("{part}.bias")), &[*rows], 0.1, 0.0);
            }
        }
        for part in &norms {
            add(name(&format!("{part}.weight")), &[d_model], 0.1, centre);
        }
        if model_type == "qwen3" {
            add(name("self_attn.q_norm.weight"), &[d_head], 0.1, 1.0);
            add(name("self_attn.k_norm.weight"), &[d_head], 0.1, 1.0);
        }
    }
    tensors
}

/// The root mean square of a difference, relative to that of the values.
fn relative_error(found: &Tensor, expected: &Tensor) -> f32 {
    let square = |tensor: &Tensor| tensor.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    (square(&(found - expected).unwrap()) / square(expected)).sqrt()
}

#[test]
fn whole_files_of_every_architecture() {
    let factors = |from: f64| -> Vec<f64> { (0..16).map(|i| from + 0.25 * f64::from(i)).collect() };
    let gelu = "gelu_pytorch_tanh";
    // What the caps and windows do has to show within eight tokens, and so do factors for long prompts.
    let models = [
        ("llama", config("llama", json!({"head_dim": 64, "attention_bias": true}))),
        (
            "llama 3",
            config(
                "llama",
                json!({"tie_word_embeddings": true, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}),
            ),
        ),
        ("llama, linear", config("llama", json!({"rope_scaling": {"type": "linear", "factor": 4.0}}))),
        ("qwen2", config("qwen2", json!({"tie_word_embeddings": true}))),
        (
            "qwen2, yarn",
            config(
                "qwen2",
                json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}),
            ),
        ),
        ("qwen3", config("qwen3", json!({"head_dim": 64}))),
        (
            "gemma",
            config(
                "gemma",
                json!({"tie_word_embeddings": true, "head_dim": 64, "num_key_value_heads": 1, "hidden_act": gelu}),
            ),
        ),
        (
            "gemma2",
            config(
                "gemma2",
                json!({"tie_word_embeddings": true, "head_dim": 64, "hidden_activation": gelu, "sliding_window": 3,
                    "query_pre_attn_scalar": 64, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5}),
            ),
        ),
        (
            "phi3",
            config(
                "phi3",
                json!({"original_max_position_embeddings": 64, "sliding_window": 3, "partial_rotary_factor": 0.75}),
            ),
        ),
        (
            "phi3, long",
            config(
                "phi3",
                json!({"original_max_position_embeddings": 4, "tie_word_embeddings": true,
                    "rope_scaling": {"type": "longrope", "short_factor": factors(1.0), "long_factor": factors(2.0)}}),
            ),
        ),
    ];
    for (name, config) in models {
        let tensors = random(&config);
        let folder = folder(&name.replace([',', ' '], "_"));
        let expected = reference(&folder, &config, &tensors);
        let (metadata, converted) = llama_cpp::convert(&config, &tensors);
        let file = |dtype: GgmlDType| {
            let path = folder.join(format!("{dtype:?}.gguf"));
            write_gguf(&path, &metadata, &converted, dtype);
            path
        };
        let whole = file(GgmlDType::F32);
        // One added to Gemma's norms and taken away again is nothing lost, but a factor in float32 is.
        let rounding = if name == "phi3, long" { 1e-5 } else { 0.0 };
        let difference = relative_error(&logits(&whole), &expected);
        assert!(difference <= rounding, "{name}: {difference}");
        let mut line = format!("{name}: F32 {difference:.0e}");
        for (dtype, allowed) in [(GgmlDType::Q8_0, 0.03), (GgmlDType::Q6K, 0.1), (GgmlDType::Q4K, 0.4)] {
            let error = relative_error(&logits(&file(dtype)), &expected);
            line += &format!(", {dtype:?} {error:.1e}");
            assert!(error > 0.0 && error < allowed, "{name} {dtype:?}: {error} of {allowed}");
        }
        println!("{line}");
    }
}

/// A small file of an architecture, with metadata added and taken away.
fn edited(test: &str, config: &Json, add: &[(&str, Value)], without: &[&str]) -> PathBuf {
    let (mut metadata, converted) = llama_cpp::convert(config, &random(config));
    metadata.retain(|(key, _)| !without.contains(&key.as_str()));
    metadata.extend(add.iter().map(|(key, value)| (key.to_string(), value.clone())));
    let path = folder(test).join("model.gguf");
    write_gguf(&path, &metadata, &converted, GgmlDType::F32);
    path
}

#[test]
fn what_the_metadata_leaves_out_and_what_it_adds() {
    // The first files of Gemma 2 had no caps, and llama.cpp takes 50 and 30.
    let gemma2 = |caps: [f64; 2]| {
        config(
            "gemma2",
            json!({"tie_word_embeddings": true, "head_dim": 64, "hidden_activation": "gelu_pytorch_tanh",
                "sliding_window": 3, "query_pre_attn_scalar": 64, "attn_logit_softcapping": caps[0],
                "final_logit_softcapping": caps[1]}),
        )
    };
    let caps = ["gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping"];
    let cfg = load(&edited("uncapped", &gemma2([2.0, 1.5]), &[], &caps)).cfg().clone();
    assert_eq!((cfg.attn_scores_soft_cap, cfg.output_logits_soft_cap), (Some(50.0), Some(30.0)));

    // A Llama with a window is a Mistral.
    let mistral = config("mistral", json!({"sliding_window": 3}));
    let expected = reference(&folder("mistral"), &mistral, &random(&mistral));
    let window = [("llama.attention.sliding_window", Value::U32(3))];
    let path = edited("mistral_gguf", &mistral, &window, &[]);
    assert_eq!(max_difference(&logits(&path), &expected), 0.0);
    assert!(max_difference(&logits(&edited("mistral_without", &mistral, &[], &[])), &expected) > 1e-3);

    // Switches that would change the model are refused by name.
    for (arch, key, value) in [
        ("llama", "llama.attention.clamp_kqv", Value::F32(8.0)),
        ("llama", "llama.logit_scale", Value::F32(0.5)),
        ("llama", "llama.use_parallel_residual", Value::Bool(true)),
        ("qwen2", "qwen2.attention.sliding_window", Value::U32(4096)),
        ("qwen2", "qwen2.expert_count", Value::U32(8)),
        ("llama", "llama.attention.value_length", Value::U32(16)),
    ] {
        let path = edited("switch", &config(arch, json!({})), &[(key, value)], &[]);
        let why = HookedTransformer::from_pretrained(&path.to_string_lossy()).err().unwrap().to_string();
        assert!(why.contains(key) && why.contains("model.gguf"), "{why}");
    }
    // And one that is off is none.
    let off = [("llama.use_parallel_residual", Value::Bool(false)), ("llama.logit_scale", Value::F32(0.0))];
    load(&edited("off", &config("llama", json!({})), &off, &[]));
}

#[test]
fn quantised_models_are_as_near_as_their_format_allows() {
    for arch in ["llama", "qwen2"] {
        let config = config(arch, json!({}));
        let tensors = random(&config);
        let folder = folder(&format!("quantised_{arch}"));
        let expected = reference(&folder, &config, &tensors);
        let (metadata, converted) = llama_cpp::convert(&config, &tensors);
        let mut line = format!("{arch}:");
        // What the logits of this model may be off by, about a third above what was measured.
        for (dtype, allowed) in [
            (GgmlDType::F16, 1e-3),
            (GgmlDType::BF16, 8e-3),
            (GgmlDType::Q8_0, 0.02),
            (GgmlDType::Q6K, 0.06),
            (GgmlDType::Q5K, 0.15),
            (GgmlDType::Q5_1, 0.15),
            (GgmlDType::Q5_0, 0.15),
            (GgmlDType::Q4K, 0.28),
            (GgmlDType::Q4_1, 0.28),
            (GgmlDType::Q4_0, 0.3),
            (GgmlDType::Q3K, 0.45),
            (GgmlDType::Q2K, 0.8),
        ] {
            let path = folder.join(format!("{dtype:?}.gguf"));
            write_gguf(&path, &metadata, &converted, dtype);
            let error = relative_error(&logits(&path), &expected);
            line += &format!(" {dtype:?} {error:.2e}");
            assert!(error <= allowed, "{arch} {dtype:?}: {error} of {allowed}");
            assert!(error > 0.0, "{dtype:?} can't be exact");
        }
        println!("{line}");
    }
}

/// GPT-2's kind of tokenizer, as the converter writes it from a tokenizer.json.
fn tokenizer(json: &Json) -> Vec<(String, Value)> {
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); vocabulary.len()];
    for (token, id) in vocabulary {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let merge = |merge: &Json| match merge.as_array() {
        Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
        None => merge.as_str().unwrap().to_string(),
    };
    let merges = json["model"]["merges"].as_array().unwrap().iter().map(merge);
    let control = |token: &String| Value::I32(if token == "<|endoftext|>" { 3 } else { 1 });
    let kinds = tokens.iter().map(control).collect();
    let entries = [
        ("model", Value::String("gpt2".to_string())),
        ("pre", Value::String("gpt-2".to_string())),
        ("merges", Value::Array(merges.map(Value::String).collect())),
        ("token_type", Value::Array(kinds)),
        ("tokens", Value::Array(tokens.into_iter().map(Value::String).collect())),
        ("bos_token_id", Value::U32(0)),
        ("eos_token_id", Value::U32(0)),
    ];
    entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}

#[test]
fn a_gguf_file_is_a_model_by_itself() {
    let read =
        |file: &str| -> Json { serde_json::from_slice(&fs::read(fixture("llama").join(file)).unwrap()).unwrap() };
    let mut config = read("config.json");
    config["rope_theta"] = json!(10000.0);
    let tensors = writers::read(&fixture("llama").join("model.safetensors"));
    let (mut metadata, converted) = llama_cpp::convert(&config, &tensors);
    metadata.extend(tokenizer(&read("tokenizer.json")));
    let folder = folder("alone");
    let path = folder.join("llama-f32.gguf");
    write_gguf(&path, &metadata, &converted, GgmlDType::F32);
    let expected = logits(&fixture("llama"));
    assert_eq!(max_difference(&logits(&folder), &expected), 0.0);
    assert_eq!(max_difference(&logits(&path), &expected), 0.0);

    // Its layers can stay in the file, in its few bits.
    let narrow = folder.join("llama-f16.gguf");
    write_gguf(&narrow, &metadata, &converted, GgmlDType::F16);
    for path in [&path, &narrow] {
        let load = |stream| {
            let options = LoadOptions::new().stream(stream);
            HookedTransformer::from_pretrained_with(&path.to_string_lossy(), &options).unwrap()
        };
        let tokens = Tokens::from_ids(vec![vec![5, 17, 200, 3]]).unwrap();
        let [streamed, held] = [true, false].map(|stream| load(stream).forward(&tokens).unwrap());
        assert_eq!(max_difference(&streamed, &held), 0.0);
    }

    // Its tokenizer is that of tokenizer.json.
    let from_gguf = HookedTransformer::from_pretrained(&path.to_string_lossy()).unwrap();
    let from_json = crate::common::model("llama");
    for text in ["the quick brown fox", "  two  spaces\n\nlines", "it's 12345 <|endoftext|> naïve 日本", ""] {
        let ids = |model: &HookedTransformer| model.to_tokens(text).unwrap().ids().to_vec();
        assert_eq!(ids(&from_gguf), ids(&from_json), "{text:?}");
        assert_eq!(from_gguf.to_str_tokens(text).unwrap(), from_json.to_str_tokens(text).unwrap());
    }

    // A way of splitting text that is not known: the model runs on ids and says why not on text.
    metadata.iter_mut().find(|(key, _)| key == "tokenizer.ggml.pre").unwrap().1 = Value::String("martian".to_string());
    let path = folder.join("other.gguf");
    write_gguf(&path, &metadata, &converted, GgmlDType::F32);
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
    let path = folder("gpt2").join("gpt2.gguf");
    write_gguf(&path, &metadata, &converted, GgmlDType::F32);
    assert_eq!(max_difference(&logits(&path), &logits(&fixture("gpt2"))), 0.0);
}
