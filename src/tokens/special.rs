//! Which tokens begin, end and fill a sequence, and what a tokenizer adds by itself.

use serde_json::Value;
use tokenizers::Tokenizer as HfTokenizer;

use super::PaddingSide;
use super::chat_template::ChatTemplates;
use crate::error::near_misses;
use crate::{Error, Result};

/// What stands in for a missing end-of-sequence token, if the vocabulary has it.
const USUAL_EOS: &str = "<|endoftext|>";

/// The texts of the tokens that begin, end and fill a sequence.
///
/// A missing `eos` becomes `<|endoftext|>` if the vocabulary has it; a missing `pad` becomes `eos`; a missing `bos`
/// becomes the token that the tokenizer itself puts in front, or else `eos`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Beginning of a sequence (BOS).
    pub bos: Option<String>,
    /// End of a sequence (EOS).
    pub eos: Option<String>,
    /// Fills short rows of a batch.
    pub pad: Option<String>,
}

impl SpecialTokens {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the beginning of a sequence.
    #[must_use]
    pub fn bos(mut self, token: impl Into<String>) -> Self {
        self.bos = Some(token.into());
        self
    }

    /// Sets the end of a sequence.
    #[must_use]
    pub fn eos(mut self, token: impl Into<String>) -> Self {
        self.eos = Some(token.into());
        self
    }

    /// Sets the token that fills short rows.
    #[must_use]
    pub fn pad(mut self, token: impl Into<String>) -> Self {
        self.pad = Some(token.into());
        self
    }

    /// An error that names the first token which the vocabulary lacks.
    pub(super) fn must_be_in(&self, hf: &HfTokenizer) -> Result<()> {
        for (role, token) in [("bos", &self.bos), ("eos", &self.eos), ("pad", &self.pad)] {
            if let Some(token) = token
                && hf.token_to_id(token).is_none()
            {
                let added = hf.get_added_tokens_decoder();
                let near = near_misses(token, added.values().map(|known| known.content.as_str()));
                let hint = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
                return Err(Error::Tokenizer(format!("the {role} token '{token}' is not in the vocabulary{hint}")));
            }
        }
        Ok(())
    }
}

/// What tokenizer_config.json says that matters here.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenizerConfig {
    pub special: SpecialTokens,
    pub padding_side: PaddingSide,
    pub chat: ChatTemplates,
}

impl TokenizerConfig {
    /// Reads the file's bytes. Tokens are strings, or objects with a `content`.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let config: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let Value::Object(config) = config else { return Err("a JSON object was expected".to_string()) };
        let token = |key: &str| match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => match other.get("content") {
                Some(Value::String(text)) => Ok(Some(text.clone())),
                _ => Err(format!("'{key}' is neither a string nor an object with a 'content'")),
            },
        };
        let padding_side = match config.get("padding_side") {
            None | Some(Value::Null) => PaddingSide::Right,
            Some(Value::String(side)) if side == "right" => PaddingSide::Right,
            Some(Value::String(side)) if side == "left" => PaddingSide::Left,
            Some(other) => return Err(format!("'padding_side' is {other}, but \"left\" or \"right\" was expected")),
        };
        let special = SpecialTokens { bos: token("bos_token")?, eos: token("eos_token")?, pad: token("pad_token")? };
        Ok(Self { special, padding_side, chat: ChatTemplates::parse(&config)? })
    }
}

/// Ids of the special tokens, and what the tokenizer's own template adds to a text.
#[derive(Debug, Clone, Default)]
pub(super) struct SpecialIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    /// What the tokenizer puts in front of a text by itself; often nothing.
    pub own_prefix: Vec<u32>,
    /// What the tokenizer puts behind a text by itself.
    pub own_suffix: Vec<u32>,
    pub prepends_bos: bool,
    pub appends_eos: bool,
}

impl SpecialIds {
    /// Looks the tokens up, fills in missing ones, and measures on the text "a" what the tokenizer adds.
    pub fn measure(hf: &HfTokenizer, wanted: &SpecialTokens) -> Result<Self> {
        let encode = |add: bool| match hf.encode_fast("a", add) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(Error::Tokenizer(error.to_string())),
        };
        let (plain, full) = (encode(false)?, encode(true)?);
        let start = match plain.len() {
            0 => None,
            length => full.windows(length).position(|window| window == plain),
        };
        let own_prefix = start.map_or_else(Vec::new, |start| full[..start].to_vec());
        let own_suffix = start.map_or_else(Vec::new, |start| full[start + plain.len()..].to_vec());

        let id = |token: &Option<String>| token.as_ref().and_then(|token| hf.token_to_id(token));
        let only = |ids: &[u32]| if let [one] = ids { Some(*one) } else { None };
        let eos = id(&wanted.eos).or_else(|| hf.token_to_id(USUAL_EOS)).or_else(|| only(&own_suffix));
        let pad = id(&wanted.pad).or(eos);
        let bos = id(&wanted.bos).or_else(|| only(&own_prefix)).or(eos);
        Ok(Self {
            prepends_bos: bos.is_some() && own_prefix.first() == bos.as_ref(),
            appends_eos: eos.is_some() && own_suffix.last() == eos.as_ref(),
            bos,
            eos,
            pad,
            own_prefix,
            own_suffix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_tokens_are_strings_or_objects() {
        let json = br#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
                        "padding_side": "left"}"#;
        let config = TokenizerConfig::parse(json).unwrap();
        assert_eq!(config.special, SpecialTokens::new().bos("<s>").eos("</s>"));
        assert_eq!(config.padding_side, PaddingSide::Left);
    }

    #[test]
    fn bad_configs_say_what_is_wrong() {
        for (json, expected) in [
            (&b"{\"bos_token\": 3}"[..], "bos_token"),
            (b"{\"padding_side\": \"up\"}", "padding_side"),
            (b"[]", "object"),
            (b"{", "EOF"),
        ] {
            let why = TokenizerConfig::parse(json).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}
