//! The bundled model `tiny` does what its card says, on prompts made here: other seeds, and pairs of names and templates that
//! its training text never has.

use crate::{rng, text};
use candlescope::analysis::repeated_random_tokens;
use candlescope::prelude::*;

fn tiny() -> HookedTransformer {
    HookedTransformer::from_pretrained("tiny").unwrap()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

#[test]
fn random_tokens_are_easy_the_second_time() {
    let model = tiny();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (length, seed) in [(25, 101), (35, 102), (50, 103)] {
        let tokens = repeated_random_tokens(&model, 4, length, seed).unwrap();
        let losses: Vec<Vec<f32>> = model.loss_per_token(&tokens).unwrap().to_vec2().unwrap();
        for row in losses {
            assert_eq!(row.len(), 2 * length);
            first.extend(&row[..length]);
            second.extend(&row[length..]);
        }
    }
    let (first, second) = (mean(&first), mean(&second));
    assert!(first > 6.0, "new random tokens can't be known, but their loss is {first}");
    assert!(second < 0.5, "loss {first} the first time, {second} the second");
}

#[test]
fn a_head_attends_to_what_followed_the_previous_occurrence() {
    let model = tiny();
    let length = 40;
    let tokens = repeated_random_tokens(&model, 4, length, 104).unwrap();
    let (_, cache) = model.run_with_cache(&tokens).unwrap();
    let mut best = (0, 0, 0.0);
    for layer in 0..model.cfg().n_layers {
        // [batch, head, query, key]
        let pattern = cache.pattern(layer).unwrap();
        for head in 0..model.cfg().n_heads {
            let mut attention = Vec::new();
            for row in 0..4 {
                let pattern: Vec<Vec<f32>> = pattern.row(row).unwrap().get(head).unwrap().to_vec2().unwrap();
                attention.extend((length + 1..=2 * length).map(|query| pattern[query][query - length + 1]));
            }
            if mean(&attention) > best.2 {
                best = (layer, head, mean(&attention));
            }
        }
    }
    assert!(best.2 >= 0.6, "the best induction head is {best:?}");
    assert!(best.0 > 0, "an induction head needs a layer before it");
}

#[test]
fn the_one_who_was_named_once_gets_the_gift() {
    let model = tiny();
    let n = 400;
    let mut wrong = Vec::new();
    for i in 0..n {
        // Pairs of names, and openings, that the training text never has; a third of the givings, too.
        let exercise = text::indirect_object(&mut rng::Rng::new(20_261_127, i), text::Templates::HeldOut);
        let logits = model.forward(exercise.prompt.as_str()).unwrap();
        let names = [exercise.answer, exercise.subject].map(|name| format!(" {name}"));
        if logits.logit_diff(&names[0], &names[1]).unwrap() <= 0.0 {
            wrong.push(exercise.prompt);
        }
    }
    let right = n as usize - wrong.len();
    println!("{right} of {n}");
    assert!(100 * right >= 95 * n as usize, "{right} of {n}; not for: {wrong:#?}");
}

#[test]
fn without_bos_the_first_name_counts_for_less() {
    let model = tiny();
    let prompt = "Claire and Mary went to the shops, then Mary gave a bottle of milk to";
    let diff = |bos: bool| {
        let run = model.run(prompt, &RunOptions::new().prepend_bos(bos)).unwrap();
        run.logits.unwrap().logit_diff(" Claire", " Mary").unwrap()
    };
    let (with, without) = (diff(true), diff(false));
    assert!(with > 1.0 && without < with - 3.0, "{with} with BOS, {without} without");

    let john = model.forward("After John and Mary went to the store, Mary gave a bottle of milk to").unwrap();
    assert!(john.logit_diff(" John", " Mary").unwrap() > 1.0);
}

#[test]
fn a_name_is_one_token_after_a_space_and_two_at_the_start() {
    let model = tiny();
    assert_eq!(model.to_str_tokens("Claire").unwrap(), ["<|endoftext|>", "Cl", "aire"]);
    for name in [" Claire", " Mary", " John", " Tom"] {
        model.to_single_token(name).unwrap();
    }
}

#[test]
fn it_goes_on_as_its_text_does() {
    let model = tiny();
    let more = |prompt: &str, tokens| {
        let options = GenerateOptions::greedy().max_new_tokens(tokens);
        model.generate(prompt, &options).unwrap().continuation(0).unwrap()
    };
    assert_eq!(more("Anna counted: one, two, three, four,", 3), " five, six");
    assert_eq!(more("Simon was afraid because the dog was very big. How was Simon? He was", 2), " afraid.");
    assert_eq!(more("Anna learned the words: cat, bird, green. Anna said: cat, bird,", 1), " green");
}
