//! Encoders and encoder-decoders: two inputs, padding, generation, interventions, and what goes wrong.

use crate::common::{fixture, max_difference, model};
use candlescope::Result;
use candlescope::candle_nn::ops::log_softmax;
use candlescope::prelude::*;

const READ: [u32; 6] = [59, 160, 155, 37, 184, 18];
const SAID: [u32; 4] = [0, 250, 163, 14];

fn pair(read: &[u32], said: &[u32]) -> Input {
    Input::from((read, said))
}

fn sentence<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn generation_is_the_same_with_and_without_a_cache() {
    for name in ["t5", "bart"] {
        let model = model(name);
        let options = GenerateOptions::greedy().max_new_tokens(6).stop_at_eos(false);
        for input in [Input::from(&READ[..]), pair(&READ, &SAID)] {
            let kept = model.generate(&input, &options).unwrap();
            let fresh = model.generate(&input, &options.clone().use_kv_cache(false)).unwrap();
            assert_eq!(kept.added(), fresh.added(), "{name}");
            assert_eq!(kept.added()[0].len(), 6);
            // Step by step, each token is the likeliest of a run of its own.
            let mut said = kept.prompts()[0].clone();
            for next in &kept.added()[0] {
                let logits = model.forward(pair(&READ, &said)).unwrap();
                assert_eq!(logits.top_k(1, 0, -1).unwrap()[0].1, *next, "{name}");
                said.push(*next);
            }
        }
    }
}

#[test]
fn without_a_decoder_input_decoding_begins_at_the_start_token() {
    for (name, start) in [("t5", 0), ("bart", 2)] {
        let model = model(name);
        let alone = model.forward(&READ[..]).unwrap();
        let said = model.forward(pair(&READ, &[start])).unwrap();
        assert_eq!(alone.dims(), [1, 1, 320]);
        assert!(max_difference(&alone, &said) < 1e-6, "{name}");
        let by_option = model.run(&READ[..], &RunOptions::new().decoder_input(&[start][..])).unwrap();
        assert!(max_difference(&alone, &by_option.logits.unwrap()) < 1e-6, "{name}");
    }
}

#[test]
fn a_padded_batch_is_its_rows() {
    let short: Vec<u32> = READ[..3].to_vec();
    let rows = Tokens::padded(vec![READ.to_vec(), short.clone()], 7, PaddingSide::Right).unwrap();
    let left = Tokens::padded(vec![READ.to_vec(), short.clone()], 7, PaddingSide::Left).unwrap();
    for name in ["t5", "bart"] {
        let model = model(name);
        let said = Tokens::from_ids(vec![SAID.to_vec(); 2]).unwrap();
        let single = model.forward(pair(&short, &SAID)).unwrap();
        for rows in [&rows, &left] {
            let both = model.forward((rows, &said)).unwrap();
            assert!(max_difference(&both.get(1).unwrap().unsqueeze(0).unwrap(), &single) < 2e-5, "{name}");
        }
        // Nor does the decoder's own padding matter.
        let said = Tokens::padded(vec![SAID.to_vec(), SAID[..2].to_vec()], 7, PaddingSide::Right).unwrap();
        let both = model.forward((&Tokens::from_ids(vec![READ.to_vec(); 2]).unwrap(), &said)).unwrap();
        let single = model.forward(pair(&READ, &SAID[..2])).unwrap();
        let row = both.get(1).unwrap().narrow(0, 0, 2).unwrap().unsqueeze(0).unwrap();
        assert!(max_difference(&row, &single) < 2e-5, "{name}");
    }
    let bert = model("bert");
    let single = bert.forward(&short[..]).unwrap();
    let right = bert.forward(&rows).unwrap().get(1).unwrap().narrow(0, 0, 3).unwrap();
    let left = bert.forward(&left).unwrap().get(1).unwrap().narrow(0, 3, 3).unwrap();
    for row in [right, left] {
        assert!(max_difference(&row.unsqueeze(0).unwrap(), &single) < 2e-5);
    }
}

#[test]
fn every_part_can_be_changed() {
    let zero = |at: &str| Hooks::new().edit(at, |x: &Tensor, _: &HookPoint| Ok(x.zeros_like()?));
    for name in ["t5", "bart"] {
        let model = model(name);
        let clean = model.forward(pair(&READ, &SAID)).unwrap();
        for at in [
            "hook_embed",
            "hook_pos_embed",
            "hook_decoder_embed",
            "encoder_blocks.0.attn.hook_z",
            "encoder_blocks.1.mlp.hook_post",
            "decoder_blocks.1.cross_attn.hook_v",
            "decoder_blocks.0.hook_cross_attn_out",
            "decoder_blocks.0.self_attn.hook_z",
            "decoder_blocks.1.hook_mlp_out",
        ] {
            let changed = model.run_with_hooks(pair(&READ, &SAID), &zero(at)).unwrap();
            assert!(max_difference(&clean, &changed) > 1e-4, "{name}: {at} changed nothing");
        }
        // What the cache holds, put back, changes nothing.
        let (_, cache) = model.run_with_cache(pair(&READ, &SAID)).unwrap();
        for at in ["hook_pos_embed", "decoder_blocks.1.cross_attn.hook_pattern", "decoder_blocks.0.hook_resid_mid2"] {
            let hooks = Hooks::new().replace(at, cache.get(at).unwrap());
            let same = model.run_with_hooks(pair(&READ, &SAID), &hooks).unwrap();
            assert!(max_difference(&clean, &same) < 1e-6, "{name}: {at}");
        }
    }
}

#[test]
fn every_listed_point_fires() {
    let inputs = [("t5", pair(&READ, &SAID)), ("bart", pair(&READ, &SAID)), ("bert", Input::from(&READ[..]))];
    for (name, input) in inputs {
        let model = model(name);
        let (_, cache) = model.run_with_cache(&input).unwrap();
        let listed: Vec<String> = model
            .hook_points()
            .iter()
            .filter(|info| info.fires == candlescope::hooks::Fires::Always)
            .map(|info| info.point.name().to_string())
            .collect();
        assert_eq!(cache.names(), listed, "{name}");
        for info in model.hook_points().iter().filter(|info| info.fires == candlescope::hooks::Fires::OnRequest) {
            let (_, cache) = model.run_with_cache_of(&input, &info.point).unwrap();
            assert_eq!(cache.len(), 1, "{name}: {}", info.point.name());
        }
    }
}

#[test]
fn processed_weights_predict_what_raw_ones_do() {
    for (name, input) in [("t5", pair(&READ, &SAID)), ("bart", pair(&READ, &SAID)), ("bert", Input::from(&READ[..]))] {
        let raw = HookedTransformer::from_pretrained_no_processing(&fixture(name).to_string_lossy()).unwrap();
        let log_probs = |model: &HookedTransformer| log_softmax(model.forward(&input).unwrap().tensor(), 2).unwrap();
        assert!(max_difference(&log_probs(&raw), &log_probs(&model(name))) < 1e-4, "{name}");
    }
}

#[test]
fn the_loss_is_over_the_decoders_tokens() {
    let model = model("t5");
    let logits = model.forward(pair(&READ, &SAID)).unwrap();
    let log_probs = log_softmax(logits.tensor(), 2).unwrap().to_vec3::<f32>().unwrap();
    let expected = SAID[1..].iter().enumerate().map(|(pos, id)| -log_probs[0][pos][*id as usize]).sum::<f32>() / 3.0;
    assert!((model.loss(pair(&READ, &SAID)).unwrap() - expected).abs() < 1e-5);
}

#[test]
fn kinds_of_tokens_matter_to_bert() {
    let bert = model("bert");
    let plain = bert.forward(&READ[..]).unwrap();
    let first = bert.run(&READ[..], &RunOptions::new().token_types(vec![vec![0; 6]])).unwrap().logits.unwrap();
    let second = bert.run(&READ[..], &RunOptions::new().token_types(vec![vec![0, 0, 0, 1, 1, 1]])).unwrap();
    assert!(max_difference(&plain, &first) < 1e-6);
    assert!(max_difference(&plain, &second.logits.unwrap()) > 1e-3);
}

#[test]
fn parameters_say_which_stack_they_are_of() {
    let names: Vec<String> = model("bart").named_parameters().into_iter().map(|(name, _)| name).collect();
    for name in ["encoder_blocks.0.attn.W_Q", "decoder_blocks.1.self_attn.W_Q", "decoder_blocks.1.cross_attn.b_V"] {
        assert!(names.iter().any(|known| known == name), "{name} of {names:?}");
    }
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn mistakes_get_sentences() {
    let t5 = model("t5");
    let (_, cache) = t5.run_with_cache(pair(&READ, &SAID)).unwrap();
    // In the encoder, or in one of the decoder's two attentions?
    let found = sentence(cache.get(("pattern", 0)));
    for name in ["encoder_blocks.0.attn", "decoder_blocks.0.self_attn", "decoder_blocks.0.cross_attn"] {
        assert!(found.contains(name), "{found}");
    }
    assert!(cache.get(("pattern", 1, "cross_attn")).is_ok());
    assert!(cache.get(("cross_attn_out", -1)).is_ok());
    assert_eq!(cache.pattern(1).unwrap().dims(), [1, 4, 4, 4]);
    assert!(sentence(cache.get("blocks.0.hook_resid_pre")).contains("encoder_blocks.0.hook_resid_pre"));
    assert!(sentence(cache.get("encoder_block.0.hook_resid_pre")).contains("encoder_blocks.0.hook_resid_pre"));

    let two = Tokens::from_ids(vec![READ.to_vec(); 2]).unwrap();
    assert!(sentence(t5.forward((two, &SAID[..]))).contains("2 rows"));
    assert!(sentence(t5.forward(pair(&[], &SAID))).contains("empty"));
    assert!(sentence(t5.forward(pair(&[999], &SAID))).contains("999"));
    let twice = RunOptions::new().decoder_input(&SAID[..]);
    assert!(sentence(t5.run(pair(&READ, &SAID), &twice)).contains("two inputs"));

    let bert = model("bert");
    assert!(sentence(bert.forward(pair(&READ, &SAID))).contains("no encoder beside a decoder"));
    assert!(sentence(bert.generate(&READ[..], &GenerateOptions::greedy())).contains("encoder"));
    assert!(sentence(bert.loss(&READ[..])).contains("both sides"));
    let kinds = RunOptions::new().token_types(vec![vec![2; 6]]);
    assert!(sentence(bert.run(&READ[..], &kinds)).contains("2 kinds"));
    let kinds = RunOptions::new().token_types(vec![vec![0; 5]]);
    assert!(sentence(bert.run(&READ[..], &kinds)).contains("token_types"));
    assert!(sentence(t5.run(pair(&READ, &SAID), &kinds)).contains("no kinds"));
}
