//! Questions about single tokens: their text, their id, where they stand.

use super::{Occurrence, TokenInput, TokenOptions, TokenRef, Tokenizer, Tokens};
use crate::{Error, Result};

impl Tokenizer {
    /// The pieces of one text (with a BOS as by default) or one row of tokens, as text.
    ///
    /// A piece that is only part of a character shows U+FFFD, as in Hugging Face's tokenizers.
    ///
    /// ```
    /// use candlescope::tokens::Tokenizer;
    ///
    /// let tokenizer = Tokenizer::gpt2()?;
    /// assert_eq!(tokenizer.to_str_tokens(" Claire")?, ["<|endoftext|>", " Claire"]);
    /// assert_eq!(tokenizer.to_str_tokens([20758u32])?, [" Claire"]);
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    ///
    /// # Errors
    /// An id that is out of range; a batch of another size than one.
    pub fn to_str_tokens(&self, input: impl Into<TokenInput>) -> Result<Vec<String>> {
        self.to_str_tokens_with(input, &TokenOptions::default())
    }

    /// As [`Tokenizer::to_str_tokens`], with options for a text.
    ///
    /// # Errors
    /// As there.
    pub fn to_str_tokens_with(&self, input: impl Into<TokenInput>, options: &TokenOptions) -> Result<Vec<String>> {
        let tokens = self.one_row(input.into(), options)?;
        let ids = tokens.row(0)?;
        self.must_know(ids)?;
        Ok(ids.iter().map(|id| self.piece(*id)).collect())
    }

    /// The text that token ids stand for, special tokens included and nothing tidied up.
    ///
    /// # Errors
    /// An id that is out of range.
    pub fn to_string(&self, ids: &[u32]) -> Result<String> {
        self.must_know(ids)?;
        self.hf().decode(ids, false).map_err(|error| Error::Tokenizer(error.to_string()))
    }

    /// The id of a text that is exactly one token. No BOS is put in front. Mind the leading space.
    ///
    /// # Errors
    /// [`Error::NotOneToken`] with the pieces.
    pub fn to_single_token(&self, text: &str) -> Result<u32> {
        match self.encode(text)?.as_slice() {
            [id] => Ok(*id),
            ids => Err(Error::NotOneToken {
                text: text.to_string(),
                pieces: ids.iter().map(|id| format!("{:?}", self.piece(*id))).collect(),
            }),
        }
    }

    /// The text of one token.
    ///
    /// # Errors
    /// An id that is out of range.
    pub fn to_single_str_token(&self, id: u32) -> Result<String> {
        self.must_know(&[id])?;
        Ok(self.piece(id))
    }

    /// The position of a token in one text (with a BOS as the options say) or in one row of tokens.
    ///
    /// ```
    /// use candlescope::tokens::{Occurrence, TokenOptions, Tokenizer};
    ///
    /// let tokenizer = Tokenizer::gpt2()?;
    /// let options = TokenOptions::default();
    /// let text = "The cat saw the other cat";
    /// assert_eq!(tokenizer.get_token_position(" cat", text, Occurrence::First, &options)?, 2);
    /// assert_eq!(tokenizer.get_token_position(" cat", text, Occurrence::Last, &options)?, 6);
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    ///
    /// # Errors
    /// A text that is not exactly one token; a token that is not there; a batch of another size than one.
    pub fn get_token_position(
        &self,
        token: impl Into<TokenRef>,
        input: impl Into<TokenInput>,
        occurrence: Occurrence,
        options: &TokenOptions,
    ) -> Result<usize> {
        let id = match token.into() {
            TokenRef::Id(id) => id,
            TokenRef::Text(text) => self.to_single_token(&text)?,
        };
        let tokens = self.one_row(input.into(), options)?;
        let ids = tokens.row(0)?;
        // Padding is not text: a padding id that stands there does not count.
        let real = |position: &usize| tokens.mask().is_none_or(|mask| mask[0][*position]);
        let mut places = (0..ids.len()).filter(|position| ids[*position] == id).filter(real);
        let found = match occurrence {
            Occurrence::First => places.next(),
            Occurrence::Last => places.next_back(),
        };
        found.ok_or_else(|| {
            let pieces: Vec<String> = ids.iter().map(|id| format!("{:?}", self.piece(*id))).collect();
            Error::msg(format!(
                "the token {:?} (id {id}) does not occur among the {} tokens {}; mind the leading space",
                self.piece(id),
                ids.len(),
                pieces.join(" ")
            ))
        })
    }

    /// The text of one token, for showing: an id that the tokenizer does not know reads `[id 50300]`.
    ///
    /// A SentencePiece token keeps its leading space, which decoding it alone would drop.
    pub fn piece(&self, id: u32) -> String {
        let Some(raw) = self.hf().id_to_token(id) else { return format!("[id {id}]") };
        let Ok(decoded) = self.hf().decode(&[id], false) else { return raw };
        let spaces = raw.chars().take_while(|c| *c == '▁').count();
        let kept = decoded.chars().take_while(|c| *c == ' ').count();
        " ".repeat(spaces.saturating_sub(kept)) + &decoded
    }

    /// The input as a batch of exactly one row.
    fn one_row(&self, input: TokenInput, options: &TokenOptions) -> Result<Tokens> {
        let tokens = match input {
            TokenInput::Text(text) => self.to_tokens_with(text, options)?,
            TokenInput::Tokens(tokens) => tokens,
        };
        match tokens.shape().0 {
            1 => Ok(tokens),
            rows => {
                Err(Error::msg(format!("one text or one row of tokens was expected, and this is a batch of {rows}")))
            }
        }
    }

    fn must_know(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().position(|id| self.hf().id_to_token(*id).is_none()) {
            None => Ok(()),
            Some(position) => Err(Error::TokenOutOfRange { id: ids[position], position, d_vocab: self.vocab_size() }),
        }
    }
}
