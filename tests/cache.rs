//! The cache's arithmetic: slices, stacks that add up, attribution, files; and lenses.

mod common;
#[path = "common/writers.rs"]
mod writers;

use candlescope::analysis::{LensReading, TunedLens, direct_logit_attribution};
use candlescope::candle_nn::ops::{log_softmax, softmax};
use candlescope::prelude::*;
use common::{fixture, max_difference, model};

const PROMPT: [u32; 8] = [5, 80, 17, 200, 33, 5, 80, 17];

/// Two prompts.
fn batch() -> Tokens {
    Tokens::from_ids(vec![PROMPT.to_vec(), vec![9, 8, 7, 6, 5, 4, 3, 100]]).unwrap()
}

fn cache_of(model: &HookedTransformer) -> ActivationCache {
    model.run_with_cache(batch()).unwrap().1
}

/// Every fixture whose stream is a sum of what attentions and MLPs write.
fn additive() -> Vec<(String, HookedTransformer)> {
    let mut models = Vec::new();
    for folder in common::fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !["bart", "bert", "mamba", "mamba2", "t5"].contains(&name.as_str()) {
            models.push((name.clone(), model(&name)));
            // What weight processing folds away must be right where it was not.
            if ["gpt2", "gemma2", "gpt_neox", "mixtral"].contains(&name.as_str()) {
                let raw = HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap();
                models.push((format!("{name}, raw"), raw));
            }
        }
    }
    assert!(models.len() > 25);
    models
}

fn size(x: &Tensor) -> f32 {
    x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap().max(1.0)
}

fn assert_close(name: &str, a: &Tensor, b: &Tensor) {
    let difference = max_difference(a, b);
    assert!(difference < 1e-4 * size(b), "{name}: {difference} of {}", size(b));
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

// Slices.

#[test]
fn positions_are_sliced_on_the_axis_that_counts_them() {
    for name in ["gpt2", "llama", "gemma2", "deepseek_v3", "qwen3", "mamba"] {
        let cache = cache_of(&model(name));
        let (one, some) = (cache.at_pos(-2).unwrap(), cache.at_pos([0, 3, -1]).unwrap());
        assert_eq!(one.get(resid_post(1)).unwrap().dims(), [2, 32], "{name}");
        let whole = cache.get(resid_post(1)).unwrap();
        assert_eq!(max_difference(&one.get(resid_post(1)).unwrap(), &whole.i((.., 6)).unwrap()), 0.0);
        assert_eq!(
            max_difference(&some.get(resid_post(1)).unwrap().i((.., 1)).unwrap(), &whole.i((.., 3)).unwrap()),
            0.0
        );
        for info in model(name).hook_points().iter().filter(|info| cache.contains(info.point.name())) {
            let (before, after) = (cache.get(&info.point).unwrap(), some.get(&info.point));
            let axis =
                info.shape.trim_matches(['[', ']']).split(", ").position(|axis| axis == "pos" || axis == "query");
            match (axis, after) {
                (Some(axis), Ok(after)) => {
                    let mut dims = before.dims().to_vec();
                    dims[axis] = 3;
                    assert_eq!(after.dims(), dims, "{name} {}", info.point);
                }
                (None, Err(error)) => assert!(error.to_string().contains("whole cache"), "{error}"),
                (axis, after) => panic!("{name} {}: {axis:?}, {after:?}", info.point),
            }
        }
    }
}

#[test]
fn a_sliced_cache_is_a_view_and_knows_its_tokens() {
    let cache = cache_of(&model("gpt2"));
    let part = cache.at_pos(2..5).unwrap();
    let (whole, view) = (cache.get(resid_pre(1)).unwrap(), part.get(resid_pre(1)).unwrap());
    assert_eq!((view.stride(), view.layout().start_offset()), (whole.stride(), 2 * 32));
    assert_eq!(part.tokens().unwrap().ids(), [[17, 200, 33], [7, 6, 5]]);
    assert_eq!(part.at_pos(-1).unwrap().tokens().unwrap().ids(), [[33], [5]]);
    assert_eq!(part.at_batch(1).unwrap().tokens().unwrap().ids(), [[7, 6, 5]]);
    // Attention keeps all keys, and says whose queries it has.
    let pattern = part.pattern(1).unwrap();
    assert_eq!((pattern.dims(), pattern.queries()), (&[2, 4, 3, 8][..], Some(&[2, 3, 4][..])));
    assert_eq!(pattern.tokens().unwrap().ids(), batch().ids());
    let one = part.at_pos(1).unwrap().at_batch(0).unwrap().pattern(1).unwrap();
    assert_eq!((one.dims(), one.queries()), (&[4, 1, 8][..], Some(&[3][..])));
    assert!(one.bundle().text.contains("1 queries, 8 keys"), "{}", one.bundle().text);
}

#[test]
fn rows_are_sliced_and_what_follows_is_the_same() {
    for name in ["gpt2", "mixtral", "gemma2"] {
        let model = model(name);
        let cache = cache_of(&model);
        let alone = model.run_with_cache(vec![9u32, 8, 7, 6, 5, 4, 3, 100]).unwrap().1;
        let row = cache.at_batch(1..).unwrap();
        assert_close(name, &row.decompose_resid(None).unwrap(), &alone.decompose_resid(None).unwrap());
        let dropped = cache.at_batch(-1).unwrap();
        assert!(!dropped.has_batch_dim());
        assert_close(
            name,
            &dropped.stack_head_results(None).unwrap().unsqueeze(1).unwrap(),
            &row.stack_head_results(None).unwrap(),
        );
        assert_close(name, &alone.remove_batch_dim().unwrap().get(z(1)).unwrap(), &dropped.get(z(1)).unwrap());
    }
}

#[test]
fn slices_of_nothing_and_twice_are_sentences() {
    let model = model("mixtral");
    let cache = cache_of(&model);
    let error = |result: candlescope::Result<ActivationCache>| result.unwrap_err().to_string();
    assert!(error(cache.at_pos(8)).contains("no place 8: the axis has 8"));
    assert!(error(cache.at_batch(2)).contains("no place 2"));
    assert!(error(cache.at_pos(0).unwrap().at_pos(0)).contains("one position already"));
    assert!(error(cache.at_batch(0).unwrap().at_batch(0)).contains("no batch dimension"));
    let routed = cache.at_pos(0).unwrap().get("blocks.0.mlp.experts.hook_post").unwrap_err().to_string();
    assert!(routed.contains("blocks.0.mlp.experts.hook_post") && routed.contains("whole cache"), "{routed}");
    let flat = cache.at_pos(0).unwrap().get(("post", 0)).unwrap().dims().to_vec();
    assert_eq!(flat, [2, 32], "the layer's own output has positions");
}

// Stacks.

#[test]
fn every_decomposition_adds_up_to_the_stream() {
    for (name, model) in additive() {
        let cache = cache_of(&model);
        let n_layers = model.cfg().n_layers;
        for place in [StreamPlace::Start(0), StreamPlace::Start(1), StreamPlace::End] {
            let stream = match place {
                StreamPlace::Start(layer) => cache.get(resid_pre(layer)).unwrap(),
                _ => cache.get(resid_post(n_layers - 1)).unwrap(),
            };
            let name = format!("{name} {place:?}");
            assert_close(&name, &cache.decompose_resid(place).unwrap().sum(0).unwrap(), &stream);
            let full = cache.full_resid_decomposition(place, false).unwrap();
            assert_close(&name, &full.stack().unwrap().sum(0).unwrap(), &stream);
            if model.cfg().experts.is_none() {
                let full = cache.full_resid_decomposition(place, true).unwrap();
                assert_close(&name, &full.stack().unwrap().sum(0).unwrap(), &stream);
                // Nothing is left for a remainder.
                let rest = full.with_remainder().unwrap().stack().unwrap().component("remainder").unwrap();
                assert_close(&name, &(rest + &stream).unwrap(), &stream);
            }
            if place != StreamPlace::Start(0) {
                let heads = cache.stack_head_results(place).unwrap();
                assert_close(&name, &heads.with_remainder().unwrap().sum(0).unwrap(), &stream);
            }
        }
        if !model.cfg().parallel_attn_mlp {
            let mid = cache.get(resid_mid(1)).unwrap();
            let parts = cache.decompose_resid(StreamPlace::Mid(1)).unwrap();
            assert_eq!(parts.labels().last().unwrap(), "1_attn_out");
            assert_close(&name, &parts.sum(0).unwrap(), &mid);
            let full = cache.full_resid_decomposition(StreamPlace::Mid(1), false).unwrap();
            assert_close(&name, &full.stack().unwrap().sum(0).unwrap(), &mid);
        }
    }
}

/// A head's result is right by itself, and not only in the sum: without the head, the attention's output lacks it.
#[test]
fn heads_are_what_their_attention_lacks_without_them() {
    for name in ["gpt2", "granitemoe", "llama"] {
        let model = model(name);
        let cache = cache_of(&model);
        let without = Hooks::new().edit(z(1), |z, _| {
            let kept: Vec<f32> = (0..4).map(|head| if head == 2 { 0.0 } else { 1.0 }).collect();
            Ok(z.broadcast_mul(&Tensor::new(kept, z.device())?.reshape((4, 1))?)?)
        });
        let ablated = model.run_with_hooks_and_cache(batch(), &without, attn_out(1)).unwrap().1;
        let lacks = (cache.get(attn_out(1)).unwrap() - ablated.get(attn_out(1)).unwrap()).unwrap();
        assert_close(name, &cache.stack_head_results(None).unwrap().component("L1H2").unwrap(), &lacks);
    }
}

/// Behind the norm that follows Gemma 2's branches, all heads together are the attention's output, and all neurons the MLP's.
#[test]
fn a_norm_behind_the_branch_is_counted_in() {
    let cache = cache_of(&model("gemma2"));
    let heads = cache.stack_head_results(1).unwrap();
    assert_close("heads", &heads.sum(0).unwrap(), &cache.get(attn_out(0)).unwrap());
    let neurons = cache.stack_neuron_results(1).unwrap().stack().unwrap();
    assert_close("neurons", &neurons.sum(0).unwrap(), &cache.get(mlp_out(0)).unwrap());
    assert_close(
        "one layer",
        &cache.get_neuron_results(2, ..).unwrap().sum(2).unwrap(),
        &cache.get(mlp_out(2)).unwrap(),
    );
}

#[test]
fn neurons_are_activation_times_w_out_and_projections_need_no_stack() {
    let model = model("llama");
    let cache = cache_of(&model);
    let some = cache.get_neuron_results(1, [3, -1]).unwrap();
    let w_out = model.w_out().unwrap().i(1).unwrap();
    let acts = cache.get(post(1)).unwrap();
    for (place, neuron) in [(0, 3), (1, 47)] {
        let expected = acts.i((.., .., neuron..neuron + 1)).unwrap().broadcast_mul(&w_out.i(neuron).unwrap()).unwrap();
        assert_close("neuron", &some.i((.., .., place)).unwrap(), &expected);
    }
    let directions = model.tokens_to_residual_directions([7u32, 11, 200]).unwrap();
    let projected = cache.get_neuron_results_onto(1, [3, -1], &directions).unwrap();
    let expected =
        some.reshape((2 * 8 * 2, 32)).unwrap().matmul(&directions.t().unwrap()).unwrap().reshape((2, 8, 2, 3)).unwrap();
    assert_close("projected", &projected, &expected);
    assert_eq!(cache.get_neuron_results_onto(1, 5, &directions.get(0).unwrap()).unwrap().dims(), [2, 8, 1]);
    let labels = cache.stack_neuron_results_of(2, [3, -1]).unwrap().labels();
    assert_eq!(labels, ["L0N3", "L0N47", "L1N3", "L1N47"]);
    assert!(cache.get_neuron_results(1, 48).unwrap_err().to_string().contains("no place 48"));
}

#[test]
fn what_is_projected_as_it_goes_is_what_the_stack_projects_to() {
    for name in ["gpt2", "gemma2", "gpt_neox", "stablelm"] {
        let folder = fixture(name);
        for model in [model(name), HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap()]
        {
            let cache = cache_of(&model);
            let directions = model.tokens_to_residual_directions([7u32, 11]).unwrap();
            for parts in [cache.full_resid_decomposition(None, true).unwrap(), cache.stack_neuron_results(2).unwrap()] {
                let normalized = parts.apply_ln().unwrap();
                assert_close(
                    name,
                    &parts.onto(&directions).unwrap(),
                    &parts.stack().unwrap().onto(&directions).unwrap(),
                );
                let dense = normalized.stack().unwrap();
                assert_close(name, &normalized.onto(&directions).unwrap(), &dense.onto(&directions).unwrap());
                assert_eq!(dense.labels(), parts.labels());
                let one = directions.get(1).unwrap();
                assert_close(name, &normalized.onto(&one).unwrap(), &dense.onto(&one).unwrap());
            }
        }
    }
}

/// With its scale held, the norm makes of the parts what it made of the whole.
#[test]
fn norms_use_the_scale_of_the_place() {
    for (name, model) in additive() {
        let cache = cache_of(&model);
        let b = |weights: Option<candlescope::weights::NormWeights>| weights.and_then(|norm| norm.b);
        let w = |weights: &Option<candlescope::weights::NormWeights>| weights.as_ref().and_then(|norm| norm.w.clone());
        let weights = model.weights();
        let norms = [
            (StreamPlace::Start(1), "blocks.1.ln1", &weights.blocks[1].ln1),
            (StreamPlace::Mid(1), "blocks.1.ln2", &weights.blocks[1].ln2),
            (StreamPlace::End, "ln_final", &weights.ln_final),
        ];
        for (place, point, weights) in norms {
            if place == StreamPlace::Mid(1) && model.cfg().parallel_attn_mlp {
                continue;
            }
            let parts = cache.decompose_resid(place).unwrap();
            let sum = parts.apply_ln().unwrap().sum(0).unwrap();
            let Ok(mut expected) = cache.get(format!("{point}.hook_normalized")) else {
                assert!(weights.is_none(), "{name} {point}");
                assert_close(&name, &sum, &parts.sum(0).unwrap());
                continue;
            };
            if let Some(w) = w(weights) {
                expected = expected.broadcast_mul(&w).unwrap();
            }
            assert_close(&format!("{name} {point}"), &sum, &expected);
            let anew = cache.accumulated_resid(place, false).unwrap().apply_ln_anew().unwrap();
            if let Some(b) = b(weights.clone()) {
                expected = expected.broadcast_add(&b).unwrap();
            }
            // Computed anew, the norm of the whole stream is the model's own.
            assert_close(&format!("{name} {point} anew"), &anew.get(anew.labels().len() - 1).unwrap(), &expected);
        }
    }
}

#[test]
fn stacks_have_transformer_lens_labels_and_can_leave_parts_out() {
    let cache = cache_of(&model("gpt2"));
    let labels = |stack: Stack| stack.labels().to_vec();
    let all = cache.decompose_resid(2).unwrap();
    assert_eq!(labels(all.clone()), ["embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out"]);
    assert_eq!(labels(all.without_mlps().unwrap()), ["embed", "pos_embed", "0_attn_out", "1_attn_out"]);
    assert_eq!(labels(all.without_attention().unwrap().without_embeds().unwrap()), ["0_mlp_out", "1_mlp_out"]);
    assert_eq!(labels(cache.accumulated_resid(StreamPlace::Mid(1), false).unwrap()), ["0_pre", "1_pre", "1_mid"]);
    let heads = cache.stack_head_results(1).unwrap().with_remainder().unwrap();
    assert_eq!(labels(heads), ["L0H0", "L0H1", "L0H2", "L0H3", "remainder"]);
    let full = cache.full_resid_decomposition(1, false).unwrap().labels();
    assert_eq!(full, ["L0H0", "L0H1", "L0H2", "L0H3", "0_mlp_out", "embed", "pos_embed", "bias"]);
    assert_eq!(cache.stack_activation("pattern").unwrap().dims(), [3, 2, 4, 8, 8]);
    // Granite's and Gemma's are without position vectors.
    assert_eq!(cache_of(&model("llama")).decompose_resid(0).unwrap().labels(), ["embed"]);
}

#[test]
fn accumulated_biases_are_those_of_the_weights() {
    let raw = HookedTransformer::from_pretrained_no_processing(&fixture("gpt2").to_string_lossy()).unwrap();
    for model in [model("gpt2"), raw] {
        let blocks = model.weights().blocks;
        let candlescope::weights::MixerWeights::Attention(attention) = &blocks[0].mixer else { panic!() };
        let Some(candlescope::weights::FeedForwardWeights::Mlp(mlp)) = &blocks[0].feed_forward else { panic!() };
        let (b_o, b_out) = (attention.b_o.clone().unwrap(), mlp.b_out.clone().unwrap());
        assert_close("mid", &model.accumulated_bias(StreamPlace::Mid(0), true).unwrap(), &b_o);
        assert_close("b_O", &model.accumulated_bias(1, false).unwrap(), &b_o);
        assert_close("both", &model.accumulated_bias(1, true).unwrap(), &(b_o + b_out).unwrap());
    }
    let none = model("llama").accumulated_bias(None, true).unwrap();
    assert_eq!(numbers(&none.abs().unwrap().sum_all().unwrap()), [0.0]);
}

#[test]
fn models_without_such_parts_say_so() {
    let error = |result: candlescope::Result<Stack>| result.unwrap_err().to_string();
    let mamba = cache_of(&model("mamba"));
    assert!(error(mamba.decompose_resid(None)).contains("state-space"));
    assert!(error(mamba.stack_head_results(None)).contains("state-space"));
    assert_eq!(mamba.accumulated_resid(None, false).unwrap().labels().len(), model("mamba").cfg().n_layers + 1);
    assert!(error(cache_of(&model("bert")).decompose_resid(None)).contains("stand after the additions"));
    let neox = cache_of(&model("gpt_neox"));
    assert!(error(neox.decompose_resid(StreamPlace::Mid(0))).contains("parallel"));
    assert!(error(neox.accumulated_resid(None, true)).contains("parallel"));
    let mixtral = cache_of(&model("mixtral"));
    assert!(mixtral.stack_neuron_results(None).unwrap_err().to_string().contains("experts"));
    assert!(mixtral.full_resid_decomposition(None, true).unwrap_err().to_string().contains("experts"));
    let gpt2 = cache_of(&model("gpt2"));
    assert!(error(gpt2.decompose_resid(4)).contains("no layer 4: the model has 3"));
    assert!(error(gpt2.stack_head_results(0)).contains("no head before layer 0"));
    assert!(error(gpt2.accumulated_resid(None, false).unwrap().with_remainder()).contains("no remainder"));
    assert!(error(gpt2.decompose_resid(None).unwrap().apply_ln().unwrap().apply_ln()).contains("already"));
    let bare = model("gpt2").run_with_cache_of(batch(), ["hook_embed", "hook_pos_embed"]).unwrap().1;
    let embeds = bare.decompose_resid(0).unwrap();
    assert!(error(embeds.with_remainder()).contains("needs the residual stream"));
    assert!(error(embeds.apply_ln()).contains("blocks.0.ln1.hook_scale"));
}

#[test]
fn short_types_are_summed_in_f32() {
    let options = LoadOptions::new().dtype(DType::BF16);
    let model = HookedTransformer::from_pretrained_with(&fixture("llama").to_string_lossy(), &options).unwrap();
    let cache = cache_of(&model);
    let stack = cache.decompose_resid(None).unwrap();
    assert_eq!(stack.dtype(), DType::F32);
    let rest = stack.with_remainder().unwrap().component("remainder").unwrap();
    assert!(size(&rest) <= 1.0);
    assert_eq!(cache.stack_head_results(None).unwrap().with_remainder().unwrap().dtype(), DType::F32);
    assert_eq!(cache.logit_lens().unwrap().entropy().unwrap().dims(), [4, 2, 8]);
    let wide = cache.to_dtype(DType::F32).unwrap();
    assert!(wide.iter().all(|(_, tensor)| tensor.dtype() != DType::BF16));
    assert!(cache.to_dtype(DType::U8).unwrap_err().to_string().contains("floats"));
}

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
        let attrs = cache.logit_attrs(&cache.decompose_resid(None).unwrap(), 7, None).unwrap();
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
    let places = cache.logit_attrs(&stack, &batch(), None).unwrap();
    assert_close("per position", &places.i((.., 1, 7)).unwrap(), &one(100).i((.., 1, 7)).unwrap());
    assert_close("per position", &places.i((.., 0, 3)).unwrap(), &one(200).i((.., 0, 3)).unwrap());
    let names: Vec<&str> = places.axes().iter().map(|axis| axis.name()).collect();
    assert_eq!((names, places.axes()[0].labels()), (vec!["component", "batch", "pos"], stack.labels()));

    let last = cache.at_pos(-1).unwrap();
    let at_last = last.logit_attrs(&last.decompose_resid(None).unwrap(), [7u32, 11], [3u32, 4]).unwrap();
    let expected = (one(11).i((.., 1, 7)).unwrap() - one(4).i((.., 1, 7)).unwrap()).unwrap();
    assert_close("last", &at_last.i((.., 1)).unwrap(), &expected);
    let row = cache.at_batch(1).unwrap();
    let of_row = row.logit_attrs(&row.decompose_resid(None).unwrap(), vec![11u32], None).unwrap();
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
    let named = nameless.logit_attrs(&nameless.decompose_resid(None).unwrap(), " Mary", None).unwrap_err().to_string();
    assert!(named.contains("no tokenizer"), "{named}");
    // The stack of another slice than the norm's scale.
    let other = cache.logit_attrs(&cache.at_pos(-1).unwrap().decompose_resid(None).unwrap(), 7, None).unwrap_err();
    assert!(other.to_string().contains("different slices"), "{other}");
    let early = cache.decompose_resid(1).unwrap().apply_ln().unwrap();
    assert!(cache.logit_attrs(&early, 7, None).unwrap_err().to_string().contains("Start(1)"));
    let bert = cache_of(&common::model("bert"));
    let stack = bert.accumulated_resid(None, false).unwrap();
    assert!(bert.logit_attrs(&stack, 7, None).unwrap_err().to_string().contains("masked language model"));
    let tiny = HookedTransformer::from_pretrained("tiny").unwrap();
    let (_, cache) = tiny.run_with_cache("John gave a book to").unwrap();
    let two = cache.logit_attrs(&cache.decompose_resid(None).unwrap(), " Mary John", None).unwrap_err().to_string();
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
    let all = last
        .logit_attrs(&last.stack_neuron_results(None).unwrap().stack().unwrap(), 7, 11)
        .unwrap()
        .squeeze(1)
        .unwrap();
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
    for folder in common::fixtures() {
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

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("candlescope-cache-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
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
    let processed = common::model("gpt2");
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

// Files.

#[test]
fn a_saved_cache_is_the_same_cache() {
    let folder = folder("save");
    for name in ["gpt2", "mixtral", "t5"] {
        let model = model(name);
        let rows = vec![PROMPT.to_vec(), vec![9, 8, 7]];
        let tokens = Tokens::padded(rows, 0, PaddingSide::Left).unwrap();
        let (_, cache) = model.run_with_cache(tokens.clone()).unwrap();
        let path = folder.join(format!("{name}.safetensors"));
        cache.save(&path).unwrap();
        let same = ActivationCache::load(&path, &model).unwrap();
        assert_eq!(same.names(), cache.names());
        for ((point, a), (_, b)) in cache.iter().zip(&same) {
            assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()), "{name} {point}");
            let equal = numbers(a).iter().zip(numbers(b)).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(equal, "{name} {point}");
        }
        if name == "t5" {
            assert_eq!(same.encoder_tokens().unwrap().ids(), tokens.ids());
            continue;
        }
        assert_eq!(same.tokens().unwrap().mask(), tokens.mask());
        assert_eq!(same.tokens().unwrap().last_positions(), [7, 7]);
        let part = cache.at_batch(0).unwrap().at_pos(2..4).unwrap();
        part.save(&path).unwrap();
        let same = ActivationCache::load(&path, &model).unwrap();
        assert!(!same.has_batch_dim() && same.has_pos_dim());
        assert_eq!(same.pattern(1).unwrap().queries(), Some(&[2, 3][..]));
        assert_close(name, &same.decompose_resid(None).unwrap(), &part.decompose_resid(None).unwrap());
        if name == "mixtral" {
            assert!(same.get("blocks.0.mlp.experts.hook_post").unwrap_err().to_string().contains("whole cache"));
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_that_are_no_cache_of_this_model_say_so() {
    let folder = folder("bad");
    let path = folder.join("cache.safetensors");
    let error = |model: &HookedTransformer| ActivationCache::load(&path, model).unwrap_err().to_string();
    let gpt2 = model("gpt2");
    assert!(error(&gpt2).contains("cache.safetensors"));
    cache_of(&gpt2).save(&path).unwrap();
    assert!(error(&model("llama")).contains("load it with the model that made it"));
    let raw = HookedTransformer::from_pretrained_no_processing(&fixture("gpt2").to_string_lossy()).unwrap();
    assert!(error(&raw).contains("other weight processing"), "{}", error(&raw));
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(error(&gpt2).contains("truncated or damaged"), "{}", error(&gpt2));
    }
    std::fs::copy(fixture("gpt2").join("model.safetensors"), &path).unwrap();
    assert!(error(&gpt2).contains("not written by ActivationCache::save"));
    assert!(cache_of(&gpt2).save(folder.join("no/such/folder")).unwrap_err().to_string().contains("can't be written"));
    std::fs::remove_dir_all(folder).unwrap();
}
