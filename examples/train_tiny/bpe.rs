//! The tokenizer: GPT-2's byte-level BPE, trained on the generator's text.

use std::error::Error;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer, TokenizerBuilder};

use crate::rng::Rng;
use crate::text::{self, Openings};

/// The one special token: it begins a text, ends it, and pads.
pub const BOS: &str = "<|endoftext|>";

/// Documents the tokenizer sees.
const DOCUMENTS: u64 = 20_000;

/// Trains a tokenizer of at most `size` tokens.
pub fn train(size: usize, seed: u64) -> Result<Tokenizer, Box<dyn Error>> {
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
    let documents = (0..DOCUMENTS).map(|i| text::document(&mut Rng::new(seed, (1 << 40) + i), Openings::Few));
    tokenizer.train(&mut trainer, documents).map_err(|error| error.to_string())?;
    // Through its own file format, which gives the general type.
    let json = tokenizer.to_string(true).map_err(|error| error.to_string())?;
    Ok(json.parse::<Tokenizer>().map_err(|error| error.to_string())?)
}

/// The ids of a text, without a special token.
pub fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    Ok(tokenizer.encode(text, false).map_err(|error| error.to_string())?.get_ids().to_vec())
}

/// The id of a text that is one token.
pub fn id(tokenizer: &Tokenizer, text: &str) -> Result<u32, Box<dyn Error>> {
    match ids(tokenizer, text)?.as_slice() {
        [id] => Ok(*id),
        ids => Err(format!("'{text}' is {} tokens, not one", ids.len()).into()),
    }
}

/// The tokenizer's configuration, as Hugging Face writes it.
pub fn config(n_ctx: usize) -> serde_json::Value {
    serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": false,
        "add_prefix_space": false,
        "bos_token": BOS, "eos_token": BOS, "unk_token": BOS, "pad_token": BOS,
        "clean_up_tokenization_spaces": false,
        "model_max_length": n_ctx,
    })
}
