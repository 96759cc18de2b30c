//! Prompts for indirect object identification are what they say, for any tokenizer; and repeated random tokens.

use candlescope::analysis::ioi::{IoiCorruption, IoiOrder, ioi_eval};
use candlescope::analysis::{InductionLossOptions, IoiDataset, IoiOptions, induction_loss, repeated_random_tokens};
use candlescope::prelude::*;

fn tiny() -> HookedTransformer {
    HookedTransformer::from_pretrained("tiny").unwrap()
}

fn tokenizers() -> [Tokenizer; 2] {
    [tiny().tokenizer().unwrap().clone(), Tokenizer::gpt2().unwrap()]
}

#[test]
fn prompts_say_where_everything_is() {
    for tokenizer in tokenizers() {
        for bos in [true, false] {
            let data = IoiDataset::new(&tokenizer, &IoiOptions::new().prompts(60).prepend_bos(bos).seed(3)).unwrap();
            assert_eq!(data.prompts().len(), 60);
            let mut seen = (0, 0);
            for (row, prompt) in data.prompts().iter().enumerate() {
                let ids = data.tokens().row(row).unwrap();
                let text = tokenizer.to_tokens_with(&prompt.text, &TokenOptions::new().prepend_bos(bos)).unwrap();
                assert_eq!(ids[..text.shape().1], *text.row(0).unwrap());
                let at = prompt.positions;
                assert_eq!(at.end, text.shape().1 - 1);
                assert_eq!(at.end, data.tokens().last_positions()[row]);
                assert_eq!(tokenizer.piece(ids[at.end]), " to");
                assert_eq!(tokenizer.piece(ids[at.io]), format!(" {}", prompt.io));
                assert_eq!(tokenizer.piece(ids[at.s1]), format!(" {}", prompt.s));
                assert_eq!((ids[at.io], ids[at.s1], ids[at.s2]), (prompt.io_token, prompt.s_token, prompt.s_token));
                assert!(at.s1 < at.s2 && at.io < at.s2 && at.s1_plus_1 == at.s1 + 1);
                assert_eq!(prompt.order == IoiOrder::Abba, at.io < at.s1);
                assert!(!prompt.text.contains('{') && !prompt.text.contains(" a a"));
                seen = if prompt.order == IoiOrder::Abba { (seen.0 + 1, seen.1) } else { (seen.0, seen.1 + 1) };
            }
            assert!(seen.0 > 10 && seen.1 > 10, "{seen:?}");
        }
    }
}

#[test]
fn counterparts_differ_in_names_only() {
    for tokenizer in tokenizers() {
        for corruption in [IoiCorruption::OtherSubject, IoiCorruption::SwappedNames, IoiCorruption::ThreeNames] {
            let data = IoiDataset::new(&tokenizer, &IoiOptions::new().prompts(40).corruption(corruption)).unwrap();
            assert_eq!(data.tokens().shape(), data.corrupted().shape());
            assert_eq!(data.tokens().last_positions(), data.corrupted().last_positions());
            for (row, prompt) in data.prompts().iter().enumerate() {
                let (clean, other) = (data.tokens().row(row).unwrap(), data.corrupted().row(row).unwrap());
                let at = prompt.positions;
                let names = [at.io, at.s1, at.s2];
                let changed: Vec<usize> = (0..clean.len()).filter(|&pos| clean[pos] != other[pos]).collect();
                let there = names.map(|pos| other[pos]);
                let (io, s) = (prompt.io_token, prompt.s_token);
                match corruption {
                    IoiCorruption::OtherSubject => {
                        assert_eq!((changed, there), (vec![at.s2], [io, s, io]));
                    }
                    IoiCorruption::SwappedNames => assert_eq!((changed.len(), there), (3, [s, io, io])),
                    IoiCorruption::ThreeNames => {
                        assert_eq!(changed.len(), 3);
                        assert!(there.iter().all(|name| ![io, s].contains(name)));
                        assert!(there[0] != there[1] && there[1] != there[2] && there[0] != there[2]);
                    }
                }
            }
        }
    }
}

#[test]
fn choices_are_seeded_and_symmetric_where_asked_for() {
    let [tokenizer, _] = tokenizers();
    let texts = |options: &IoiOptions| -> Vec<String> {
        IoiDataset::new(&tokenizer, options).unwrap().prompts().iter().map(|prompt| prompt.text.clone()).collect()
    };
    assert_eq!(texts(&IoiOptions::new().seed(7)), texts(&IoiOptions::new().seed(7)));
    assert_ne!(texts(&IoiOptions::new().seed(7)), texts(&IoiOptions::new().seed(8)));
    let data = IoiDataset::new(&tokenizer, &IoiOptions::new().symmetric().prompts(20)).unwrap();
    for pair in data.prompts().chunks(2) {
        assert_eq!((pair[0].io_token, pair[0].s_token), (pair[1].s_token, pair[1].io_token));
        assert_eq!((pair[0].template, pair[0].order), (pair[1].template, pair[1].order));
    }
    let one = IoiDataset::new(&tokenizer, &IoiOptions::new().template(2).order(IoiOrder::Baba)).unwrap();
    assert!(one.tokens().mask().is_none(), "one template, one length");
    assert!(one.prompts().iter().all(|prompt| prompt.order == IoiOrder::Baba));
}

#[test]
fn the_score_is_that_of_each_prompt_alone() {
    let model = tiny();
    let data = IoiDataset::new(model.tokenizer().unwrap(), &IoiOptions::new().prompts(36)).unwrap();
    let score = data.score(&model).unwrap();
    let mut right = 0;
    for (prompt, found) in data.prompts().iter().zip(score.logit_diffs()) {
        let logits = model.forward(prompt.text.as_str()).unwrap();
        let lead = logits.logit_diff(&format!(" {}", prompt.io), &format!(" {}", prompt.s)).unwrap();
        assert!((lead - found).abs() < 1e-3, "{lead} {found}");
        right += usize::from(lead > 0.0);
    }
    assert!((score.accuracy() - right as f64 / 36.0).abs() < 1e-9);
    let mean = score.logit_diffs().iter().map(|&lead| f64::from(lead)).sum::<f64>() / 36.0;
    assert!((score.mean_logit_diff() - mean).abs() < 1e-6);
    for parts in [score.by_template(), score.by_order()] {
        assert_eq!(parts.iter().map(|part| part.count).sum::<usize>(), 36);
        let weighted: f64 = parts.iter().map(|part| part.count as f64 * part.logit_diff).sum::<f64>() / 36.0;
        assert!((weighted - mean).abs() < 1e-6);
    }
    // The counterparts' answer is the other name, so the lead turns.
    let swapped: Vec<f32> = data
        .prompts()
        .iter()
        .map(|prompt| {
            let logits = model.forward(prompt.corrupted.as_str()).unwrap();
            logits.logit_diff(&format!(" {}", prompt.s), &format!(" {}", prompt.io)).unwrap()
        })
        .collect();
    assert!(swapped.iter().sum::<f32>() > 0.0);
    assert!(score.bundle().text.contains("BABA") && data.bundle().text.contains("corrupted"));
}

#[test]
fn tiny_does_the_task_and_an_ablated_one_does_not() {
    let model = tiny();
    let score = ioi_eval(&model, &IoiOptions::new().prompts(64).symmetric().seed(5)).unwrap();
    assert!(score.accuracy() > 0.9 && score.mean_logit_diff() > 1.0, "{}", score.bundle().text);
    let data = IoiDataset::new(model.tokenizer().unwrap(), &IoiOptions::new().symmetric()).unwrap();
    let blind = Hooks::new().edit("attn_out", |out, _| Ok(out.zeros_like()?));
    // Without attention the last token knows no name, and symmetric prompts leave nothing to lean on.
    let blind = data.score_with_hooks(&model, &blind).unwrap();
    assert!(blind.mean_logit_diff().abs() < 1e-4, "{}", blind.mean_logit_diff());
}

#[test]
fn bad_options_are_sentences() {
    let [tokenizer, _] = tokenizers();
    let error = |options: IoiOptions| IoiDataset::new(&tokenizer, &options).unwrap_err().to_string();
    let names = error(IoiOptions::new().names(["Nebuchadnezzar", "Rumpelstiltskin"]));
    assert!(names.contains("0 of the 2 names") && names.contains(".names("), "{names}");
    assert!(error(IoiOptions::new().names(["Mary", "Mary", "Mary"])).contains("2 are needed"));
    assert!(
        error(IoiOptions::new().corruption(IoiCorruption::ThreeNames).names(["Mary", "John"])).contains("5 are needed")
    );
    assert!(error(IoiOptions::new().places(["Constantinople"])).contains("places"));
    assert!(error(IoiOptions::new().objects(Vec::<String>::new())).contains("objects"));
    assert!(error(IoiOptions::new().template(99)).contains("no such template"));
    assert!(error(IoiOptions::new().templates(["{1} and {2} met, {S} waved to"])).contains("start"));
    assert!(error(IoiOptions::new().templates(["Then {1} met {2} and waved to"])).contains("{S}"));
    assert!(error(IoiOptions::new().templates(["Then({1}) met {2}, {S} waved to"])).contains("one token"));
    assert!(error(IoiOptions::new().prompts(0)).contains("at least 1"));
    let fine = IoiOptions::new().templates(["Then {1} met {2}, and {S} waved to"]).places(["Constantinople"]);
    assert!(IoiDataset::new(&tokenizer, &fine).is_ok(), "a place that no template asks for is no hindrance");
}

#[test]
fn induction_loss_is_the_mean_of_the_second_half() {
    let model = tiny();
    let (rows, length) = (3, 25);
    let loss = induction_loss(&model, &InductionLossOptions::new().rows(rows).length(length).seed(9)).unwrap();
    let tokens = repeated_random_tokens(&model, rows, length, 9).unwrap();
    assert_eq!(tokens.shape().1, 1 + 2 * length);
    let losses: Vec<Vec<f32>> = model.loss_per_token(&tokens).unwrap().to_vec2().unwrap();
    let mean = |from: usize, to: usize| {
        let all: Vec<f64> = losses.iter().flat_map(|row| row[from..to].iter().map(|&loss| loss.into())).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    // As TransformerLens: from loss `length + 1` on, which is that of the second token of the second half.
    assert!((loss.second() - mean(length + 1, 2 * length)).abs() < 1e-5);
    assert!((loss.first() - mean(0, length)).abs() < 1e-5);
    assert_eq!(loss.by_position().dims(), [2 * length]);
    assert_eq!(tokens.ids()[0][loss.second_begins_at()], tokens.ids()[0][1]);
    assert!(loss.second() < loss.first() / 2.0);
    assert!(loss.bundle().text.contains("second time"));
    let again = induction_loss(&model, &InductionLossOptions::new().rows(rows).length(length).seed(9)).unwrap();
    assert_eq!(loss.second(), again.second());
    assert!(induction_loss(&model, &InductionLossOptions::new()).is_ok(), "the default fits into the context");
    for options in [
        InductionLossOptions::new().length(1),
        InductionLossOptions::new().rows(0),
        InductionLossOptions::new().length(999),
    ] {
        assert!(induction_loss(&model, &options).unwrap_err().to_string().contains("at least"));
    }
    // A model without BOS.
    let neox = HookedTransformer::from_pretrained("tests/fixtures/gpt_neox").unwrap();
    let loss = induction_loss(&neox, &InductionLossOptions::new().length(6)).unwrap();
    assert!(loss.second().is_finite() && loss.by_position().dims()[0] + 1 - loss.second_begins_at() == 6);
}
