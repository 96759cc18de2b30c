//! The bundled model `tiny-attn-only-2l` and its training checkpoints do what the card says, on tokens from seeds of this
//! file: a head begins to look at the previous token, then an induction head comes about, and with it the loss on what is
//! repeated falls.

use candlescope::prelude::*;

const NAME: &str = "tiny-attn-only-2l";
const LENGTH: usize = 40;
/// The steps within which the loss on what is repeated falls fastest.
const FALL: std::ops::RangeInclusive<u64> = 850..=1250;

fn tokens(model: &HookedTransformer) -> Tokens {
    repeated_random_tokens(model, 6, LENGTH, 20_261_127).unwrap()
}

/// The induction score of each head, `[layer, head]`, on this file's tokens.
fn induction(model: &HookedTransformer) -> candlescope::Result<LabelledTensor> {
    HeadAttention::run(model, tokens(model))?.at_distance(LENGTH as i64 - 1)
}

/// How much each head looks at the previous token.
fn previous(model: &HookedTransformer) -> candlescope::Result<LabelledTensor> {
    HeadAttention::run(model, tokens(model))?.at_distance(1)
}

fn second_half(model: &HookedTransformer) -> candlescope::Result<f64> {
    Ok(induction_loss(model, &InductionLossOptions::new().rows(6).length(LENGTH).seed(7))?.second())
}

fn over() -> OverCheckpoints {
    OverCheckpoints::of(NAME).unwrap().progress(&Progress::quiet())
}

/// A head's place, and its score.
fn best(scores: &LabelledTensor) -> ([usize; 2], f32) {
    let (place, score) = scores.largest().unwrap();
    ([place[0], place[1]], score)
}

#[test]
fn it_has_checkpoints_dense_at_first() {
    let model = HookedTransformer::from_pretrained(NAME).unwrap();
    let steps = model.checkpoints().unwrap().labels;
    assert_eq!((steps.len(), steps[0]), (24, 0));
    let gaps: Vec<u64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] * 8 <= gaps[22], "{gaps:?}");
    // The last one is what is loaded when nothing is said.
    assert_eq!(model.checkpoint(-1).unwrap().loss("Mary had a cat.").unwrap(), model.loss("Mary had a cat.").unwrap());
    assert_eq!(model.checkpoint(3).unwrap().cfg().checkpoint.unwrap().value, steps[3]);
    assert_eq!(model.cfg().checkpoint, None);
    let error = model.checkpoint(CheckpointChoice::Value(1)).unwrap_err().to_string();
    assert!(error.contains("the nearest"), "{error}");
    // A guess over all tokens, before the first step.
    let untrained = second_half(&model.checkpoint(0).unwrap()).unwrap();
    assert!((untrained - (model.cfg().d_vocab as f64).ln()).abs() < 0.5, "{untrained}");
}

#[test]
fn the_two_heads_are_there_at_the_end() {
    let model = HookedTransformer::from_pretrained(NAME).unwrap();
    let ([layer, _], score) = best(&induction(&model).unwrap());
    assert!(layer == 1 && score >= 0.6, "layer {layer}, {score}");
    let ([layer, _], score) = best(&previous(&model).unwrap());
    assert!(layer == 0 && score >= 0.3, "layer {layer}, {score}");
}

#[test]
fn the_induction_head_and_the_fall_of_the_loss_come_together() {
    let loss = over().measure("second-half loss", second_half).unwrap();
    let scores = over().measure("induction score", induction).unwrap();
    let before = over().measure("attention to the previous token", previous).unwrap();
    let model = HookedTransformer::from_pretrained(NAME).unwrap();
    let (head, _) = best(&induction(&model).unwrap());
    let (previous_head, _) = best(&previous(&model).unwrap());

    let fall = loss.jump(&[]).unwrap();
    println!("{fall:?}, {:?}", scores.jump(&head).unwrap());
    let losses = loss.values();
    let at = |steps: u64| loss.steps().iter().position(|step| *step == steps).unwrap();
    assert!(losses[at(600)] > 6.0 && losses[at(1100)] < 1.0, "{losses:?}");
    let range = losses[0] - losses[losses.len() - 1];
    assert!(fall.values.0 - fall.values.1 > 0.15 * range, "it falls between two checkpoints: {fall:?} of {range}");
    // Where it falls, and where the score of the head rises.
    assert!(FALL.contains(&fall.to), "{fall:?}");
    let head_scores = scores.at_place(&head).unwrap().values;
    assert!(head_scores[at(fall.to)] > head_scores[at(fall.from)], "{head_scores:?}");
    assert!(head_scores[0] < 0.1 && *head_scores.last().unwrap() >= 0.6, "{head_scores:?}");

    // The previous-token head begins to rise first; then the two rise together.
    let begins = |values: &[f32]| values.iter().position(|value| value > &(values[0] + 0.02)).unwrap();
    let previous_scores = before.at_place(&previous_head).unwrap().values;
    assert!(begins(&previous_scores) < begins(&head_scores), "{previous_scores:?} {head_scores:?}");
}
