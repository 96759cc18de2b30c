//! Bad input gets a sentence that says what was expected, what was found and what to do; never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{fixture, model};
use candlescope::Result;
use candlescope::hub::{self, HubSettings};
use candlescope::prelude::*;

const PROMPT: [u32; 4] = [5, 80, 17, 200];

fn sentence<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

/// A copy of the tiny GPT-2 in a folder of this test's own, to be spoilt.
fn copy(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bad_input").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture("gpt2").join(file), folder.join(file)).unwrap();
    }
    folder
}

fn load(folder: &Path) -> Result<HookedTransformer> {
    HookedTransformer::from_pretrained(&folder.to_string_lossy())
}

fn edit_config(folder: &Path, from: &str, to: &str) {
    let path = folder.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn an_unknown_name_suggests_a_near_one() {
    // Offline and with an empty cache, so that no test asks the network.
    let settings = HubSettings::offline(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("empty_cache"));
    let found = sentence(hub::resolve_with("tny", None, &settings));
    assert!(found.contains("tny") && found.contains("tiny"), "{found}");
}

#[test]
fn a_folder_without_weights_says_what_is_missing() {
    let folder = copy("without_weights");
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let found = sentence(load(&folder));
    assert!(found.contains("model.safetensors") && found.contains("without_weights"), "{found}");
}

#[test]
fn truncated_weights_are_named() {
    for keep in [0, 4, 100, 20_000] {
        let folder = copy("truncated");
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..keep]).unwrap();
        let found = sentence(load(&folder));
        assert!(found.contains("truncated") && found.contains("again"), "{keep} bytes: {found}");
    }
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let folder = copy("more_layers");
    edit_config(&folder, "\"n_layer\": 3", "\"n_layer\": 4");
    assert!(sentence(load(&folder)).contains("transformer.h.3."));
    let folder = copy("other_vocabulary");
    edit_config(&folder, "\"vocab_size\": 320", "\"vocab_size\": 321");
    let found = sentence(load(&folder));
    assert!(found.contains("wte.weight") && found.contains("321") && found.contains("320"), "{found}");
}

#[test]
fn a_config_is_read_with_care() {
    for (test, from, to, expected) in [
        ("unknown_type", "\"model_type\": \"gpt2\"", "\"model_type\": \"gpt3\"", "gpt2"),
        ("no_type", "\"model_type\": \"gpt2\",", "", "'model_type' is missing"),
        ("word_for_number", "\"n_layer\": 3", "\"n_layer\": \"three\"", "'n_layer'"),
        ("no_heads", "\"n_head\": 4", "\"n_head\": 0", "'n_head'"),
        ("odd_heads", "\"n_head\": 4", "\"n_head\": 5", "not a multiple"),
        ("unknown_activation", "\"gelu_new\"", "\"gelu_newest\"", "gelu_new"),
        ("unsupported", "\"add_cross_attention\": false", "\"add_cross_attention\": true", "add_cross_attention"),
        ("not_json", "{", "", "JSON"),
    ] {
        let folder = copy(test);
        edit_config(&folder, from, to);
        let found = sentence(load(&folder));
        assert!(found.contains(expected) && found.contains("config.json"), "{test}: {found}");
    }
}

#[test]
fn a_model_without_a_tokenizer_runs_on_ids_and_says_why_not_on_text() {
    let folder = copy("without_tokenizer");
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let model = load(&folder).unwrap();
    assert!(model.forward(PROMPT.to_vec()).is_ok());
    let found = sentence(model.forward("the quick brown fox"));
    assert!(found.contains("tokenizer.json") && found.contains("token ids"), "{found}");
}

#[test]
fn a_token_out_of_range_is_named_with_its_place() {
    let found = sentence(model("gpt2").forward(vec![5u32, 320]));
    assert!(found.contains("320") && found.contains("position 1") && found.contains("319"), "{found}");
}

#[test]
fn a_prompt_must_fit_and_must_not_be_empty() {
    let model = model("gpt2");
    let found = sentence(model.forward(vec![1u32; 65]));
    assert!(found.contains("65") && found.contains("64"), "{found}");
    assert!(sentence(model.forward(Vec::<u32>::new())).contains("empty"));
    let none = RunOptions::new().prepend_bos(false);
    assert!(sentence(model.run("", &none)).contains("empty"));
    assert!(model.forward("").is_ok(), "BOS alone is a prompt");
    let options = GenerateOptions::greedy().max_new_tokens(100);
    assert!(sentence(model.generate("the", &options)).contains("64"));
}

#[test]
fn hooks_are_checked_before_and_while_they_run() {
    let model = model("gpt2");
    let run = |hooks: &Hooks| sentence(model.run_with_hooks(PROMPT.to_vec(), hooks));
    let keep = |x: &Tensor, _: &HookPoint| Ok(x.clone());
    let typo = run(&Hooks::new().edit("blocks.1.atn.hook_pattern", keep));
    assert!(typo.contains("did you mean 'blocks.1.attn.hook_pattern'"), "{typo}");
    let absent = run(&Hooks::new().edit(rot_q(0), keep));
    assert!(absent.contains("can't fire") && absent.contains("rotary"), "{absent}");
    let beyond = run(&Hooks::new().edit(("pattern", 3), keep));
    assert!(beyond.contains("3 layers"), "{beyond}");
    let shape = run(&Hooks::new().edit(pattern(1), |x, _| Ok(x.narrow(3, 0, 2)?)));
    assert!(shape.contains("[1, 4, 4, 2]") && shape.contains("[1, 4, 4, 4]"), "{shape}");
    let failing = run(&Hooks::new().read(pattern(1), |_, _| Err(candlescope::Error::msg("no such thing"))));
    assert!(failing.contains("blocks.1.attn.hook_pattern") && failing.contains("no such thing"), "{failing}");
    let parallel = sentence(crate::common::model("gpt_neox").run_with_cache_of(PROMPT.to_vec(), "resid_mid"));
    assert!(parallel.contains("parallel"), "{parallel}");
    let grouped = sentence(crate::common::model("llama").run_with_cache_of(PROMPT.to_vec(), attn_in(0)));
    assert!(grouped.contains("hook_q_input"), "{grouped}");
}

#[test]
fn what_was_not_cached_is_said_to_be_so() {
    let (_, cache) = model("gpt2").run_with_cache_of(PROMPT.to_vec(), "pattern").unwrap();
    assert!(sentence(cache.get(resid_pre(0))).contains("not in this cache"));
    assert!(sentence(cache.get("patern")).contains("pattern"));
    assert!(sentence(cache.get("pattern")).contains("give the layer too"));
    assert!(sentence(cache.get(rot_q(0))).contains("rotary"));
    assert!(sentence(cache.pattern(7)).contains("blocks.7"));
    assert!(sentence(cache.pattern(0).unwrap().head(9)).contains("9"));
}

#[test]
fn inputs_of_the_wrong_kind_say_what_is_needed() {
    let model = model("gpt2");
    let floats = Tensor::zeros((1, 4, 32), DType::F32, &Device::Cpu).unwrap();
    assert!(sentence(model.forward(&floats)).contains("start_at_layer"));
    let from_layer_1 = RunOptions::new().start_at_layer(1);
    assert!(sentence(model.run(PROMPT.to_vec(), &from_layer_1)).contains("residual stream"));
    let narrow = Tensor::zeros((1, 4, 31), DType::F32, &Device::Cpu).unwrap();
    assert!(sentence(model.run(&narrow, &from_layer_1)).contains("d_model = 32"));
    assert!(sentence(model.run(&floats, &RunOptions::new().start_at_layer(1).loss())).contains("labels"));
    assert!(sentence(model.run(PROMPT.to_vec(), &RunOptions::new().stop_at_layer(9))).contains("3 layers"));
    assert!(sentence(model.run(PROMPT.to_vec(), &RunOptions::new().stop_at_layer(1).loss())).contains("stop_at_layer"));
    let short = RunOptions::new().attention_mask(vec![vec![true; 3]]);
    assert!(sentence(model.run(PROMPT.to_vec(), &short)).contains("attention_mask"));
    assert!(sentence(model.loss(vec![3u32])).contains("two tokens"));
    for options in [
        GenerateOptions::new().temperature(-1.0),
        GenerateOptions::new().temperature(f64::NAN),
        GenerateOptions::new().top_p(1.5),
        GenerateOptions::new().top_k(0),
    ] {
        let found = sentence(model.generate("the", &options));
        assert!(found.contains("must be"), "{found}");
    }
}

#[test]
fn a_tokenizer_that_is_damaged_is_an_error() {
    let json = fs::read_to_string(fixture("llama").join("tokenizer.json")).unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("damaged_tokenizer");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tokenizer.json");
    let damaged_table = json.replacen(
        "\"normalizer\": null",
        "\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}",
        1,
    );
    assert_ne!(damaged_table, json);
    let in_decoder = json.find("\"decoder\"").unwrap() + 20;
    for text in [&json[..in_decoder], &json[..json.len() / 2], "{}", "[]", "", &damaged_table] {
        fs::write(&path, text).unwrap();
        let why = Tokenizer::from_files(path.clone(), None).err().unwrap().to_string();
        assert!(why.contains("tokenizer.json") && why.contains("tokenizer"), "{why}");
    }
}
