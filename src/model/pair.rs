//! Running an encoder-decoder: which input is whose, and what the decoder sees of the encoder.

use candle_core::Tensor;

use super::cross_attention::Encoded;
use super::encoder::Encoding;
use super::mask::Masks;
use super::run::rows;
use super::{HookedTransformer, Input, KvCache, RunOptions};
use crate::hooks::{HookPoint, Tap, points};
use crate::tokens::{Text, TokenOptions, Tokens};
use crate::{Error, Result};

/// The two inputs of a run. Models of one stack have only the second.
pub(super) struct Pair {
    /// What the encoder is to read; none where there is no encoder, or where it has read its text already.
    pub(super) encoder: Option<Tokens>,
    pub(super) decoder: Input,
}

impl HookedTransformer {
    /// Whether it is an encoder-decoder: two stacks, the second of which looks at what the first made of its text.
    pub fn has_encoder(&self) -> bool {
        self.inner.encoder.is_some()
    }

    /// The point of a layer's attention pattern; the decoder's own attention, in an encoder-decoder.
    pub(crate) fn pattern_point(&self, layer: usize) -> HookPoint {
        match self.inner.encoder {
            Some(_) => HookPoint::new(format!("decoder_blocks.{layer}.self_attn.hook_pattern")),
            None => points::pattern(layer),
        }
    }

    /// Takes an input apart. Without an input for the decoder, it gets the start token alone.
    pub(super) fn pair(&self, input: &Input, options: &RunOptions, past: Option<&KvCache>) -> Result<Pair> {
        if self.inner.encoder.is_none() {
            return match (input, &options.decoder_input) {
                (Input::EncoderDecoder { .. }, _) | (_, Some(_)) => Err(Error::msg(
                    "this model has no encoder beside a decoder: give it one input, not a pair, and no decoder_input(..)",
                )),
                _ => Ok(Pair { encoder: None, decoder: input.clone() }),
            };
        }
        let (encoder, decoder) = match (input, &options.decoder_input) {
            (Input::EncoderDecoder { .. }, Some(_)) => {
                return Err(Error::msg(
                    "the decoder has two inputs: one in the pair, one in decoder_input(..); give one",
                ));
            }
            (Input::EncoderDecoder { encoder, decoder }, None) => (&**encoder, Some(&**decoder)),
            (one, None) if past.is_some_and(|past| past.encoded.is_some()) => {
                return Ok(Pair { encoder: None, decoder: self.decoder_tokens(one)? });
            }
            (one, decoder) => (one, decoder.as_ref()),
        };
        let encoder = encoder
            .tokens(self, options.prepend_bos)?
            .ok_or_else(|| Error::msg("the encoder reads a text or token ids, and this is a tensor of floats"))?;
        let (batch, pos) = self.check_tokens(&encoder)?;
        if batch == 0 || pos == 0 {
            return Err(Error::EmptyPrompt);
        }
        let decoder = match decoder {
            Some(decoder) => self.decoder_tokens(decoder)?,
            None => Input::Tokens(Tokens::from_ids(vec![vec![self.start_token()?]; batch])?),
        };
        Ok(Pair { encoder: Some(encoder), decoder })
    }

    /// What the encoder makes of its tokens, or made of them at an earlier step; none without an encoder.
    pub(super) fn encode(
        &self,
        tokens: Option<&Tokens>,
        options: &RunOptions,
        past: Option<&mut KvCache>,
        decoder_batch: usize,
        tap: &mut Tap,
    ) -> Result<Option<Encoding>> {
        let Some(encoder) = &self.inner.encoder else { return Ok(None) };
        let Some(tokens) = tokens else { return Ok(past.and_then(|past| past.encoded.clone())) };
        let (batch, pos) = tokens.shape();
        if batch != decoder_batch {
            return Err(Error::msg(format!(
                "the encoder's input has {batch} rows and the decoder's {decoder_batch}; they must go together"
            )));
        }
        let mask = self.mask(options.attention_mask.as_ref(), Some(tokens), batch, pos)?;
        let encoding = encoder.forward(&self.inner.w_e, tokens, mask, tap)?;
        if let Some(past) = past {
            past.encoded = Some(encoding.clone());
        }
        Ok(Some(encoding))
    }

    /// The encoding for `queries` tokens of the decoder.
    pub(super) fn look_at(&self, encoding: Encoding, queries: usize) -> Result<Encoded> {
        let keys = encoding.stream.dim(1)?;
        let masks = Masks::new(queries, keys, encoding.real, self.dtype(), self.device());
        Ok(Encoded { stream: encoding.stream, masks })
    }

    /// Which tokens take a position: those that are not padding, and not the token that has none by itself.
    pub(super) fn placed(&self, tokens: Option<&Tokens>, mask: Option<&[Vec<bool>]>) -> Option<Vec<Vec<bool>>> {
        let (Some(unplaced), Some(tokens)) = (self.cfg().unplaced_token, tokens) else {
            return mask.map(<[_]>::to_vec);
        };
        let placed = |(row, ids): (usize, &Vec<u32>)| -> Vec<bool> {
            let real = |pos: usize| mask.and_then(|mask| mask.get(row)?.get(pos)).is_none_or(|real| *real);
            ids.iter().enumerate().map(|(pos, id)| *id != unplaced && real(pos)).collect()
        };
        let placed: Vec<Vec<bool>> = tokens.ids().iter().enumerate().map(placed).collect();
        placed.iter().flatten().any(|placed| !placed).then_some(placed)
    }

    /// What each token's kind adds, `[batch, pos, d_model]`; none where the model has no kinds.
    pub(super) fn token_type_embed(&self, options: &RunOptions, batch: usize, pos: usize) -> Result<Option<Tensor>> {
        let Some(table) = &self.inner.w_token_type else {
            return match options.token_types {
                Some(_) => Err(Error::msg("token_types(..) is set, and this model knows no kinds of tokens")),
                None => Ok(None),
            };
        };
        let kinds = match &options.token_types {
            Some(kinds) => kinds.clone(),
            None => vec![vec![0; pos]; batch],
        };
        if kinds.len() != batch || kinds.iter().any(|row| row.len() != pos) {
            let found = vec![kinds.len(), kinds.first().map_or(0, Vec::len)];
            let expected = format!("[{batch}, {pos}], as the tokens");
            return Err(Error::WrongShape { name: "token_types".into(), expected, found });
        }
        let known = table.dim(0)?;
        if let Some(kind) = kinds.iter().flatten().find(|kind| **kind as usize >= known) {
            return Err(Error::msg(format!("token_types has a {kind}, and this model knows {known} kinds, from 0 on")));
        }
        let ids = Tensor::from_vec(kinds.concat(), (batch, pos), self.device())?;
        Ok(Some(rows(table, &ids)?))
    }

    /// The decoder's input as tokens (or as the residual stream that it is): a text gets the start token in front, and no
    /// ending.
    fn decoder_tokens(&self, input: &Input) -> Result<Input> {
        match input {
            Input::Text(text) => Ok(Input::Tokens(self.started(text)?)),
            other => Ok(other.clone()),
        }
    }

    fn started(&self, text: &Text) -> Result<Tokens> {
        let start = self.start_token()?;
        let tokenizer = self.tokenizer()?.clone().with_own_template(false);
        let row = |text: &String| -> Result<Vec<u32>> {
            let tokens = tokenizer.to_tokens_with(text.as_str(), &TokenOptions::default())?;
            Ok([vec![start], tokens.ids().first().cloned().unwrap_or_default()].concat())
        };
        let rows = text.rows().iter().map(row).collect::<Result<Vec<_>>>()?;
        match tokenizer.pad_id() {
            Some(pad) => Tokens::padded(rows, pad, tokenizer.padding_side()),
            None => Tokens::from_ids(rows),
        }
    }

    fn start_token(&self) -> Result<u32> {
        self.cfg().decoder_start_token.ok_or_else(|| {
            Error::msg(
                "the decoder has no input, and config.json names no decoder_start_token_id; give a pair (encoder input, decoder tokens)",
            )
        })
    }
}
