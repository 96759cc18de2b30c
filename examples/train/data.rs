//! Training rows: packed documents, and repeated random tokens, which teach the induction heads.

use candlescope::tokens::Tokenizer;

use crate::bpe;
use crate::rng::Rng;
use crate::text::{self, Templates};

/// One step's rows, all of one length, and what the loss of each predicted token weighs, `[rows][pos - 1]`.
pub struct Batch {
    pub rows: Vec<Vec<u32>>,
    pub weights: Vec<Vec<f32>>,
}

/// What the rows of a step are like. The rest are documents of every kind.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// The share of random tokens.
    pub random: f64,
    /// The share of indirect objects alone.
    pub giving: f64,
    /// The longest row, as a part of the context: all of it, or a quarter.
    pub longest: f64,
}

const SHORTEST_BLOCK: usize = 4;
const LONGEST_BLOCK: usize = 64;
/// What the loss on a random token weighs when it comes for the first time: it can't be known, and is mostly noise.
const NEW_RANDOM_TOKEN: f32 = 0.1;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The rows of step `step`: about `n_tokens` tokens in rows of a quarter, a half, or the whole of the context.
pub fn batch(tokenizer: &Tokenizer, seed: u64, step: usize, mix: &Mix, n_tokens: usize, n_ctx: usize) -> Result<Batch> {
    let mut rng = Rng::new(seed, step as u64);
    let pos = match rng.uniform() {
        u if mix.longest < 0.5 || u < 0.55 => n_ctx / 4,
        u if u < 0.90 => n_ctx / 2,
        _ => n_ctx,
    };
    let mut batch = Batch { rows: Vec::new(), weights: Vec::new() };
    for _ in 0..(n_tokens / pos).max(1) {
        let kind = rng.uniform();
        let random = kind < mix.random;
        let row = if random {
            random_row(tokenizer, &mut rng, pos)?
        } else if kind < mix.random + mix.giving {
            packed_row(tokenizer, &mut rng, pos, |rng| text::indirect_object(rng, Templates::Training).text())?
        } else {
            text_row(tokenizer, &mut rng, pos)?
        };
        let is_new = |i: usize| random && !row[..i].contains(&row[i]);
        batch.weights.push((1..pos).map(|i| if is_new(i) { NEW_RANDOM_TOKEN } else { 1.0 }).collect());
        batch.rows.push(row);
    }
    Ok(batch)
}

/// Documents one after the other, each begun by the special token, cut at `length`.
pub fn text_row(tokenizer: &Tokenizer, rng: &mut Rng, length: usize) -> Result<Vec<u32>> {
    packed_row(tokenizer, rng, length, text::document)
}

fn packed_row(
    tokenizer: &Tokenizer,
    rng: &mut Rng,
    length: usize,
    document: impl Fn(&mut Rng) -> String,
) -> Result<Vec<u32>> {
    let bos = bpe::bos(tokenizer)?;
    let mut row = Vec::new();
    while row.len() < length {
        row.push(bos);
        row.extend(bpe::ids(tokenizer, &document(rng))?);
    }
    row.truncate(length);
    Ok(row)
}

/// The special token, and blocks of random tokens that come again, until `length` is full. Short blocks, which come more
/// than twice, are learned first and show the way to the long ones.
fn random_row(tokenizer: &Tokenizer, rng: &mut Rng, length: usize) -> Result<Vec<u32>> {
    let bos = bpe::bos(tokenizer)?;
    let mut row = Vec::new();
    let longest = (length / 2).clamp(SHORTEST_BLOCK, LONGEST_BLOCK) as f64;
    while row.len() < length {
        let shortest = SHORTEST_BLOCK as f64;
        let n = (shortest * (longest / shortest).powf(rng.uniform())).round() as usize;
        let once_more = rng.between(0, 1 + 24 / n) * n;
        let block: Vec<u32> = (0..n).map(|_| random_token(rng, tokenizer.vocab_size(), bos)).collect();
        row.push(bos);
        row.extend(block.iter().cycle().take(2 * n + once_more));
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
