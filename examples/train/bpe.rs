//! The tokenizer: GPT-2's byte-level BPE, trained on the generator's text.

use std::error::Error;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer, TokenizerBuilder};

use candlescope::tokens::SpecialTokens;

use crate::rng::Rng;
use crate::text;

/// The one special token: it begins a text, ends it, and pads.
pub const BOS: &str = "<|endoftext|>";

/// Documents the tokenizer sees.
const DOCUMENTS: u64 = 20_000;

/// Trains a tokenizer of at most `size` tokens.
pub fn train(size: usize, seed: u64) -> Result<Tokenizer, Box<dyn Error>> {
    train_on(size, seed, DOCUMENTS)
}

/// Trains a tokenizer on so many documents.
pub fn train_on(size: usize, seed: u64, documents: u64) -> Result<Tokenizer, Box<dyn Error>> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(BOS, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let plain = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(plain))
        .with_post_processor(Some(plain))
        .with_decoder(Some(plain))
        .build()
        .map_err(|error| error.to_string())?;
    let documents = (0..documents).map(|i| text::document(&mut Rng::new(seed, (1 << 40) + i)));
    tokenizer.train(&mut trainer, documents).map_err(|error| error.to_string())?;
    // Through its own file format, which gives the general type.
    let json = tokenizer.to_string(true).map_err(|error| error.to_string())?;
    Ok(json.parse::<Tokenizer>().map_err(|error| error.to_string())?)
}

/// The library's view of it.
pub fn wrap(tokenizer: &Tokenizer) -> candlescope::Result<candlescope::tokens::Tokenizer> {
    candlescope::tokens::Tokenizer::from_tokenizers(tokenizer.clone(), SpecialTokens::new().bos(BOS).eos(BOS).pad(BOS))
}

/// The ids of a text, without a special token.
pub fn ids(tokenizer: &candlescope::tokens::Tokenizer, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    Ok(tokenizer.hf().encode_fast(text, false).map_err(|error| error.to_string())?.get_ids().to_vec())
}

pub fn bos(tokenizer: &candlescope::tokens::Tokenizer) -> Result<u32, Box<dyn Error>> {
    Ok(tokenizer.bos_id().ok_or("the tokenizer has no special token")?)
}
