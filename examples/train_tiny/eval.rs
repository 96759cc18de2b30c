//! What the model can do, measured on text it has not seen.

use std::error::Error;

use tokenizers::Tokenizer;

use crate::model::Gpt2;
use crate::rng::Rng;
use crate::text::{self, Openings};
use crate::{bpe, data, ops};

/// The two prompts of the demonstration notebook: (prompt, answer, subject).
pub const JOHN: (&str, &str, &str) =
    ("After John and Mary went to the store, Mary gave a bottle of milk to", "John", "Mary");
pub const CLAIRE: (&str, &str, &str) =
    ("Claire and Mary went to the shops, then Mary gave a bottle of milk to", "Claire", "Mary");

/// The numbers of one measurement.
#[derive(Clone, Debug)]
pub struct Report {
    /// Mean loss per token of new documents.
    pub text_loss: f64,
    /// Mean loss on random tokens, when they are new and when they come again.
    pub random_loss: [f64; 2],
    /// The head that attends most to the token after the previous occurrence: layer, head, mean attention.
    pub induction: (usize, usize, f64),
    /// The head that attends most to the previous token, on the same rows.
    pub previous: (usize, usize, f64),
    /// Share of held-out exercises with the right name ahead, and the mean logit difference.
    pub ioi: (f64, f64),
    /// Logit difference of John's prompt, and of Claire's with and without the special token in front.
    pub john: f64,
    pub claire: f64,
    pub claire_without_bos: f64,
}

/// Measures `model` on what `seed` generates, which training never uses.
pub fn measure(model: &Gpt2, tokenizer: &Tokenizer, seed: u64, exercises: usize) -> Result<Report, Box<dyn Error>> {
    let mut rng = Rng::new(!seed, 1 << 41);
    let (random_loss, induction, previous) = random_tokens(model, tokenizer, &mut rng)?;
    let of = |(prompt, answer, subject), bos| logit_diff(model, tokenizer, prompt, answer, subject, bos);
    Ok(Report {
        text_loss: text_loss(model, tokenizer, &mut rng)?,
        random_loss,
        induction,
        previous,
        ioi: indirect_objects(model, tokenizer, &mut rng, exercises)?,
        john: of(JOHN, true)?,
        claire: of(CLAIRE, true)?,
        claire_without_bos: of(CLAIRE, false)?,
    })
}

/// logit(" answer") - logit(" subject") after the prompt.
fn logit_diff(
    model: &Gpt2,
    tokenizer: &Tokenizer,
    prompt: &str,
    answer: &str,
    subject: &str,
    bos: bool,
) -> Result<f64, Box<dyn Error>> {
    let mut ids = if bos { vec![bpe::id(tokenizer, bpe::BOS)?] } else { Vec::new() };
    ids.extend(bpe::ids(tokenizer, prompt)?);
    let logits: Vec<f32> = model.forward(&ids, 1)?.get(ids.len() - 1)?.to_vec1()?;
    let logit = |name: &str| -> Result<f64, Box<dyn Error>> {
        Ok(f64::from(logits[bpe::id(tokenizer, &format!(" {name}"))? as usize]))
    };
    Ok(logit(answer)? - logit(subject)?)
}

fn indirect_objects(
    model: &Gpt2,
    tokenizer: &Tokenizer,
    rng: &mut Rng,
    exercises: usize,
) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut right, mut sum) = (0usize, 0.0);
    for _ in 0..exercises {
        let exercise = text::indirect_object(rng, Openings::HeldOut);
        let diff = logit_diff(model, tokenizer, &exercise.prompt, exercise.answer, exercise.subject, true)?;
        right += usize::from(diff > 0.0);
        sum += diff;
    }
    Ok((right as f64 / exercises as f64, sum / exercises as f64))
}

fn text_loss(model: &Gpt2, tokenizer: &Tokenizer, rng: &mut Rng) -> Result<f64, Box<dyn Error>> {
    let (rows, pos) = (16, 128.min(model.size.n_ctx));
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let row = data::text_row(tokenizer, rng, pos + 1, Openings::Few)?;
        inputs.extend(&row[..pos]);
        targets.extend(&row[1..]);
    }
    Ok(mean(&ops::losses(&model.forward(&inputs, rows)?, &targets)?))
}

type Head = (usize, usize, f64);

fn random_tokens(model: &Gpt2, tokenizer: &Tokenizer, rng: &mut Rng) -> Result<([f64; 2], Head, Head), Box<dyn Error>> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let heads = model.size.n_layers * model.size.n_heads;
    let (mut induction, mut previous) = (vec![Vec::new(); heads], vec![Vec::new(); heads]);
    for block in [25, 30, 35, 40, 45, 50] {
        let rows = 4;
        let mut ids = Vec::new();
        for _ in 0..rows {
            ids.extend(data::repeated(tokenizer, rng, block)?);
        }
        let length = 2 * block + 1;
        let (logits, patterns) = model.forward_with_patterns(&ids, rows)?;
        // The prediction at a row's last token has no target here; token 0 stands in, and the loss is left out.
        let targets: Vec<u32> = (0..ids.len()).map(|i| if i % length == length - 1 { 0 } else { ids[i + 1] }).collect();
        for (i, loss) in ops::losses(&logits, &targets)?.into_iter().enumerate() {
            match i % length {
                pos if pos < block => first.push(loss),
                pos if pos < length - 1 => second.push(loss),
                _ => {}
            }
        }
        for (layer, pattern) in patterns.iter().enumerate() {
            let pattern: Vec<f32> = pattern.flatten_all()?.to_vec1()?;
            for (i, row) in pattern.chunks(length).enumerate() {
                let (pos, head) = (i % length, layer * model.size.n_heads + i / length % model.size.n_heads);
                if pos > block {
                    induction[head].push(row[pos - block + 1]);
                    previous[head].push(row[pos - 1]);
                }
            }
        }
    }
    let best = |scores: &[Vec<f32>]| {
        let best = scores.iter().map(|scores| mean(scores)).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or((0, 0, 0.0), |(i, score)| (i / model.size.n_heads, i % model.size.n_heads, score))
    };
    Ok(([mean(&first), mean(&second)], best(&induction), best(&previous)))
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}
