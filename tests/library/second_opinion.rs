//! A second opinion from candle-transformers, which implements some of the families by itself: both get the same random
//! weights, in other sizes than the fixtures have, and must give the same logits.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use candle_transformers::models::{bert, gemma2, llama, mamba, mixtral, qwen2, t5};
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

/// With scores scaled by the width of a head, as candle always does, and a window as wide as the context: candle gives it to every layer, Hugging Face to every other one.
#[test]
fn gemma2() {
    let mut config = llama_config("gemma2");
    config.as_object_mut().unwrap().extend(
        json!({"attention_bias": false, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
            "final_logit_softcapping": 6.0, "attn_logit_softcapping": 3.0, "query_pre_attn_scalar": 16,
            "sliding_window": 40, "tie_word_embeddings": true})
        .as_object()
        .unwrap()
        .clone(),
    );
    let theirs: gemma2::Config = read(&config);
    let pair = Pair::new("gemma2", 5, &config, unchanged, |vb| gemma2::Model::new(false, &theirs, vb));
    pair.compare(|model| in_steps(|ids, at| model.forward(ids, at)), from_the_third);
}

/// With a window as wide as the context; Hugging Face's Mixtral has none.
#[test]
fn mixtral() {
    let mut config = llama_config("mixtral");
    config["num_experts_per_tok"] = json!(2);
    config["num_local_experts"] = json!(5);
    let mut theirs = config.clone();
    theirs["sliding_window"] = json!(40);
    theirs["use_flash_attn"] = json!(false);
    let theirs: mixtral::Config = read(&theirs);
    let pair = Pair::new("mixtral", 6, &config, unchanged, |vb| mixtral::Model::new(&theirs, vb));
    pair.compare(|model| in_steps(|ids, at| model.forward(ids, at)), from_the_third);
}

/// Untied, because candle's head has a matrix of its own.
#[test]
fn bert() {
    let config = json!({"model_type": "bert", "vocab_size": 150, "hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 6, "intermediate_size": 80, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "max_position_embeddings": 40, "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "pad_token_id": 0, "position_embedding_type": "absolute", "tie_word_embeddings": false});
    let theirs: bert::Config = read(&config);
    let pair = Pair::new("bert", 8, &config, unchanged, |vb| bert::BertForMaskedLM::load(vb, &theirs));
    let run = |model: &mut bert::BertForMaskedLM| {
        let ids = ids(&TOKENS);
        model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap().squeeze(0).unwrap()
    };
    pair.compare(run, all_positions);
}

/// Candle sorts distances in the decoder into the encoder's buckets, which are the same below a quarter of their number:
/// so the decoder's input is shorter than that (and the encoder's is longer).
fn t5_pair(name: &str, seed: u64, feed_forward: &str, tied: bool) {
    const DECODER: [u32; 6] = [0, 17, 120, 5, 44, 17];
    let config = json!({"model_type": "t5", "vocab_size": 150, "d_model": 40, "d_kv": 12, "d_ff": 56, "num_layers": 2,
        "num_decoder_layers": 3, "num_heads": 5, "relative_attention_num_buckets": 24,
        "relative_attention_max_distance": 20, "dropout_rate": 0.1, "layer_norm_epsilon": 1e-6,
        "initializer_factor": 1.0, "feed_forward_proj": feed_forward, "tie_word_embeddings": tied,
        "is_encoder_decoder": true, "use_cache": false, "pad_token_id": 0, "eos_token_id": 1,
        "decoder_start_token_id": 0});
    let theirs: t5::Config = read(&config);
    // A new VarMap has no shared.weight, and candle then asks for the decoder's.
    let rename = |name: &str| name.replace("decoder.embed_tokens.", "shared.");
    let pair = Pair::new(name, seed, &config, rename, |vb| t5::T5ForConditionalGeneration::load(vb, &theirs));
    let prefixes = |model: &mut t5::T5ForConditionalGeneration| {
        let row = |n| model.forward(&ids(&TOKENS), &ids(&DECODER[..n])).unwrap().flatten_all().unwrap();
        let logits = Tensor::stack(&(1..=DECODER.len()).map(row).collect::<Vec<_>>(), 0).unwrap();
        // With tied embeddings candle multiplies by the root of d_model where Hugging Face divides by it.
        if tied { (logits / 40.0).unwrap() } else { logits }
    };
    let ours = |model: &HookedTransformer| {
        let options = RunOptions::new().decoder_input(DECODER.to_vec());
        model.run(TOKENS.to_vec(), &options).unwrap().logits.unwrap().tensor().clone()
    };
    pair.compare(prefixes, ours);
}

#[test]
fn t5() {
    t5_pair("t5", 9, "relu", true);
}

#[test]
fn t5_with_gates() {
    t5_pair("t5_gated", 10, "gated-gelu", false);
}

/// Candle fixes the state's size, the convolution and the expansion, and calls the embedding as the first Mamba did.
#[test]
fn mamba() {
    let config = json!({"model_type": "mamba", "hidden_size": 40, "num_hidden_layers": 3, "vocab_size": 152,
        "state_size": 16, "conv_kernel": 4, "expand": 2, "intermediate_size": 80, "time_step_rank": 3,
        "layer_norm_epsilon": 1e-5, "use_bias": false, "use_conv_bias": true, "hidden_act": "silu",
        "residual_in_fp32": true, "tie_word_embeddings": true});
    let theirs = json!({"d_model": 40, "n_layer": 3, "vocab_size": 152, "pad_vocab_size_multiple": 8});
    let theirs: mamba::Config = read(&theirs);
    let rename = |name: &str| name.replace("backbone.embedding.", "backbone.embeddings.");
    let pair = Pair::new("mamba", 7, &config, rename, |vb| mamba::Model::new(&theirs, vb.pp("backbone")));
    let mut state = mamba::State::new(1, &theirs, DType::F32, &Device::Cpu).unwrap();
    let mut step = |model: &mamba::Model, token: u32| {
        let token = Tensor::new(&[token], &Device::Cpu).unwrap();
        model.forward(&token, &mut state).unwrap().squeeze(0).unwrap()
    };
    let steps = |model: &mut mamba::Model| {
        let rows = TOKENS.iter().map(|token| step(model, *token)).collect::<Vec<_>>();
        Tensor::stack(&rows, 0).unwrap()
    };
    pair.compare(steps, all_positions);
}
