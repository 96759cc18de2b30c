//! Weights of half the width, and layers that stay in their files, give what weights in memory give.

use crate::common::{fixtures, max_difference};
use candlescope::prelude::*;

/// Layers that these families don't read one by one.
const WHOLE: [&str; 5] = ["bart", "bert", "t5", "distilbert", "roberta"];

fn load(folder: &std::path::Path, options: LoadOptions) -> candlescope::Result<HookedTransformer> {
    HookedTransformer::from_pretrained_with(&folder.to_string_lossy(), &options)
}

fn logits(model: &HookedTransformer) -> Tensor {
    let tokens = Tokens::from_ids(vec![vec![5, 17, 200, 3, 44, 310, 9, 17], vec![1, 2, 3, 4, 5, 6, 7, 8]]).unwrap();
    let logits = match model.has_encoder() {
        true => model.forward((tokens.clone(), tokens)).unwrap(),
        false => model.forward(tokens).unwrap(),
    };
    logits.tensor().clone()
}

#[test]
fn narrow_weights_stay_narrow_and_compute_in_full() {
    for folder in fixtures() {
        for dtype in [DType::BF16, DType::F16] {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            let narrow = load(&folder, LoadOptions::new().raw().dtype(dtype)).unwrap();
            assert_eq!(narrow.dtype(), DType::F32);
            assert_eq!(narrow.w_u().dtype(), dtype, "{name}");
            // The same numbers in float32.
            let wide = narrow.with_weights(narrow.weights().map(|w| Ok(w.to_dtype(DType::F32)?)).unwrap()).unwrap();
            let stored = load(&folder, LoadOptions::new().raw()).unwrap();
            for ((name, narrow), (_, stored)) in narrow.named_parameters().iter().zip(stored.named_parameters()) {
                let largest: f32 = stored.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
                assert!(max_difference(narrow, &stored) <= largest / 128.0, "{name}");
            }
            let (narrow, wide) = (logits(&narrow), logits(&wide));
            assert_eq!(narrow.dtype(), DType::F32);
            let largest: f32 = wide.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
            let worst = max_difference(&narrow, &wide);
            assert!(worst <= 2e-5 * largest.max(1.0), "{name} in {dtype:?}: {worst} of {largest}");
        }
    }
}

#[test]
fn streamed_layers_are_those_in_memory() {
    for folder in fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for (how, options) in [
            ("raw", LoadOptions::new().raw()),
            ("processed", LoadOptions::new()),
            ("bf16", LoadOptions::new().raw().dtype(DType::BF16)),
        ] {
            let streamed = load(&folder, options.clone().stream(true));
            if WHOLE.contains(&&*name) {
                let why = streamed.err().unwrap().to_string();
                assert!(why.contains("one by one") && why.contains("stream"), "{why}");
                continue;
            }
            let (streamed, held) = (streamed.unwrap(), load(&folder, options).unwrap());
            let names = |model: &HookedTransformer| {
                model.hook_points().iter().map(|info| (info.point.name().to_string(), info.shape)).collect::<Vec<_>>()
            };
            assert_eq!(names(&streamed), names(&held), "{name}");
            assert_eq!(streamed.norms_folded(), held.norms_folded(), "{name}");
            // Twice, since a layer is read again for each run.
            for _ in 0..2 {
                assert_eq!(max_difference(&logits(&streamed), &logits(&held)), 0.0, "{name}, {how}");
            }
        }
    }
}

#[test]
fn a_streamed_model_is_looked_into_as_any_other() {
    let folder = crate::common::fixture("llama");
    let [streamed, held] = [true, false].map(|stream| load(&folder, LoadOptions::new().raw().stream(stream)).unwrap());
    assert_eq!(streamed.n_params(), held.n_params());
    let tokens = Tokens::from_ids(vec![vec![5, 17, 200, 3, 44, 310, 9, 17]]).unwrap();
    let halved = Hooks::new().edit(attn_out(1), |out, _| Ok((out * 0.5)?));
    let options = RunOptions::new().hooks(&halved).cache("resid_post");
    let run = |model: &HookedTransformer| model.run(&tokens, &options).unwrap().cache;
    for ((point, a), (_, b)) in run(&streamed).iter().zip(run(&held)) {
        assert_eq!(max_difference(a, &b), 0.0, "{point}");
    }
    let sweep = |model: &HookedTransformer| {
        let sweep = model.sweep(&tokens).at("z").by(["layer", "head"]).zero().measure(logit_diff(17u32, 45u32));
        sweep.run().unwrap().values().clone()
    };
    assert!(max_difference(&sweep(&streamed), &sweep(&held)) < 1e-5);
    assert_eq!(max_difference(&streamed.w_q().unwrap(), &held.w_q().unwrap()), 0.0);
    let continued = |model: &HookedTransformer| {
        model
            .generate(&tokens, &GenerateOptions::greedy().max_new_tokens(6).stop_at_eos(false))
            .unwrap()
            .added()
            .to_vec()
    };
    assert_eq!(continued(&streamed), continued(&held));
    assert!(streamed.weights().blocks.is_empty());
    let why = candlescope::training::Trainer::new(&streamed, &TrainOptions::new()).err().unwrap().to_string();
    assert!(why.contains("stream(true)"), "{why}");
}

#[test]
fn a_file_that_ends_early_is_a_sentence() {
    let folder = std::env::temp_dir().join(format!("candlescope-short-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(crate::common::fixture("llama").join("config.json"), folder.join("config.json")).unwrap();
    let whole = std::fs::read(crate::common::fixture("llama").join("model.safetensors")).unwrap();
    let mut long_header = whole.clone();
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for bytes in [&whole[..whole.len() - 100], &whole[..100], &whole[..4], &long_header[..]] {
        std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
        for stream in [false, true] {
            let why = load(&folder, LoadOptions::new().stream(stream)).err().unwrap().to_string();
            assert!(why.contains("model.safetensors") && why.contains("truncated"), "{why}");
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}
