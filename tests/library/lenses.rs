//! What is read of the residual stream as logits: attribution, the logit lens, tuned lenses.

use crate::common::parts::{PROMPT, additive, assert_close, batch, cache_of, folder, numbers};
use crate::common::writers;
use crate::common::{fixture, max_difference, model};
use candlescope::analysis::{LensReading, TunedLens, direct_logit_attribution};
use candlescope::candle_nn::ops::{log_softmax, softmax};
use candlescope::prelude::*;

// Attribution.

/// The sum over all components is the logit less b_U and the last norm's b through W_U, in every family without a head and
/// without a cap; with a cap it is so before the cap.
#[test]
fn attributions_add_up_to_logits_in_every_family() {
    for (name, model) in additive() {
        let (logits, cache) = model.run_with_cache(batch()).unwrap();
        let zero =
            model.logits_from_resid(&cache.get(resid_post(model.cfg().n_layers - 1)).unwrap().zeros_like().unwrap());
        // A norm makes nothing of a stream of zeros but its b.
        let uncap = |logits: &Tensor| match model.cfg().output_logits_soft_cap {
            Some(cap) => numbers(logits).iter().map(|x| cap as f32 * (x / cap as f32).atanh()).collect(),
            None => numbers(logits),
        };
        let d_vocab = model.cfg().d_vocab;
        let (logits, constant) = (uncap(&logits), uncap(&zero.unwrap()));
        let attrs = cache.logit_attrs(cache.decompose_resid(None).unwrap(), 7, None).unwrap();
        for (place, total) in numbers(&attrs.sum(0).unwrap()).into_iter().enumerate() {
            let expected = logits[place * d_vocab + 7] - constant[place * d_vocab + 7];
            assert!((total - expected).abs() < 2e-3 * expected.abs().max(1.0), "{name} {place}: {total}, {expected}");
        }
    }
}

#[test]
fn answers_may_differ_by_row_and_position() {
    let cache = cache_of(&model("gpt2"));
    let stack = cache.decompose_resid(None).unwrap();
    let one = |token: u32| cache.logit_attrs(&stack, token, None).unwrap();
    let rows = cache.logit_attrs(&stack, [7u32, 11], None).unwrap();
    assert_close("row 0", &rows.i((.., 0)).unwrap(), &one(7).i((.., 0)).unwrap());
    assert_close("row 1", &rows.i((.., 1)).unwrap(), &one(11).i((.., 1)).unwrap());
    let against = cache.logit_attrs(&stack, [7u32, 11], 3).unwrap();
    let expected = (one(11).i((.., 1)).unwrap() - one(3).i((.., 1)).unwrap()).unwrap();
    assert_close("instead of one", &against.i((.., 1)).unwrap(), &expected);
    let places = cache.logit_attrs(&stack, batch(), None).unwrap();
    assert_close("per position", &places.i((.., 1, 7)).unwrap(), &one(100).i((.., 1, 7)).unwrap());
    assert_close("per position", &places.i((.., 0, 3)).unwrap(), &one(200).i((.., 0, 3)).unwrap());
    let names: Vec<&str> = places.axes().iter().map(|axis| axis.name()).collect();
    assert_eq!((names, places.axes()[0].labels()), (vec!["component", "batch", "pos"], stack.labels()));

    let last = cache.at_pos(-1).unwrap();
    let at_last = last.logit_attrs(last.decompose_resid(None).unwrap(), [7u32, 11], [3u32, 4]).unwrap();
    let expected = (one(11).i((.., 1, 7)).unwrap() - one(4).i((.., 1, 7)).unwrap()).unwrap();
    assert_close("last", &at_last.i((.., 1)).unwrap(), &expected);
    let row = cache.at_batch(1).unwrap();
    let of_row = row.logit_attrs(row.decompose_resid(None).unwrap(), vec![11u32], None).unwrap();
    assert_close("row", &of_row, &one(11).i((.., 1)).unwrap());
    // The norm is applied once, whoever asks first.
    let normalized = stack.apply_ln().unwrap();
    assert_close("normalized", &cache.logit_attrs(&normalized, 7, None).unwrap(), &one(7));
}

#[test]
fn answers_that_do_not_fit_are_sentences() {
    let model = model("gpt2");
    let cache = cache_of(&model);
    let stack = cache.decompose_resid(None).unwrap();
    let error =
        |token: candlescope::tokens::TokenChoice| cache.logit_attrs(&stack, token, None).unwrap_err().to_string();
    assert!(error([1u32, 2, 3].into()).contains("3 tokens were given, and the parts have 2 rows"));
    assert!(error(vec![vec![1u32, 2], vec![3, 4]].into()).contains("2 rows of 2 positions"));
    assert!(error(vec![vec![1u32, 2], vec![3]].into()).contains("not equally long"));
    assert!(error(Vec::<u32>::new().into()).contains("at least one"));
    assert!(error(400u32.into()).contains("out of range"));
    let nameless = cache_of(&HookedTransformer::from_weights(model.cfg().clone(), model.weights()).unwrap());
    let named = nameless.logit_attrs(nameless.decompose_resid(None).unwrap(), " Mary", None).unwrap_err().to_string();
    assert!(named.contains("no tokenizer"), "{named}");
    // The stack of another slice than the norm's scale.
    let other = cache.logit_attrs(cache.at_pos(-1).unwrap().decompose_resid(None).unwrap(), 7, None).unwrap_err();
    assert!(other.to_string().contains("different slices"), "{other}");
    let early = cache.decompose_resid(1).unwrap().apply_ln().unwrap();
    assert!(cache.logit_attrs(&early, 7, None).unwrap_err().to_string().contains("Start(1)"));
    let bert = cache_of(&crate::common::model("bert"));
    let stack = bert.accumulated_resid(None, false).unwrap();
    assert!(bert.logit_attrs(&stack, 7, None).unwrap_err().to_string().contains("masked language model"));
    let tiny = HookedTransformer::from_pretrained("tiny").unwrap();
    let (_, cache) = tiny.run_with_cache("John gave a book to").unwrap();
    let two = cache.logit_attrs(cache.decompose_resid(None).unwrap(), " Mary John", None).unwrap_err().to_string();
    assert!(two.contains("Mary") && two.contains("single one"), "{two}");
}

#[test]
fn direct_attribution_is_at_each_rows_last_token() {
    let model = model("gpt2");
    let rows = vec![PROMPT.to_vec(), vec![9, 8, 7]];
    for side in [PaddingSide::Right, PaddingSide::Left] {
        let (_, cache) = model.run_with_cache(Tokens::padded(rows.clone(), 0, side).unwrap()).unwrap();
        let both = direct_logit_attribution(&cache, [7u32, 11], [3u32, 4]).unwrap();
        for (row, (right, wrong)) in [(7u32, 3u32), (11, 4)].into_iter().enumerate() {
            let (logits, alone) = model.run_with_cache(rows[row].clone()).unwrap();
            let one = direct_logit_attribution(&alone, right, wrong).unwrap();
            let components = one.by_component().unwrap();
            assert_close("components", &both.by_component().unwrap().i(row).unwrap(), &components);
            assert_close("heads", &both.by_head().unwrap().i(row).unwrap(), &one.by_head().unwrap());
            let logits = numbers(&logits.at(0, -1).unwrap());
            let b_u = numbers(&model.b_u().unwrap());
            let lead = |of: &[f32]| of[right as usize] - of[wrong as usize];
            let sum: f32 = components.values().iter().sum();
            assert!((sum + lead(&b_u) - lead(&logits)).abs() < 1e-3);
            let last: f32 = *one.by_layer().unwrap().values().last().unwrap();
            assert!((sum - last).abs() < 1e-3);
        }
    }
}

#[test]
fn top_neurons_are_those_of_the_whole_stack() {
    let model = model("gpt2");
    let (_, cache) = model.run_with_cache(PROMPT.to_vec()).unwrap();
    let top = direct_logit_attribution(&cache, 7, 11).unwrap().by_neuron(5).unwrap();
    let last = cache.at_pos(-1).unwrap();
    let all =
        last.logit_attrs(last.stack_neuron_results(None).unwrap().stack().unwrap(), 7, 11).unwrap().squeeze(1).unwrap();
    let mut all: Vec<f32> = numbers(&all);
    assert_eq!(all.len(), 3 * 128);
    all.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    for (ours, expected) in top.values().iter().zip(&all) {
        assert!((ours - expected).abs() < 1e-5);
    }
    assert!(top.axes()[0].labels().iter().all(|label| label.starts_with('L') && label.contains('N')));
    let heads = direct_logit_attribution(&cache, 7, 11).unwrap();
    assert!(heads.bundle().text.contains("0_attn_out") && heads.bundle().text.contains("head"));
    assert_eq!(heads.by_head().unwrap().dims(), [3, 4]);
    assert!(heads.top_heads(3).unwrap().bundle().text.contains("L"));
}

// Lenses.

#[test]
fn the_last_layer_of_a_lens_is_the_model() {
    for folder in crate::common::fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let folder = folder.to_string_lossy().into_owned();
        for model in [model(&name), HookedTransformer::from_pretrained_no_processing(&folder).unwrap()] {
            let (logits, cache) = model.run_with_cache(batch()).unwrap();
            let lens = cache.logit_lens().unwrap();
            assert_eq!(lens.labels().len(), model.cfg().n_layers + 1, "{name}");
            assert_eq!(max_difference(&lens.logits(-1).unwrap(), &logits), 0.0, "{name}");
        }
    }
}

/// By definition: stop after the first layer, and unembed.
#[test]
fn an_early_layer_is_the_model_cut_short() {
    for name in ["gpt2", "gemma2", "llama"] {
        let model = model(name);
        let weights = model.weights();
        let mut short = model.cfg().clone();
        short.n_layers = 1;
        short.layers.truncate(1);
        let mut first = weights.clone();
        first.blocks.truncate(1);
        let expected = HookedTransformer::from_weights(short, first).unwrap().forward(batch()).unwrap();
        let lens = cache_of(&model).logit_lens().unwrap();
        assert_close(name, &lens.logits(1).unwrap(), &expected);
        let probs: Vec<Vec<f32>> = softmax(&expected.i(1).unwrap(), D::Minus1).unwrap().to_vec2().unwrap();
        let top = &lens.top_tokens(1, 3).unwrap()[1][6];
        let mut order: Vec<usize> = (0..probs[6].len()).collect();
        order.sort_by(|a, b| probs[6][*b].total_cmp(&probs[6][*a]));
        for (token, id) in top.iter().zip(order) {
            assert_eq!(token.id as usize, id);
            assert!((token.probability - probs[6][id]).abs() < 1e-5);
        }
        assert_eq!(top.len(), 3);
    }
}

#[test]
fn questions_to_a_lens_are_what_its_logits_say() {
    let model = model("gpt2");
    let cache = cache_of(&model);
    let lens = cache.logit_lens_with_mid().unwrap();
    assert_eq!(lens.labels()[..3], ["0_pre", "0_mid", "1_pre"]);
    let (layer, row, pos, token) = (2, 1, 4, 11usize);
    let logits = numbers(&lens.logits(layer).unwrap().at(row, pos).unwrap());
    let log_probs = numbers(&log_softmax(&lens.logits(layer).unwrap().at(row, pos).unwrap(), 0).unwrap());
    let last = numbers(&log_softmax(&lens.logits(-1).unwrap().at(row, pos).unwrap(), 0).unwrap());
    let at = |values: LabelledTensor| numbers(&values.i((layer as usize, row, pos as usize)).unwrap())[0];
    let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-4, "{a} {b}");
    close(at(lens.logit(11).unwrap()), logits[token]);
    close(at(lens.probability(11).unwrap()), log_probs[token].exp());
    let higher = logits.iter().filter(|logit| **logit > logits[token]).count();
    assert_eq!(at(lens.rank([3u32, 11]).unwrap()), higher as f32);
    close(at(lens.logit_diff(11, 12).unwrap()), logits[11] - logits[12]);
    close(at(lens.entropy().unwrap()), -log_probs.iter().map(|p| p.exp() * p).sum::<f32>());
    close(at(lens.kl_to_final().unwrap()), last.iter().zip(&log_probs).map(|(p, q)| p.exp() * (p - q)).sum());
    let end: f32 = numbers(&lens.kl_to_final().unwrap().at("layer", -1).unwrap()).iter().map(|kl| kl.abs()).sum();
    assert!(end < 1e-4);
    let next = vec![vec![11u32; 8]; 2];
    close(at(lens.logit(next).unwrap()), logits[token]);

    // A row alone has no batch axis, and neither has a cache without it.
    for one in [cache.at_batch(1..2).unwrap(), cache.at_batch(1).unwrap()] {
        let rank = one.logit_lens().unwrap().rank(11).unwrap();
        assert_eq!(rank.axes().iter().map(|axis| axis.name()).collect::<Vec<_>>(), ["layer", "pos"]);
        assert_eq!(numbers(&rank.i((1, 4)).unwrap()), [higher as f32]);
    }
    let at_pos = cache.at_pos(4).unwrap().logit_lens().unwrap().rank(11).unwrap();
    assert_eq!(numbers(&at_pos.i((1, 1, 0)).unwrap()), [higher as f32]);

    let error = |result: candlescope::Result<LabelledTensor>| result.unwrap_err().to_string();
    assert!(error(lens.rank([1u32, 2, 3])).contains("2 rows of 8 positions"));
    assert!(error(lens.rank(5000)).contains("out of range"));
    assert!(lens.logits(7).unwrap_err().to_string().contains("no layer 7"));
    assert!(lens.top_tokens(2, 1).unwrap_err().to_string().contains("no row 2"));
}

#[test]
fn a_lens_shows_layers_and_tokens() {
    let model = HookedTransformer::from_pretrained("tiny").unwrap();
    let (logits, cache) = model.run_with_cache("John gave a book to").unwrap();
    let lens: LensReading = cache.logit_lens().unwrap();
    let text = lens.bundle().text;
    let likeliest = logits.top_k(1, 0, -1).unwrap()[0].0.replace(' ', "·");
    let top = text.lines().find(|line| line.starts_with("final_post")).unwrap();
    assert!(top.trim_end().ends_with(&likeliest), "{text}");
    assert!(text.contains("·book"), "{text}");
    assert!(lens.bundle().png.is_some());
    for grid in [lens.grid_by_rank(" Mary"), lens.grid_by_probability(" Mary")] {
        assert!(grid.unwrap().bundle().html.unwrap().contains("Mary"));
    }
}

/// Numbers between -1 and 1.
fn some_numbers(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 + seed * 101) as f32 * 0.7).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn an_identity_lens_is_the_logit_lens() {
    for name in ["gpt2", "gemma2", "mamba"] {
        let model = model(name);
        let cache = cache_of(&model);
        let (tuned, logit) = (TunedLens::identity(&model).unwrap().read(&cache).unwrap(), cache.logit_lens().unwrap());
        for layer in 0..logit.labels().len() as i64 {
            assert_eq!(max_difference(&tuned.logits(layer).unwrap(), &logit.logits(layer).unwrap()), 0.0, "{name}");
        }
    }
}

/// The published layout: config.json, and a state dict in params.pt.
#[test]
fn a_tuned_lens_is_read_as_published() {
    let model = HookedTransformer::from_pretrained_no_processing(&fixture("gpt2").to_string_lossy()).unwrap();
    let cache = cache_of(&model);
    let mut state = writers::Tensors::new();
    for layer in 0..3 {
        state.insert(format!("{layer}.weight"), some_numbers(layer, &[32, 32]));
        state.insert(format!("{layer}.bias"), some_numbers(layer + 10, &[32]));
    }
    let folder = folder("published");
    writers::write_torch(&folder.join("params.pt"), &state);
    let config = r#"{"base_model_name_or_path": "gpt2", "d_model": 32, "num_hidden_layers": 3, "bias": true,
        "base_model_revision": null, "unembed_hash": "00", "lens_type": "linear_tuned_lens"}"#;
    std::fs::write(folder.join("config.json"), config).unwrap();
    let lens = TunedLens::load(&folder, &model).unwrap();

    // torch's Linear: y_i = sum_j W_ij x_j + b_i; the lens adds that to x.
    let x = numbers(&cache.get(resid_pre(1)).unwrap().i((1, 5)).unwrap());
    let (w, b) = (state["1.weight"].to_vec2::<f32>().unwrap(), numbers(&state["1.bias"]));
    let moved: Vec<f32> = (0..32).map(|i| x[i] + b[i] + w[i].iter().zip(&x).map(|(w, x)| w * x).sum::<f32>()).collect();
    let expected =
        model.logits_from_resid(&Tensor::new(moved, &Device::Cpu).unwrap().reshape((1, 1, 32)).unwrap()).unwrap();
    let reading = lens.read(&cache).unwrap();
    assert_close("tuned", &reading.logits(1).unwrap().at(1, 5).unwrap(), &expected.at(0, 0).unwrap());
    assert!(max_difference(&reading.logits(1).unwrap(), &cache.logit_lens().unwrap().logits(1).unwrap()) > 0.1);
    assert_eq!(max_difference(&reading.logits(-1).unwrap(), &model.forward(batch()).unwrap()), 0.0);
    assert!(!reading.bundle().text.contains("no_processing"));

    // Saved and read again, it is the same; so is the file alone.
    let saved = folder.join("saved");
    lens.save(&saved).unwrap();
    for path in [saved.clone(), saved.join("params.safetensors"), folder.join("params.pt")] {
        let again = TunedLens::load(&path, &model).unwrap().read(&cache).unwrap();
        assert_eq!(max_difference(&again.logits(2).unwrap(), &reading.logits(2).unwrap()), 0.0);
    }

    // On a model whose writing weights were centred, it is said.
    let processed = crate::common::model("gpt2");
    let warned = TunedLens::load(&folder, &processed).unwrap().read(&cache_of(&processed)).unwrap();
    assert!(warned.bundle().text.contains("no_processing"), "{}", warned.bundle().text);

    let error =
        |path: &std::path::Path, model: &HookedTransformer| TunedLens::load(path, model).unwrap_err().to_string();
    let other = HookedTransformer::from_pretrained("tiny").unwrap();
    assert!(error(&folder, &other).contains("it is for gpt2"), "{}", error(&folder, &other));
    assert!(error(&folder.join("params.pt"), &other).contains("no tuned lens for this model"));
    assert!(error(&folder.join("nothing"), &model).contains("config.json and params.pt"));
    let bytes = std::fs::read(folder.join("params.pt")).unwrap();
    std::fs::write(folder.join("params.pt"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(error(&folder, &model).contains("params.pt"));
    assert!(lens.read(&cache_of(&processed)).unwrap_err().to_string().contains("another model"));
    let few = TunedLens::new(&model, vec![(some_numbers(0, &[32, 32]), None)]).unwrap_err().to_string();
    assert!(few.contains("maps for 1 layers, and the model has 3"));
    std::fs::remove_dir_all(folder).unwrap();
}
