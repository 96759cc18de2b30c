//! Repeated random tokens, the input on which induction heads show (Olsson et al. 2022, arXiv 2209.11895).

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::HookedTransformer;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// `rows` rows of `length` random token ids, each row repeated once: `[rows, 2 * length]`, or with the model's BOS in
/// front, if it wants one by default, `[rows, 1 + 2 * length]`.
///
/// The ids are uniform over the vocabulary, special tokens aside. One seed gives one batch.
///
/// ```
/// use candlescope::analysis::repeated_random_tokens;
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let tokens = repeated_random_tokens(&model, 2, 20, 0)?;
/// let row = &tokens.ids()[0];
/// assert_eq!(row[row.len() - 20..], row[row.len() - 40..row.len() - 20]);
/// # Ok(()) }
/// ```
pub fn repeated_random_tokens(model: &HookedTransformer, rows: usize, length: usize, seed: u64) -> Result<Tokens> {
    let cfg = model.cfg();
    let tokenizer = model.tokenizer().ok();
    let bos = tokenizer.and_then(|tokenizer| tokenizer.bos_id()).filter(|_| cfg.default_prepend_bos);
    let longest = (cfg.n_ctx - usize::from(bos.is_some()).min(cfg.n_ctx)) / 2;
    if rows == 0 || length == 0 || length > longest {
        return Err(Error::msg(format!(
            "{rows} rows of {length} random tokens, repeated, don't fit: at least one row is needed, and a length of 1 to {longest} for this model's context of {}",
            cfg.n_ctx
        )));
    }
    let special: Vec<u32> =
        tokenizer.map_or(Vec::new(), |t| [t.bos_id(), t.eos_id(), t.pad_id()].into_iter().flatten().collect());
    let plain: Vec<u32> = (0..cfg.d_vocab as u32).filter(|id| !special.contains(id)).collect();
    if plain.is_empty() {
        return Err(Error::msg("the vocabulary holds special tokens only, so there are none to draw from"));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let row = |_| {
        let block: Vec<u32> = (0..length).map(|_| plain[rng.random_range(0..plain.len())]).collect();
        bos.into_iter().chain(block.iter().copied()).chain(block.iter().copied()).collect()
    };
    let tokens = Tokens::from_ids((0..rows).map(row).collect())?;
    Ok(match tokenizer {
        Some(tokenizer) => tokens.with_tokenizer(tokenizer),
        None => tokens,
    })
}
