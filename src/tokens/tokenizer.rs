//! [`Tokenizer`]: a Hugging Face tokenizer, its special tokens, and the BOS question answered.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer as HfTokenizer;

use super::chat_template::ChatTemplates;
use super::special::{SpecialIds, TokenizerConfig};
use super::{PaddingSide, SpecialTokens, Text, TokenOptions, Tokens, gguf, gpt2};
use crate::hub::FileData;
use crate::{Error, Result};

/// Turns text into token ids and back. Cheap to clone; what it holds is shared.
///
/// # The beginning-of-sequence token
/// The text is always split without the tokenizer's own additions, and the BOS id is put in front if it is wanted.
/// So a tokenizer that adds a BOS by itself gives exactly one when it is wanted, and none when not. A tokenizer of
/// Hugging Face's format adds its BOS after it has split the text, so this splits every text exactly as the
/// tokenizer itself would. (Writing the BOS *string* in front of the text would not: a SentencePiece tokenizer
/// then leaves out the space that it puts before a text's first word.) If the tokenizer's own template puts
/// something else in front (`[CLS]`, or GLM's pair), that counts as its BOS. A tokenizer's own trailing EOS is not
/// added. Special tokens written in the text are parsed as such, also a BOS: then there may be two.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    default_prepend_bos: bool,
    own_template: bool,
    padding_side: PaddingSide,
    chat: Arc<ChatTemplates>,
}

struct Inner {
    hf: HfTokenizer,
    special: SpecialIds,
    vocab_size: usize,
}

impl Tokenizer {
    /// GPT-2's tokenizer. It needs no file and no network; the first call builds it, later ones share it.
    ///
    /// BOS, EOS and padding are all `<|endoftext|>` (50256).
    ///
    /// # Errors
    /// None in practice; the table that it is built from is part of the program.
    pub fn gpt2() -> Result<Self> {
        gpt2::shared()
    }

    /// A tokenizer from `tokenizer.json` and, if there is one, `tokenizer_config.json` (for the special tokens, the
    /// padding side and the chat template). A special token that the config names and the vocabulary lacks counts as
    /// missing, and missing ones are filled in as [`SpecialTokens`] says. A GGUF file may stand in for
    /// `tokenizer.json`: it has a tokenizer in its metadata.
    ///
    /// # Errors
    /// A file that can't be read or is not what its name says; [`Error::NoTokenizer`] for a GGUF file whose tokenizer
    /// can't be built exactly.
    pub fn from_files(tokenizer_json: impl Into<FileData>, tokenizer_config: Option<FileData>) -> Result<Self> {
        let json = tokenizer_json.into();
        if gguf::is_gguf(&json)? {
            let (hf, special) = gguf::tokenizer(&json)?;
            return Self::new(hf, &special);
        }
        let hf = parse(&json.read()?).map_err(|why| json.unreadable("a tokenizer", why))?;
        let config = match tokenizer_config {
            None => TokenizerConfig::default(),
            Some(file) => TokenizerConfig::parse(&file.read()?)
                .map_err(|error| file.unreadable("a tokenizer's configuration", error))?,
        };
        let tokenizer = Self::new(hf, &config.special)?.with_padding_side(config.padding_side);
        Ok(Self { chat: Arc::new(config.chat), ..tokenizer })
    }

    /// Wraps a tokenizer of the `tokenizers` crate. Its truncation and padding settings are dropped, as Hugging
    /// Face does: nothing is cut or filled unless a call asks for it.
    ///
    /// # Errors
    /// A special token that is not in the vocabulary.
    pub fn from_tokenizers(tokenizer: HfTokenizer, special: SpecialTokens) -> Result<Self> {
        special.must_be_in(&tokenizer)?;
        Self::new(tokenizer, &special)
    }

    /// Token ids of a text or texts, `[batch, pos]`, under the tokenizer's defaults.
    ///
    /// An empty text without a BOS gives a row of no tokens, and an empty batch no rows; models refuse these.
    ///
    /// # Errors
    /// See [`Tokenizer::to_tokens_with`].
    pub fn to_tokens(&self, input: impl Into<Text>) -> Result<Tokens> {
        self.to_tokens_with(input, &TokenOptions::default())
    }

    /// Token ids of a text or texts, `[batch, pos]`. Short rows are filled up and masked.
    ///
    /// # Errors
    /// A BOS that is asked for by the options while the tokenizer has none; rows of unequal length while it has no
    /// padding token, or one of them without any token.
    pub fn to_tokens_with(&self, input: impl Into<Text>, options: &TokenOptions) -> Result<Tokens> {
        let (beginning, ending) = self.row_frame(options.prepend_bos)?;
        let limit = options.truncate_to.unwrap_or(usize::MAX);
        let encode = |text: &String| {
            let mut ids = beginning.clone();
            ids.extend(self.encode(text)?);
            ids.truncate(limit.saturating_sub(ending.len()));
            ids.extend(ending.iter().take(limit));
            Ok(ids)
        };
        let rows = input.into().rows().iter().map(encode).collect::<Result<Vec<_>>>()?;
        let side = options.padding_side.unwrap_or(self.padding_side);
        let tokens = match self.pad_id() {
            Some(pad) => Tokens::padded(rows, pad, side)?,
            None => Tokens::from_ids(rows)
                .map_err(|error| Error::Tokenizer(format!("{error}, but this tokenizer has no padding token")))?
                .with_padding_side(side),
        };
        Ok(tokens.with_tokenizer(self))
    }

    /// The same tokenizer with another default for putting a BOS in front of texts. It is `true` unless a model
    /// family says otherwise.
    #[must_use]
    pub fn with_default_prepend_bos(mut self, prepend_bos: bool) -> Self {
        self.default_prepend_bos = prepend_bos;
        self
    }

    /// The same tokenizer, putting around texts what its own template says: `[CLS]` and `[SEP]`, or T5's `</s>` at the end.
    /// It does not unless a model family says so, as encoders and encoder-decoders do.
    #[must_use]
    pub fn with_own_template(mut self, follow: bool) -> Self {
        self.own_template = follow;
        self
    }

    /// Whether texts get what the tokenizer's own template puts around them.
    pub fn own_template(&self) -> bool {
        self.own_template
    }

    /// The same tokenizer, filling short rows up on another side.
    #[must_use]
    pub fn with_padding_side(mut self, side: PaddingSide) -> Self {
        self.padding_side = side;
        self
    }

    /// The same tokenizer, writing chats by this Jinja template. It is read when it is used.
    #[must_use]
    pub fn with_chat_template(mut self, template: impl Into<String>) -> Self {
        self.chat = Arc::new(Arc::unwrap_or_clone(self.chat).with_default(template.into()));
        self
    }

    /// Whether texts get a BOS in front unless a call says otherwise.
    pub fn default_prepend_bos(&self) -> bool {
        self.default_prepend_bos
    }

    /// The side on which short rows are filled up unless a call says otherwise.
    pub fn padding_side(&self) -> PaddingSide {
        self.padding_side
    }

    /// Whether this tokenizer, left to itself, begins a text with the BOS (measured on the text "a").
    pub fn prepends_bos(&self) -> bool {
        self.inner.special.prepends_bos
    }

    /// Whether this tokenizer, left to itself, ends a text with the EOS (measured on the text "a").
    pub fn appends_eos(&self) -> bool {
        self.inner.special.appends_eos
    }

    /// Id of the beginning-of-sequence token.
    pub fn bos_id(&self) -> Option<u32> {
        self.inner.special.bos
    }

    /// Id of the end-of-sequence token.
    pub fn eos_id(&self) -> Option<u32> {
        self.inner.special.eos
    }

    /// Id of the token that fills short rows.
    pub fn pad_id(&self) -> Option<u32> {
        self.inner.special.pad
    }

    /// One more than the largest id, special tokens included. A model's vocabulary may be larger (padded).
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// The tokenizer of the `tokenizers` crate underneath.
    pub fn hf(&self) -> &HfTokenizer {
        &self.inner.hf
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` (special tokens and padding side) to a folder.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        self.hf().save(folder.join("tokenizer.json"), true).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let text = |id: Option<u32>| id.and_then(|id| self.hf().id_to_token(id));
        let side = if self.padding_side == PaddingSide::Left { "left" } else { "right" };
        let config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": text(self.bos_id()), "eos_token": text(self.eos_id()), "pad_token": text(self.pad_id()),
            "padding_side": side,
        });
        let path = folder.join("tokenizer_config.json");
        std::fs::write(&path, format!("{config:#}\n")).map_err(|source| Error::io(&path, source))
    }

    fn new(mut hf: HfTokenizer, wanted: &SpecialTokens) -> Result<Self> {
        hf.with_truncation(None).map_err(|error| Error::Tokenizer(error.to_string()))?.with_padding(None);
        let special = SpecialIds::measure(&hf, wanted)?;
        let after_last_added = hf.get_added_tokens_decoder().keys().max().map_or(0, |id| *id as usize + 1);
        let vocab_size = hf.get_vocab_size(false).max(after_last_added);
        let inner = Arc::new(Inner { hf, special, vocab_size });
        let chat = Arc::new(ChatTemplates::without_template(wanted));
        Ok(Self { inner, default_prepend_bos: true, own_template: false, padding_side: PaddingSide::Right, chat })
    }

    pub(super) fn chat_templates(&self) -> &ChatTemplates {
        &self.chat
    }

    /// Ids of a text, without anything in front or behind.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.hf.encode_fast(text, false).map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What stands in front of a text that begins a sequence; empty if the tokenizer has nothing for that.
    pub(super) fn beginning(&self) -> Vec<u32> {
        let special = &self.inner.special;
        if special.own_prefix.is_empty() { Vec::from_iter(special.bos) } else { special.own_prefix.clone() }
    }

    /// What a row begins and ends with.
    pub(crate) fn row_frame(&self, prepend_bos: Option<bool>) -> Result<(Vec<u32>, Vec<u32>)> {
        let ending = if self.own_template { self.inner.special.own_suffix.clone() } else { Vec::new() };
        Ok((self.row_beginning(prepend_bos)?, ending))
    }

    /// What a row begins with. Only an explicit wish for a BOS that does not exist is an error.
    fn row_beginning(&self, prepend_bos: Option<bool>) -> Result<Vec<u32>> {
        if self.own_template && prepend_bos.is_none() {
            return Ok(self.inner.special.own_prefix.clone());
        }
        if !prepend_bos.unwrap_or(self.default_prepend_bos) {
            return Ok(Vec::new());
        }
        let beginning = self.beginning();
        if beginning.is_empty() && prepend_bos.is_some() {
            return Err(Error::Tokenizer(
                "prepend_bos was asked for, but this tokenizer has no beginning-of-sequence token; use \
                 prepend_bos(false)"
                    .to_string(),
            ));
        }
        Ok(beginning)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos_id", &self.bos_id())
            .field("eos_id", &self.eos_id())
            .field("pad_id", &self.pad_id())
            .field("default_prepend_bos", &self.default_prepend_bos)
            .field("padding_side", &self.padding_side)
            .finish()
    }
}

/// A tokenizer.json. The crate panics where it could say what is wrong: on a decoder that is no JSON, and on a normalizer
/// whose table is damaged.
fn parse(bytes: &[u8]) -> Result<HfTokenizer, String> {
    #[derive(serde::Deserialize)]
    struct Parts {
        #[serde(rename = "decoder")]
        _decoder: Option<serde_json::Value>,
    }
    serde_json::from_slice::<Parts>(bytes).map_err(|error| error.to_string())?;
    let parsed = std::panic::catch_unwind(|| HfTokenizer::from_bytes(bytes));
    parsed.map_err(|_| "one of its parts is damaged".to_string())?.map_err(|error| error.to_string())
}
