use candle_core::{Device, Tensor};

use super::*;
use crate::analysis::{LabelledTensor, repeated_random_tokens};
use crate::model::HookedTransformer;
use crate::tokens::{PaddingSide, Tokens};
use crate::{Error, Result};

/// Attention of one layer with these heads, `[head][query][key]`, over one row of tokens.
fn attention(heads: Vec<Vec<Vec<f32>>>, ids: &[u32], bidirectional: bool) -> Result<HeadAttention> {
    let pattern = Tensor::new(heads, &Device::Cpu)?.unsqueeze(0)?;
    HeadAttention::new(vec![0], vec![pattern], Some(&Tokens::from(ids.to_vec())), bidirectional)
}

/// A head that looks at the token before, and one that spreads evenly.
fn two_heads() -> Vec<Vec<Vec<f32>>> {
    let previous = vec![vec![1., 0., 0., 0.], vec![1., 0., 0., 0.], vec![0., 1., 0., 0.], vec![0., 0., 1., 0.]];
    let even = vec![
        vec![1., 0., 0., 0.],
        vec![0.5, 0.5, 0., 0.],
        vec![1. / 3., 1. / 3., 1. / 3., 0.],
        vec![0.25, 0.25, 0.25, 0.25],
    ];
    vec![previous, even]
}

/// a b a b: the token before, duplicates and what followed them are all there.
const ABAB: [u32; 4] = [7, 9, 7, 9];

#[track_caller]
fn assert_scores(found: Result<LabelledTensor>, wanted: [f32; 2]) {
    let found = found.unwrap();
    assert_eq!(found.dims(), [1, 2]);
    for (x, y) in found.values().iter().zip(wanted) {
        assert!((x - y).abs() < 1e-6, "{:?} is not {wanted:?}", found.values());
    }
}

#[track_caller]
fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("an error was expected").to_string()
}

fn model(name: &str) -> HookedTransformer {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    HookedTransformer::from_pretrained(&folder.to_string_lossy()).unwrap()
}

#[test]
fn patterns_are_where_tokens_repeat() -> Result<()> {
    let over = |pattern: HeadPattern, both: bool| -> Result<Vec<Vec<f32>>> {
        Ok(pattern.over(&[7, 9, 7, 7], both)?.to_vec2()?)
    };
    let causal = over(HeadPattern::DuplicateToken, false)?;
    assert_eq!(causal, [[0., 0., 0., 0.], [0., 0., 0., 0.], [1., 0., 0., 0.], [1., 0., 1., 0.]]);
    // 9 followed the first 7, and 7 the second: there the token itself.
    let causal = over(HeadPattern::Induction, false)?;
    assert_eq!(causal, [[0., 0., 0., 0.], [0., 0., 0., 0.], [0., 1., 0., 0.], [0., 1., 0., 1.]]);
    let both = over(HeadPattern::DuplicateToken, true)?;
    assert_eq!(both, [[0., 0., 1., 1.], [0., 0., 0., 0.], [1., 0., 0., 1.], [1., 0., 1., 0.]]);
    let both = over(HeadPattern::Induction, true)?;
    assert_eq!(both[0], [0., 0., 0., 1.]);
    let previous = over(HeadPattern::PreviousToken, true)?;
    assert_eq!(previous, [[0., 0., 0., 0.], [1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]]);
    Ok(())
}

#[test]
fn hand_made_heads_have_the_scores_they_should() -> Result<()> {
    let heads = attention(two_heads(), &ABAB, false)?;
    let even = |keys: &[f32]| keys.iter().map(|n| 1. / n).sum::<f32>();

    assert_scores(heads.attention_to(HeadPattern::PreviousToken), [1., even(&[2., 3., 4.]) / 3.]);
    assert_scores(heads.at_distance(1), [1., even(&[2., 3., 4.]) / 3.]);
    assert_scores(heads.attention_to(HeadPattern::DuplicateToken), [0., even(&[3., 4.]) / 2.]);
    // What followed: for the second a it is the first b, which is the token before too; for the second b the second a.
    assert_scores(heads.attention_to(HeadPattern::Induction), [1., even(&[3., 4.]) / 2.]);
    assert_scores(heads.at_distance(0), [0.25, even(&[1., 2., 3., 4.]) / 4.]);
    assert_scores(heads.to_self(), [0., even(&[2., 3., 4.]) / 3.]);
    assert_scores(heads.to_first(), [1. / 3., even(&[2., 3., 4.]) / 3.]);
    assert_scores(heads.entropy(), [0., (2f32.ln() + 3f32.ln() + 4f32.ln()) / 3.]);

    let options = DetectOptions::new();
    assert_scores(heads.detect(HeadPattern::PreviousToken, &options), [0.75, even(&[2., 3., 4.]) / 4.]);
    // Without BOS the first head has two queries left, both of which look at the token before.
    let no_bos = options.clone().exclude_bos();
    let left = 0.5 + 2. / 3. + 0.75;
    assert_scores(heads.detect(HeadPattern::PreviousToken, &no_bos), [1., even(&[3., 4.]) / left]);
    let neither = no_bos.clone().exclude_current_token();
    assert_scores(
        heads.detect(HeadPattern::PreviousToken, &neither),
        [1., even(&[3., 4.]) / (left - even(&[2., 3., 4.]))],
    );
    // Off by 1 - 1/n + (n - 1)/n in row n (1 and 0 in the first row, which can't look back).
    let abs = options.measure(Measure::Abs);
    let off = |n: f32| 2. * (1. - 1. / n);
    assert_scores(heads.detect(HeadPattern::PreviousToken, &abs), [0.75, 1. - (1. + off(2.) + off(3.) + off(4.)) / 4.]);
    let abs = abs.exclude_bos();
    let off_without = [0.5, 2. / 3. + 1. / 3., 2. * 0.25 + 0.75];
    assert_scores(heads.detect(HeadPattern::PreviousToken, &abs), [1., 1. - off_without.iter().sum::<f32>() / 4.]);
    Ok(())
}

#[test]
fn an_own_pattern_is_scored_as_it_is() -> Result<()> {
    let heads = attention(two_heads(), &ABAB, false)?;
    let even = Tensor::new(two_heads()[1].clone(), &Device::Cpu)?;
    let abs = DetectOptions::new().measure(Measure::Abs);
    let found = heads.detect(&even, &abs)?.values();
    assert!((found[1] - 1.).abs() < 1e-6 && found[0] < 0.5, "{found:?}");
    // The attention is left as it was: a second look finds the same.
    assert_eq!(heads.detect(&even, &abs.clone().exclude_bos())?.values()[1], 1.);
    assert_eq!(heads.detect(&even, &abs)?.values(), found);
    // Heads that are not asked for say nothing.
    let one = heads.detect(&even, &abs.heads([(0, 1)]))?.values();
    assert!(one[0].is_nan() && one[1] == found[1]);
    // Nothing left to look at: 0, not NaN.
    let all = vec![vec![vec![1., 0.], vec![1., 0.]]];
    let rests = attention(all, &[1, 2], false)?;
    assert_eq!(rests.detect(HeadPattern::PreviousToken, &DetectOptions::new().exclude_bos())?.values(), [0.]);
    Ok(())
}

#[test]
fn tokens_that_see_both_ways_may_be_looked_at_ahead() -> Result<()> {
    let ahead = vec![vec![vec![0., 1., 0.], vec![0., 0., 1.], vec![1., 0., 0.]]];
    let heads = attention(ahead.clone(), &[1, 2, 3], true)?;
    assert_eq!(heads.at_distance(-1)?.values(), [1.]);
    assert_eq!(heads.at_distance(2)?.values(), [1.]);
    assert!((heads.to_first()?.values()[0] - 1. / 3.).abs() < 1e-6);
    let own = Tensor::new(ahead[0].clone(), &Device::Cpu)?;
    assert_eq!(heads.detect(&own, &DetectOptions::new())?.values(), [1.]);
    Ok(())
}

#[test]
fn padding_and_batches_change_no_score() -> Result<()> {
    let model = model("llama");
    let rows = [vec![1u32, 5, 80, 5, 80, 17], vec![1u32, 9, 30, 9]];
    for side in [PaddingSide::Left, PaddingSide::Right] {
        let batch = HeadAttention::run(&model, Tokens::padded(rows.to_vec(), 0, side)?)?;
        let single = |row: &Vec<u32>| HeadAttention::run(&model, row.clone());
        for pattern in [HeadPattern::PreviousToken, HeadPattern::DuplicateToken, HeadPattern::Induction] {
            let options = DetectOptions::new().exclude_bos();
            let alone =
                rows.iter().map(|row| single(row)?.detect(pattern.clone(), &options)).collect::<Result<Vec<_>>>()?;
            let together = batch.detect(pattern, &options)?;
            for (i, x) in together.values().iter().enumerate() {
                let wanted = (alone[0].values()[i] + alone[1].values()[i]) / 2.;
                assert!((x - wanted).abs() < 1e-5, "{side:?}: {x} is not {wanted}");
            }
        }
    }
    Ok(())
}

#[test]
fn scores_of_every_kind_of_model_lie_where_they_must() -> Result<()> {
    for name in ["gpt2", "llama", "gpt_neox", "gemma2", "mixtral", "bert", "t5", "deepseek_v3", "gpt_oss"] {
        let model = model(name);
        let cfg = model.cfg().clone();
        let share = [induction_scores(&model)?, prefix_matching_scores(&model)?];
        for scores in &share {
            assert_eq!(scores.dims(), [cfg.n_layers, cfg.n_heads], "{name}");
            let inside = scores.values().iter().all(|x| (0. ..=1.0001).contains(x));
            assert!(inside, "{name}: {} {:?}", scores.title(), scores.values());
        }
        let copying = copying_scores(&model)?.values();
        assert!(copying.iter().all(|x| x.abs() <= 1.) && copying.iter().any(|x| *x != 0.), "{name}: {copying:?}");
        let summary = head_summary(&model)?;
        assert_eq!(summary.heads().len(), cfg.n_layers * cfg.n_heads);
        assert_eq!(summary.score(HeadScore::Induction).values(), share[0].values(), "{name}");
        let copying = summary.score(HeadScore::Copying).values();
        assert!(copying.iter().all(|x| x.is_nan() == (name == "deepseek_v3")), "{name}: {copying:?}");
        assert!(summary.score(HeadScore::Entropy).values().iter().all(|x| *x > 0. && *x < 5.), "{name}");
    }
    Ok(())
}

#[test]
fn a_summary_sorts_and_names() -> Result<()> {
    let model = HookedTransformer::from_pretrained("tiny")?;
    let summary = head_summary(&model)?.sorted_by(HeadScore::Induction);
    let found: Vec<f32> = summary.heads().iter().map(|head| head.score(HeadScore::Induction)).collect();
    assert!(found.windows(2).all(|pair| pair[0] >= pair[1]), "{found:?}");
    let induction = induction_scores(&model)?;
    for head in summary.heads() {
        let wanted = induction.at("layer", head.layer as i64)?.values()[head.head];
        assert_eq!(head.score(HeadScore::Induction), wanted, "{}", head.label());
        let named_by = match head.kind {
            HeadKind::PreviousToken => HeadScore::PreviousToken,
            HeadKind::DuplicateToken => HeadScore::DuplicateToken,
            HeadKind::Induction | HeadKind::AntiInduction => HeadScore::PrefixMatching,
            HeadKind::First => HeadScore::First,
            HeadKind::Current => HeadScore::Current,
            HeadKind::Unnamed => continue,
        };
        assert!(head.score(named_by) >= 0.4);
    }
    assert!(summary.of_kind(HeadKind::Induction).iter().all(|head| head.kind == HeadKind::Induction));
    assert!(sentence(summary.head(99, 0)).contains("no head 0 in layer 99"));
    Ok(())
}

#[test]
fn what_heads_move_is_attention_times_what_they_write() -> Result<()> {
    for name in ["gpt2", "llama", "deepseek_v3", "t5"] {
        let model = model(name);
        let tokens = Tokens::from(vec![1u32, 5, 80, 17, 5]);
        let input = || -> crate::model::Input {
            if model.has_encoder() { (&tokens, &tokens).into() } else { (&tokens).into() }
        };
        let cache = model.run_with_cache_of(input(), ["pattern", "v", "z"])?.1;
        let pattern = cache.pattern(1)?;
        let moved = value_weighted_pattern(&cache, 1, ValueNorm::Result)?;
        assert_eq!(moved.dims(), pattern.dims(), "{name}");
        let norms = head_norms(&cache)?;
        assert_eq!(norms.dims(), [model.cfg().n_layers, model.cfg().n_heads, 5]);
        // The first query of a causal head looks at the first key alone, so what it writes is that key's result.
        for head in 0..model.cfg().n_heads {
            let written = norms.at("layer", 1)?.at("head", head as i64)?.values()[0];
            let first = moved.head(head)?.get(0)?.get(0)?.to_scalar::<f32>()?;
            assert!((written - first).abs() < 1e-4 * written.max(1.), "{name} head {head}: {first} is not {written}");
        }
        let unbatched = cache.remove_batch_dim()?;
        let same = value_weighted_pattern(&unbatched, 1, ValueNorm::Result)?;
        assert_eq!(same.flatten_all()?.to_vec1::<f32>()?, moved.flatten_all()?.to_vec1::<f32>()?);
        assert_eq!(head_norms(&unbatched)?.values(), norms.values());
        assert_eq!(HeadAttention::of(&unbatched)?.entropy()?.values(), HeadAttention::of(&cache)?.entropy()?.values());
    }
    // The norm of a value, by hand.
    let model = model("llama");
    let (_, cache) = model.run_with_cache(vec![1u32, 5, 80])?;
    let moved = value_weighted_pattern(&cache, 0, ValueNorm::Value)?;
    let v = cache.get(("v", 0))?.get(0)?.to_vec3::<f32>()?;
    let pattern = cache.pattern(0)?.head(3)?.to_vec2::<f32>()?;
    // Head 3 of 4 uses the second of two value heads.
    let norm = |key: usize| v[key][1].iter().map(|x| x * x).sum::<f32>().sqrt();
    let found = moved.head(3)?.to_vec2::<f32>()?;
    for (query, key) in [(1, 0), (2, 1), (2, 2)] {
        assert!((found[query][key] - pattern[query][key] * norm(key)).abs() < 1e-5);
    }
    Ok(())
}

#[test]
fn a_head_that_copies_by_construction_scores_high() -> Result<()> {
    // Keys and queries of no size attend evenly; W_V and W_O pass the embedding on, and W_U reads it as it was written.
    let model = model("gpt2");
    let mut weights = model.weights();
    let (cfg, device) = (model.cfg().clone(), Device::Cpu);
    let (n_heads, d_model, d_head) = (cfg.n_heads, cfg.d_model, cfg.d_head);
    let w_e = Tensor::randn(0f32, 1., (cfg.d_vocab, d_model), &device)?;
    weights.w_u = w_e.t()?.contiguous()?;
    weights.w_e = w_e;
    weights.w_pos = Some(Tensor::zeros((cfg.n_ctx, d_model), candle_core::DType::F32, &device)?);
    weights.blocks.truncate(1);
    let identity: Vec<f32> = (0..n_heads * d_model * d_head)
        .map(|i| {
            let (head, row, col) = (i / (d_model * d_head), i / d_head % d_model, i % d_head);
            f32::from(u8::from(row == head * d_head + col))
        })
        .collect();
    let identity = Tensor::from_vec(identity, (n_heads, d_model, d_head), &device)?;
    if let crate::weights::MixerWeights::Attention(attention) = &mut weights.blocks[0].mixer {
        attention.w_q = attention.w_q.zeros_like()?;
        attention.b_q = None;
        attention.w_v = identity.clone();
        attention.w_o = identity.transpose(1, 2)?.contiguous()?;
        (attention.b_v, attention.b_o) = (None, None);
    }
    let layers = cfg.layers[..1].to_vec();
    let cfg = crate::model::ModelConfig { n_layers: 1, layers, ..cfg };
    let copies = HookedTransformer::from_weights(cfg.clone(), weights.clone())?;
    if let crate::weights::MixerWeights::Attention(attention) = &mut weights.blocks[0].mixer {
        attention.w_o = attention.w_o.neg()?;
    }
    let lowers = HookedTransformer::from_weights(cfg, weights)?;
    let (copies, lowers) = (copying_scores(&copies)?.values(), copying_scores(&lowers)?.values());
    // 8 of 32 dimensions of a random embedding tell it from 319 others almost always.
    assert!(copies.iter().all(|score| *score > 0.9), "{copies:?}");
    assert!(lowers.iter().all(|score| *score < -0.9), "{lowers:?}");
    Ok(())
}

#[test]
fn mistakes_are_sentences() -> Result<()> {
    let llama = model("llama");
    let ids = || vec![1u32, 5, 80, 17];
    let small = Tensor::zeros((3, 3), candle_core::DType::F32, &Device::Cpu)?;
    assert!(sentence(detect_head(&llama, ids(), small)).contains("[4, 4] (query, key), and this one is [3, 3]"));
    let ahead = Tensor::ones((4, 4), candle_core::DType::F32, &Device::Cpu)?;
    assert!(sentence(detect_head(&llama, ids(), &ahead)).contains("query 0 looks at key 1"));
    let nan = (ahead * f64::NAN)?;
    assert!(sentence(detect_head(&llama, ids(), nan)).contains("NaN"));
    for head in [(0, 4), (3, 0)] {
        let options = DetectOptions::new().heads([head]);
        let text = sentence(detect_head_with(&llama, ids(), HeadPattern::Induction, &options));
        assert!(text.contains(&format!("no head {} in layer {}", head.1, head.0)), "{text}");
    }
    assert!(sentence(detect_head(&llama, vec![1u32], HeadPattern::Induction)).contains("two tokens"));
    let heads = HeadAttention::run(&llama, ids())?;
    assert!(sentence(heads.attention_to(HeadPattern::DuplicateToken)).contains("must occur twice"));
    assert!(sentence(heads.at_distance(4)).contains("at most 3"));

    for name in ["mamba", "mamba2"] {
        let model = model(name);
        let tokens = repeated_random_tokens(&model, 1, 4, 0)?;
        for text in [
            sentence(detect_head(&model, &tokens, HeadPattern::Induction)),
            sentence(induction_scores(&model)),
            sentence(copying_scores(&model)),
            sentence(head_summary(&model)),
        ] {
            assert!(text.contains("no attention heads"), "{text}");
        }
    }
    // A cache of one layer's patterns, and one of a run on a residual stream.
    let (_, cache) = llama.run_with_cache_of(ids(), ("pattern", 0))?;
    assert!(sentence(HeadAttention::of(&cache)).contains("is not in this cache"));
    let resid = Tensor::randn(0f32, 1., (1, 4, 32), &Device::Cpu)?;
    let run = llama.run(&resid, &crate::model::RunOptions::new().start_at_layer(0).cache("pattern"))?;
    let heads = HeadAttention::of(&crate::cache::ActivationCache::new(&llama, run))?;
    assert!(sentence(heads.attention_to(HeadPattern::Induction)).contains("residual stream"));
    assert_eq!(heads.attention_to(HeadPattern::PreviousToken)?.dims(), [3, 4]);
    let _: Error = heads.attention_to(HeadPattern::DuplicateToken).unwrap_err();
    Ok(())
}
