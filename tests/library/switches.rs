//! Switches that published models set and no fixture has: clipped queries, keys and values, attention to both sides, heads
//! beside a tied embedding, training checkpoints.

use crate::common::writers;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::plain::{self, Rows, add, attend, beside, clip, columns, map, rms_norm, rotate, silu};
use crate::common::written::{D_MODEL, D_VOCAB, Folder};
use crate::common::{fixture, max_difference};
use candlescope::hub::{Checkpoint, CheckpointUnit};
use candlescope::prelude::*;
use serde_json::{Value as Json, json};

fn head(x: &Rows, head: usize, width: usize) -> Rows {
    columns(x, head * width, width)
}

/// Gate, linear branch and the map out of them.
fn gated(folder: &Folder, x: &Rows, module: &str) -> Rows {
    let gate = map(&folder.linear(x, &format!("{module}.gate_proj"), 30, false), silu);
    let up = folder.linear(x, &format!("{module}.up_proj"), 30, false);
    let hidden = gate.iter().zip(&up).map(|(g, u)| g.iter().zip(u).map(|(g, u)| g * u).collect()).collect();
    folder.linear(&hidden, &format!("{module}.down_proj"), D_MODEL, false)
}

/// OLMo clips what it projected; OLMoE, which has a norm on all queries and one on all keys, behind these. Values have no
/// norm. The limit cuts about every third number. A bias on the values may not be folded through a cut.
#[test]
fn olmo_and_olmoe_clip_before_rotary_positions() {
    for (model_type, biases) in [("olmo", false), ("olmoe", false), ("olmoe", true)] {
        let (folder, heads, groups, limit) = (Folder::new(), 6, 2, 0.6);
        let (d, experts) = (D_MODEL / heads, model_type == "olmoe");
        let norm = |x: &Rows, name: &str| match experts {
            true => rms_norm(x, &folder.get(&format!("{name}.weight"), &[x[0].len()])),
            false => plain::layer_norm(x, None, None),
        };
        let mut x = folder.embed("model.embed_tokens.weight", D_MODEL);
        for layer in 0..2 {
            let p = |tail: &str| format!("model.layers.{layer}.{tail}");
            let normed = norm(&x, &p("input_layernorm"));
            let project =
                |part: &str, width: usize| folder.linear(&normed, &p(&format!("self_attn.{part}_proj")), width, biases);
            let (mut q, mut k, v) = (project("q", heads * d), project("k", groups * d), project("v", groups * d));
            if experts {
                (q, k) = (norm(&q, &p("self_attn.q_norm")), norm(&k, &p("self_attn.k_norm")));
            }
            let [q, k, v] = [q, k, v].map(|x| clip(&x, limit));
            let one = |h: usize| {
                let turned = |x: &Rows, h: usize| rotate(&head(x, h, d), d, 10000.0);
                let group = h / (heads / groups);
                attend(&turned(&q, h), &turned(&k, group), &head(&v, group, d), |s, _, _| s / (d as f64).sqrt())
            };
            let z = beside((0..heads).map(one).collect());
            x = add(&x, &folder.linear(&z, &p("self_attn.o_proj"), D_MODEL, biases));
            let normed = norm(&x, &p("post_attention_layernorm"));
            // The only expert has the whole weight, whatever the router says.
            let mlp = if experts { p("mlp.experts.0") } else { p("mlp") };
            if experts {
                folder.get(&p("mlp.gate.weight"), &[1, D_MODEL]);
            }
            x = add(&x, &gated(&folder, &normed, &mlp));
        }
        let logits = folder.linear(&norm(&x, "model.norm"), "lm_head", D_VOCAB, false);
        let config = json!({
            "model_type": model_type, "hidden_size": D_MODEL, "num_attention_heads": heads, "num_hidden_layers": 2,
            "num_key_value_heads": groups, "intermediate_size": 30, "vocab_size": D_VOCAB, "max_position_embeddings": 32,
            "num_experts": 1, "num_experts_per_tok": 1, "clip_qkv": limit, "attention_bias": biases,
            "tie_word_embeddings": false,
        });
        folder.check(&format!("clipped-{model_type}-{biases}"), config, &logits);
    }
}

fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("switches").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn config_of(name: &str) -> Json {
    serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap()
}

fn load(folder: &Path) -> HookedTransformer {
    HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap()
}

fn write_config(folder: &Path, config: &Json) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn clipping_at_nothing_is_refused() {
    let mut config = config_of("olmo2");
    (config["model_type"], config["clip_qkv"]) = (json!("olmo"), json!(0.0));
    let folder = folder("clip_zero");
    write_config(&folder, &config);
    fs::copy(fixture("olmo2").join("model.safetensors"), folder.join("model.safetensors")).unwrap();
    let why = HookedTransformer::from_pretrained(&folder.to_string_lossy()).err().unwrap().to_string();
    assert!(why.contains("clip_qkv") && why.contains("config.json"), "{why}");
}

/// EmbeddingGemma: a Gemma 3 that looks to both sides, in its sliding layers half a window to either. What a query may
/// look at is what its pattern is not zero at; and with this switch the rest of the model is Gemma 3.
#[test]
fn a_gemma_3_may_look_to_both_sides() {
    let mut config = config_of("gemma2");
    let mut tensors = writers::read(&fixture("gemma2").join("model.safetensors"));
    // Gemma 2's weights, and Gemma 3's norms on queries and keys.
    let ones = Tensor::full(0.1f32, 16, &Device::Cpu).unwrap();
    for layer in 0..3 {
        for part in ["q_norm", "k_norm"] {
            tensors.insert(format!("model.layers.{layer}.self_attn.{part}.weight"), ones.clone());
        }
    }
    let window = 6;
    let kinds = ["sliding_attention", "full_attention", "sliding_attention"];
    for (key, value) in [
        ("model_type", json!("gemma3_text")),
        ("layer_types", json!(kinds)),
        ("sliding_window", json!(window)),
        ("rope_parameters", Json::Null),
        ("attn_logit_softcapping", Json::Null),
    ] {
        config[key] = value;
    }
    let tokens = [5u32, 80, 17, 200, 3, 119, 42, 7, 9];
    let patterns = |both: bool| -> Vec<Vec<Vec<Vec<f32>>>> {
        let mut config = config.clone();
        config["use_bidirectional_attention"] = json!(both);
        let folder = folder(&format!("gemma3_{both}"));
        write_config(&folder, &config);
        writers::write_safetensors(&folder.join("model.safetensors"), &tensors);
        let model = load(&folder);
        let (_, cache) = model.run_with_cache(tokens.to_vec()).unwrap();
        if both {
            let why = model.generate(tokens.to_vec(), &GenerateOptions::greedy()).err().unwrap().to_string();
            assert!(why.contains("both sides"), "{why}");
        }
        let pattern = |layer: usize| cache.get(format!("blocks.{layer}.attn.hook_pattern")).unwrap();
        (0..3).map(|layer| pattern(layer).squeeze(0).unwrap().to_vec3().unwrap()).collect()
    };
    for both in [false, true] {
        for (kind, pattern) in kinds.iter().zip(patterns(both)) {
            for (query, key) in (0..9usize).flat_map(|query| (0..9usize).map(move |key| (query, key))) {
                let sees = match (both, *kind) {
                    (true, "full_attention") => true,
                    (true, _) => query.abs_diff(key) <= window / 2,
                    (false, "full_attention") => key <= query,
                    (false, _) => key <= query && query - key < window,
                };
                assert!(pattern.iter().all(|head| (head[query][key] > 0.0) == sees), "{both} {kind} {query} {key}");
            }
        }
    }
}

#[test]
fn a_tied_head_may_stand_alone_or_have_numbers_of_its_own() {
    let logits = |folder: &Path| load(folder).forward(vec![5u32, 80, 17, 200]).unwrap().tensor().clone();
    let name = "llama3_scaled_rope";
    let expected = logits(&fixture(name));
    let mut config = config_of(name);
    assert_eq!(config["tie_word_embeddings"], true);
    let tensors = writers::read(&fixture(name).join("model.safetensors"));
    let embedding = tensors["model.embed_tokens.weight"].clone();
    let write = |test: &str, config: &Json, change: &dyn Fn(&mut writers::Tensors)| {
        let (folder, mut tensors) = (folder(test), tensors.clone());
        change(&mut tensors);
        write_config(&folder, config);
        writers::write_safetensors(&folder.join("model.safetensors"), &tensors);
        folder
    };
    // Writers that store a shared tensor once may keep either name.
    let alone = write("alone", &config, &|tensors| {
        let embedding = tensors.remove("model.embed_tokens.weight").unwrap();
        tensors.insert("lm_head.weight".into(), embedding);
    });
    assert_eq!(max_difference(&logits(&alone), &expected), 0.0);
    let twice = write("twice", &config, &|tensors| {
        tensors.insert("lm_head.weight".into(), embedding.clone());
    });
    assert_eq!(max_difference(&logits(&twice), &expected), 0.0);
    // Other numbers count, as they would if config.json did not claim that the two are tied.
    let other = |tensors: &mut writers::Tensors| {
        tensors.insert("lm_head.weight".into(), (&embedding * 2.0).unwrap());
    };
    let claimed = logits(&write("claimed", &config, &other));
    config["tie_word_embeddings"] = json!(false);
    assert_eq!(max_difference(&claimed, &logits(&write("untied", &config, &other))), 0.0);
    assert!(max_difference(&claimed, &(expected * 2.0).unwrap()) < 1e-5);

    // An encoder-decoder whose stacks have embeddings of their own would be another model.
    let folder = folder("bart");
    let mut tensors = writers::read(&fixture("bart").join("model.safetensors"));
    let shared = tensors["model.shared.weight"].clone();
    tensors.insert("model.decoder.embed_tokens.weight".into(), (shared * 2.0).unwrap());
    write_config(&folder, &config_of("bart"));
    writers::write_safetensors(&folder.join("model.safetensors"), &tensors);
    let why = HookedTransformer::from_pretrained(&folder.to_string_lossy()).err().unwrap().to_string();
    assert!(why.contains("model.decoder.embed_tokens.weight"), "{why}");
}

#[test]
fn a_model_knows_which_checkpoint_it_is() {
    let folder = folder("checkpoints");
    let mut tensors = writers::read(&fixture("llama").join("model.safetensors"));
    write_config(&folder, &config_of("llama"));
    writers::write_safetensors(&folder.join("model.safetensors"), &tensors);
    fs::create_dir(folder.join("checkpoints")).unwrap();
    for step in [10, 20, 40] {
        let norm = tensors.get_mut("model.norm.weight").unwrap();
        *norm = (&*norm * 1.5).unwrap();
        writers::write_torch(&folder.join(format!("checkpoints/steps_{step}.pth")), &tensors);
    }
    let name = folder.to_string_lossy();
    assert_eq!(load(&folder).cfg().checkpoint, None);
    let of = |value: u64, index: usize| Some(Checkpoint { unit: CheckpointUnit::Step, value, index: Some(index) });
    for (options, expected) in [
        (LoadOptions::new().checkpoint_value(20), of(20, 1)),
        (LoadOptions::new().checkpoint_index(0), of(10, 0)),
        (LoadOptions::new().checkpoint_index(-1), of(40, 2)),
    ] {
        let model = HookedTransformer::from_pretrained_with(&name, &options).unwrap();
        assert_eq!(model.cfg().checkpoint, expected);
        let value = expected.unwrap().value;
        let card = candlescope::display::Show::bundle(&model).text;
        assert!(card.contains(&format!("after {value} steps")), "{card}");
    }
}
