//! The tokenizer in a GGUF file's metadata.
//!
//! Two kinds are built exactly: byte-level BPE whose way of splitting text is known by its name, and SentencePiece BPE,
//! whose merges follow from the pieces' scores. For others a model loads without a tokenizer, and says why.

use std::collections::HashMap;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use super::SpecialTokens;
use crate::formats::{Format, gguf::Gguf};
use crate::hub::FileData;
use crate::{Error, Result};

/// SentencePiece's sign for a space.
const SPACE: &str = "▁";
/// The longest piece whose merges are looked for; real ones have a few dozen bytes.
const LONGEST_PIECE: usize = 512;

/// Whether a tokenizer's file is a GGUF file.
pub(super) fn is_gguf(file: &FileData) -> Result<bool> {
    Ok(Format::of_file(file)? == Format::Gguf)
}

/// The tokenizer and its special tokens.
pub(super) fn tokenizer(file: &FileData) -> Result<(HfTokenizer, SpecialTokens)> {
    let gguf = Gguf::open(file)?;
    let vocabulary = Vocabulary::read(&gguf)?;
    let special = |key: &str| -> Result<Option<String>> {
        let id = gguf.size(&format!("tokenizer.ggml.{key}_token_id"))?;
        Ok(id.and_then(|id| vocabulary.tokens.get(id).cloned()))
    };
    let (bos, eos, pad) = (special("bos")?, special("eos")?, special("padding")?);
    let unknown = special("unknown")?;
    let kind = gguf.text("tokenizer.ggml.model")?.unwrap_or("none");
    let mut hf = match kind {
        "gpt2" => byte_level(&gguf, &vocabulary)?,
        "llama" => sentence_piece(&gguf, &vocabulary, unknown)?,
        other => return Err(impossible(&gguf, format!("its tokenizer is of kind '{other}'; known: gpt2, llama"))),
    };
    vocabulary.add_to(&mut hf).map_err(|why| impossible(&gguf, why))?;
    let pre = gguf.text("tokenizer.ggml.pre")?.unwrap_or_default();
    let adds_bos = gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(kind == "llama" || pre == "llama-bpe");
    if let (true, Some(bos)) = (adds_bos, &bos) {
        let id = hf.token_to_id(bos).ok_or_else(|| impossible(&gguf, format!("'{bos}' has no id")))?;
        let template = TemplateProcessing::builder()
            .try_single(vec![bos.clone(), "$A".to_string()])
            .and_then(|builder| builder.try_pair(vec![bos.clone(), "$A".to_string(), "$B".to_string()]))
            .map_err(|error| impossible(&gguf, error))?
            .special_tokens(vec![(bos.clone(), id)])
            .build();
        hf.with_post_processor(Some(template.map_err(|error| impossible(&gguf, error))?));
    }
    Ok((hf, SpecialTokens { bos, eos, pad }))
}

/// The tokens and what kind each is of.
struct Vocabulary {
    tokens: Vec<String>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    kinds: Vec<i128>,
}

impl Vocabulary {
    fn read(gguf: &Gguf) -> Result<Self> {
        let tokens = gguf.texts("tokenizer.ggml.tokens")?;
        let kinds = gguf.ints("tokenizer.ggml.token_type")?;
        if tokens.is_empty() {
            return Err(impossible(gguf, "it has no vocabulary (tokenizer.ggml.tokens)"));
        }
        if !kinds.is_empty() && kinds.len() != tokens.len() {
            return Err(impossible(
                gguf,
                format!("it has {} tokens, and {} kinds of tokens", tokens.len(), kinds.len()),
            ));
        }
        Ok(Self { tokens, kinds })
    }

    fn ids(&self, gguf: &Gguf) -> Result<HashMap<String, u32>> {
        let mut ids = HashMap::new();
        for (id, token) in (0..).zip(&self.tokens) {
            if let Some(other) = ids.insert(token.clone(), id) {
                return Err(impossible(gguf, format!("the tokens {other} and {id} are both '{token}'")));
            }
        }
        Ok(ids)
    }

    /// Control and user-defined tokens are found in the text before it is split.
    fn add_to(&self, hf: &mut HfTokenizer) -> Result<(), String> {
        let added = self.tokens.iter().zip(&self.kinds).filter(|(token, _)| !token.is_empty());
        let added = added.filter_map(|(token, kind)| match kind {
            2 | 3 => Some(AddedToken::from(token.clone(), true).normalized(false)),
            // A piece with SentencePiece's sign is looked for where spaces have become signs.
            4 => Some(AddedToken::from(token.clone(), false).normalized(token.contains(SPACE))),
            _ => None,
        });
        let added: Vec<AddedToken> = added.collect();
        hf.add_tokens(added).map(drop).map_err(|error| error.to_string())
    }
}

/// GPT-2's kind: bytes as characters, merged in a given order.
fn byte_level(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<HfTokenizer> {
    let arch = gguf.text("general.architecture")?.unwrap_or_default();
    let pre = match gguf.text("tokenizer.ggml.pre")? {
        Some(pre) => pre,
        // Files from before the key came, whose architecture has one tokenizer only.
        None if matches!(arch, "gpt2" | "qwen2") => arch,
        None => return Err(impossible(gguf, "it does not say how its tokenizer splits text (tokenizer.ggml.pre)")),
    };
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let (pattern, is_nfc, ignore_merges) = match pre {
        "default" | "gpt-2" | "gpt2" => (None, false, false),
        "qwen2" | "deepseek-r1-qwen" => (Some(QWEN2), true, false),
        "llama-bpe" | "llama3" | "llama-v3" => (Some(LLAMA3), false, true),
        other => {
            let why =
                format!("the way '{other}' of splitting text is not known; known: default, gpt-2, llama-bpe, qwen2");
            return Err(impossible(gguf, why));
        }
    };
    let merges = gguf.texts("tokenizer.ggml.merges")?;
    let pair = |merge: &String| {
        let (left, right) = merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty())?;
        Some((left.to_string(), right.to_string()))
    };
    let merges: Option<Vec<(String, String)>> = merges.iter().map(pair).collect();
    let merges = merges.ok_or_else(|| impossible(gguf, "a merge is not two pieces"))?;
    if merges.is_empty() {
        return Err(impossible(gguf, "it has no merges (tokenizer.ggml.merges)"));
    }
    let bpe = BPE::builder()
        .vocab_and_merges(Vocab::from_iter(vocabulary.ids(gguf)?), merges)
        .ignore_merges(ignore_merges)
        .build();
    let mut hf = HfTokenizer::new(bpe.map_err(|error| impossible(gguf, error))?);
    if is_nfc {
        hf.with_normalizer(Some(NFC)).map_err(|error| impossible(gguf, error))?;
    }
    let splitter: PreTokenizerWrapper = match pattern {
        None => ByteLevel::new(false, true, true).into(),
        Some(pattern) => {
            let pattern = SplitPattern::Regex(pattern.to_string());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            let split = split.map_err(|error| impossible(gguf, error))?;
            PreTokenizers::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
        }
    };
    hf.with_pre_tokenizer(Some(splitter));
    hf.with_decoder(Some(ByteLevel::new(true, true, true)));
    Ok(hf)
}

/// SentencePiece's BPE: of all neighbours those are merged first whose piece has the highest score.
fn sentence_piece(gguf: &Gguf, vocabulary: &Vocabulary, unknown: Option<String>) -> Result<HfTokenizer> {
    let scores = gguf.numbers("tokenizer.ggml.scores")?;
    let tokens = &vocabulary.tokens;
    if scores.len() != tokens.len() {
        return Err(impossible(gguf, format!("it has {} tokens, and {} scores", tokens.len(), scores.len())));
    }
    let ids = vocabulary.ids(gguf)?;
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.kinds.get(id).is_some_and(|kind| *kind != 1) {
            continue;
        }
        if token.len() > LONGEST_PIECE {
            return Err(impossible(gguf, format!("its token {id} has {} bytes", token.len())));
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[id], *left_id, *right_id, left.to_string(), right.to_string()));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let merges = merges.into_iter().map(|(.., left, right)| (left, right)).collect::<Vec<_>>();
    let unknown = unknown.or_else(|| ids.contains_key("<unk>").then(|| "<unk>".to_string()));
    let mut builder = BPE::builder().vocab_and_merges(Vocab::from_iter(ids), merges).byte_fallback(true).fuse_unk(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    let failed = |error: tokenizers::Error| impossible(gguf, error);
    let mut hf = HfTokenizer::new(builder.build().map_err(failed)?);
    let prefix = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        normalizers.push(Prepend::new(SPACE.to_string()).into());
    }
    normalizers.push(Replace::new(" ", SPACE).map_err(failed)?.into());
    hf.with_normalizer(Some(Normalizers::new(normalizers))).map_err(failed)?;
    let mut decoders =
        vec![Replace::new(SPACE, " ").map_err(failed)?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    hf.with_decoder(Some(Decoders::new(decoders)));
    Ok(hf)
}

fn impossible(gguf: &Gguf, why: impl std::fmt::Display) -> Error {
    Error::NoTokenizer {
        why: format!(
            "{} stands without a tokenizer.json, and {why}; put the model's tokenizer.json beside it",
            gguf.label()
        ),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;
    use candle_core::quantized::gguf_file::{self, Value};

    use super::*;
    use crate::tokens::Tokenizer;

    /// A vocabulary as SentencePiece has it: specials, bytes, then pieces with scores.
    fn pieces() -> Vec<(String, f32, i32)> {
        let mut pieces = vec![("<unk>".to_string(), 0.0, 2), ("<s>".to_string(), 0.0, 3), ("</s>".to_string(), 0.0, 3)];
        pieces.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
        let merged =
            ["▁t", "he", "▁a", "in", "▁the", "er", "on", "▁the", "re", "at", "▁on", "hat", "▁that", "th", "▁▁"];
        let mut seen = std::collections::HashSet::new();
        for (rank, piece) in merged.iter().filter(|piece| seen.insert(**piece)).enumerate() {
            pieces.push((piece.to_string(), -(rank as f32), 1));
        }
        for letter in "▁abcdefghijklmnopqrstuvwxyz.".chars() {
            pieces.push((letter.to_string(), -100.0 - pieces.len() as f32, 1));
        }
        pieces.push(("<turn>".to_string(), -1000.0, 4));
        pieces
    }

    fn write(test: &str, prefix: bool, more: &[(&str, Value)]) -> FileData {
        let path = std::env::temp_dir().join(format!("candlescope-tokens-{test}-{}.gguf", std::process::id()));
        let pieces = pieces();
        let text = |text: &str| Value::String(text.to_string());
        let mut metadata = vec![
            ("tokenizer.ggml.model", text("llama")),
            ("tokenizer.ggml.add_space_prefix", Value::Bool(prefix)),
            ("tokenizer.ggml.tokens", Value::Array(pieces.iter().map(|piece| text(&piece.0)).collect())),
            ("tokenizer.ggml.scores", Value::Array(pieces.iter().map(|piece| Value::F32(piece.1)).collect())),
            ("tokenizer.ggml.token_type", Value::Array(pieces.iter().map(|piece| Value::I32(piece.2)).collect())),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
        ];
        for (key, value) in more {
            metadata.retain(|(other, _)| other != key);
            metadata.push((key, value.clone()));
        }
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        let none: &[(&str, &QTensor)] = &[];
        gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, none).unwrap();
        FileData::from(path)
    }

    /// SentencePiece's own procedure: merge the leftmost of the best neighbours until nothing merges; bytes for the rest.
    fn reference(text: &str, prefix: bool) -> Vec<u32> {
        let pieces = pieces();
        let find = |text: &str| pieces.iter().position(|piece| piece.0 == text && piece.2 == 1);
        let text = if prefix && !text.is_empty() { format!(" {text}") } else { text.to_string() };
        let mut symbols: Vec<String> = text.replace(' ', SPACE).chars().map(String::from).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for at in 0..symbols.len().saturating_sub(1) {
                if let Some(id) = find(&format!("{}{}", symbols[at], symbols[at + 1]))
                    && best.is_none_or(|(score, _)| pieces[id].1 > score)
                {
                    best = Some((pieces[id].1, at));
                }
            }
            let Some((_, at)) = best else { break };
            let right = symbols.remove(at + 1);
            symbols[at] += &right;
        }
        let ids = |symbol: &String| match find(symbol) {
            Some(id) => vec![id as u32],
            None => symbol.bytes().map(|byte| u32::from(byte) + 3).collect(),
        };
        symbols.iter().flat_map(ids).collect()
    }

    #[test]
    fn sentence_piece_merges_by_score() {
        for prefix in [true, false] {
            let file = write(&format!("prefix_{prefix}"), prefix, &[]);
            let tokenizer = Tokenizer::from_files(&file, None).unwrap();
            for text in ["the rather", "that on the  hat", "a", " in there.", "naïve 日本", "the\nhe", "   x"] {
                let found = tokenizer.encode(text).unwrap();
                assert_eq!(found, reference(text, prefix), "{text:?}");
                assert_eq!(tokenizer.hf().decode(&found, false).unwrap(), text);
            }
            assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.prepends_bos()), (Some(1), Some(2), true));
            let turn = tokenizer.hf().token_to_id("<turn>").unwrap();
            assert!(tokenizer.encode("the<turn>").unwrap().ends_with(&[turn]), "a user-defined token is one token");
            assert!(tokenizer.encode("on</s>").unwrap().ends_with(&[2]));
        }
    }

    #[test]
    fn what_can_not_be_built_exactly_says_why() {
        let text = |text: &str| Value::String(text.to_string());
        for (test, key, value, expected) in [
            ("kind", "tokenizer.ggml.model", text("bert"), "'bert'"),
            ("scores", "tokenizer.ggml.scores", Value::Array(vec![Value::F32(0.0)]), "1 scores"),
            ("kinds", "tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1)]), "1 kinds"),
            ("pre", "tokenizer.ggml.model", text("gpt2"), "tokenizer.ggml.pre"),
            ("twice", "tokenizer.ggml.tokens", Value::Array(vec![text("a"); pieces().len()]), "both 'a'"),
        ] {
            let error = Tokenizer::from_files(write(test, true, &[(key, value)]), None).unwrap_err();
            assert!(matches!(error, Error::NoTokenizer { .. }), "{test}: {error}");
            assert!(error.to_string().contains(expected), "{test}: {error}");
        }
    }
}
