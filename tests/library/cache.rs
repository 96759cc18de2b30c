//! The cache's arithmetic: slices, stacks that add up, files.

use crate::common::parts::{PROMPT, additive, assert_close, batch, cache_of, folder, numbers, size};
use crate::common::{fixture, max_difference, model};
use candlescope::prelude::*;

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

/// The positions are the decoder's; what the encoder made of its text stays whole.
#[test]
fn an_encoder_decoder_is_sliced_at_its_decoder() {
    let input = (batch(), Tokens::from_ids(vec![vec![0, 5, 6]; 2]).unwrap());
    let (_, cache) = model("t5").run_with_cache(input).unwrap();
    let part = cache.at_pos(1..).unwrap();
    assert_eq!(part.get("decoder_blocks.0.hook_resid_pre").unwrap().dims(), [2, 2, 32]);
    assert_eq!(part.get("decoder_blocks.0.cross_attn.hook_pattern").unwrap().dims()[2..], [2, 8]);
    assert_eq!(part.get("encoder_blocks.0.hook_resid_pre").unwrap().dims(), [2, 8, 32]);
    assert_eq!(part.tokens().unwrap().ids(), [[5, 6], [5, 6]]);
    let one = part.at_pos(-1).unwrap().at_batch(0).unwrap();
    assert_eq!(one.get("decoder_blocks.0.hook_resid_pre").unwrap().dims(), [32]);
    assert_eq!(one.get("encoder_blocks.0.hook_resid_pre").unwrap().dims(), [8, 32]);
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
