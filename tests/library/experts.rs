//! Models with experts: the same predictions in steps, in batches, processed or raw, and from every layout of a file.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use crate::common::{fixture, max_difference, model};
use candlescope::candle_core::safetensors;
use candlescope::candle_nn::ops::log_softmax;
use candlescope::prelude::*;

const FAMILIES: [&str; 4] = ["gpt_oss", "granitemoe", "phimoe", "qwen2_moe"];
const PROMPT: [u32; 8] = [5, 80, 17, 200, 3, 3, 150, 42];

fn prompt() -> Input {
    PROMPT.to_vec().into()
}

fn load(folder: &std::path::Path) -> HookedTransformer {
    HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap()
}

#[test]
fn processed_weights_predict_what_raw_ones_do() {
    for name in FAMILIES {
        let log_probs = |model: HookedTransformer| log_softmax(&model.forward(prompt()).unwrap(), D::Minus1).unwrap();
        let (raw, processed) = (load(&fixture(name)), model(name));
        assert!(processed.norms_folded() && !raw.norms_folded());
        assert!(max_difference(&log_probs(raw), &log_probs(processed)) < 1e-4, "{name}");
    }
}

#[test]
fn steps_with_a_key_value_cache_and_rows_of_a_batch_give_what_one_pass_gives() {
    for name in FAMILIES {
        let model = model(name);
        let whole = model.forward(prompt()).unwrap();
        let mut past = KvCache::new(model.cfg().n_layers);
        let mut rows = Vec::new();
        for ids in [&PROMPT[..3], &PROMPT[3..4], &PROMPT[4..]] {
            let run = model.run_with_past(&ids.to_vec().into(), &RunOptions::new(), Some(&mut past)).unwrap();
            rows.push(run.logits.unwrap().tensor().clone());
        }
        assert!(max_difference(&whole, &Tensor::cat(&rows, 1).unwrap()) < 1e-4, "{name}");

        let other: Vec<u32> = PROMPT.iter().rev().copied().collect();
        let both = Tensor::from_vec([other, PROMPT.to_vec()].concat(), (2, 8), &Device::Cpu).unwrap();
        let both = model.forward(&both).unwrap();
        assert!(max_difference(&whole, &both.narrow(0, 1, 1).unwrap()) < 1e-4, "{name}");
    }
}

#[test]
fn routing_can_be_read_and_changed() {
    let model = model("qwen2_moe");
    let (clean, cache) = model.run_with_cache(prompt()).unwrap();
    let weights = cache.get("blocks.1.mlp.hook_expert_weights").unwrap();
    let indices: Vec<Vec<u32>> = cache.get("blocks.1.mlp.hook_expert_indices").unwrap().to_vec2().unwrap();
    let weights: Vec<Vec<f32>> = weights.to_vec2().unwrap();
    for (weights, chosen) in weights.iter().zip(&indices) {
        for (expert, weight) in weights.iter().enumerate() {
            assert_eq!(*weight > 0.0, chosen.contains(&(expert as u32)));
        }
    }
    let ablated = Hooks::new().edit("blocks.1.mlp.hook_expert_weights", |weights, _| Ok(weights.zeros_like()?));
    let changed = model.run_with_hooks(prompt(), &ablated).unwrap();
    assert!(max_difference(&clean, &changed) > 1e-3);
}

/// A copy of a fixture in a folder of this test's own, with changed tensors and config.json.
fn changed(name: &str, test: &str, change: impl Fn(&mut HashMap<String, Tensor>, &mut serde_json::Value)) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("experts").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut tensors = safetensors::load(fixture(name).join("model.safetensors"), &Device::Cpu).unwrap();
    let mut config = serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
    change(&mut tensors, &mut config);
    safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn experts_in_two_tensors_are_the_same_experts() {
    let fused = changed("qwen2_moe", "fused_experts", |tensors, config| {
        let (layers, n_experts) =
            (config["num_hidden_layers"].as_u64().unwrap(), config["num_experts"].as_u64().unwrap());
        for layer in 0..layers {
            let module = format!("model.layers.{layer}.mlp.experts");
            let mut take = |part: &str| -> Tensor {
                let each = (0..n_experts).map(|e| tensors.remove(&format!("{module}.{e}.{part}.weight")).unwrap());
                Tensor::stack(&each.collect::<Vec<_>>(), 0).unwrap()
            };
            let gate_up = Tensor::cat(&[take("gate_proj"), take("up_proj")], 1).unwrap();
            let down = take("down_proj");
            tensors.insert(format!("{module}.gate_up_proj"), gate_up);
            tensors.insert(format!("{module}.down_proj"), down);
        }
    });
    let (one, other) = (load(&fixture("qwen2_moe")), load(&fused));
    assert_eq!(max_difference(&one.forward(prompt()).unwrap(), &other.forward(prompt()).unwrap()), 0.0);
}

#[test]
fn mxfp4_experts_are_the_floats_that_they_stand_for() {
    const D_EXPERT: usize = 64;
    // 4-bit floats: sign, exponent, mantissa, written out by the formula.
    let value = |code: u32| {
        let (exponent, mantissa) = (code >> 1 & 3, (code & 1) as f32);
        let size = if exponent == 0 { mantissa / 2.0 } else { 2f32.powi(exponent as i32 - 1) * (1.0 + mantissa / 2.0) };
        if code >> 3 == 1 { -size } else { size }
    };
    let write = |packed: bool| {
        changed("gpt_oss", if packed { "mxfp4" } else { "not_mxfp4" }, |tensors, config| {
            config["intermediate_size"] = D_EXPERT.into();
            let layers = config["num_hidden_layers"].as_u64().unwrap();
            let (d_model, n) = (config["hidden_size"].as_u64().unwrap() as usize, 4);
            for layer in 0..layers {
                let module = format!("model.layers.{layer}.mlp.experts");
                let bias = |width: usize| Tensor::ones((n, width), DType::F32, &Device::Cpu).unwrap();
                tensors.insert(format!("{module}.gate_up_proj_bias"), bias(2 * D_EXPERT));
                for (name, d_in, d_out) in [("gate_up_proj", d_model, 2 * D_EXPERT), ("down_proj", D_EXPERT, d_model)] {
                    let count = (n * d_in * d_out) as u32;
                    let codes: Vec<u32> = (0..count).map(|i| (i * 7919 + layer as u32 * 31) / 13 % 16).collect();
                    let scales: Vec<u8> = (0..count / 32).map(|i| 122 + (i % 3) as u8).collect();
                    let device = &Device::Cpu;
                    let tensor = if packed {
                        let bytes: Vec<u8> = codes.chunks(2).map(|pair| (pair[0] + 16 * pair[1]) as u8).collect();
                        let scales = Tensor::from_vec(scales, (n, d_out, d_in / 32), device).unwrap();
                        tensors.insert(format!("{module}.{name}_scales"), scales);
                        Tensor::from_vec(bytes, (n, d_out, d_in / 32, 16), device).unwrap()
                    } else {
                        let scale = |i: usize| 2f32.powi(i32::from(scales[i / 32]) - 127);
                        let values: Vec<f32> = codes.iter().enumerate().map(|(i, &c)| value(c) * scale(i)).collect();
                        let rows = Tensor::from_vec(values, (n, d_out, d_in), device).unwrap();
                        rows.transpose(1, 2).unwrap().contiguous().unwrap()
                    };
                    tensors.remove(&format!("{module}.{name}"));
                    tensors.insert(format!("{module}.{name}{}", if packed { "_blocks" } else { "" }), tensor);
                }
            }
        })
    };
    let (packed, floats) = (load(&write(true)), load(&write(false)));
    let (packed, floats) = (packed.forward(prompt()).unwrap(), floats.forward(prompt()).unwrap());
    assert!(max_difference(&packed, &floats) < 1e-5);
}

#[test]
fn a_router_that_can_not_choose_is_an_error_that_says_so() {
    let folder = changed("gpt_oss", "too_many_experts", |_, config| config["num_experts_per_tok"] = 5.into());
    let error = HookedTransformer::from_pretrained(&folder.to_string_lossy()).unwrap_err().to_string();
    assert!(error.contains("5 of 4 experts") && error.contains("config.json"), "{error}");
}
