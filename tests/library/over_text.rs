//! Results over text are those that one run per row gives, whatever the batches and the padding.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use candlescope::analysis::over_text::Statistics;
use candlescope::prelude::*;

/// Of very different lengths, so that batches have padding.
const TEXTS: [&str; 5] = [
    "John gave a book to Mary.",
    "After Mary and John went to the store, Mary gave a bottle of milk to John. Then they went home, and John was happy.",
    "Hello",
    "The dog ran.",
    "Once upon a time there was a girl called Anna. She lived near the river, and every Sunday she took the boat.",
];

fn tiny() -> HookedTransformer {
    HookedTransformer::from_pretrained("tiny").unwrap()
}

fn fixture(name: &str) -> HookedTransformer {
    HookedTransformer::from_pretrained(&format!("tests/fixtures/{name}")).unwrap()
}

/// A file of this test alone.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("candlescope-over-text-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The real tokens of every row.
fn rows_of(text: &OverText) -> Vec<Vec<u32>> {
    let mut rows = Vec::new();
    text.for_each("hook_embed", |batch, cache| {
        assert_eq!(batch.first_row(), rows.len());
        assert_eq!(cache.get("hook_embed")?.dims()[..2], [batch.tokens().shape().0, batch.tokens().shape().1]);
        for (ids, real) in batch.tokens().ids().iter().zip(batch.real()) {
            rows.push(ids.iter().zip(real).filter(|(_, real)| *real).map(|(id, _)| *id).collect());
        }
        Ok(())
    })
    .unwrap();
    rows
}

fn error<T: std::fmt::Debug>(result: candlescope::Result<T>) -> String {
    result.unwrap_err().to_string()
}

fn plain_ids(model: &HookedTransformer, text: &str) -> Vec<u32> {
    let options = TokenOptions::new().prepend_bos(false);
    model.tokenizer().unwrap().to_tokens_with(text, &options).unwrap().row(0).unwrap().to_vec()
}

#[test]
fn texts_are_joined_by_eos_and_cut_with_bos_in_front() {
    let model = tiny();
    let tokenizer = model.tokenizer().unwrap();
    let (bos, eos) = (tokenizer.bos_id().unwrap(), tokenizer.eos_id().unwrap());
    let mut all: Vec<u32> = Vec::new();
    for text in TEXTS {
        if !all.is_empty() {
            all.push(eos);
        }
        all.extend(plain_ids(&model, text));
    }
    let expected: Vec<Vec<u32>> = all.chunks(7).map(|part| [&[bos], part].concat()).collect();
    assert!(expected.len() > 5 && !all.len().is_multiple_of(7), "the last row is to be a short one");
    for batch_size in [1, 3, 100] {
        assert_eq!(rows_of(&model.over(TEXTS).row_length(8).batch_size(batch_size)), expected);
    }
    let expected: Vec<Vec<u32>> = all.chunks(10).map(<[u32]>::to_vec).collect();
    assert_eq!(rows_of(&model.over(TEXTS).row_length(10).prepend_bos(false)), expected);
    assert_eq!(rows_of(&model.over(TEXTS).row_length(10).prepend_bos(false).max_rows(3)), expected[..3]);
}

#[test]
fn a_text_longer_than_a_row_goes_on_in_the_next() {
    let model = tiny();
    let bos = model.tokenizer().unwrap().bos_id().unwrap();
    let pieces =
        |text: &&str| plain_ids(&model, text).chunks(9).map(|part| [&[bos], part].concat()).collect::<Vec<_>>();
    let expected: Vec<Vec<u32>> = TEXTS.iter().flat_map(pieces).collect();
    assert_eq!(rows_of(&model.over(TEXTS).row_length(10).one_row_each().batch_size(4)), expected);
    let whole: Vec<usize> = rows_of(&model.over(TEXTS).one_row_each()).iter().map(Vec::len).collect();
    assert_eq!(whole, TEXTS.map(|text| plain_ids(&model, text).len() + 1));
}

#[test]
fn files_are_read_by_lines_or_whole() {
    let model = tiny();
    let expected = rows_of(&model.over(["one two", "three", "four"]).one_row_each());
    let path = file("lines.txt", "\u{feff}one two\r\n\nthree\nfour".as_bytes());
    assert_eq!(rows_of(&model.over(Corpus::from_file_lines(&path).unwrap()).one_row_each()), expected);
    assert_eq!(rows_of(&model.over(Corpus::from_lines("one two\n\nthree\nfour\n")).one_row_each()), expected);
    let whole = rows_of(&model.over(Corpus::from_file(&path).unwrap()).one_row_each());
    assert_eq!(whole, rows_of(&model.over("one two\r\n\nthree\nfour")));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn files_that_are_no_text_say_so() {
    let model = tiny();
    let missing = error(Corpus::from_file_lines("/no/such/file.txt"));
    assert!(missing.contains("/no/such/file.txt") && missing.contains("not found"), "{missing}");
    assert!(error(Corpus::from_file("tests")).contains("folder"));
    let path = file("latin1.txt", b"first line\ncaf\xe9\n");
    let lines = error(model.over(Corpus::from_file_lines(&path).unwrap()).loss());
    assert!(lines.contains("line 2 is not UTF-8"), "{lines}");
    assert!(error(model.over(Corpus::from_file(&path).unwrap()).loss()).contains("not UTF-8"));
    std::fs::remove_file(path).unwrap();
    let path = file("empty.txt", b"\n\n");
    assert!(error(model.over(Corpus::from_file_lines(&path).unwrap()).loss()).contains("empty"));
    std::fs::remove_file(path).unwrap();
    for nothing in [vec![], vec![""], vec!["", ""]] {
        assert!(error(model.over(nothing.clone()).statistics(resid_post(0))).contains("empty"));
        assert!(error(model.over(nothing).one_row_each().prepend_bos(false).loss()).contains("empty"));
    }
}

/// Every number of an activation by element, from one run for each row.
fn by_element(model: &HookedTransformer, rows: &[Vec<u32>], point: &HookPoint, skip: usize) -> Vec<Vec<f64>> {
    let mut elements: Vec<Vec<f64>> = Vec::new();
    for row in rows {
        let (_, cache) = model.run_with_cache_of(row.clone(), point).unwrap();
        let activation = cache.get(point).unwrap().squeeze(0).unwrap().flatten_from(1).unwrap();
        for values in &activation.to_vec2::<f32>().unwrap()[skip..] {
            elements.resize(values.len(), Vec::new());
            elements.iter_mut().zip(values).for_each(|(element, &value)| element.push(value.into()));
        }
    }
    elements
}

fn close(found: &[f32], expected: impl Iterator<Item = f64>, what: &str) {
    let expected: Vec<f64> = expected.collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < 2e-5 * expected.abs().max(1.0), "{what}: {found} {expected}");
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    mean(&values.iter().map(|value| (value - mean(values)).powi(2)).collect::<Vec<_>>())
}

fn check_statistics(stats: &Statistics, elements: &[Vec<f64>]) {
    let n = elements[0].len() as f64;
    close(&stats.count().unwrap().values(), elements.iter().map(|_| n), "count");
    close(&stats.mean().unwrap().values(), elements.iter().map(|e| mean(e)), "mean");
    close(&stats.variance().unwrap().values(), elements.iter().map(|e| variance(e)), "variance");
    close(&stats.std().unwrap().values(), elements.iter().map(|e| variance(e).sqrt()), "std");
    close(&stats.min().unwrap().values(), elements.iter().map(|e| e.iter().copied().fold(f64::MAX, f64::min)), "min");
    close(&stats.max().unwrap().values(), elements.iter().map(|e| e.iter().copied().fold(f64::MIN, f64::max)), "max");
    let square = |e: &Vec<f64>| mean(&e.iter().map(|x| x * x).collect::<Vec<_>>());
    close(&stats.second_moment().unwrap().values(), elements.iter().map(square), "second moment");
    let positive = |e: &Vec<f64>| e.iter().filter(|x| **x > 0.0).count() as f64 / n;
    close(&stats.fraction_positive().unwrap().values(), elements.iter().map(positive), "positive");
}

#[test]
fn statistics_are_those_of_all_rows_one_by_one() {
    let model = tiny();
    let text = model.over(TEXTS).one_row_each().batch_size(3);
    let rows = rows_of(&text);
    for point in [resid_post(1), z(0), post(1), HookPoint::new("blocks.1.ln1.hook_scale")] {
        let stats = text.statistics(&point).unwrap();
        check_statistics(&stats, &by_element(&model, &rows, &point, 0));
        check_statistics(&text.clone().skip_bos().statistics(&point).unwrap(), &by_element(&model, &rows, &point, 1));
    }
    // All at once is the same as one at a time.
    let all = text.statistics_of("resid_post").unwrap();
    assert_eq!(all.len(), model.cfg().n_layers);
    assert_eq!(all[1].mean().unwrap().values(), text.statistics(resid_post(1)).unwrap().mean().unwrap().values());
}

#[test]
fn statistics_go_over_chosen_axes() {
    let model = tiny();
    let text = model.over(TEXTS).one_row_each().batch_size(2).row_length(40);
    let rows = rows_of(&text);
    let everything: Vec<f64> = by_element(&model, &rows, &z(1), 0).concat();
    let one = text.statistics_by(z(1), []).unwrap();
    assert!(one.mean().unwrap().dims().is_empty());
    check_statistics(&one, &[everything]);
    // By position: shorter rows have no say at later ones, and nobody at the last.
    let by_pos = text.statistics_by(resid_post(0), ["pos"]).unwrap();
    let counts = by_pos.count().unwrap();
    assert_eq!((counts.axes()[0].name(), counts.axes()[0].len()), ("pos", 40));
    for (pos, count) in counts.values().into_iter().enumerate() {
        let there = rows.iter().filter(|row| row.len() > pos).count() * model.cfg().d_model;
        assert_eq!(count as usize, there, "{pos}");
        assert_eq!(by_pos.mean().unwrap().values()[pos].is_nan(), there == 0);
    }
    // Attention of each query sums up to 1 over the real keys, so the sum over a row is its length.
    let pattern = text.statistics(pattern(0)).unwrap();
    let pairs: usize = rows.iter().map(|row| row.len() * row.len()).sum();
    let queries: usize = rows.iter().map(Vec::len).sum();
    for (count, mean) in pattern.count().unwrap().values().iter().zip(pattern.mean().unwrap().values()) {
        assert_eq!(*count as usize, pairs);
        assert!((f64::from(mean) * pairs as f64 - queries as f64).abs() < 1e-2);
    }
    // Masked scores are not finite, and so are left out: what is left is the lower triangle.
    let scores = text.statistics(attn_scores(0)).unwrap();
    let lower: usize = rows.iter().map(|row| row.len() * (row.len() + 1) / 2).sum();
    assert!(scores.count().unwrap().values().iter().all(|count| *count as usize == lower));
    assert!(error(text.statistics_by(z(1), ["hed"])).contains("did you mean 'head'"));
    assert!(error(text.statistics_by(z(1), ["batch"])).contains("no axis 'batch'"));
    assert!(error(text.statistics("resid_post")).contains("give the layer"));
}

#[test]
fn top_examples_are_the_largest_of_all_rows() {
    let model = tiny();
    let text = model.over(TEXTS).one_row_each().batch_size(3).skip_bos();
    let rows = rows_of(&text);
    let top = text.top_examples(post(0), [5, 0, 5, 17], 3).unwrap();
    assert_eq!(top.units().iter().map(|unit| unit.unit()).collect::<Vec<_>>(), [5, 0, 17]);
    let activations: Vec<Vec<Vec<f32>>> = rows
        .iter()
        .map(|row| {
            let (_, cache) = model.run_with_cache_of(row.clone(), post(0)).unwrap();
            cache.get(post(0)).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
        })
        .collect();
    for unit in top.units() {
        // The strongest place of each row, then the strongest rows.
        let mut best: Vec<(f32, usize, usize)> = Vec::new();
        for (row, activation) in activations.iter().enumerate() {
            let places = (1..activation.len()).map(|pos| (activation[pos][unit.unit()], row, pos));
            best.push(places.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap());
        }
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        assert_eq!(unit.examples().len(), 3);
        for (example, (value, row, pos)) in unit.examples().iter().zip(best) {
            assert!((example.value() - value).abs() < 1e-4, "{} {value}", example.value());
            // Of equally strong places either may be the example.
            let strength = |row: usize, pos: usize| activations[row][pos][unit.unit()];
            assert!((strength(example.row(), example.pos()) - strength(row, pos)).abs() < 1e-4);
            let (row, pos) = (example.row(), example.pos());
            assert_eq!(example.token(), model.to_single_str_token(rows[row][pos]).unwrap());
            assert_eq!(example.ids()[example.marked()], rows[row][pos]);
            for (i, (id, value)) in example.ids().iter().zip(example.values()).enumerate() {
                let at = pos + i - example.marked();
                assert_eq!(*id, rows[row][at]);
                assert!((value - activations[row][at][unit.unit()]).abs() < 1e-4);
            }
        }
        let all: Vec<f32> = activations.iter().flat_map(|a| a[1..].iter().map(|v| v[unit.unit()])).collect();
        assert_eq!(unit.histogram().total() as usize, all.len());
        assert!((unit.mean() - all.iter().map(|&v| f64::from(v)).sum::<f64>() / all.len() as f64).abs() < 1e-4);
        let active = all.iter().filter(|value| **value > 0.0).count() as f64 / all.len() as f64;
        assert!((unit.fraction_positive() - active).abs() < 1e-9);
    }
    assert!(top.bundle().text.contains("strongest") && top.unit(17).unwrap().bundle().text.contains('»'));
    assert!(error(top.unit(1).map(|unit| unit.unit())).contains("not among"));
}

#[test]
fn a_head_is_measured_by_the_length_of_its_vector() {
    let model = tiny();
    let text = model.over(TEXTS).one_row_each().context(2, 1);
    let top = text.top_examples(z(1), .., 1).unwrap();
    assert_eq!(top.units().len(), model.cfg().n_heads);
    for unit in top.units() {
        let example = &unit.examples()[0];
        assert!(example.ids().len() <= 4 && unit.name().starts_with("head "));
        let row = rows_of(&text)[example.row()].clone();
        let (_, cache) = model.run_with_cache_of(row, z(1)).unwrap();
        let z: Vec<f32> = cache.get(z(1)).unwrap().i((0, example.pos(), unit.unit())).unwrap().to_vec1().unwrap();
        let norm = z.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - example.value()).abs() < 1e-4);
    }
    let refused = error(text.top_examples(pattern(1), 0, 3));
    assert!(refused.contains("top_examples_by"), "{refused}");
    let by = text.top_examples_by(pattern(1), .., 2, |pattern| Ok(pattern.max(3)?)).unwrap();
    assert_eq!(by.units().len(), model.cfg().n_heads);
    // A BOS can only look at itself.
    assert!(by.units().iter().all(|unit| (unit.examples()[0].value() - 1.0).abs() < 1e-5));
    assert!(error(text.top_examples(post(0), 10_000, 3)).contains("no unit 10000"));
    assert!(error(text.top_examples(post(0), Vec::new(), 3)).contains("no unit was asked for"));
    assert!(error(text.top_examples(post(0), 1, 0)).contains("at least 1"));
    assert!(error(text.top_examples_by(post(0), 0, 1, |x| Ok(x.sum(1)?))).contains("unit]"));
}

#[test]
fn losses_are_those_of_each_row_alone() {
    let model = tiny();
    let text = model.over(TEXTS).one_row_each().batch_size(2);
    let loss = text.loss().unwrap();
    let rows = rows_of(&text);
    assert_eq!(loss.rows().len(), rows.len());
    let mut all = Vec::new();
    for (row, found) in rows.iter().zip(loss.rows()) {
        assert_eq!(&found.ids, row);
        let expected: Vec<f32> = model.loss_per_token(row.clone()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        close(&found.losses, expected.iter().map(|&loss| loss.into()), "loss");
        all.extend(expected);
    }
    let expected = mean(&all.iter().map(|&loss| f64::from(loss)).collect::<Vec<_>>());
    assert_eq!(loss.count(), all.len());
    assert!((loss.mean() - expected).abs() < 1e-5 && (loss.perplexity() - expected.exp()).abs() < 1e-3);
    let by_position = loss.by_position().unwrap().values();
    assert_eq!(by_position.len(), loss.rows().iter().map(|row| row.losses.len()).max().unwrap());
    let at = |pos: usize| {
        mean(&loss.rows().iter().filter_map(|row| Some(f64::from(*row.losses.get(pos)?))).collect::<Vec<_>>())
    };
    close(&by_position, (0..by_position.len()).map(at), "loss by position");
    all.sort_by(|a, b| b.total_cmp(a));
    for (example, expected) in loss.highest(4).iter().zip(&all) {
        assert!((example.value() - expected).abs() < 1e-4);
        assert_eq!(rows[example.row()][example.pos()], example.ids()[example.marked()]);
    }
    assert_eq!(loss.by_token(1).iter().map(|token| token.count).sum::<usize>(), all.len());
    assert!(loss.bundle().text.contains("perplexity"));
    // Ablated, it is worse.
    let zero = Hooks::new().edit("attn_out", |out, _| Ok(out.zeros_like()?));
    assert!(text.hooks(&zero).loss().unwrap().mean() > loss.mean() + 0.5);
}

#[test]
fn a_last_row_of_one_token_has_no_loss() {
    let model = tiny();
    let ids = plain_ids(&model, TEXTS[0]);
    let length = ids.len() - 1;
    for batch_size in [1, 2] {
        let text = model.over(TEXTS[0]).prepend_bos(false).row_length(length).batch_size(batch_size);
        assert_eq!(text.loss().unwrap().count(), length - 1);
    }
    assert!(
        error(model.over(vec![vec![5u32], vec![6]].try_into().map(|t: Tokens| t).unwrap()).loss())
            .contains("two tokens")
    );
}

#[test]
fn every_family_and_models_without_a_tokenizer_run_over_token_ids() {
    for name in ["gpt2", "llama", "gpt_neox", "gemma2", "mixtral", "mamba", "bert"] {
        let model = fixture(name);
        let rows: Vec<Vec<u32>> = (0..3).map(|row| (0..7).map(|i| 5 + (row * 31 + i * 17) % 200).collect()).collect();
        let tokens = Tokens::padded([rows, vec![vec![9, 8, 7]]].concat(), 0, PaddingSide::Left).unwrap();
        let text = model.over(&tokens).batch_size(3);
        let stats = text.statistics_of(all()).map(|_| ());
        let resid = text.statistics(("resid_post", -1)).unwrap();
        assert_eq!(resid.count().unwrap().values()[0], 24.0, "{name}");
        assert!(text.top_examples(("resid_post", -1), 0, 2).unwrap().units()[0].examples().len() == 2);
        match name {
            "bert" => assert!(error(text.loss()).contains("both sides")),
            _ => assert_eq!(text.loss().unwrap().count(), 3 * 6 + 2),
        }
        if ["gpt2", "llama", "gpt_neox", "gemma2"].contains(&name) {
            stats.unwrap();
        }
    }
    // Experts: batch and position are one axis, and their weights sum up to 1.
    let model = fixture("mixtral");
    let text = model.over(Tokens::from_ids(vec![vec![5, 6, 7, 8, 9]; 2]).unwrap());
    let router = text.statistics_of("router_scores").unwrap();
    let per_token = router[0].mean().unwrap().values().iter().sum::<f32>();
    assert!((per_token - 1.0).abs() < 1e-4, "{per_token}");
}

#[test]
fn weights_of_16_bits_are_measured_in_full() {
    let options = LoadOptions::new().dtype(DType::BF16);
    let half = HookedTransformer::from_pretrained_with("tiny", &options).unwrap();
    let (half, full) = (half.over(TEXTS).one_row_each(), tiny().over(TEXTS).one_row_each());
    let (a, b) = (half.loss().unwrap().mean(), full.loss().unwrap().mean());
    assert!((a - b).abs() < 0.05, "{a} {b}");
    let std = |text: &OverText| text.statistics_by(post(1), []).unwrap().std().unwrap().values()[0];
    assert!((std(&half) / std(&full) - 1.0).abs() < 0.02);
    let top = |text: &OverText| text.top_examples(z(1), 0, 1).unwrap().units()[0].examples()[0].value();
    assert!((top(&half) / top(&full) - 1.0).abs() < 0.05);
}

#[test]
fn bad_input_is_a_sentence() {
    let model = tiny();
    let n_ctx = model.cfg().n_ctx;
    for length in [0, 1, n_ctx + 1] {
        assert!(error(model.over("Hello").row_length(length).loss()).contains("row_length"), "{length}");
    }
    assert!(error(model.over("Hello").batch_size(0).loss()).contains("at least 1"));
    assert!(error(model.over("Hello").max_rows(0).loss()).contains("at least 1"));
    let long = Tokens::from_ids(vec![vec![5; n_ctx + 1]]).unwrap();
    assert!(error(model.over(&long).loss()).contains("context"));
    let bare = HookedTransformer::from_weights(model.cfg().clone(), model.weights()).unwrap();
    assert!(error(bare.over("Hello").loss()).contains("no tokenizer"));
    assert!(bare.over(vec![vec![5u32, 6, 7]].try_into().map(|t: Tokens| t).unwrap()).loss().unwrap().mean() > 0.0);
    let t5 = fixture("t5");
    assert!(error(t5.over(Tokens::from_ids(vec![vec![5, 6]]).unwrap()).loss()).contains("encoder-decoder"));
    // What a closure says ends the work.
    let mut calls = 0;
    let stopped = model.over(TEXTS).row_length(8).batch_size(1).for_each(resid_pre(0), |_, _| {
        calls += 1;
        Err(candlescope::Error::msg("enough"))
    });
    assert_eq!((error(stopped).as_str(), calls), ("enough", 1));
}

#[test]
fn only_what_is_needed_is_computed_and_progress_is_told() {
    let model = tiny();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let heard = steps.clone();
    let progress = Progress::new(move |step| heard.lock().unwrap().push(step.clone()));
    let text = model.over(TEXTS).one_row_each().batch_size(2).progress(&progress);
    text.for_each([resid_post(0), embed()], |_, cache| {
        assert_eq!(cache.len(), 2);
        Ok(())
    })
    .unwrap();
    let steps = steps.lock().unwrap();
    assert_eq!(steps.len(), 4);
    assert!(steps.windows(2).all(|pair| pair[0].done <= pair[1].done && pair[0].fraction <= pair[1].fraction));
    assert_eq!((steps[3].fraction, steps[3].finished), (Some(1.0), true));
    assert_eq!(steps[3].done, rows_of(&model.over(TEXTS).one_row_each()).concat().len());
}
