//! How a text is tokenized, written for a terminal.

use std::fmt::Write;

use super::Tokenizer;
use crate::Result;

/// A small report on how a text is tokenized: pieces and ids, with and without BOS, and what the leading space would
/// change. Safe to print: nothing in the text can drive the terminal.
///
/// ```
/// use candlescope::tokens::{Tokenizer, describe};
///
/// let report = describe("Claire", &Tokenizer::gpt2()?)?;
/// assert!(report.contains("Cl|aire"));
/// assert!(report.contains("'·Claire' (with a space in front) is 1 token"));
/// # Ok::<(), candlescope::Error>(())
/// ```
///
/// # Errors
/// A text that the tokenizer refuses.
pub fn describe(text: &str, tokenizer: &Tokenizer) -> Result<String> {
    let plain = tokenizer.encode(text)?;
    let mut full = tokenizer.beginning();
    let in_front = full.len();
    full.extend(&plain);

    let mut out = match in_front {
        0 => format!("{}; this tokenizer has no BOS\n\n", count(plain.len())),
        _ => format!("{}, {} with BOS\n\n", count(plain.len()), full.len()),
    };
    let pieces: Vec<String> = full.iter().map(|id| visible(&tokenizer.piece(*id))).collect();
    let widest = pieces.iter().map(|piece| piece.chars().count()).max().unwrap_or(0).max("piece".len());
    let _ = writeln!(out, "  position  {:widest$}  id", "piece");
    for (position, (piece, id)) in pieces.iter().zip(&full).enumerate() {
        let bos = if position < in_front { "  (BOS)" } else { "" };
        let _ = writeln!(out, "  {position:>8}  {piece:widest$}  {id}{bos}");
    }

    let _ = write!(out, "\nwithout BOS  {}\n             {plain:?}\n", pieces[in_front..].join("|"));
    if in_front > 0 {
        let default = if tokenizer.default_prepend_bos() { "default" } else { "not the default" };
        let _ = write!(out, "with BOS     {}\n             {full:?} ({default})\n", pieces.join("|"));
    }
    if let Some(note) = leading_space_note(text, tokenizer)? {
        let _ = write!(out, "\n{note}\n");
    }
    Ok(out)
}

/// A token's text with everything visible and harmless: a space as `·`, line breaks and tabs as `\n`, `\r`, `\t`, other
/// white space and every control or invisible formatting character as `\u{..}`.
pub fn visible(piece: &str) -> String {
    let mut out = String::with_capacity(piece.len());
    for c in piece.chars() {
        match c {
            ' ' => out.push('·'),
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c if c.is_control() || c.is_whitespace() || is_invisible(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Characters that show nothing, or change the direction or look of what is around them.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// What the first word would be with a space in front, if it has none.
fn leading_space_note(text: &str, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let word = match text.split_whitespace().next() {
        Some(word) if text.starts_with(word) => word,
        _ => return Ok(None),
    };
    let (bare, spaced) = (tokenizer.encode(word)?, tokenizer.encode(&format!(" {word}"))?);
    if bare == spaced {
        return Ok(None);
    }
    Ok(Some(format!(
        "Mind the leading space: '{0}' is {1} {bare:?}, '·{0}' (with a space in front) is {2} {spaced:?}.\n\
         A word inside a sentence is the second kind.",
        visible(word),
        count(bare.len()),
        count(spaced.len()),
    )))
}

fn count(tokens: usize) -> String {
    if tokens == 1 { "1 token".to_string() } else { format!("{tokens} tokens") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_drive_a_terminal() {
        assert_eq!(visible(" a\tb\r\n"), "·a\\tb\\r\\n");
        assert_eq!(visible("\x1b[2J\x07\u{9b}"), "\\u{1b}[2J\\u{7}\\u{9b}");
        assert_eq!(visible("\u{202e}x\u{200d}\u{2028}\u{a0}"), "\\u{202e}x\\u{200d}\\u{2028}\\u{a0}");
        let report = describe("\x1b]0;owned\x07 é\u{202e}", &Tokenizer::gpt2().unwrap()).unwrap();
        assert!(report.chars().all(|c| c == '\n' || !(c.is_control() || is_invisible(c))), "{report:?}");
    }

    #[test]
    fn the_trap_of_the_leading_space() {
        let tokenizer = Tokenizer::gpt2().unwrap();
        let report = describe("Claire and Mary", &tokenizer).unwrap();
        assert!(report.starts_with("4 tokens, 5 with BOS\n"), "{report}");
        assert!(report.contains("without BOS  Cl|aire|·and|·Mary\n             [2601, 7626, 290, 5335]"), "{report}");
        assert!(report.contains("with BOS     <|endoftext|>|Cl|aire|·and|·Mary"), "{report}");
        assert!(
            report.contains("'Claire' is 2 tokens [2601, 7626], '·Claire' (with a space in front) is 1 token [20758]")
        );
        assert!(!describe(" Claire", &tokenizer).unwrap().contains("Mind"));
        assert!(describe("", &tokenizer).unwrap().starts_with("0 tokens, 1 with BOS"));
    }
}
