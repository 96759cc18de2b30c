//! How a model runs: parts of a pass, hooks, padding, key-value cache, generation.

use std::sync::{Arc, Mutex};

use crate::common::{max_difference, model};
use candlescope::candle_core::Var;
use candlescope::candle_nn::ops::log_softmax;
use candlescope::prelude::*;

const PROMPT: [u32; 8] = [5, 80, 17, 200, 33, 5, 80, 17];

fn prompt() -> Tokens {
    Tokens::from(PROMPT.to_vec())
}

#[test]
fn processing_keeps_every_prediction() {
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "opt", "bloom", "falcon_40b_style", "stablelm"] {
        let folder = crate::common::fixture(name);
        let raw = HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap();
        let log_probs = |model: &HookedTransformer| log_softmax(&model.forward(prompt()).unwrap(), D::Minus1).unwrap();
        let difference = max_difference(&log_probs(&model(name)), &log_probs(&raw));
        assert!(difference < 1e-4, "{name}: folded and raw weights differ by {difference}");
        assert!(model(name).norms_folded() && !raw.norms_folded());
    }
}

#[test]
fn processed_gpt2_writes_nothing_along_the_mean() {
    let (_, cache) = model("gpt2").run_with_cache(prompt()).unwrap();
    for point in [embed(), pos_embed(), attn_out(1), mlp_out(2), resid_post(2)] {
        let mean = cache.get(&point).unwrap().mean(D::Minus1).unwrap().abs().unwrap();
        let worst: f32 = mean.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        assert!(worst < 1e-5, "{point} has mean {worst}");
    }
}

#[test]
fn a_pass_in_two_parts_is_the_whole_pass() {
    for name in ["gpt2", "gpt_neox", "llama"] {
        let model = model(name);
        let whole = model.forward(prompt()).unwrap();
        let first = model.run(prompt(), &RunOptions::new().stop_at_layer(-2)).unwrap();
        assert!(first.logits.is_none());
        let second = model.run(&first.resid, &RunOptions::new().start_at_layer(-2)).unwrap();
        assert!(max_difference(&whole, second.logits.unwrap().tensor()) < 1e-5, "{name}");
    }
}

#[test]
fn the_stopped_stream_is_what_enters_the_layer() {
    let model = model("llama");
    let (_, cache) = model.run_with_cache(prompt()).unwrap();
    let stopped = model.run(prompt(), &RunOptions::new().stop_at_layer(1).cache("pattern")).unwrap();
    assert_eq!(max_difference(&stopped.resid, &cache.get(resid_pre(1)).unwrap()), 0.0);
    assert_eq!(stopped.cache.len(), 1, "only layer 0 ran");
}

#[test]
fn hooks_read_edit_and_replace() {
    let model = model("gpt2");
    let plain = model.forward(prompt()).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let reading = Hooks::new().read("pattern", move |pattern, point| {
        log.lock().unwrap().push((point.layer(), pattern.dims().to_vec()));
        Ok(())
    });
    let read = model.run_with_hooks(prompt(), &reading).unwrap();
    assert_eq!(max_difference(&plain, &read), 0.0);
    let expected: Vec<_> = (0..3).map(|layer| (Some(layer), vec![1, 4, 8, 8])).collect();
    assert_eq!(*seen.lock().unwrap(), expected);

    // Without attention and MLP the stream stays the embedding.
    let silence =
        Hooks::new().edit("attn_out", |out, _| Ok(out.zeros_like()?)).edit("mlp_out", |out, _| Ok(out.zeros_like()?));
    let (_, cache) = model.run_with_hooks_and_cache(prompt(), &silence, all()).unwrap();
    let embedding = (cache.get(embed()).unwrap() + cache.get(pos_embed()).unwrap()).unwrap();
    assert_eq!(max_difference(&cache.get(resid_post(2)).unwrap(), &embedding), 0.0);

    let (_, other) = model.run_with_cache(vec![9u32, 9, 9, 9, 9, 9, 9, 9]).unwrap();
    let swapped = Hooks::new().replace(resid_pre(0), other.get(resid_pre(0)).unwrap());
    let swapped = model.run_with_hooks(prompt(), &swapped).unwrap();
    let direct = model.forward(vec![9u32, 9, 9, 9, 9, 9, 9, 9]).unwrap();
    assert_eq!(max_difference(&swapped, &direct), 0.0);
}

#[test]
fn hooks_of_one_point_act_in_order_and_the_cache_sees_the_result() {
    let hooks = Hooks::new().edit(embed(), |x, _| Ok((x * 0.0)?)).edit(embed(), |x, _| Ok((x + 2.0)?));
    let (_, cache) = model("gpt2").run_with_hooks_and_cache(prompt(), &hooks, embed()).unwrap();
    let values: Vec<f32> = cache.get(embed()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(values.iter().all(|value| *value == 2.0));
}

#[test]
fn points_on_request_change_nothing_and_have_their_shapes() {
    for (name, heads, groups) in [("gpt2", 4, 4), ("llama", 4, 2)] {
        let model = model(name);
        let plain = model.forward(prompt()).unwrap();
        let asked = [result(1), q_input(1), k_input(1), v_input(1), mlp_in(1)];
        let (logits, cache) = model.run_with_cache_of(prompt(), asked.to_vec()).unwrap();
        assert!(max_difference(&plain, &logits) < 1e-5, "{name}");
        assert_eq!(cache.get(result(1)).unwrap().dims(), [1, 8, heads, 32]);
        assert_eq!(cache.get(q_input(1)).unwrap().dims(), [1, 8, heads, 32]);
        assert_eq!(cache.get(k_input(1)).unwrap().dims(), [1, 8, groups, 32]);
        assert_eq!(cache.get(mlp_in(1)).unwrap().dims(), [1, 8, 32]);
    }
    let gpt2 = model("gpt2");
    let (logits, cache) = gpt2.run_with_cache_of(prompt(), attn_in(0)).unwrap();
    assert!(max_difference(&gpt2.forward(prompt()).unwrap(), &logits) < 1e-5);
    assert_eq!(cache.get(attn_in(0)).unwrap().dims(), [1, 8, 4, 32]);
}

#[test]
fn head_results_add_up_to_the_attention_output() {
    let model = model("llama");
    let (_, cache) = model.run_with_cache(prompt()).unwrap();
    let (_, asked) = model.run_with_cache_of(prompt(), result(1)).unwrap();
    let sum = asked.get(result(1)).unwrap().sum(2).unwrap();
    // Llama has no b_O.
    assert!(max_difference(&sum, &cache.get(attn_out(1)).unwrap()) < 1e-5);
    let stack = cache.stack_head_results(Some(2)).unwrap();
    let head = stack.labels().iter().position(|label| label == "L1H3").unwrap();
    let expected = asked.get(result(1)).unwrap().i((.., .., 3, ..)).unwrap();
    assert!(max_difference(&stack.get(head).unwrap(), &expected) < 1e-5);
}

#[test]
fn the_parts_of_the_stream_add_up() {
    for name in ["gpt2", "gpt_neox", "llama"] {
        let (_, cache) = model(name).run_with_cache(prompt()).unwrap();
        let parts = cache.decompose_resid(None).unwrap().sum(0).unwrap();
        assert!(max_difference(&parts, &cache.get(resid_post(2)).unwrap()) < 1e-4, "{name}");
    }
    let (_, cache) = model("gpt2").run_with_cache(prompt()).unwrap();
    let labels = cache.accumulated_resid(None, true).unwrap();
    assert_eq!(labels.labels(), ["0_pre", "0_mid", "1_pre", "1_mid", "2_pre", "2_mid", "final_post"]);
}

#[test]
fn logit_attributions_add_up_to_the_logit_difference() {
    let model = model("gpt2");
    let (logits, cache) = model.run_with_cache(prompt()).unwrap();
    let attrs = cache.logit_attrs(cache.decompose_resid(None).unwrap(), 7, Some(11)).unwrap();
    let total: Vec<f32> = attrs.sum(0).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
    let b_u: Vec<f32> = model.b_u().unwrap().to_vec1().unwrap();
    for (pos, total) in total.into_iter().enumerate() {
        let row: Vec<f32> = logits.at(0, pos as i64).unwrap().to_vec1().unwrap();
        let expected = row[7] - row[11];
        assert!((total + b_u[7] - b_u[11] - expected).abs() < 1e-3, "position {pos}: {total} against {expected}");
    }
}

#[test]
fn a_padded_batch_gives_what_its_rows_give_alone() {
    for name in ["gpt2", "llama", "mistral", "gpt_neo", "opt", "bloom", "stablelm"] {
        let model = model(name);
        let alone = model.forward(PROMPT[..5].to_vec()).unwrap();
        for left in [true, false] {
            let (pad, real) = (vec![0u32; 3], PROMPT[..5].to_vec());
            let (row, mask) = if left {
                ([pad, real].concat(), [vec![false; 3], vec![true; 5]].concat())
            } else {
                ([real, pad].concat(), [vec![true; 5], vec![false; 3]].concat())
            };
            let batch = Tokens::from_ids(vec![PROMPT.to_vec(), row]).unwrap();
            let options = RunOptions::new().attention_mask(vec![vec![true; 8], mask]).loss();
            let run = model.run(batch, &options).unwrap();
            let padded = run.logits.unwrap().i((1..2, if left { 3..8 } else { 0..5 })).unwrap();
            assert!(max_difference(&padded, &alone) < 1e-4, "{name}, padded on the left: {left}");
            let losses: Vec<f32> = run.loss_per_token.unwrap().get(1).unwrap().to_vec1().unwrap();
            assert_eq!(losses.iter().filter(|loss| **loss != 0.0).count(), 4, "four real pairs");
            assert!(run.loss.unwrap().is_finite());
        }
    }
}

#[test]
fn the_loss_is_the_negative_log_probability_of_the_next_token() {
    let model = model("qwen2");
    let log_probs: Vec<Vec<f32>> =
        log_softmax(&model.forward(prompt()).unwrap(), D::Minus1).unwrap().get(0).unwrap().to_vec2().unwrap();
    let expected: Vec<f32> = (0..7).map(|pos| -log_probs[pos][PROMPT[pos + 1] as usize]).collect();
    let found: Vec<f32> = model.loss_per_token(prompt()).unwrap().get(0).unwrap().to_vec1().unwrap();
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-5);
    }
    let mean = expected.iter().sum::<f32>() / 7.0;
    assert!((model.loss(prompt()).unwrap() - mean).abs() < 1e-5);
}

#[test]
fn steps_with_a_key_value_cache_give_what_one_pass_gives() {
    for name in ["gpt2", "llama", "mistral", "gpt_neox", "gpt_neo", "opt", "bloom", "falcon_40b_style"] {
        let model = model(name);
        let whole = model.forward(prompt()).unwrap();
        let mut past = KvCache::new(model.cfg().n_layers);
        let mut rows = Vec::new();
        for ids in [&PROMPT[..3], &PROMPT[3..4], &PROMPT[4..]] {
            let run = model.run_with_past(&ids.to_vec().into(), &RunOptions::new(), Some(&mut past)).unwrap();
            rows.push(run.logits.unwrap().tensor().clone());
        }
        assert_eq!(past.len(), 8);
        assert!(max_difference(&whole, &Tensor::cat(&rows, 1).unwrap()) < 1e-4, "{name}");
    }
}

#[test]
fn generation_is_the_same_with_and_without_the_cache_alone_and_in_a_batch() {
    for name in ["gpt2", "llama"] {
        let model = model(name);
        for options in [GenerateOptions::greedy(), GenerateOptions::new().temperature(0.7).top_k(20).seed(3)] {
            let options = options.max_new_tokens(6).stop_at_eos(false);
            let texts = ["the quick brown", "the lazy dog and Claire went"];
            let batch = model.generate(texts, &options).unwrap();
            for (row, text) in texts.into_iter().enumerate() {
                let alone = model.generate(text, &options).unwrap();
                let slow = model.generate(text, &options.clone().use_kv_cache(false)).unwrap();
                assert_eq!(alone.added()[0].len(), 6);
                assert_eq!(alone.added(), slow.added(), "{name}");
                assert_eq!(alone.added()[0], batch.added()[row], "{name}, row {row}");
            }
        }
    }
}

#[test]
fn greedy_generation_takes_the_likeliest_token() {
    let model = model("llama");
    let generated = model.generate(prompt(), &GenerateOptions::greedy().max_new_tokens(1)).unwrap();
    let top = model.forward(prompt()).unwrap().top_k(1, 0, -1).unwrap();
    assert_eq!(generated.added()[0], [top[0].1]);
}

#[test]
fn hooks_stay_active_while_generating() {
    let model = model("gpt2");
    let direction = model.residual_direction(42).unwrap();
    let push = Hooks::new().edit(resid_post(2), move |x, _| Ok(x.broadcast_add(&(&direction * 1000.0)?)?));
    let options = GenerateOptions::greedy().max_new_tokens(4).hooks(&push).stop_at_eos(false);
    assert_eq!(model.generate(prompt(), &options).unwrap().added()[0], [42; 4]);
}

#[test]
fn gradients_flow_to_the_weights() {
    let raw =
        HookedTransformer::from_pretrained_no_processing(&crate::common::fixture("gpt2").to_string_lossy()).unwrap();
    let mut weights = raw.weights();
    let variable = Var::from_tensor(&weights.w_e.contiguous().unwrap()).unwrap();
    weights.w_e = variable.as_tensor().clone();
    let model = HookedTransformer::from_weights(raw.cfg().clone(), weights.clone()).unwrap();
    let run = model.run(prompt(), &RunOptions::new().loss()).unwrap();
    let grads = run.loss_per_token.unwrap().mean_all().unwrap().backward().unwrap();
    let grad = grads.get(&variable).unwrap().i((80, 3)).unwrap().to_scalar::<f32>().unwrap();

    // The slope by a small step to both sides.
    let loss_at = |step: f32| {
        let mut rows: Vec<Vec<f32>> = variable.as_tensor().to_vec2().unwrap();
        rows[80][3] += step;
        let w_e = Tensor::new(rows, &Device::Cpu).unwrap();
        let weights = candlescope::weights::Weights { w_e, ..weights.clone() };
        HookedTransformer::from_weights(raw.cfg().clone(), weights).unwrap().loss(prompt()).unwrap()
    };
    let slope = (loss_at(1e-2) - loss_at(-1e-2)) / 2e-2;
    assert!((grad - slope).abs() < 2e-3 * slope.abs().max(1.0), "gradient {grad}, slope {slope}");
}

#[test]
fn the_logits_have_a_hook_point() {
    let model = model("gpt2");
    let hooks = Hooks::new().edit(unembed_out(), |logits, _| Ok((logits * 2.0)?));
    let doubled = model.run_with_hooks(prompt(), &hooks).unwrap();
    let expected = (model.forward(prompt()).unwrap().tensor() * 2.0).unwrap();
    assert_eq!(max_difference(&doubled, &expected), 0.0);
}

#[test]
fn short_types_agree_roughly_and_know_themselves() {
    let whole = log_softmax(&model("llama").forward(prompt()).unwrap(), D::Minus1).unwrap();
    for (dtype, tolerance) in [(DType::BF16, 0.3), (DType::F16, 0.05)] {
        let folder = crate::common::fixture("llama");
        let options = LoadOptions::new().dtype(dtype);
        let short = HookedTransformer::from_pretrained_with(&folder.to_string_lossy(), &options).unwrap();
        let (logits, cache) = short.run_with_cache(prompt()).unwrap();
        assert_eq!((short.w_u().dtype(), short.w_q().unwrap().dtype()), (dtype, dtype));
        // On the CPU the weights alone are short.
        assert_eq!(
            (short.dtype(), logits.dtype(), cache.get(q(0)).unwrap().dtype()),
            (DType::F32, DType::F32, DType::F32)
        );
        let difference = max_difference(&log_softmax(&logits, D::Minus1).unwrap(), &whole);
        assert!(difference < tolerance, "{dtype:?}: {difference}");
    }
}

#[test]
fn a_batch_dimension_of_one_can_be_dropped() {
    let (_, cache) = model("gpt2").run_with_cache(prompt()).unwrap();
    let cache = cache.remove_batch_dim().unwrap();
    assert_eq!(cache.get(pattern(0)).unwrap().dims(), [4, 8, 8]);
    assert_eq!(cache.stack_head_results(None).unwrap().dims(), [12, 8, 32]);
    let batch = Tokens::from_ids(vec![PROMPT.to_vec(); 2]).unwrap();
    let (_, cache) = model("gpt2").run_with_cache(batch).unwrap();
    assert!(cache.remove_batch_dim().unwrap_err().to_string().contains("only when it is 1"));
}
