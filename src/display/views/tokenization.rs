//! What one or several tokenizers make of a text: where they cut it, and each token's id and bytes.

use crate::display::draw::color::Rgb;
use crate::display::draw::number::count;
use crate::display::draw::scene::{SMALL, Scene, TEXT};
use crate::display::draw::text;
use crate::display::draw::token_rows::{self, Comparison, LinedUp, MAX_PIECES, MAX_ROWS, WIDTH, hex, line_up};
use crate::display::escape;
use crate::display::page::html;
use crate::display::page::token_row::{TokenBox, token_row};
use crate::display::view::show_own_page;
use crate::display::views::token_boxes::MAX_TOKENS;
use crate::tokens::{TokenPiece, Tokenization};

/// How many boxes the text has.
const BOXES: usize = 400;
/// How many rows a table has.
const ROWS: usize = 200;
/// How many bytes of a token are written out.
const BYTES: usize = 12;
const HEAD: [&str; 5] = ["position", "token", "id", "bytes", "note"];

/// A text's tokens as boxes, whitespace visible, and a table with their ids and bytes; the tokens of several tokenizers
/// below each other, so that their cuts can be compared.
///
/// ```
/// use candlescope::display::{Show, TokenizationView};
/// use candlescope::model::HookedTransformer;
/// use candlescope::tokens::Tokenizer;
///
/// let text = "Claire and Mary";
/// let tiny = HookedTransformer::from_pretrained("tiny")?;
/// let view = TokenizationView::new(Tokenizer::gpt2()?.inspect(text)?.named("gpt2"))
///     .beside(tiny.tokenizer()?.inspect(text)?.named("tiny"));
/// assert!(view.bundle().text.starts_with("gpt2: 5 tokens\n|<|endoftext|>|Cl|aire|·and|·Mary|"));
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenizationView {
    all: Vec<Tokenization>,
}

impl TokenizationView {
    /// The tokens of one text.
    pub fn new(tokenization: Tokenization) -> Self {
        Self { all: vec![tokenization] }
    }

    /// Adds another tokenizer's tokens of the same text. (Those of another text are shown too, and not compared.)
    pub fn beside(mut self, other: Tokenization) -> Self {
        self.all.push(other);
        self
    }

    /// What each tokenizer is called here.
    fn names(&self) -> Vec<String> {
        let name = |(i, one): (usize, &Tokenization)| match one.name() {
            "" if self.all.len() == 1 => "tokenizer".to_string(),
            "" => format!("tokenizer {}", i + 1),
            name => escape::shorten(&escape::visible_line(name), 60),
        };
        self.all.iter().enumerate().map(name).collect()
    }

    fn text(&self) -> String {
        let (names, lined) = (self.names(), line_up(&self.all));
        let mut lines = Vec::new();
        for (i, (one, name)) in self.all.iter().zip(&names).enumerate() {
            lines.push(heading(name, one, BOXES));
            lines.extend(boxes_text(one));
            lines.extend(comparison(&names, &lined, i));
        }
        for (one, name) in self.all.iter().zip(&names) {
            lines.push(String::new());
            if self.all.len() > 1 {
                lines.push(format!("{name}:"));
            }
            let rows = one.pieces().iter().take(ROWS).map(|piece| cells(piece, 30).to_vec());
            let rows: Vec<Vec<String>> = std::iter::once(HEAD.map(String::from).to_vec()).chain(rows).collect();
            lines.extend(text::columns(&rows, &[true, false, true]));
            lines.extend(rows_note(one));
        }
        lines.join("\n")
    }

    fn html(&self) -> String {
        let (names, lined) = (self.names(), line_up(&self.all));
        let mut out = String::new();
        for (i, (one, name)) in self.all.iter().zip(&names).enumerate() {
            out.push_str(&html::heading(&heading(name, one, MAX_TOKENS)));
            out.push_str(&boxes_html(one));
            out.push_str(&html::notes(&Vec::from_iter(comparison(&names, &lined, i))));
        }
        for (one, name) in self.all.iter().zip(&names) {
            let rows: Vec<String> = one.pieces().iter().take(ROWS).map(html_row).collect();
            let table = html::table(&HEAD.map(String::from), &rows) + &html::notes(&Vec::from_iter(rows_note(one)));
            let is_only = self.all.len() == 1;
            out += &if is_only { table } else { html::details(&format!("{name} as a table"), &table) };
        }
        out
    }

    fn scene(&self) -> Scene {
        let (names, lined) = (self.names(), line_up(&self.all));
        let width = WIDTH as f64;
        let headings = self.all.iter().zip(&names).take(MAX_ROWS).map(|(one, name)| heading(name, one, usize::MAX));
        let headings = headings.collect::<Vec<_>>().join("; ");
        let mut scene = Scene::default();
        let top = scene.paragraph(0.0, 0.0, &headings, TEXT, width, Rgb::INK) + 6.0;
        let (mut y, is_whole) = token_rows::draw(&mut scene, top, &lined, &names);

        let mut notes: Vec<String> =
            (0..self.all.len().min(MAX_ROWS)).filter_map(|i| comparison(&names, &lined, i)).collect();
        notes.extend(self.legend());
        if !is_whole {
            notes.push(format!("the picture shows the beginning, at most {MAX_PIECES} tokens of each tokenizer"));
        }
        if self.all.len() > MAX_ROWS {
            notes.push(format!("the first {MAX_ROWS} of {} tokenizers are pictured", self.all.len()));
        }
        for note in notes {
            y += scene.paragraph(0.0, y, &note, SMALL, width, Rgb::FAINT);
        }
        scene.finish()
    }

    /// What the colours mean that are not only there to tell neighbours apart.
    fn legend(&self) -> Option<String> {
        let mut pieces = self.all.iter().take(MAX_ROWS).flat_map(|one| one.pieces().iter().take(MAX_PIECES));
        let special = pieces.clone().any(|piece| piece.special.is_some()).then_some("yellow: special tokens");
        let partial = pieces.any(TokenPiece::is_partial).then_some("orange: parts of characters, as their bytes");
        let meanings: Vec<&str> = special.into_iter().chain(partial).collect();
        (!meanings.is_empty()).then(|| meanings.join("; "))
    }
}

fn heading(name: &str, one: &Tokenization, limit: usize) -> String {
    let n = one.pieces().len();
    let rest = if n > limit { format!("; the first {} are shown", count(limit)) } else { String::new() };
    format!("{name}: {}{rest}", counted(n, "token"))
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", count(n)) }
}

fn rows_note(one: &Tokenization) -> Option<String> {
    let n = one.pieces().len();
    (n > ROWS).then(|| format!("the first {ROWS} of {} tokens", count(n)))
}

/// How tokenizer `i` cuts the text, compared with the first one.
fn comparison(names: &[String], lined: &[LinedUp<'_>], i: usize) -> Option<String> {
    let other = i.checked_sub(1).and_then(|_| lined.get(i))?;
    let (first, a, b) = (lined.first()?, names.first()?, names.get(i)?);
    Some(match first.compare(other) {
        None => format!("{a} and {b} stand for different texts, so their cuts are not compared"),
        Some(Comparison { shared, only_first: 0, only_second: 0 }) => {
            format!("{a} and {b} cut the text alike ({})", counted(shared, "cut"))
        }
        Some(Comparison { shared, only_first, only_second }) => {
            let shared = counted(shared, "cut");
            format!("{a} and {b} share {shared}; only {a} has {}, only {b} {}", count(only_first), count(only_second))
        }
    })
}

/// A token on one line: its bytes where it is part of a character.
fn shown(piece: &TokenPiece) -> String {
    if piece.is_partial() { format!("[{}]", first_bytes(piece)) } else { escape::visible(&piece.text) }
}

fn first_bytes(piece: &TokenPiece) -> String {
    match piece.bytes.get(..BYTES) {
        Some(first) if piece.bytes.len() > BYTES => format!("{} ..", hex(first)),
        _ => hex(&piece.bytes),
    }
}

/// A row of the table, in the order of [`HEAD`].
fn cells(piece: &TokenPiece, longest: usize) -> [String; 5] {
    let token = escape::shorten(&shown(piece), longest);
    [piece.position.to_string(), token, piece.id.to_string(), first_bytes(piece), note(piece)]
}

/// What is easily overlooked about a token.
fn note(piece: &TokenPiece) -> String {
    let text = String::from_utf8_lossy(&piece.bytes);
    let rest = text.trim_start_matches(' ');
    let spaces = text.len() - rest.len();
    let mut notes: Vec<String> = piece.special.into_iter().map(String::from).collect();
    if piece.is_partial() {
        notes.push("part of a character".to_string());
    }
    if rest.is_empty() && spaces > 0 {
        notes.push(counted(spaces, "space"));
    } else if spaces > 1 {
        notes.push(format!("{} in front", counted(spaces, "space")));
    } else if piece.starts_with_space() {
        notes.push("space in front".to_string());
    }
    for (c, what) in [('\n', "newline"), ('\t', "tab")] {
        notes.extend(Some(rest.matches(c).count()).filter(|n| *n > 0).map(|n| counted(n, what)));
    }
    notes.join(", ")
}

/// Boxes as `|·Claire|`, on lines of about 100 characters.
fn boxes_text(one: &Tokenization) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from("|");
    for piece in one.pieces().iter().take(BOXES) {
        let cell = format!("{}|", escape::shorten(&shown(piece), 60));
        if line.chars().count() + cell.chars().count() > 100 {
            lines.push(std::mem::replace(&mut line, String::from("|")));
        }
        line.push_str(&cell);
        if piece.bytes.ends_with(b"\n") {
            lines.push(std::mem::replace(&mut line, String::from("|")));
        }
    }
    lines.extend(Some(line).filter(|line| line != "|"));
    lines
}

fn boxes_html(one: &Tokenization) -> String {
    let token = |piece: &TokenPiece| TokenBox {
        text: shown(piece),
        title: format!("position {}, id {}, bytes {}", piece.position, piece.id, first_bytes(piece)),
        fill: token_rows::fill(piece),
        marked: false,
        ends_line: piece.bytes.ends_with(b"\n"),
    };
    token_row(one.pieces().iter().take(MAX_TOKENS).map(token), "[]")
}

fn html_row(piece: &TokenPiece) -> String {
    let right = [true, false, true, false, false];
    cells(piece, 200).iter().zip(right).map(|(text, right)| html::cell(text, right)).collect()
}

show_own_page!(TokenizationView);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;
    use crate::display::draw::scene::Mark;
    use crate::model::HookedTransformer;
    use crate::tokens::Tokenizer;

    fn gpt2(text: &str) -> Tokenization {
        Tokenizer::gpt2().unwrap().inspect(text).unwrap().named("gpt2")
    }

    fn tiny(text: &str) -> Tokenization {
        let model = HookedTransformer::from_pretrained("tiny").unwrap();
        model.tokenizer().unwrap().clone().inspect(text).unwrap().named("tiny")
    }

    /// The texts of the picture.
    fn pictured(view: &TokenizationView) -> Vec<String> {
        let text = |mark: Mark| if let Mark::Text { text, .. } = mark { Some(text) } else { None };
        view.scene().marks.into_iter().filter_map(text).collect()
    }

    #[test]
    fn one_text_has_boxes_and_a_table() {
        let view = TokenizationView::new(gpt2(" Claire"));
        let bundle = view.bundle();
        let lines: Vec<&str> = bundle.text.lines().collect();
        assert_eq!(lines[..3], ["gpt2: 2 tokens", "|<|endoftext|>|·Claire|", ""]);
        assert!(lines[3].starts_with("position  token") && lines.len() == 6, "{}", bundle.text);
        assert!(lines[4].contains("50256  3c 7c 65 6e 64 6f 66 74 65 78 74 7c ..  BOS"), "{}", bundle.text);
        assert!(lines[5].contains("20758  20 43 6c 61 69 72 65") && lines[5].ends_with("space in front"));
        let html = bundle.html.unwrap();
        assert!(
            html.contains(">·Claire</code>") && html.contains("title=\"position 1, id 20758, bytes 20 43 6c 61 69")
        );
        assert!(html.contains("<table") && !html.contains("<details>"));
        let pictured = pictured(&view);
        for text in ["gpt2: 2 tokens", "<|endoftext|>", "·Claire", "20758", "yellow: special tokens"] {
            assert!(pictured.iter().any(|mark| mark == text), "{text} is missing in {pictured:?}");
        }
        assert!(bundle.png.is_some());
    }

    #[test]
    fn notes_say_what_is_overlooked() {
        let piece = |bytes: &[u8]| TokenPiece {
            position: 0,
            id: 0,
            text: String::from_utf8_lossy(bytes).into_owned(),
            bytes: bytes.to_vec(),
            special: None,
        };
        let cases: [(&[u8], &str); 8] = [
            (b"a", ""),
            (b" a", "space in front"),
            (b"  a", "2 spaces in front"),
            (b" ", "1 space"),
            (b"   ", "3 spaces"),
            (b"\n\n", "2 newlines"),
            (b" \xf0\x9f", "part of a character, space in front"),
            (b"", ""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(note(&piece(bytes)), expected, "{bytes:?}");
        }
    }

    #[test]
    fn parts_of_characters_show_their_bytes() {
        let view = TokenizationView::new(gpt2("😀"));
        let text = view.bundle().text;
        assert!(text.contains("|[f0 9f 98]|[80]|") && text.contains("part of a character"), "{text}");
        let pictured = pictured(&view);
        assert!(pictured.iter().any(|mark| mark == "f0 9f 98") && pictured.iter().any(|mark| mark == "80"));
        assert!(pictured.iter().any(|mark| mark.contains("orange: parts of characters")));
    }

    #[test]
    fn several_tokenizers_are_compared() {
        let text = "Claire admired transformers";
        let view = TokenizationView::new(gpt2(text)).beside(tiny(text)).beside(gpt2(text)).beside(gpt2("other"));
        let bundle = view.bundle();
        for sentence in ["gpt2 and tiny share ", "gpt2 and gpt2 cut the text alike", "stand for different texts"] {
            assert_eq!(bundle.text.matches(sentence).count(), 1, "{}", bundle.text);
            assert!(pictured(&view).iter().any(|mark| mark.contains(sentence)));
        }
        assert_eq!(bundle.text.matches("position  token").count(), 4);
        let html = bundle.html.unwrap();
        assert!(html.contains("gpt2 and tiny share ") && html.matches("<details>").count() == 4, "{html}");
        let unnamed = TokenizationView::new(gpt2("a").named("")).beside(gpt2("a"));
        assert!(unnamed.bundle().text.contains("tokenizer 1: 2 tokens"));
    }

    #[test]
    fn a_hostile_text_is_only_text() {
        let evil = "<script>alert('x\"')</script>\u{202e}\0\u{1b}[2J EVCXR_END_CONTENT";
        for view in [
            TokenizationView::new(gpt2(evil).named(evil)),
            TokenizationView::new(gpt2(evil).named(evil)).beside(tiny(evil).named(evil)),
        ] {
            let bundle = view.bundle();
            let html = bundle.html.clone().unwrap();
            // The boxes' own scripts, and no other.
            assert_eq!([html.matches("<script").count(), html.matches("</script").count()], [view.all.len(); 2]);
            for forbidden in ['\0', '\u{202e}', '\u{1b}'] {
                assert!(!html.contains(forbidden) && !bundle.text.contains(forbidden));
                assert!(pictured(&view).iter().all(|text| !text.contains(forbidden)));
            }
            assert_eq!(bundle.to_evcxr().lines().filter(|l| *l == "EVCXR_END_CONTENT").count(), 3);
        }
    }

    #[test]
    fn an_empty_text_has_its_bos_only() {
        let bundle = TokenizationView::new(gpt2("")).bundle();
        assert!(bundle.text.starts_with("gpt2: 1 token\n|<|endoftext|>|\n"), "{}", bundle.text);
        assert!(bundle.png.is_some());
        let tokenizer = Tokenizer::gpt2().unwrap().with_default_prepend_bos(false);
        let nothing = TokenizationView::new(tokenizer.inspect("").unwrap()).bundle();
        assert!(nothing.text.starts_with("tokenizer: 0 tokens\n") && nothing.png.is_some());
    }

    #[test]
    fn a_long_text_is_cut_and_it_is_said() {
        let view = TokenizationView::new(gpt2(&" a".repeat(3000)));
        let bundle = view.bundle();
        assert!(bundle.text.starts_with("gpt2: 3,001 tokens; the first 400 are shown\n"));
        assert!(bundle.text.ends_with("the first 200 of 3,001 tokens"));
        assert!(bundle.text.lines().all(|line| line.chars().count() <= 100));
        assert!(bundle.html.unwrap().contains("gpt2: 3,001 tokens; the first 2,000 are shown"));
        let said = "the picture shows the beginning, at most 400 tokens of each tokenizer";
        assert!(pictured(&view).iter().any(|text| text == said));
    }
}
