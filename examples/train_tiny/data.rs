//! Training rows: packed documents, and repeated random tokens, which teach the induction heads.

use std::error::Error;

use tokenizers::Tokenizer;

use crate::rng::Rng;
use crate::{bpe, text};

/// One step's rows, all of one length: `inputs` [rows * pos], and for each the token that follows.
pub struct Batch {
    pub rows: usize,
    pub inputs: Vec<u32>,
    pub targets: Vec<u32>,
}

/// Share of the rows that are random tokens.
const RANDOM_ROWS: f64 = 0.33;

/// The rows of step `step`: about `n_tokens` tokens in rows of a quarter, a half, or the whole of the context.
pub fn batch(
    tokenizer: &Tokenizer,
    seed: u64,
    step: usize,
    n_tokens: usize,
    n_ctx: usize,
) -> Result<Batch, Box<dyn Error>> {
    let mut rng = Rng::new(seed, step as u64);
    let pos = match rng.uniform() {
        u if u < 0.55 => n_ctx / 4,
        u if u < 0.90 => n_ctx / 2,
        _ => n_ctx,
    };
    let rows = (n_tokens / pos).max(1);
    let mut batch = Batch { rows, inputs: Vec::new(), targets: Vec::new() };
    for _ in 0..rows {
        let row = if rng.chance(RANDOM_ROWS) {
            random_row(tokenizer, &mut rng, pos + 1)?
        } else {
            text_row(tokenizer, &mut rng, pos + 1)?
        };
        batch.inputs.extend(&row[..pos]);
        batch.targets.extend(&row[1..]);
    }
    Ok(batch)
}

/// Documents one after the other, each begun by the special token, cut at `length`.
pub fn text_row(tokenizer: &Tokenizer, rng: &mut Rng, length: usize) -> Result<Vec<u32>, Box<dyn Error>> {
    let bos = bpe::id(tokenizer, bpe::BOS)?;
    let mut row = Vec::new();
    while row.len() < length {
        row.push(bos);
        row.extend(bpe::ids(tokenizer, &text::document(rng))?);
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

/// Repeated blocks, until `length` is full.
fn random_row(tokenizer: &Tokenizer, rng: &mut Rng, length: usize) -> Result<Vec<u32>, Box<dyn Error>> {
    let mut row = Vec::new();
    while row.len() < length {
        let block = rng.between(8, (length / 2).clamp(9, 60));
        row.extend(repeated(tokenizer, rng, block)?);
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
