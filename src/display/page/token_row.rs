//! Tokens in reading order, each in a box: readable without scripts, and without styles.

use crate::display::draw::color::Rgb;
use crate::display::escape;
use crate::display::page::html;

/// The longest text of a box, in characters.
const LONGEST: usize = 200;

/// One token.
pub(crate) struct TokenBox {
    /// What it reads, whitespace visible.
    pub text: String,
    /// What is said of it under the pointer.
    pub title: String,
    pub fill: Rgb,
    /// A thick frame: the one that is meant.
    pub marked: bool,
    /// The next one begins a line.
    pub ends_line: bool,
}

/// The boxes with their script; `series` is its data, a JSON list of what the colours may show, or an empty list.
pub(crate) fn token_row(boxes: impl Iterator<Item = TokenBox>, series: &str) -> String {
    let mut row = String::new();
    for token in boxes {
        let text = escape::html(&escape::shorten(&token.text, LONGEST));
        let title = escape::html(&token.title);
        let (background, ink) = (token.fill.hex(), if token.fill.ink() == Rgb::WHITE { ";color:#fff" } else { "" });
        let border = if token.marked { "3px solid #d4a017" } else { "1px solid #8c959f" };
        // The bar is invisible; where styles are removed, it alone shows where a token ends. Each token stands for
        // itself (`dir`): one that is written from right to left doesn't turn its neighbours.
        row.push_str(&format!(
            "<code dir=\"auto\" title=\"{title}\" style=\"background-color:{background}{ink};border:{border};\
             border-radius:3px;padding:1px 2px;margin:0 1px\">{text}</code><span style=\"display:none\">|</span>&#8203;"
        ));
        if token.ends_line {
            row.push_str("<br>");
        }
    }
    let id = html::fingerprint(&format!("{series}{row}"));
    let series = escape::html(series);
    let style = "line-height:2.1;white-space:pre-wrap;overflow-wrap:anywhere;font-family:'DejaVu Sans Mono',Menlo,\
                 Consolas,monospace";
    format!("<div data-candlescope=\"{id}\" data-tokens=\"{series}\"><div style=\"{style}\">{row}</div></div>")
        + &html::with_id(html::TOKENS, &id)
}
