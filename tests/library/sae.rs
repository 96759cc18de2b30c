//! Sparse autoencoders: forward passes against the published formulas (tests/make_sae_fixtures.py), files, hooks, results over
//! text, training.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::common::max_difference;
use candlescope::candle_core::safetensors;
use candlescope::hub::HubSettings;
use candlescope::prelude::*;
use serde_json::{Value, json};

const PROMPT: &str = "After John and Mary went to the store, Mary gave a bottle of milk to";
const TEXTS: [&str; 4] = [
    "John gave a book to Mary.",
    "After Mary and John went to the store, Mary gave a bottle of milk to John. Then they went home.",
    "The dog ran.",
    "Once upon a time there was a girl called Anna. She lived near the river.",
];
const SCOPE: &str = "gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_5";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures_sae")
}

fn fixture(name: &str) -> Sae {
    Sae::from_folder(fixtures().join(name)).unwrap()
}

/// Every folder with an SAE and what is expected of it.
fn all_fixtures() -> Vec<(String, PathBuf)> {
    let listed = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = listed.filter(|path| path.join("cfg.json").is_file()).collect();
    all.extend([SCOPE, "gemma-scope-2b-pt-res/embedding/width_16k/average_l0_5"].map(|name| fixtures().join(name)));
    all.sort();
    assert_eq!(all.len(), 16);
    all.into_iter().map(|path| (path.strip_prefix(fixtures()).unwrap().display().to_string(), path)).collect()
}

fn expected(folder: &Path) -> HashMap<String, Tensor> {
    safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap()
}

fn tiny() -> HookedTransformer {
    HookedTransformer::from_pretrained("tiny").unwrap()
}

fn quiet() -> Progress {
    Progress::quiet()
}

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sae").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn numbers(seed: usize, shape: &[usize], size: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..count).map(|i| (((i * i * 37 + seed * 101 + 1) as f64 * 0.7).sin() * size) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn write(name: &str, cfg: &Value, tensors: &[(&str, Tensor)]) -> PathBuf {
    let folder = folder(name);
    std::fs::write(folder.join("cfg.json"), cfg.to_string()).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.iter().map(|(name, x)| (name.to_string(), x.clone())).collect();
    safetensors::save(&tensors, folder.join("sae_weights.safetensors")).unwrap();
    folder
}

/// An SAE of some point of `tiny` with 24 features, made of fixed numbers.
fn of_tiny(name: &str, architecture: &str, point: &str, out: Option<&str>, width: usize) -> Sae {
    let cfg = json!({
        "architecture": architecture, "d_in": width, "d_sae": 24, "d_out": width, "dtype": "float32",
        "apply_b_dec_to_input": out.is_none(), "normalize_activations": "none", "k": 5,
        "metadata": {"hook_name": point, "hook_name_out": out, "sae_lens_version": "6.18.0"},
    });
    let tensors = [
        ("W_enc", numbers(1, &[width, 24], 0.2)),
        ("W_dec", numbers(2, &[24, width], 0.2)),
        ("b_enc", numbers(3, &[24], 0.3)),
        ("b_dec", numbers(4, &[width], 0.1)),
    ];
    Sae::from_folder(write(name, &cfg, &tensors)).unwrap()
}

/// An SAE that loses nothing: each dimension's positive and negative part is a feature.
fn identity(point: &HookPoint) -> Sae {
    let eye = Tensor::eye(128, DType::F32, &Device::Cpu).unwrap();
    let w_dec = Tensor::cat(&[&eye, &eye.neg().unwrap()], 0).unwrap();
    let cfg = json!({"architecture": "standard", "metadata": {"hook_name": point.name()}});
    let zeros = |n: usize| Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
    let w_enc = w_dec.t().unwrap().contiguous().unwrap();
    let tensors = [("W_enc", w_enc), ("W_dec", w_dec), ("b_enc", zeros(256)), ("b_dec", zeros(128))];
    Sae::from_folder(write(&format!("identity-{}", point.name()), &cfg, &tensors)).unwrap()
}

fn sentence<T>(result: candlescope::Result<T>) -> String {
    result.err().expect("an error was expected").to_string()
}

fn close(a: &Tensor, b: &Tensor, limit: f32) {
    let difference = max_difference(a, b);
    assert!(difference < limit, "they differ by {difference}");
}

#[test]
fn every_kind_computes_its_formula() {
    for (name, folder) in all_fixtures() {
        let sae = Sae::from_folder(&folder).unwrap();
        let expected = expected(&folder);
        let x = &expected["x"];
        let (features, made) = (sae.encode(x).unwrap(), sae.reconstruct(x).unwrap());
        let worst = [(&features, "features"), (&made, "reconstruction")].map(|(found, what)| {
            let size = expected[what].abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            max_difference(found, &expected[what]) / size
        });
        assert!(worst.iter().all(|worst| *worst < 2e-6), "{name}: {worst:?}");
        if sae.input_norm() == InputNorm::None && sae.w_skip().is_none() {
            let decoded = sae.decode(&features).unwrap().reshape(made.shape()).unwrap();
            close(&decoded, &made, 1e-5);
        }
        match sae.is_transcoder() {
            false => {
                let error = (x - &expected["reconstruction"]).unwrap();
                close(&sae.error(x).unwrap(), &error, 1e-5);
            }
            true => {
                assert!(sentence(sae.error(x)).contains("error_against"));
                let target = numbers(1, made.dims(), 1.0);
                close(&sae.error_against(x, &target).unwrap(), &(&target - &made).unwrap(), 1e-6);
            }
        }
        // Weights in their places, and one vector alone.
        assert_eq!([sae.w_enc().dims(), sae.w_dec().dims()], [[sae.d_in(), sae.d_sae()], [sae.d_sae(), sae.d_out()]]);
        let one = x.i((1, 2)).unwrap().flatten_all().unwrap();
        close(&sae.encode(&one).unwrap(), &features.i((1, 2)).unwrap(), 1e-6);
    }
}

#[test]
fn files_say_what_it_is() {
    let sae = fixture("standard");
    assert_eq!((sae.kind(), sae.d_in(), sae.d_sae(), sae.d_out()), (SaeKind::Relu, 6, 10, 6));
    assert_eq!(sae.hook_in().unwrap().name(), "blocks.1.hook_resid_pre");
    assert_eq!(sae.hook_out().unwrap(), sae.hook_in().unwrap());
    assert_eq!((sae.model_name(), sae.neuronpedia_id()), (Some("gpt2-small"), Some("gpt2-small/1-res-jb")));
    assert_eq!(sae.metadata("context_size").as_deref(), Some("128"));
    let old = fixture("standard_old");
    assert_eq!(old.hook_in().unwrap().name(), "blocks.1.hook_resid_pre");
    assert_eq!(old.log_sparsity().unwrap().to_vec1::<f32>().unwrap()[9], -1.0);
    assert_eq!(fixture("topk_old").kind(), SaeKind::TopK { k: 3 });
    assert_eq!((fixture("gated").kind(), fixture("jumprelu").kind()), (SaeKind::Gated, SaeKind::JumpRelu));
    let transcoder = fixture("transcoder");
    assert!(transcoder.is_transcoder() && transcoder.d_out() == 4);
    assert_eq!(transcoder.hook_out().unwrap().name(), "blocks.1.hook_mlp_out");
    let scope = fixture(SCOPE);
    assert_eq!((scope.model_name(), scope.kind()), (Some("gemma-2-2b"), SaeKind::JumpRelu));
    assert_eq!(scope.hook_in().unwrap().name(), "blocks.1.hook_resid_post");
    // A file that says nothing has to be told.
    let bare = folder("bare");
    std::fs::copy(fixtures().join(SCOPE).join("params.npz"), bare.join("params.npz")).unwrap();
    let bare = Sae::from_folder(bare.join("params.npz")).unwrap();
    assert!(sentence(bare.hook_in()).contains("sae.at(resid_post(5))"));
    assert_eq!(bare.at(resid_pre(3)).hook_in().unwrap(), resid_pre(3));
    let moved = bare.from_to(ln2_normalized(2), "blocks.2.hook_mlp_out").unwrap();
    assert!(moved.is_transcoder() && moved.hook_out().unwrap() == mlp_out(2));
    assert!(sentence(sae.from_to(mlp_in(1), mlp_out(1))).contains("apply_b_dec_to_input"));
}

#[test]
fn what_is_saved_is_read_back() {
    for (name, path) in all_fixtures() {
        let sae = Sae::from_folder(&path).unwrap();
        let saved = folder(&format!("saved-{}", name.replace(['/', '\\'], "-")));
        sae.save(&saved).unwrap();
        let again = Sae::from_folder(&saved).unwrap();
        let x = &expected(&path)["x"];
        close(&again.encode(x).unwrap(), &sae.encode(x).unwrap(), 1e-6);
        close(&again.reconstruct(x).unwrap(), &sae.reconstruct(x).unwrap(), 1e-5);
        assert_eq!(again.hook_out().unwrap(), sae.hook_out().unwrap());
        assert_eq!((again.kind(), again.neuronpedia_id()), (sae.kind(), sae.neuronpedia_id()));
        assert_eq!(again.log_sparsity().is_some(), name == "standard_old");
        let cfg: Value = serde_json::from_slice(&std::fs::read(saved.join("cfg.json")).unwrap()).unwrap();
        assert_eq!((cfg["d_sae"].as_u64(), cfg["device"].as_str()), (Some(10), Some("cpu")));
        assert_eq!(cfg["metadata"]["hook_name"].as_str(), Some(sae.hook_in().unwrap().name()));
    }
}

#[test]
fn an_unknown_scale_is_asked_for_and_measured() {
    let cfg = json!({"normalize_activations": "expected_average_only_in", "hook_name": "blocks.1.hook_resid_pre"});
    let tensors = [
        ("W_enc", numbers(1, &[128, 24], 0.2)),
        ("W_dec", numbers(2, &[24, 128], 0.2)),
        ("b_enc", numbers(3, &[24], 0.3)),
        ("b_dec", numbers(4, &[128], 0.1)),
    ];
    let path = write("unscaled", &cfg, &tensors);
    let sae = Sae::from_folder(&path).unwrap();
    let x = numbers(5, &[3, 128], 2.0);
    assert!(sentence(sae.encode(&x)).contains("measure_input_scale"));
    let text = tiny().over(TEXTS).progress(&quiet()).skip_bos();
    let scale = sae.measure_input_scale(&text).unwrap();
    let mean = text.statistics(resid_pre(1)).unwrap().second_moment().unwrap().sum_all().unwrap();
    let rough = (128.0 / f64::from(mean.to_scalar::<f32>().unwrap())).sqrt();
    assert!((scale / rough - 1.0).abs() < 0.2, "{scale} and {rough}");
    let scaled = sae.input_scale(scale).unwrap();
    // SAELens keeps it in a file of its own; the result is the same.
    std::fs::write(path.join("activation_scaler.json"), json!({"scaling_factor": scale}).to_string()).unwrap();
    close(&Sae::from_folder(&path).unwrap().encode(&x).unwrap(), &scaled.encode(&x).unwrap(), 1e-6);
    let by_hand = ((&x * scale).unwrap().broadcast_sub(&tensors[3].1).unwrap().matmul(&tensors[0].1).unwrap())
        .broadcast_add(&tensors[2].1)
        .unwrap()
        .relu()
        .unwrap();
    close(&scaled.encode(&x).unwrap(), &by_hand, 1e-4);
    assert!(sentence(scaled.input_scale(2.0)).contains("no unknown scale"));
    assert!(sentence(sae.input_scale(0.0)).contains("above 0"));
}

#[test]
fn bad_files_are_sentences() {
    let good = || {
        vec![
            ("W_enc", numbers(1, &[6, 10], 1.0)),
            ("W_dec", numbers(2, &[10, 6], 1.0)),
            ("b_enc", numbers(3, &[10], 1.0)),
            ("b_dec", numbers(4, &[6], 1.0)),
        ]
    };
    let with = |cfg: Value, tensors: Vec<(&str, Tensor)>| sentence(Sae::from_folder(write("bad", &cfg, &tensors)));
    let standard = json!({"architecture": "standard", "hook_name": "hook_embed"});

    let missing = with(standard.clone(), good().into_iter().filter(|(name, _)| *name != "b_enc").collect());
    assert!(missing.contains("lack the tensor 'b_enc'"), "{missing}");
    let mut tensors = good();
    tensors[0].1 = numbers(1, &[5, 10], 1.0);
    assert!(with(standard.clone(), tensors).contains("'W_enc' has shape [5, 10]"));
    let mut tensors = good();
    tensors[2].1 = numbers(1, &[10, 1], 1.0);
    assert!(with(standard.clone(), tensors).contains("[d_sae] = [10]"));
    let mut tensors = good();
    tensors[1].1 = (&tensors[1].1 * f64::NAN).unwrap();
    assert!(with(standard.clone(), tensors).contains("'W_dec'") && sentence_has_nan());
    let mut tensors = good();
    tensors.push(("W_extra", numbers(1, &[2], 1.0)));
    assert!(with(standard.clone(), tensors).contains("'W_extra'"));
    let mut tensors = good();
    tensors.push(("scaling_factor", numbers(1, &[10], 1.0)));
    assert!(with(standard.clone(), tensors).contains("finetuning_scaling_factor"));
    let mut tensors = good();
    tensors[3].1 = tensors[3].1.to_dtype(DType::I64).unwrap();
    assert!(with(standard.clone(), tensors).contains("floats were expected"));

    for (key, value, part) in [
        ("architecture", json!("fancy"), "'architecture' is 'fancy'"),
        ("architecture", json!(3), "a string was expected"),
        ("architecture", json!("gated"), "'b_gate'"),
        ("architecture", json!("topk"), "'k' is missing"),
        ("k", json!("many"), ""),
        ("activation_fn", json!("tanh-relu"), "'tanh-relu'"),
        ("normalize_activations", json!("batch_norm"), "'batch_norm'"),
        ("reshape_activations", json!("fold"), "'fold'"),
        ("dtype", json!("float8"), "'float8'"),
        ("d_in", json!(7), "d_in = 7"),
        ("d_sae", json!(0), "'d_sae' is 0"),
        ("rescale_acts_by_decoder_norm", json!(true), "rescale_acts_by_decoder_norm"),
        ("hook_head_index_out", json!(1), "hook_head_index_out"),
        ("metadata", json!([]), "an object was expected"),
    ] {
        let mut cfg = standard.clone();
        cfg[key] = value;
        if part.is_empty() {
            cfg["architecture"] = json!("topk");
        }
        let found = with(cfg, good());
        assert!(found.contains(part) && !found.contains('\n'), "{key}: {found}");
    }
    let many = json!({"architecture": "topk", "k": 11, "hook_name": "hook_embed"});
    assert!(with(many, good()).contains("k is 11, and there are 10 features"));
    let transcoder = json!({"architecture": "transcoder", "apply_b_dec_to_input": true});
    assert!(with(transcoder, good()).contains("apply_b_dec_to_input"));
    assert!(with(json!({"model_type": "gpt2"}), good()).contains("no configuration of an SAE"));
}

/// The sentence about NaN, which is looked at by itself.
fn sentence_has_nan() -> bool {
    let nan = (numbers(2, &[10, 6], 1.0) * f64::NAN).unwrap();
    let tensors = [("W_dec", nan), ("W_enc", numbers(1, &[6, 10], 1.0))];
    let cfg = json!({"architecture": "standard", "hook_name": "hook_embed"});
    sentence(Sae::from_folder(write("nan", &cfg, &tensors))).contains("NaN or infinity")
}

#[test]
fn damaged_files_are_sentences() {
    for file in ["cfg.json", "sae_weights.safetensors"] {
        let bytes = std::fs::read(fixtures().join("standard").join(file)).unwrap();
        for length in (0..bytes.len()).step_by(23) {
            let path = folder("truncated");
            for name in ["cfg.json", "sae_weights.safetensors"] {
                std::fs::copy(fixtures().join("standard").join(name), path.join(name)).unwrap();
            }
            std::fs::write(path.join(file), &bytes[..length]).unwrap();
            let found = sentence(Sae::from_folder(&path));
            assert!(found.contains(file), "{file} cut at {length}: {found}");
        }
    }
    let bytes = std::fs::read(fixtures().join(SCOPE).join("params.npz")).unwrap();
    let path = folder("damaged");
    for length in (0..bytes.len()).step_by(61) {
        std::fs::write(path.join("params.npz"), &bytes[..length]).unwrap();
        assert!(sentence(Sae::from_folder(&path)).contains("params.npz"), "cut at {length}");
    }
    // Any one byte may be wrong: an SAE or a sentence.
    for at in 0..bytes.len().min(4000) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x5f;
        std::fs::write(path.join("params.npz"), &damaged).unwrap();
        let _ = Sae::from_folder(&path).map_err(|error| assert!(!error.to_string().is_empty()));
    }
    assert!(sentence(Sae::from_folder(folder("empty"))).contains("is not an SAE's"));
    assert!(sentence(Sae::from_folder("no/such/folder")).contains("there is nothing"));
    let readme = folder("readme").join("README.md");
    std::fs::write(&readme, "hello").unwrap();
    assert!(sentence(Sae::from_folder(&readme)).contains("is no SAE's file"));
}

#[test]
fn a_name_is_found_in_the_hubs_cache() {
    let cache = folder("cache");
    let place = cache.join("models--jbloom--GPT2-Small-SAEs-Reformatted");
    let inside = place.join("snapshots/abc/blocks.8.hook_resid_pre");
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::create_dir_all(place.join("refs")).unwrap();
    std::fs::write(place.join("refs/main"), "abc").unwrap();
    for name in ["cfg.json", "sae_weights.safetensors"] {
        std::fs::copy(fixtures().join("standard_old").join(name), inside.join(name)).unwrap();
    }
    let settings = HubSettings::offline(&cache);
    let load = |name: &str, id: &str| Sae::from_pretrained_with(name, id, &settings);
    let sae = load("gpt2-small-res-jb", "blocks.8.hook_resid_pre").unwrap();
    assert_eq!(sae.neuronpedia_id(), Some("gpt2-small/8-res-jb"));
    let x = &expected(&fixtures().join("standard_old"))["x"];
    close(&sae.encode(x).unwrap(), &fixture("standard_old").encode(x).unwrap(), 1e-7);
    load("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.8.hook_resid_pre").unwrap();

    let scope = cache.join("models--google--gemma-scope-2b-pt-res/snapshots/main/layer_1/width_16k/average_l0_102");
    std::fs::create_dir_all(&scope).unwrap();
    std::fs::copy(fixtures().join(SCOPE).join("params.npz"), scope.join("params.npz")).unwrap();
    let sae = load("gemma-scope-2b-pt-res-canonical", "layer_1/width_16k/canonical").unwrap();
    assert_eq!(sae.hook_in().unwrap().name(), "blocks.1.hook_resid_post");
    assert_eq!(sae.neuronpedia_id(), Some("gemma-2-2b/1-gemmascope-res-16k"));

    assert!(sentence(load("gpt2-small-res-jb", "blocks.9.hook_resid_pre")).contains("HF_HUB_OFFLINE"));
    assert!(sentence(load("gpt2-small-res-j", "x")).contains("did you mean 'gpt2-small-res-jb'"));
}

#[test]
fn hooks_change_what_they_say() {
    let model = tiny();
    let sae = of_tiny("hooks", "topk", "blocks.1.hook_resid_pre", None, 128);
    let at = resid_pre(1);
    let (plain, cache) = model.run_with_cache(PROMPT).unwrap();
    let x = cache.get(&at).unwrap();
    let f = sae.encode(&x).unwrap();
    let seen = |hooks: &Hooks| model.run_with_hooks_and_cache(PROMPT, hooks, &at).unwrap().1.get(&at).unwrap();

    let spliced = model.run_with_hooks(PROMPT, &sae.splice().unwrap()).unwrap();
    let own = sae.clone();
    let by_hand = Hooks::new().edit(&at, move |x, _| own.reconstruct(x));
    close(&spliced, &model.run_with_hooks(PROMPT, &by_hand).unwrap(), 1e-5);
    assert!(max_difference(&spliced, &plain) > 0.1);
    close(&model.run_with_hooks(PROMPT, &sae.splice_with_error().unwrap()).unwrap(), &plain, 1e-4);

    // The features of this SAE that are active in the prompt.
    let top: Vec<usize> = sae.features(&cache).unwrap().top_features(3).iter().map(|active| active.feature).collect();
    let direction = |feature: usize| sae.w_dec().get(feature).unwrap();
    let times = |values: &Tensor, feature: usize| {
        values.unsqueeze(2).unwrap().broadcast_mul(&direction(feature).reshape((1, 1, 128)).unwrap()).unwrap()
    };
    let column = |feature: usize| f.narrow(2, feature, 1).unwrap().squeeze(2).unwrap();
    let ablated = top.iter().fold(x.clone(), |x, &feature| (x - times(&column(feature), feature)).unwrap());
    close(&seen(&sae.ablate(top.clone()).unwrap()), &ablated, 1e-5);
    let amount = Tensor::full(2.5f32, column(0).shape(), &Device::Cpu).unwrap();
    close(&seen(&sae.steer(top[0], 2.5).unwrap()), &(&x + times(&amount, top[0])).unwrap(), 1e-5);
    let change = (amount - column(top[1])).unwrap();
    close(&seen(&sae.clamp(top[1], 2.5).unwrap()), &(&x + times(&change, top[1])).unwrap(), 1e-5);
    let doubled = sae.edit_features(|f| Ok((f * 2.0)?)).unwrap();
    let more = f.reshape(((), 24)).unwrap().matmul(sae.w_dec()).unwrap().reshape(x.shape()).unwrap();
    close(&seen(&doubled), &(&x + more).unwrap(), 1e-5);

    // At some positions, the others stay, number for number.
    let last = x.dim(1).unwrap() - 1;
    let changed = seen(&sae.at_positions(-1).ablate(top.clone()).unwrap());
    assert_eq!(max_difference(&changed.narrow(1, 0, last).unwrap(), &x.narrow(1, 0, last).unwrap()), 0.0);
    close(&changed.narrow(1, last, 1).unwrap(), &ablated.narrow(1, last, 1).unwrap(), 1e-5);

    // Gradients go through the features.
    let hooks = sae.splice_with_error().unwrap();
    let gradients = model.gradients_with_hooks(PROMPT, &metric::logit(" John"), &at, &hooks).unwrap();
    assert!(gradients.grad(&at).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.0);

    assert!(sentence(sae.ablate([24])).contains("there is no feature 24"));
    assert!(sentence(sae.ablate([])).contains("no feature was named"));
    assert!(sentence(sae.steer(0, f64::NAN)).contains("NaN"));
    assert!(sentence(sae.direction(99)).contains("99"));
    let narrow = sentence(model.run_with_hooks(PROMPT, &fixture("standard").splice().unwrap()));
    assert!(narrow.contains("vectors of width 6 were expected"), "{narrow}");
    let unknown = fixture("standard").at("blocks.1.hook_resid_pr").splice().unwrap();
    assert!(sentence(model.run_with_hooks(PROMPT, &unknown)).contains("did you mean"));
    let shape = sae.edit_features(|f| Ok(f.narrow(1, 0, 2)?)).unwrap();
    assert!(sentence(model.run_with_hooks(PROMPT, &shape)).contains("edited features"));
}

#[test]
fn a_transcoder_reads_here_and_writes_there() {
    let model = tiny();
    let sae = of_tiny("transcoder", "transcoder", "blocks.1.ln2.hook_normalized", Some("blocks.1.hook_mlp_out"), 128);
    let (plain, cache) = model.run_with_cache(PROMPT).unwrap();
    let (x, y) = (cache.get(ln2_normalized(1)).unwrap(), cache.get(mlp_out(1)).unwrap());
    let seen =
        |hooks: &Hooks| model.run_with_hooks_and_cache(PROMPT, hooks, mlp_out(1)).unwrap().1.get(mlp_out(1)).unwrap();
    close(&seen(&sae.splice().unwrap()), &sae.reconstruct(&x).unwrap(), 1e-5);
    close(&model.run_with_hooks(PROMPT, &sae.splice_with_error().unwrap()).unwrap(), &plain, 1e-4);
    let f = sae.encode(&x).unwrap();
    let feature = sae.features(&cache).unwrap().top_features(1)[0].feature;
    let part =
        f.narrow(2, feature, 1).unwrap().broadcast_mul(&sae.direction(feature).unwrap().reshape((1, 1, 128)).unwrap());
    close(&seen(&sae.ablate([feature]).unwrap()), &(&y - part.unwrap()).unwrap(), 1e-5);
    close(&sae.error_against(&x, &y).unwrap(), &(&y - sae.reconstruct(&x).unwrap()).unwrap(), 1e-6);
    // Without its input there is a sentence.
    let far = of_tiny("far", "transcoder", "blocks.0.ln2.hook_normalized", Some("blocks.1.hook_mlp_out"), 128);
    let late = RunOptions::new().hooks(&far.splice().unwrap()).start_at_layer(1);
    let found = sentence(model.run(cache.get(resid_pre(1)).unwrap(), &late));
    assert!(found.contains("did not come before"), "{found}");
    // Runs on two threads at once do not mix.
    let hooks = sae.splice().unwrap();
    let wanted = model.run_with_hooks(PROMPT, &hooks).unwrap();
    std::thread::scope(|scope| {
        let run = || model.run_with_hooks(PROMPT, &hooks).unwrap();
        let both = [scope.spawn(run), scope.spawn(run)];
        both.into_iter().for_each(|thread| close(&thread.join().unwrap(), &wanted, 1e-5));
    });
}

#[test]
fn heads_are_one_vector_or_one_alone() {
    let model = tiny();
    let (plain, cache) = model.run_with_cache(PROMPT).unwrap();
    let z_of = cache.get(z(1)).unwrap();
    let all = of_tiny("z", "standard", "blocks.1.attn.hook_z", None, 128);
    let flat = z_of.flatten_from(2).unwrap();
    close(&all.encode(&z_of).unwrap(), &all.encode(&flat).unwrap(), 1e-7);
    let run = |hooks: &Hooks| model.run_with_hooks_and_cache(PROMPT, hooks, z(1)).unwrap().1.get(z(1)).unwrap();
    close(&run(&all.splice().unwrap()), &all.reconstruct(&flat).unwrap().reshape(z_of.shape()).unwrap(), 1e-5);
    close(&model.run_with_hooks(PROMPT, &all.splice_with_error().unwrap()).unwrap(), &plain, 1e-4);

    // Of head 2 alone.
    let cfg = json!({"hook_name": "blocks.1.attn.hook_z", "hook_head_index": 2});
    let tensors = [
        ("W_enc", numbers(1, &[32, 24], 0.3)),
        ("W_dec", numbers(2, &[24, 32], 0.3)),
        ("b_enc", numbers(3, &[24], 0.3)),
        ("b_dec", numbers(4, &[32], 0.1)),
    ];
    let one = Sae::from_folder(write("one-head", &cfg, &tensors)).unwrap();
    assert_eq!(one.head(), Some(2));
    let changed = run(&one.splice().unwrap());
    for head in 0..4 {
        let before = z_of.narrow(2, head, 1).unwrap().squeeze(2).unwrap();
        let expected = if head == 2 { one.reconstruct(&before).unwrap() } else { before };
        close(&changed.narrow(2, head, 1).unwrap().squeeze(2).unwrap(), &expected, 1e-6);
    }
    let head = z_of.narrow(2, 2, 1).unwrap().squeeze(2).unwrap();
    close(&one.features(&cache).unwrap().to_tensor().unwrap(), &one.encode(&head).unwrap(), 1e-6);

    // Effects on the logits go through W_O and the last norm, whose weights are folded into W_U.
    let (w_o, w_u) = (model.w_o().unwrap().get(1).unwrap(), model.w_u());
    let d = all.direction(5).unwrap().reshape((4, 1, 32)).unwrap();
    let written = d.matmul(&w_o.contiguous().unwrap()).unwrap().sum(0).unwrap();
    let written = written.broadcast_sub(&written.mean_keepdim(1).unwrap()).unwrap();
    let logits = written.matmul(w_u).unwrap().squeeze(0).unwrap();
    let logits = logits.broadcast_sub(&logits.mean_keepdim(0).unwrap()).unwrap();
    let effects = all.logit_effects(&model, 5).unwrap();
    close(&Tensor::new(effects.values(), &Device::Cpu).unwrap(), &logits, 1e-4);
    let top = effects.top(3);
    assert!(top[0].2 >= top[1].2 && top[0].2 == effects.values().iter().copied().fold(f32::MIN, f32::max));
    assert_eq!(model.to_single_str_token(top[0].1).unwrap(), top[0].0);
    assert!(effects.bottom(1)[0].2 < 0.0);
    assert!(one.logit_effects(&model, 5).is_ok());
    assert!(sentence(fixture("standard").logit_effects(&model, 5)).contains("width 6"));
    let pattern = of_tiny("scores", "standard", "blocks.1.attn.hook_q", None, 128);
    assert!(sentence(pattern.logit_effects(&model, 5)).contains("is not added to the residual stream"));
}

#[test]
fn features_of_a_prompt_are_those_of_its_vectors() {
    let model = tiny();
    let sae = of_tiny("features", "topk", "blocks.1.hook_resid_pre", None, 128);
    let prompts = ["John gave a book to Mary.", "Hello"];
    let (_, cache) = model.run_with_cache(prompts).unwrap();
    let features = sae.features(&cache).unwrap();
    let dense = sae.encode(&cache.get(resid_pre(1)).unwrap()).unwrap();
    assert_eq!(max_difference(&features.to_tensor().unwrap(), &dense), 0.0);
    let (rows, width) = features.shape();
    let mask = cache.tokens().unwrap().mask().unwrap().to_vec();
    let values: Vec<Vec<Vec<f32>>> = dense.to_vec3().unwrap();
    let mut active = (0, 0);
    for row in 0..rows {
        for pos in 0..width {
            let here = &values[row][pos];
            let mut order: Vec<usize> = (0..24).filter(|&i| here[i] != 0.0).collect();
            if mask[row][pos] {
                active = (active.0 + order.len(), active.1 + 1);
            }
            order.sort_by(|&a, &b| here[b].total_cmp(&here[a]));
            let top: Vec<usize> = features.top_per_token(3)[row][pos].iter().map(|active| active.feature).collect();
            let expected = if mask[row][pos] { order.into_iter().take(3).collect() } else { Vec::new() };
            assert_eq!(top, expected, "row {row}, position {pos}");
        }
    }
    assert!((features.l0() - active.0 as f64 / active.1 as f64).abs() < 1e-9 && features.l0() <= 5.0);
    let best = features.top_features(1)[0];
    assert_eq!(best.value, values[best.row][best.pos][best.feature]);
    let all = values.iter().flatten().flatten().copied().fold(0.0, f32::max);
    assert!(best.value == all || !mask.concat().iter().all(|real| *real));
    assert_eq!(features.of(best.feature).unwrap().at("batch", best.row as i64).unwrap().values()[best.pos], best.value);
    assert!(sentence(features.of(24)).contains("there is no feature 24"));
    assert!(sentence(features.at(2, 0)).contains("there is no token"));
    assert!(sentence(sae.features(&cache.at_pos(-1).unwrap())).contains("[batch, pos, ..] was expected"));
    let (_, cache) = model.run_with_cache_of("Hello", resid_pre(0)).unwrap();
    assert!(sentence(sae.features(&cache)).contains("not in this cache"));
}

#[test]
fn an_sae_that_loses_nothing_recovers_all() {
    let model = tiny();
    let text = model.over(TEXTS).row_length(16).progress(&quiet());
    let scores = identity(&resid_post(1)).evaluate(&text).unwrap();
    assert!((scores.loss_recovered() - 1.0).abs() < 1e-4, "{}", scores.loss_recovered());
    assert!((scores.loss_recovered_from_mean() - 1.0).abs() < 1e-3);
    assert!((scores.variance_explained - 1.0).abs() < 1e-6 && (scores.cosine - 1.0).abs() < 1e-6);
    assert!(scores.mse < 1e-6 && (scores.l0 - 128.0).abs() < 0.5, "{}", scores.l0);
    assert!(scores.loss_zero > scores.loss + 0.5);
    let zeros = Hooks::new().edit(resid_post(1), |x, _| Ok(x.zeros_like()?));
    let by_hand = text.clone().hooks(&zeros).loss().unwrap().mean();
    assert!((scores.loss_zero - by_hand).abs() < 1e-6);
}

#[test]
fn scores_are_those_of_all_tokens_at_once() {
    let model = tiny();
    let sae = of_tiny("scores", "topk", "blocks.1.hook_resid_pre", None, 128);
    let text = model.over(TEXTS).row_length(12).batch_size(3).skip_bos().progress(&quiet());
    let scores = sae.evaluate(&text).unwrap();
    let mut all = Vec::new();
    for row in text.rows().unwrap() {
        let tokens = Tokens::from_ids(vec![row]).unwrap();
        let (_, cache) = model.run_with_cache_of(&tokens, resid_pre(1)).unwrap();
        let x = cache.get(resid_pre(1)).unwrap().squeeze(0).unwrap();
        all.push(x.narrow(0, 1, x.dim(0).unwrap() - 1).unwrap());
    }
    let x = Tensor::cat(&all, 0).unwrap();
    let n = x.dim(0).unwrap();
    let number = |x: Tensor| f64::from(x.to_scalar::<f32>().unwrap());
    let (f, made) = (sae.encode(&x).unwrap(), sae.reconstruct(&x).unwrap());
    let error = number((&x - &made).unwrap().sqr().unwrap().sum_all().unwrap());
    let centred = x.broadcast_sub(&x.mean_keepdim(0).unwrap()).unwrap();
    let variance = number(centred.sqr().unwrap().sum_all().unwrap());
    let active: Vec<f32> = f.gt(0f64).unwrap().to_dtype(DType::F32).unwrap().sum(0).unwrap().to_vec1().unwrap();
    assert_eq!(scores.tokens, n);
    assert!((scores.l0 - f64::from(active.iter().sum::<f32>()) / n as f64).abs() < 1e-6);
    assert!((scores.mse / (error / n as f64) - 1.0).abs() < 1e-4);
    let explained = 1.0 - error / variance;
    assert!((scores.variance_explained - explained).abs() < 1e-4 * explained.abs().max(1.0));
    assert_eq!(scores.dead, active.iter().filter(|count| **count == 0.0).count());
    let statistics = sae.statistics(&text).unwrap();
    assert_eq!(statistics, scores.features);
    for (feature, count) in active.iter().enumerate() {
        assert!((statistics.density(feature).unwrap() - f64::from(*count) / n as f64).abs() < 1e-9);
    }
    let largest: Vec<f32> = f.max(0).unwrap().to_vec1().unwrap();
    close(&statistics.largest().unwrap(), &Tensor::new(largest, &Device::Cpu).unwrap(), 1e-5);
    // BOS keeps its activation, in the spliced run too.
    let by_hand = text.clone().hooks(&sae.at_positions(1..).splice().unwrap()).loss().unwrap().mean();
    assert!((scores.loss_spliced - by_hand).abs() < 1e-6);
    assert!(sentence(fixture("standard").at(resid_pre(1)).evaluate(&text)).contains("width 6"));
}

#[test]
fn top_examples_are_the_strongest_places() {
    let model = tiny();
    let sae = of_tiny("examples", "topk", "blocks.1.hook_resid_pre", None, 128);
    let text = model.over(TEXTS).one_row_each().batch_size(3).skip_bos().progress(&quiet());
    let top = sae.top_examples(&text, [7, 2], 3).unwrap();
    assert_eq!(top.units().iter().map(|unit| unit.unit()).collect::<Vec<_>>(), [7, 2]);
    assert_eq!(top.unit(2).unwrap().name(), "feature 2 of blocks.1.hook_resid_pre");
    for feature in [7, 2] {
        let mut best: Vec<(f32, usize, usize)> = Vec::new();
        let mut active = (0, 0);
        for (number, row) in text.rows().unwrap().into_iter().enumerate() {
            let (_, cache) = model.run_with_cache_of(Tokens::from_ids(vec![row]).unwrap(), resid_pre(1)).unwrap();
            let values = sae.features(&cache).unwrap().of(feature).unwrap().values();
            let strongest = (1..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
            active = (active.0 + values[1..].iter().filter(|v| **v > 0.0).count(), active.1 + values.len() - 1);
            best.push((values[strongest], number, strongest));
        }
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        let unit = top.unit(feature).unwrap();
        for (example, best) in unit.examples().iter().zip(&best) {
            assert!((example.value() - best.0).abs() < 1e-5, "feature {feature}: {} and {best:?}", example.value());
            assert!(best.0 == 0.0 || (example.row(), example.pos()) == (best.1, best.2));
        }
        let card = sae.card(&text, feature).unwrap();
        assert!((card.density() - active.0 as f64 / active.1 as f64).abs() < 1e-9);
        assert_eq!((card.tokens(), card.largest()), (active.1, unit.examples()[0].value()));
        assert_eq!(card.logit_effects().unwrap().values(), sae.logit_effects(&model, feature).unwrap().values());
    }
    assert_eq!(sae.top_examples(&text, .., 1).unwrap().units().len(), 24);
    assert!(sentence(sae.top_examples(&text, 24, 1)).contains("there is no feature 24"));
    assert!(sentence(sae.top_examples(&text, Vec::<usize>::new(), 1)).contains("no feature was asked for"));
}

#[test]
fn training_learns_and_is_the_same_again() {
    let model = tiny();
    let text = model.over(TEXTS).one_row_each().skip_bos().progress(&quiet());
    let options = SaeTrainOptions::new().d_sae(96).k(6).batch_size(24).steps(60).rate(3e-3).progress(&quiet());
    let train = |options: &SaeTrainOptions| Sae::train(&text, resid_post(1), options).unwrap();
    let sae = train(&options);
    let losses = sae.training_losses();
    assert_eq!(losses.len(), 60);
    assert!(losses[59] < 0.5 * losses[0], "{losses:?}");
    let scores = sae.evaluate(&text).unwrap();
    assert!(scores.variance_explained > 0.6 && scores.l0 <= 6.0, "{scores:?}");
    let norms: Vec<f32> = sae.w_dec().sqr().unwrap().sum(1).unwrap().to_vec1().unwrap();
    assert!(norms.iter().all(|norm| (norm - 1.0).abs() < 1e-4));
    assert_eq!((sae.kind(), sae.model_name()), (SaeKind::TopK { k: 6 }, Some("tiny")));
    assert_eq!(sae.log_sparsity().unwrap().dims(), [96]);

    let weights = |sae: &Sae| [sae.w_enc(), sae.w_dec(), sae.b_enc(), sae.b_dec()].map(Clone::clone);
    for (a, b) in weights(&sae).iter().zip(&weights(&train(&options))) {
        assert_eq!(max_difference(a, b), 0.0);
    }
    let other = train(&options.clone().seed(1));
    assert!(max_difference(other.w_enc(), sae.w_enc()) > 0.01);
    // A buffer that the text does not fit into: run again and again, to the same end.
    let mixed = train(&options.clone().buffer(48));
    assert_eq!(mixed.training_losses().len(), 60);
    assert!(mixed.training_losses()[59] < 0.6 * mixed.training_losses()[0]);
    // A feature that was never active stays as it was drawn, its encoder the decoder's transpose, but for the loss that
    // teaches the dead.
    let many = SaeTrainOptions::new().d_sae(400).k(4).batch_size(24).steps(40).progress(&quiet());
    let untouched = |sae: &Sae| {
        let apart = (sae.w_enc().t().unwrap() - sae.w_dec()).unwrap().abs().unwrap().max(1).unwrap();
        apart.to_vec1::<f32>().unwrap().into_iter().filter(|apart| *apart < 1e-5).count()
    };
    let (without, with) = (train(&many.clone().aux(0, 0.0)), train(&many.dead_after(100).aux(100, 0.1)));
    let (without, with) = (untouched(&without), untouched(&with));
    assert!(without > 20 && with * 4 < without, "{with} of 400 untouched with the auxiliary loss, {without} without");

    let folder = folder("trained");
    sae.save(&folder).unwrap();
    let again = Sae::from_folder(&folder).unwrap();
    assert_eq!(max_difference(again.w_enc(), sae.w_enc()), 0.0);
    // Of other points, too.
    let z_sae = Sae::train(&text, z(1), &options.clone().steps(2)).unwrap();
    assert_eq!((z_sae.d_in(), z_sae.hook_in().unwrap()), (128, z(1)));
    assert_eq!(Sae::train(&text, post(0), &options.clone().steps(1)).unwrap().d_in(), model.cfg().d_mlp);

    let refused = |options: SaeTrainOptions| sentence(Sae::train(&text, resid_post(1), &options));
    assert!(refused(options.clone().k(0)).contains("k is 0"));
    assert!(refused(options.clone().k(97)).contains("1 to 96"));
    assert!(refused(options.clone().steps(0)).contains("no steps"));
    assert!(refused(options.clone().rate(f64::NAN)).contains("rate"));
    assert!(sentence(Sae::train(&text, pattern(0), &options)).contains("an SAE is trained on"));
    assert!(sentence(Sae::train(&text, "resid_post", &options)).contains("give the layer too"));
}
