//! GPT-2's tokenizer without a network: its table comes with tiktoken-rs (there called `r50k_base`).

use std::collections::HashMap;
use std::sync::OnceLock;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use super::{SpecialTokens, Tokenizer};
use crate::{Error, Result};

const END_OF_TEXT: &str = "<|endoftext|>";
/// Ids below this one are ordinary tokens; this one is [`END_OF_TEXT`].
const END_OF_TEXT_ID: u32 = 50256;

/// The tokenizer, built at the first call and shared afterwards.
pub(super) fn shared() -> Result<Tokenizer> {
    static GPT2: OnceLock<Result<Tokenizer, String>> = OnceLock::new();
    GPT2.get_or_init(|| build().map_err(|error| error.to_string())).clone().map_err(Error::Tokenizer)
}

fn build() -> Result<Tokenizer> {
    let failed = |why: String| Error::Tokenizer(format!("GPT-2's table can't be used: {why}"));
    let table = tiktoken_rs::r50k_base().map_err(|error| failed(error.to_string()))?;
    let tokens = (0..END_OF_TEXT_ID)
        .map(|id| table.decode_bytes(&[id]).map_err(|_| failed(format!("it lacks token {id}"))))
        .collect::<Result<Vec<Vec<u8>>>>()?;

    let letters = byte_letters();
    let spell = |bytes: &[u8]| bytes.iter().map(|byte| letters[usize::from(*byte)]).collect::<String>();
    let mut vocab: Vocab = tokens.iter().zip(0..).map(|(bytes, id)| (spell(bytes), id)).collect();
    vocab.insert(END_OF_TEXT.to_string(), END_OF_TEXT_ID);

    let ids: HashMap<&[u8], u32> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let mut merges = Merges::new();
    for (bytes, id) in tokens.iter().zip(0..).filter(|(bytes, _)| bytes.len() > 1) {
        let (left, right) =
            last_merge(bytes, id, &ids).ok_or_else(|| failed(format!("token {id} is not made by one merge")))?;
        merges.push((spell(left), spell(right)));
    }

    let model = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(|error| failed(error.to_string()))?;
    let mut tokenizer = HfTokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens([AddedToken::from(END_OF_TEXT, true)]).map_err(|error| failed(error.to_string()))?;
    Tokenizer::from_tokenizers(tokenizer, SpecialTokens::new().bos(END_OF_TEXT).eos(END_OF_TEXT).pad(END_OF_TEXT))
}

/// The two parts that the merge numbered `id` joins into `bytes`: what byte-pair encoding with all earlier merges
/// leaves of it. A token's id is its merge's rank, so the table needs no separate list of merges.
fn last_merge<'a>(bytes: &'a [u8], id: u32, ids: &HashMap<&[u8], u32>) -> Option<(&'a [u8], &'a [u8])> {
    // `ends[i]..ends[i + 1]` is part i.
    let mut ends: Vec<usize> = (0..=bytes.len()).collect();
    while ends.len() > 3 {
        let joined = ends.windows(3).enumerate().filter_map(|(i, ends)| match ends {
            [start, _, end] => Some((*ids.get(&bytes[*start..*end])?, i + 1)),
            _ => None,
        });
        let (_, boundary) = joined.filter(|(rank, _)| *rank < id).min()?;
        ends.remove(boundary);
    }
    match ends.as_slice() {
        [_, middle, _] => Some(bytes.split_at(*middle)),
        _ => None,
    }
}

/// How byte-level tokenizers spell each byte as a visible character: printable Latin-1 as itself, the others as
/// U+0100 and up.
pub(super) fn byte_letters() -> [char; 256] {
    let mut spare = '\u{100}'..;
    std::array::from_fn(|byte| match u8::try_from(byte) {
        Ok(byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)) => char::from(byte),
        _ => spare.next().unwrap_or(char::REPLACEMENT_CHARACTER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_one_of_the_tokenizers_crate() {
        let letters = byte_letters();
        assert_eq!(letters[usize::from(b' ')], 'Ġ');
        assert_eq!(letters[usize::from(b'\n')], 'Ċ');
        let theirs = ByteLevel::alphabet();
        assert!(letters.iter().all(|letter| theirs.contains(letter)));
        assert_eq!(letters.iter().collect::<std::collections::HashSet<_>>().len(), 256);
    }

    #[test]
    fn the_last_merge_is_what_earlier_merges_leave() {
        let ids = HashMap::from([
            (&b"a"[..], 0),
            (&b"b"[..], 1),
            (&b"c"[..], 2),
            (&b"bc"[..], 3),
            (&b"abc"[..], 4),
            (&b"ab"[..], 5),
        ]);
        assert_eq!(last_merge(b"abc", 4, &ids), Some((&b"a"[..], &b"bc"[..])));
        assert_eq!(last_merge(b"abc", 3, &ids), None);
    }
}
