//! A second opinion from candle-transformers, which implements some of the families by itself: both get the same random
//! weights, in other sizes than the fixtures have, and must give the same logits.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use candle_transformers::models::{llama, qwen2};
use candlescope::candle_core;
use candlescope::candle_nn::{VarBuilder, VarMap};
use candlescope::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Two implementations add the same numbers in different orders.
const TOLERANCE: f64 = 2e-4;

const TOKENS: [u32; 11] = [3, 141, 59, 26, 53, 58, 97, 93, 23, 84, 3];

/// A model of candle's with random weights, and the folder from which candlescope loads the same.
struct Pair<M> {
    theirs: M,
    folder: PathBuf,
}

impl<M> Pair<M> {
    /// Lets candle name and shape the weights, draws them, builds candle's model with them, and writes the folder.
    /// `rename` turns a name of candle's into Hugging Face's where they differ.
    fn new(
        name: &str,
        seed: u64,
        config: &Value,
        rename: impl Fn(&str) -> String,
        build: impl Fn(VarBuilder) -> candle_core::Result<M>,
    ) -> Self {
        let asked_for = VarMap::new();
        build(VarBuilder::from_varmap(&asked_for, DType::F32, &Device::Cpu)).unwrap();
        let mut shapes = Vec::new();
        for (name, variable) in asked_for.data().lock().unwrap().iter() {
            shapes.push((name.clone(), variable.dims().to_vec()));
        }
        shapes.sort();
        let mut random = StdRng::seed_from_u64(seed);
        let mut weights = HashMap::new();
        for (name, dims) in shapes {
            let weight = random_weight(&name, &dims, &mut random);
            weights.insert(name, weight);
        }
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("second_opinion").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let renamed = weights.iter().map(|(name, weight)| (rename(name), weight.clone())).collect();
        candle_core::safetensors::save(&renamed, folder.join("model.safetensors")).unwrap();
        let theirs = build(VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)).unwrap();
        Self { theirs, folder }
    }

    fn ours(&self) -> HookedTransformer {
        let folder = self.folder.to_string_lossy();
        HookedTransformer::from_pretrained_with(&folder, &LoadOptions::new().raw()).unwrap()
    }

    /// Candle's logits `[pos, d_vocab]` against ours `[1, pos, d_vocab]`.
    fn compare(mut self, theirs: impl FnOnce(&mut M) -> Tensor, ours: impl Fn(&HookedTransformer) -> Tensor) {
        let theirs = theirs(&mut self.theirs).to_dtype(DType::F64).unwrap();
        let ours = ours(&self.ours()).squeeze(0).unwrap().to_dtype(DType::F64).unwrap();
        assert_eq!(theirs.dims(), ours.dims());
        let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        let scale = largest(&theirs);
        assert!(scale > 0.5, "logits as small as {scale} compare nothing");
        let difference = largest(&(ours - theirs).unwrap());
        println!("largest difference {difference:.1e} of logits up to {scale:.1}");
        assert!(difference / scale.max(1.0) <= TOLERANCE, "{difference} of {scale}");
    }
}

/// Evenly distributed weights, so large that every part of the model matters.
fn random_weight(name: &str, dims: &[usize], random: &mut StdRng) -> Tensor {
    let lowercase = name.to_lowercase();
    let (middle, spread) = match dims {
        // Mamba's decay rates and time steps have ranges of their own.
        _ if name.ends_with("A_log") => (0.7, 0.7),
        _ if name.ends_with("dt_proj.bias") => (-1.0, 1.0),
        _ if lowercase.contains("norm") && lowercase.ends_with("weight") => (1.0, 0.5),
        [_] => (0.0, 0.3),
        _ if lowercase.contains("emb") => (0.0, 1.0),
        [.., fan_in] => (0.0, 2.0 / (*fan_in as f64).sqrt()),
        [] => (0.0, 1.0),
    };
    let values = (0..dims.iter().product()).map(|_| (middle + spread * random.random_range(-1.0..1.0)) as f32);
    Tensor::from_vec(values.collect::<Vec<f32>>(), dims, &Device::Cpu).unwrap()
}

fn read<C: DeserializeOwned>(config: &Value) -> C {
    serde_json::from_value(config.clone()).unwrap()
}

fn unchanged(name: &str) -> String {
    name.to_string()
}

fn ids(tokens: &[u32]) -> Tensor {
    Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap()
}

/// Most of candle's models give the last position's logits only: so the first three tokens go in together, and each
/// later one by itself, after those before it.
fn in_steps(mut step: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>) -> Tensor {
    let first = step(&ids(&TOKENS[..3]), 0).unwrap();
    let mut rows = vec![first.flatten_all().unwrap()];
    for position in 3..TOKENS.len() {
        rows.push(step(&ids(&TOKENS[position..=position]), position).unwrap().flatten_all().unwrap());
    }
    Tensor::stack(&rows, 0).unwrap()
}

/// Our logits from the third position on, where [`in_steps`] has candle's.
fn from_the_third(model: &HookedTransformer) -> Tensor {
    all_positions(model).narrow(1, 2, TOKENS.len() - 2).unwrap()
}

fn all_positions(model: &HookedTransformer) -> Tensor {
    model.forward(TOKENS.to_vec()).unwrap().tensor().clone()
}

fn llama_config(model_type: &str) -> Value {
    json!({"model_type": model_type, "hidden_size": 48, "intermediate_size": 80, "vocab_size": 150,
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0, "max_position_embeddings": 40, "hidden_act": "silu", "tie_word_embeddings": false})
}

fn llama_pair(name: &str, seed: u64, config: Value) {
    let theirs: llama::Config = read::<llama::LlamaConfig>(&config).into_config(false);
    let pair = Pair::new(name, seed, &config, unchanged, |vb| llama::Llama::load(vb, &theirs));
    let mut cache = llama::Cache::new(true, DType::F32, &theirs, &Device::Cpu).unwrap();
    pair.compare(|model| in_steps(|ids, at| model.forward(ids, at, &mut cache)), from_the_third);
}

#[test]
fn llama() {
    llama_pair("llama", 1, llama_config("llama"));
}

#[test]
fn llama_with_every_head_its_own_keys_and_tied_embeddings() {
    let mut config = llama_config("llama");
    config["num_key_value_heads"] = json!(6);
    config["tie_word_embeddings"] = json!(true);
    llama_pair("llama_tied", 2, config);
}

#[test]
fn llama_3_with_scaled_rotation() {
    let mut config = llama_config("llama");
    config["rope_scaling"] = json!({"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16, "rope_type": "llama3"});
    llama_pair("llama3", 3, config);
}

/// Without a sliding window: candle gives every layer the same one.
#[test]
fn qwen2() {
    let mut config = llama_config("qwen2");
    config.as_object_mut().unwrap().extend(
        json!({"use_sliding_window": false, "sliding_window": 40, "max_window_layers": 2}).as_object().unwrap().clone(),
    );
    // Candle ties the embeddings where the file has no lm_head.weight, and a new VarMap has none.
    config["tie_word_embeddings"] = json!(true);
    let theirs: qwen2::Config = read(&config);
    let pair = Pair::new("qwen2", 4, &config, unchanged, |vb| qwen2::ModelForCausalLM::new(&theirs, vb));
    pair.compare(|model| in_steps(|ids, at| model.forward(ids, at)), from_the_third);
}
