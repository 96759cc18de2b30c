//! What a model can be run on.

use candle_core::Tensor;

use super::HookedTransformer;
use crate::tokens::{Text, TokenOptions, Tokens};
use crate::{Error, Result};

/// What a model runs on: a text, texts, token ids, or (with `start_at_layer`) a residual stream.
#[derive(Clone, Debug)]
pub enum Input {
    /// One text or several; tokenized, with BOS where asked for, and padded.
    Text(Text),
    /// Token ids as they are: no BOS is added.
    Tokens(Tokens),
    /// A tensor: integers `[pos]` or `[batch, pos]` are token ids, floats `[batch, pos, d_model]` are a residual stream.
    Tensor(Tensor),
    /// For an encoder-decoder: what the encoder reads, and what the decoder has so far. Made from a pair:
    /// `model.forward(("translate English to German: The house.", "Das"))`. A text for the decoder gets the model's start
    /// token in front; token ids are taken as they are, and so must begin with it.
    EncoderDecoder {
        /// What the encoder reads.
        encoder: Box<Input>,
        /// What the decoder has so far.
        decoder: Box<Input>,
    },
}

impl Input {
    /// The token ids; none for a residual stream.
    pub(super) fn tokens(&self, model: &HookedTransformer, prepend_bos: Option<bool>) -> Result<Option<Tokens>> {
        let tokens = match self {
            Self::Text(text) => {
                let options = TokenOptions { prepend_bos, ..TokenOptions::default() };
                model.tokenizer()?.to_tokens_with(text.clone(), &options)?
            }
            Self::Tokens(tokens) => tokens.clone(),
            Self::EncoderDecoder { .. } => {
                return Err(Error::msg(
                    "a pair of inputs stands where one was expected: (encoder input, decoder input)",
                ));
            }
            Self::Tensor(tensor) if tensor.dtype().is_float() => return Ok(None),
            Self::Tensor(tensor) => {
                let tensor = match tensor.rank() {
                    1 => tensor.unsqueeze(0)?,
                    2 => tensor.clone(),
                    _ => {
                        let expected = "[pos] or [batch, pos]".to_string();
                        return Err(Error::WrongShape {
                            name: "tokens".into(),
                            expected,
                            found: tensor.dims().to_vec(),
                        });
                    }
                };
                let rows: Vec<Vec<u32>> = tensor.to_dtype(candle_core::DType::U32)?.to_vec2()?;
                Tokens::from_ids(rows)?
            }
        };
        let tokens = match model.tokenizer() {
            Ok(tokenizer) => tokens.with_tokenizer(tokenizer),
            Err(_) => tokens,
        };
        Ok(Some(tokens))
    }
}

impl From<&Input> for Input {
    fn from(input: &Input) -> Self {
        input.clone()
    }
}

impl<E: Into<Input>, D: Into<Input>> From<(E, D)> for Input {
    fn from((encoder, decoder): (E, D)) -> Self {
        Self::EncoderDecoder { encoder: Box::new(encoder.into()), decoder: Box::new(decoder.into()) }
    }
}

impl From<Tokens> for Input {
    fn from(tokens: Tokens) -> Self {
        Self::Tokens(tokens)
    }
}

impl From<&Tokens> for Input {
    fn from(tokens: &Tokens) -> Self {
        Self::Tokens(tokens.clone())
    }
}

impl From<Tensor> for Input {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<&Tensor> for Input {
    fn from(tensor: &Tensor) -> Self {
        Self::Tensor(tensor.clone())
    }
}

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl From<$text> for Input {
            fn from(text: $text) -> Self {
                Self::Text(text.into())
            }
        }
    )*};
}

texts!(&str, String, &String, Vec<&str>, Vec<String>, &Vec<String>, &[&str], &[String], Text);

impl<const N: usize> From<[&str; N]> for Input {
    fn from(texts: [&str; N]) -> Self {
        Self::Text(texts.into())
    }
}

macro_rules! ids {
    ($($ids:ty),*) => {$(
        impl From<$ids> for Input {
            fn from(ids: $ids) -> Self {
                Self::Tokens(ids.into())
            }
        }
    )*};
}

ids!(Vec<u32>, &[u32]);
