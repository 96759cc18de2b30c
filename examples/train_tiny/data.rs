//! Training rows: packed documents, and repeated random tokens, which teach the induction heads.

use std::error::Error;

use tokenizers::Tokenizer;

use crate::bpe;
use crate::rng::Rng;
use crate::text::{self, Openings};

/// One step's rows, all of one length: `inputs` [rows * pos], for each the token that follows, and what its loss weighs.
pub struct Batch {
    pub rows: usize,
    pub inputs: Vec<u32>,
    pub targets: Vec<u32>,
    pub weights: Vec<f32>,
}

/// What the rows of a step are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Short rows, half of them random tokens: induction heads form.
    Short,
    /// Rows of all lengths.
    Long,
    /// Indirect objects open in many more ways: what was learned for a few sentences becomes general.
    Varied,
}

/// Shares of the rows that are random tokens, and that are indirect objects alone: in the first part of the training, and
/// later. The rest are documents of every kind.
const RANDOM_ROWS: [f64; 2] = [0.5, 0.25];
const INDIRECT_OBJECT_ROWS: [f64; 2] = [0.15, 0.35];
const SHORTEST_BLOCK: usize = 4;
const LONGEST_BLOCK: usize = 64;
/// What the loss on a random token weighs when it comes for the first time: it can't be known, and is mostly noise.
const NEW_RANDOM_TOKEN: f32 = 0.1;

/// The rows of step `step`: about `n_tokens` tokens in rows of a quarter, a half, or the whole of the context.
pub fn batch(
    tokenizer: &Tokenizer,
    seed: u64,
    step: usize,
    part: Part,
    n_tokens: usize,
    n_ctx: usize,
) -> Result<Batch, Box<dyn Error>> {
    let mut rng = Rng::new(seed, step as u64);
    let pos = match rng.uniform() {
        u if part == Part::Short || u < 0.55 => n_ctx / 4,
        u if u < 0.90 => n_ctx / 2,
        _ => n_ctx,
    };
    let openings = if part == Part::Varied { Openings::Many } else { Openings::Few };
    let part = usize::from(part != Part::Short);
    let rows = (n_tokens / pos).max(1);
    let mut batch = Batch { rows, inputs: Vec::new(), targets: Vec::new(), weights: Vec::new() };
    for _ in 0..rows {
        let kind = rng.uniform();
        let random = kind < RANDOM_ROWS[part];
        let row = if random {
            random_row(tokenizer, &mut rng, pos + 1)?
        } else if kind < RANDOM_ROWS[part] + INDIRECT_OBJECT_ROWS[part] {
            packed_row(tokenizer, &mut rng, pos + 1, |rng| text::indirect_object(rng, openings).text())?
        } else {
            text_row(tokenizer, &mut rng, pos + 1, openings)?
        };
        batch.inputs.extend(&row[..pos]);
        batch.targets.extend(&row[1..]);
        batch
            .weights
            .extend((1..=pos).map(|i| if random && !row[..i].contains(&row[i]) { NEW_RANDOM_TOKEN } else { 1.0 }));
    }
    Ok(batch)
}

/// Documents one after the other, each begun by the special token, cut at `length`.
pub fn text_row(
    tokenizer: &Tokenizer,
    rng: &mut Rng,
    length: usize,
    openings: Openings,
) -> Result<Vec<u32>, Box<dyn Error>> {
    packed_row(tokenizer, rng, length, |rng| text::document(rng, openings))
}

fn packed_row(
    tokenizer: &Tokenizer,
    rng: &mut Rng,
    length: usize,
    document: impl Fn(&mut Rng) -> String,
) -> Result<Vec<u32>, Box<dyn Error>> {
    let bos = bpe::id(tokenizer, bpe::BOS)?;
    let mut row = Vec::new();
    while row.len() < length {
        row.push(bos);
        row.extend(bpe::ids(tokenizer, &document(rng))?);
    }
    row.truncate(length);
    Ok(row)
}

/// The special token, a block of `block` random tokens, and the block again.
pub fn repeated(tokenizer: &Tokenizer, rng: &mut Rng, block: usize) -> Result<Vec<u32>, Box<dyn Error>> {
    let bos = bpe::id(tokenizer, bpe::BOS)?;
    let tokens: Vec<u32> = (0..block).map(|_| random_token(rng, tokenizer.get_vocab_size(true), bos)).collect();
    Ok([&[bos], tokens.as_slice(), tokens.as_slice()].concat())
}

/// Repeated blocks, until `length` is full. Short blocks, which come more than twice, are learned first and show the way
/// to the long ones.
fn random_row(tokenizer: &Tokenizer, rng: &mut Rng, length: usize) -> Result<Vec<u32>, Box<dyn Error>> {
    let mut row = Vec::new();
    let longest = (length / 2).clamp(SHORTEST_BLOCK, LONGEST_BLOCK) as f64;
    while row.len() < length {
        let shortest = SHORTEST_BLOCK as f64;
        let block = (shortest * (longest / shortest).powf(rng.uniform())).round() as usize;
        let once_more = rng.between(0, 1 + 24 / block) * block;
        let twice = repeated(tokenizer, rng, block)?;
        let again: Vec<u32> = twice[1..].iter().cycle().take(once_more).copied().collect();
        row.extend(twice);
        row.extend(again);
    }
    row.truncate(length);
    Ok(row)
}

fn random_token(rng: &mut Rng, d_vocab: usize, bos: u32) -> u32 {
    loop {
        let id = rng.between(0, d_vocab) as u32;
        if id != bos {
            return id;
        }
    }
}
