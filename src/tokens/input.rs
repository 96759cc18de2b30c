//! What the tokenizer's calls accept: texts, token ids, options.

use super::Tokens;

/// One text, or a batch of texts. Made from `&str`, `String`, and vectors, slices and arrays of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// One text: a batch of one row.
    One(String),
    /// Several texts: one row each.
    Batch(Vec<String>),
}

impl Text {
    /// The texts, one per row.
    pub fn rows(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Batch(texts) => texts,
        }
    }
}

/// A text (which gets tokenized) or tokens (which are used as they are).
#[derive(Debug, Clone)]
pub enum TokenInput {
    /// Text to tokenize.
    Text(Text),
    /// Tokens, already there.
    Tokens(Tokens),
}

/// One token, named by its text or by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// The token's text, with its leading space if it has one. It has to be exactly one token.
    Text(String),
    /// The token's id.
    Id(u32),
}

/// On which side short rows of a batch are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum PaddingSide {
    /// Padding comes before the text, so that every row ends at the last position.
    Left,
    /// Padding comes after the text, so that every row starts at position 0.
    #[default]
    Right,
}

/// Which one of several occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Occurrence {
    /// The first in the text.
    #[default]
    First,
    /// The last in the text.
    Last,
}

/// How one call tokenizes. What is left at `None` follows the tokenizer's own defaults.
///
/// ```
/// use candlescope::tokens::{TokenOptions, Tokenizer};
///
/// let tokenizer = Tokenizer::gpt2()?;
/// let tokens = tokenizer.to_tokens_with("Hello there", &TokenOptions::new().prepend_bos(false))?;
/// assert_eq!(tokens.ids(), [[15496, 612]]);
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenOptions {
    /// Whether each row begins with the beginning-of-sequence token.
    pub prepend_bos: Option<bool>,
    /// On which side short rows are filled up.
    pub padding_side: Option<PaddingSide>,
    /// Rows longer than this (BOS included) lose their end.
    pub truncate_to: Option<usize>,
}

impl TokenOptions {
    /// Everything as the tokenizer does by default; nothing truncated.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a BOS in front of each row, or for none.
    #[must_use]
    pub fn prepend_bos(mut self, prepend_bos: bool) -> Self {
        self.prepend_bos = Some(prepend_bos);
        self
    }

    /// Chooses the side on which short rows are filled up.
    #[must_use]
    pub fn padding_side(mut self, side: PaddingSide) -> Self {
        self.padding_side = Some(side);
        self
    }

    /// Cuts the end off rows longer than `n` tokens, BOS included.
    #[must_use]
    pub fn truncate_to(mut self, n: usize) -> Self {
        self.truncate_to = Some(n);
        self
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::One(text.to_string())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::One(text)
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::One(text.clone())
    }
}

impl From<Vec<String>> for Text {
    fn from(texts: Vec<String>) -> Self {
        Self::Batch(texts)
    }
}

impl From<Vec<&str>> for Text {
    fn from(texts: Vec<&str>) -> Self {
        Self::from(texts.as_slice())
    }
}

impl From<&Vec<String>> for Text {
    fn from(texts: &Vec<String>) -> Self {
        Self::Batch(texts.clone())
    }
}

impl From<&Vec<&str>> for Text {
    fn from(texts: &Vec<&str>) -> Self {
        Self::from(texts.as_slice())
    }
}

impl From<&[String]> for Text {
    fn from(texts: &[String]) -> Self {
        Self::Batch(texts.to_vec())
    }
}

impl From<&[&str]> for Text {
    fn from(texts: &[&str]) -> Self {
        Self::Batch(texts.iter().map(ToString::to_string).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Text {
    fn from(texts: [&str; N]) -> Self {
        Self::from(texts.as_slice())
    }
}

impl<const N: usize> From<&[&str; N]> for Text {
    fn from(texts: &[&str; N]) -> Self {
        Self::from(texts.as_slice())
    }
}

impl<const N: usize> From<[String; N]> for Text {
    fn from(texts: [String; N]) -> Self {
        Self::Batch(texts.into())
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Self {
        text.clone()
    }
}

impl<T: Into<Text>> From<T> for TokenInput {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl From<Tokens> for TokenInput {
    fn from(tokens: Tokens) -> Self {
        Self::Tokens(tokens)
    }
}

impl From<&Tokens> for TokenInput {
    fn from(tokens: &Tokens) -> Self {
        Self::Tokens(tokens.clone())
    }
}

impl From<Vec<u32>> for TokenInput {
    fn from(ids: Vec<u32>) -> Self {
        Self::Tokens(ids.into())
    }
}

impl From<&Vec<u32>> for TokenInput {
    fn from(ids: &Vec<u32>) -> Self {
        Self::Tokens(ids.clone().into())
    }
}

impl From<&[u32]> for TokenInput {
    fn from(ids: &[u32]) -> Self {
        Self::Tokens(ids.into())
    }
}

impl<const N: usize> From<[u32; N]> for TokenInput {
    fn from(ids: [u32; N]) -> Self {
        Self::Tokens(ids.to_vec().into())
    }
}

impl From<&str> for TokenRef {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<String> for TokenRef {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for TokenRef {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<&TokenRef> for TokenRef {
    fn from(token: &TokenRef) -> Self {
        token.clone()
    }
}

impl From<u32> for TokenRef {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}
