//! State-space mixers and latent attention: references, raw and processed, steps with a cache, padding, points that never fire.

use crate::example;

use crate::common::{fixture, max_difference, model};
use candlescope::candle_nn::ops::log_softmax;
use candlescope::prelude::*;

const FAMILIES: [&str; 3] = ["mamba", "mamba2", "deepseek_v3"];
const PROMPT: [u32; 8] = [5, 80, 17, 200, 3, 3, 150, 42];

fn prompt() -> Input {
    PROMPT.to_vec().into()
}

#[test]
fn every_activation_agrees_with_its_reference() {
    for name in FAMILIES {
        let report = example::compare(&fixture(name)).unwrap();
        assert!(report.is_ok(), "{}", example::as_line(name, &Ok(report)));
        assert!(report.compared > 50 && report.unknown.is_empty(), "{name}: {:?}", report.unknown);
    }
}

#[test]
fn processed_weights_predict_what_raw_ones_do() {
    for name in FAMILIES {
        let raw = HookedTransformer::from_pretrained_no_processing(&fixture(name).to_string_lossy()).unwrap();
        let log_probs = |model: &HookedTransformer| log_softmax(&model.forward(prompt()).unwrap(), D::Minus1).unwrap();
        assert!(max_difference(raw.w_u(), model(name).w_u()) > 1e-3, "{name}: nothing was processed");
        assert!(max_difference(&log_probs(&raw), &log_probs(&model(name))) < 1e-4, "{name}");
    }
}

#[test]
fn steps_with_a_cache_give_what_one_pass_gives() {
    for name in FAMILIES {
        let model = model(name);
        let whole = model.forward(prompt()).unwrap();
        let mut past = KvCache::new(model.cfg().n_layers);
        let mut rows = Vec::new();
        for ids in [&PROMPT[..1], &PROMPT[1..5], &PROMPT[5..6], &PROMPT[6..]] {
            let run = model.run_with_past(&ids.to_vec().into(), &RunOptions::new(), Some(&mut past)).unwrap();
            rows.push(run.logits.unwrap().tensor().clone());
        }
        assert_eq!((past.len(), past.batch()), (8, Some(1)));
        assert!(max_difference(&whole, &Tensor::cat(&rows, 1).unwrap()) < 1e-4, "{name}");

        let options = GenerateOptions::greedy().max_new_tokens(6).stop_at_eos(false);
        let kept = model.generate(prompt(), &options).unwrap();
        let fresh = model.generate(prompt(), &options.use_kv_cache(false)).unwrap();
        assert_eq!(kept.added(), fresh.added(), "{name}");
        assert_eq!(kept.added()[0].len(), 6);
    }
}

#[test]
fn a_row_padded_on_the_left_is_what_it_is_alone() {
    for name in FAMILIES {
        let model = model(name);
        let alone = model.forward(PROMPT[..5].to_vec()).unwrap();
        let short = [vec![9, 9, 9], PROMPT[..5].to_vec()].concat();
        let both = Tensor::from_vec([short, PROMPT.to_vec()].concat(), (2, 8), &Device::Cpu).unwrap();
        let mut mask = vec![vec![true; 8]; 2];
        mask[0][..3].fill(false);
        let options = RunOptions::new().attention_mask(mask);
        let logits = model.run(&both, &options).unwrap().logits.unwrap();
        let padded = logits.narrow(0, 0, 1).unwrap().narrow(1, 3, 5).unwrap();
        assert!(max_difference(&alone, &padded) < 1e-4, "{name}");
        let full = logits.narrow(0, 1, 1).unwrap();
        assert!(max_difference(&model.forward(prompt()).unwrap(), &full) < 1e-4, "{name}");
    }
}

#[test]
fn a_mixer_can_be_hooked_and_an_attention_that_is_not_there_says_so() {
    for name in ["mamba", "mamba2"] {
        let model = model(name);
        let (clean, cache) = model.run_with_cache(prompt()).unwrap();
        let out = cache.get("blocks.1.mixer.hook_out").unwrap();
        let sum = (cache.get("blocks.1.hook_resid_pre").unwrap() + out).unwrap();
        assert!(max_difference(&sum, &cache.get("blocks.1.hook_resid_post").unwrap()) < 1e-5);
        for point in ["hook_mixer_out", "mixer.hook_ssm_out", "mixer.hook_in_proj", "mixer.hook_conv"] {
            let hooks = Hooks::new().edit(format!("blocks.1.{point}"), |t, _| Ok(t.zeros_like()?));
            let changed = model.run_with_hooks(prompt(), &hooks).unwrap();
            assert!(max_difference(&clean, &changed) > 1e-4, "{name}: {point}");
        }
        let hooks = Hooks::new().edit("blocks.1.attn.hook_pattern", |t, _| Ok(t.clone()));
        let error = model.run_with_hooks(prompt(), &hooks).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("state-space"), "{name}: {error}");
    }
}
