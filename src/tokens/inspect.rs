//! What a text becomes, token by token: text, id, and the exact bytes.

use std::ops::Range;

use tokenizers::AddedToken;
use tokenizers::decoders::DecoderWrapper;

use super::Tokenizer;
use super::gpt2::byte_letters;
use crate::Result;

/// A text's tokens, in order. It shows itself in a notebook; `TokenizationView` shows several side by side.
///
/// ```
/// use candlescope::tokens::Tokenizer;
///
/// let tokenization = Tokenizer::gpt2()?.inspect(" Claire")?.named("gpt2");
/// assert_eq!(tokenization.name(), "gpt2");
/// let [bos, claire] = tokenization.pieces() else { panic!("two tokens were expected") };
/// assert_eq!((bos.id, bos.special), (50256, Some("BOS")));
/// assert_eq!((claire.text.as_str(), claire.bytes.as_slice()), (" Claire", &b" Claire"[..]));
/// assert!(claire.starts_with_space() && !claire.is_partial());
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenization {
    name: String,
    pieces: Vec<TokenPiece>,
    /// The pieces that are the text; what the tokenizer adds stands before and behind.
    text: Range<usize>,
}

/// One token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPiece {
    /// Where it stands, counted from 0, what is put in front of the text included.
    pub position: usize,
    /// Its id in the vocabulary.
    pub id: u32,
    /// Its text; U+FFFD where it is only part of a character.
    pub text: String,
    /// Its bytes, as [`Tokenizer::token_bytes`] gives them.
    pub bytes: Vec<u8>,
    /// What a special token is for: `BOS`, `EOS`, `PAD`, or else `special`.
    pub special: Option<&'static str>,
}

impl TokenPiece {
    /// Whether the token is, or has in it, only part of a character: its bytes are not valid UTF-8.
    pub fn is_partial(&self) -> bool {
        std::str::from_utf8(&self.bytes).is_err()
    }

    /// Whether the token begins with a space, as words inside a sentence do.
    pub fn starts_with_space(&self) -> bool {
        self.bytes.starts_with(b" ")
    }
}

impl Tokenization {
    /// What the tokenizer is called; empty unless [`Tokenization::named`] says it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tokens, `[pos]`, with what the tokenizer puts before and behind the text.
    pub fn pieces(&self) -> &[TokenPiece] {
        &self.pieces
    }

    /// The same tokens under the tokenizer's name, for a view.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What is put in front of the text.
    pub(crate) fn front(&self) -> &[TokenPiece] {
        self.pieces.get(..self.text.start).unwrap_or_default()
    }

    /// The text itself.
    pub(crate) fn body(&self) -> &[TokenPiece] {
        self.pieces.get(self.text.clone()).unwrap_or_default()
    }

    /// What is put behind the text.
    pub(crate) fn behind(&self) -> &[TokenPiece] {
        self.pieces.get(self.text.end..).unwrap_or_default()
    }
}

impl Tokenizer {
    /// The tokens of one text with their ids and bytes; in front (and behind) stands what [`Tokenizer::to_tokens`] puts
    /// there.
    ///
    /// ```
    /// use candlescope::tokens::Tokenizer;
    ///
    /// let tokenization = Tokenizer::gpt2()?.inspect("😀")?;
    /// let parts = &tokenization.pieces()[1..];
    /// assert!(parts.iter().all(|piece| piece.is_partial()));
    /// let bytes: Vec<u8> = parts.iter().flat_map(|piece| piece.bytes.clone()).collect();
    /// assert_eq!(bytes, "😀".as_bytes());
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn inspect(&self, text: &str) -> Result<Tokenization> {
        let (front, behind) = self.row_frame(None)?;
        let body = self.encode(text)?;
        let text = front.len()..front.len() + body.len();
        let ids = front.iter().chain(&body).chain(&behind).enumerate();
        let pieces = ids.map(|(position, id)| self.inspected(*id, position, position < text.start)).collect();
        Ok(Tokenization { name: String::new(), pieces, text })
    }

    /// The bytes that a token stands for; `None` for an id that the tokenizer does not know.
    ///
    /// A byte-level token may be part of a character, and then its bytes are no valid UTF-8. SentencePiece's `▁` is a
    /// space and its `<0x0A>` a byte. Special tokens, and WordPiece's `##s`, are the bytes of their own text.
    ///
    /// ```
    /// use candlescope::tokens::Tokenizer;
    ///
    /// let tokenizer = Tokenizer::gpt2()?;
    /// assert_eq!(tokenizer.token_bytes(20758).as_deref(), Some(&b" Claire"[..]));
    /// assert_eq!(tokenizer.token_bytes(222).as_deref(), Some(&[0x80][..]));
    /// assert_eq!(tokenizer.token_bytes(50257), None);
    /// # Ok::<(), candlescope::Error>(())
    /// ```
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let added = self.added(id);
        let entry = added.map_or_else(|| self.hf().id_to_token(id), |token| Some(token.content.clone()))?;
        let bytes: Option<Vec<u8>> = match Spelling::of(self.hf().get_decoder()) {
            _ if added.is_some_and(|token| token.special) => None,
            // An added token is found in the text as it is, before bytes become letters.
            Spelling::ByteLetters if added.is_none() => entry.chars().map(letter_byte).collect(),
            Spelling::Pieces { falls_back } => {
                let byte = fallback_byte(&entry).filter(|_| falls_back).map(|byte| vec![byte]);
                Some(byte.unwrap_or_else(|| entry.replace('▁', " ").into_bytes()))
            }
            _ => None,
        };
        Some(bytes.unwrap_or_else(|| entry.into_bytes()))
    }

    fn inspected(&self, id: u32, position: usize, in_front: bool) -> TokenPiece {
        let text = self.piece(id);
        let bytes = self.token_bytes(id).unwrap_or_else(|| text.clone().into_bytes());
        TokenPiece { position, id, text, bytes, special: self.special_name(id, in_front) }
    }

    /// What a special token is for. In many vocabularies one token is the BOS and the EOS: in front it is the BOS.
    fn special_name(&self, id: u32, in_front: bool) -> Option<&'static str> {
        let is = |special: Option<u32>| special == Some(id);
        let names = [
            (in_front && is(self.bos_id()), "BOS"),
            (is(self.eos_id()), "EOS"),
            (is(self.bos_id()), "BOS"),
            (is(self.pad_id()), "PAD"),
            (in_front || self.added(id).is_some_and(|token| token.special), "special"),
        ];
        names.into_iter().find(|(holds, _)| *holds).map(|(_, name)| name)
    }

    fn added(&self, id: u32) -> Option<&AddedToken> {
        self.hf().get_added_vocabulary().get_added_tokens_decoder().get(&id)
    }
}

/// How a vocabulary writes bytes.
enum Spelling {
    /// Each byte as a letter of GPT-2's alphabet.
    ByteLetters,
    /// `▁` for a space and, if it falls back on bytes, `<0x0A>` for a byte.
    Pieces { falls_back: bool },
    /// As text.
    Text,
}

impl Spelling {
    fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let parts = decoder.map(parts).unwrap_or_default();
        if parts.iter().any(|part| matches!(part, DecoderWrapper::ByteLevel(_))) {
            Self::ByteLetters
        } else if parts.iter().any(|part| matches!(part, DecoderWrapper::WordPiece(_))) {
            Self::Text
        } else {
            let falls_back = parts.iter().any(|part| matches!(part, DecoderWrapper::ByteFallback(_)));
            Self::Pieces { falls_back }
        }
    }
}

/// A decoder's parts; one that is no sequence is its only part.
fn parts(decoder: &DecoderWrapper) -> Vec<&DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().flat_map(parts).collect(),
        part => vec![part],
    }
}

/// The byte that a letter of GPT-2's alphabet stands for.
fn letter_byte(letter: char) -> Option<u8> {
    let byte = byte_letters().iter().position(|spelled| *spelled == letter)?;
    u8::try_from(byte).ok()
}

/// The byte that a piece such as `<0x0A>` stands for.
fn fallback_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;
    use crate::tokens::SpecialTokens;

    fn texts(tokenization: &Tokenization) -> Vec<&str> {
        tokenization.pieces().iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn the_space_in_front_is_part_of_the_token() {
        let tokenizer = Tokenizer::gpt2().unwrap();
        let spaced = tokenizer.inspect(" Claire").unwrap();
        assert_eq!(texts(&spaced), ["<|endoftext|>", " Claire"]);
        let claire = &spaced.pieces()[1];
        assert_eq!((claire.position, claire.id, claire.special), (1, 20758, None));
        assert_eq!(claire.bytes, [0x20, 0x43, 0x6c, 0x61, 0x69, 0x72, 0x65]);
        assert!(claire.starts_with_space());

        let bare = tokenizer.inspect("Claire").unwrap();
        assert_eq!(texts(&bare), ["<|endoftext|>", "Cl", "aire"]);
        assert!(!bare.pieces()[1].starts_with_space());
    }

    #[test]
    fn the_bytes_are_the_texts() {
        let tokenizer = Tokenizer::gpt2().unwrap();
        for text in [
            "",
            "Claire and Mary",
            " a  b\n\tc\r\n",
            "naïve Ġ 😀 日本語 \u{ad}",
            "\0\u{7f}\u{a0}\u{202e}<script>'\"",
            "👩‍👩‍👧",
        ] {
            let tokenization = tokenizer.inspect(text).unwrap();
            let ordinary = tokenization.pieces().iter().filter(|piece| piece.special.is_none());
            assert_eq!(
                ordinary.flat_map(|piece| piece.bytes.clone()).collect::<Vec<u8>>(),
                text.as_bytes(),
                "{text:?}"
            );
            let ids: Vec<u32> = tokenization.pieces().iter().map(|piece| piece.id).collect();
            assert_eq!(tokenizer.to_tokens(text).unwrap().ids(), [ids]);
        }
    }

    #[test]
    fn an_emoji_is_in_parts() {
        let tokenization = Tokenizer::gpt2().unwrap().inspect("😀").unwrap();
        let parts = tokenization.body();
        assert!(parts.len() > 1 && parts.iter().all(TokenPiece::is_partial), "{parts:?}");
        assert_eq!(parts.iter().flat_map(|piece| piece.bytes.clone()).collect::<Vec<u8>>(), "😀".as_bytes());
    }

    #[test]
    fn special_tokens_are_named_by_their_place() {
        let tokenizer = Tokenizer::gpt2().unwrap();
        let tokenization = tokenizer.inspect("Hi<|endoftext|>").unwrap();
        let names: Vec<_> = tokenization.pieces().iter().map(|piece| piece.special).collect();
        assert_eq!(names, [Some("BOS"), None, Some("EOS")]);
        assert_eq!(tokenization.pieces()[2].bytes, b"<|endoftext|>");
        assert_eq!((tokenization.front().len(), tokenization.body().len(), tokenization.behind().len()), (1, 2, 0));
        let without = tokenizer.with_default_prepend_bos(false).inspect("Hi").unwrap();
        assert_eq!(texts(&without), ["Hi"]);
        assert!(without.front().is_empty());
    }

    #[test]
    fn every_letter_is_one_byte() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().filter_map(letter_byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(
            ['Ġ', 'Ċ', 'a', 'é', ' ', '▁'].map(letter_byte),
            [Some(b' '), Some(b'\n'), Some(b'a'), Some(0xe9), None, None]
        );
    }

    /// A vocabulary of every kind's entries, read by a decoder.
    fn with_decoder(decoder: Value) -> Tokenizer {
        let special = json!({"id": 5, "content": "<▁>", "special": true, "single_word": false, "lstrip": false,
                             "rstrip": false, "normalized": false});
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": {"type": "WordLevel", "unk_token": "<unk>",
                      "vocab": {"<unk>": 0, "▁Hi": 1, "<0xC3>": 2, "##s": 3, "ĠÃ": 4, "<▁>": 5}}
        });
        let hf = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
        Tokenizer::from_tokenizers(hf, SpecialTokens::new()).unwrap()
    }

    #[test]
    fn the_decoder_says_how_bytes_are_written() {
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
        let llama = json!({"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]});
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let nested = json!({"type": "Sequence", "decoders": [byte_level]});
        let word_piece = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        let cases: [(Value, [&[u8]; 4]); 5] = [
            (metaspace, [b" Hi", b"<0xC3>", b"##s", "ĠÃ".as_bytes()]),
            (llama, [b" Hi", b"\xc3", b"##s", "ĠÃ".as_bytes()]),
            (byte_level, ["▁Hi".as_bytes(), b"<0xC3>", b"##s", b" \xc3"]),
            (nested, ["▁Hi".as_bytes(), b"<0xC3>", b"##s", b" \xc3"]),
            (word_piece, ["▁Hi".as_bytes(), b"<0xC3>", b"##s", "ĠÃ".as_bytes()]),
        ];
        for (decoder, expected) in cases {
            let tokenizer = with_decoder(decoder.clone());
            for (id, bytes) in (1..).zip(expected) {
                assert_eq!(tokenizer.token_bytes(id).as_deref(), Some(bytes), "id {id}, {decoder}");
            }
            assert_eq!(tokenizer.token_bytes(5).as_deref(), Some("<▁>".as_bytes()), "{decoder}");
            assert_eq!(tokenizer.token_bytes(6), None);
        }
    }
}
