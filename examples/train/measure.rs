//! What a model can do, measured on text that it has not seen.

use std::error::Error;

use candlescope::analysis::{
    HeadAttention, HeadPattern, InductionLossOptions, LabelledTensor, induction_loss, induction_scores,
    repeated_random_tokens,
};
use candlescope::model::{HookedTransformer, RunOptions};
use candlescope::tokens::Tokens;

use crate::data;
use crate::rng::Rng;
use crate::text::{self, Templates};

/// The two prompts of the demonstration notebook: (prompt, answer, subject).
pub const JOHN: (&str, &str, &str) =
    ("After John and Mary went to the store, Mary gave a bottle of milk to", " John", " Mary");
pub const CLAIRE: (&str, &str, &str) =
    ("Claire and Mary went to the shops, then Mary gave a bottle of milk to", " Claire", " Mary");

/// The numbers of one measurement.
#[derive(Clone, Debug)]
pub struct Report {
    /// Mean loss per token of new documents.
    pub text_loss: f32,
    /// Mean loss on random tokens, when they are new and when they come again.
    pub random_loss: [f64; 2],
    /// The head that attends most to the token after the previous occurrence, and how much.
    pub induction: (String, f32),
    /// The head that attends most to the previous token, on the same rows.
    pub previous: (String, f32),
    /// Share of held-out exercises with the right name ahead, and the mean logit difference.
    pub ioi: (f64, f64),
    /// Logit difference of John's prompt, and of Claire's with and without the special token in front.
    pub john: f32,
    pub claire: f32,
    pub claire_without_bos: f32,
}

/// Measures a model on what `seed` generates, which training never uses.
pub fn measure(model: &HookedTransformer, seed: u64, exercises: usize) -> Result<Report, Box<dyn Error>> {
    let mut rng = Rng::new(!seed, 1 << 41);
    let length = 50.min((model.cfg().n_ctx - 1) / 2);
    let tokens = repeated_random_tokens(model, 8, length, seed)?;
    let previous = HeadAttention::run(model, tokens)?.attention_to(HeadPattern::PreviousToken)?;
    let induction = induction_loss(model, &InductionLossOptions::new().rows(16).length(length).seed(seed))?;
    let diff = |(prompt, answer, subject), bos| logit_diff(model, prompt, answer, subject, bos);
    Ok(Report {
        text_loss: text_loss(model, &mut rng)?,
        random_loss: [induction.first(), induction.second()],
        induction: best_head(&induction_scores(model)?),
        previous: best_head(&previous),
        ioi: indirect_objects(model, &mut rng, exercises)?,
        john: diff(JOHN, true)?,
        claire: diff(CLAIRE, true)?,
        claire_without_bos: diff(CLAIRE, false)?,
    })
}

/// logit(answer) - logit(subject) after the prompt. Where a name is several tokens, its first counts.
fn logit_diff(
    model: &HookedTransformer,
    prompt: &str,
    answer: &str,
    subject: &str,
    bos: bool,
) -> Result<f32, Box<dyn Error>> {
    let run = model.run(prompt, &RunOptions::new().prepend_bos(bos))?;
    let logits = run.logits.ok_or("no logits")?.at(0, -1)?.to_vec1::<f32>()?;
    let logit = |name: &str| -> Result<f32, Box<dyn Error>> {
        let ids = crate::bpe::ids(model.tokenizer()?, name)?;
        Ok(logits[*ids.first().ok_or("an empty name")? as usize])
    };
    Ok(logit(answer)? - logit(subject)?)
}

fn indirect_objects(model: &HookedTransformer, rng: &mut Rng, exercises: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut right, mut sum) = (0usize, 0.0);
    for _ in 0..exercises {
        let exercise = text::indirect_object(rng, Templates::HeldOut);
        let names = [exercise.answer, exercise.subject].map(|name| format!(" {name}"));
        let diff = logit_diff(model, &exercise.prompt, &names[0], &names[1], true)?;
        right += usize::from(diff > 0.0);
        sum += f64::from(diff);
    }
    Ok((right as f64 / exercises as f64, sum / exercises as f64))
}

fn text_loss(model: &HookedTransformer, rng: &mut Rng) -> Result<f32, Box<dyn Error>> {
    let length = 128.min(model.cfg().n_ctx);
    let rows: Result<Vec<_>, _> = (0..16).map(|_| data::text_row(model.tokenizer()?, rng, length)).collect();
    Ok(model.loss(Tokens::from_ids(rows?)?)?)
}

fn best_head(scores: &LabelledTensor) -> (String, f32) {
    match scores.largest() {
        Some((head, score)) => (format!("L{}H{}", head[0], head[1]), score),
        None => ("none".to_string(), 0.0),
    }
}
