//! Tokens as boxes: where one ends, what its whitespace is, which id it has, and a value as its colour.

use crate::display::draw::color::{Rgb, Scale, not_finite_note};
use crate::display::draw::font;
use crate::display::draw::number::{count, number};
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT};
use crate::display::escape;
use crate::display::page::html;
use crate::display::page::token_row::{TokenBox, token_row};
use crate::display::view::show_own_page;
use serde_json::json;

/// How many tokens the page and the picture show.
pub const MAX_TOKENS: usize = 2000;
const PICTURED: usize = 600;
const WIDTH: f64 = 640.0;

/// Tokens in reading order, each in a box, whitespace visible (`·` space, `↵` newline, `⇥` tab); id, position and value
/// under the pointer.
#[derive(Clone, Debug)]
pub struct TokenBoxes {
    tokens: Vec<String>,
    ids: Vec<u32>,
    series: Vec<Series>,
    hints: Vec<String>,
    scale: Option<Scale>,
    marked: Option<usize>,
    title: String,
}

/// A value for each token, and what it is.
#[derive(Clone, Debug)]
struct Series {
    name: String,
    values: Vec<f32>,
    /// The colour scale that fits them.
    fitted: Scale,
}

impl TokenBoxes {
    /// The tokens' texts.
    pub fn new<S: Into<String>>(tokens: impl IntoIterator<Item = S>) -> Self {
        let tokens = tokens.into_iter().map(Into::into).collect();
        let (ids, series, hints) = (Vec::new(), Vec::new(), Vec::new());
        Self { tokens, ids, series, hints, scale: None, marked: None, title: String::new() }
    }

    /// The tokens' ids, shown under each box's text and under the pointer.
    pub fn ids(mut self, ids: impl IntoIterator<Item = u32>) -> Self {
        self.ids = ids.into_iter().collect();
        self
    }

    /// A value for each token: its colour. The name says what it is, such as `loss`. Called again, it adds another series:
    /// the page lets one choose, the picture shows them one below the other.
    ///
    /// ```
    /// use candlescope::display::{Show, TokenBoxes};
    /// let boxes = TokenBoxes::new([" the", " cat"]).values("head 3", [0.9, 0.1]).values("head 5", [0.0, 0.7]);
    /// assert!(boxes.bundle().text.contains("head 5"));
    /// ```
    pub fn values(mut self, name: impl Into<String>, values: impl IntoIterator<Item = f32>) -> Self {
        let values: Vec<f32> = values.into_iter().collect();
        self.series.push(Series { name: name.into(), fitted: Scale::fit(&values), values });
        self
    }

    /// More to say of each token under the pointer, such as what else was likely.
    pub fn hints<S: Into<String>>(mut self, hints: impl IntoIterator<Item = S>) -> Self {
        self.hints = hints.into_iter().map(Into::into).collect();
        self
    }

    /// A fixed colour scale for the values, of all series.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = Some(scale);
        self
    }

    /// The token that is meant: a thick frame, in text `»so«`.
    pub fn mark(mut self, token: usize) -> Self {
        self.marked = Some(token);
        self
    }

    /// A title above the tokens.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    fn scale_of(&self, series: &Series) -> Scale {
        self.scale.unwrap_or(series.fitted)
    }

    /// The colour behind a token: its value's in a series, or two quiet ones in turn.
    fn fill(&self, i: usize, series: Option<&Series>) -> Rgb {
        match series.and_then(|series| Some(self.scale_of(series).color(*series.values.get(i)?))) {
            Some(color) => color,
            None if i.is_multiple_of(2) => Rgb(234, 242, 250),
            None => Rgb(250, 243, 230),
        }
    }

    fn hover(&self, i: usize) -> String {
        let mut parts = vec![format!("position {i}")];
        parts.extend(self.ids.get(i).map(|id| format!("id {id}")));
        for series in &self.series {
            let value = series.values.get(i).map(|value| number(f64::from(*value)));
            parts.extend(value.map(|value| format!("{} {value}", escape::visible_line(&series.name))));
        }
        parts.extend(self.hints.get(i).filter(|hint| !hint.is_empty()).map(|hint| escape::visible_line(hint)));
        parts.join(", ")
    }

    fn notes(&self, limit: usize) -> Vec<String> {
        let mut notes = vec![match self.tokens.len() {
            1 => "1 token".to_string(),
            n => format!("{} tokens", count(n)),
        }];
        if self.tokens.len() > limit {
            notes.push(format!("the first {} are shown", count(limit)));
        }
        for series in &self.series {
            let (low, high) = self.scale_of(series).limits();
            notes.push(format!("colour: {} from {} to {}", series.name, number(low.into()), number(high.into())));
            notes.extend(not_finite_note(&series.values));
        }
        let values = self.series.iter().map(|series| (series.values.len(), series.name.as_str()));
        for (n, what) in std::iter::once((self.ids.len(), "ids")).chain(values) {
            if n != self.tokens.len() && (n != 0 || what != "ids") {
                notes.push(format!("{n} {what} were given for {} tokens", self.tokens.len()));
            }
        }
        vec![notes.join("; ")]
    }

    fn html(&self) -> String {
        let boxes = self.tokens.iter().take(MAX_TOKENS).enumerate().map(|(i, token)| TokenBox {
            text: escape::visible(token),
            title: self.hover(i),
            fill: self.fill(i, self.series.first()),
            marked: self.marked == Some(i),
            ends_line: token.ends_with('\n'),
        });
        let fills = |series: &Series| -> String {
            let n = self.tokens.len().min(MAX_TOKENS);
            (0..n).map(|i| self.fill(i, Some(series)).hex().trim_start_matches('#').to_string()).collect()
        };
        let series = self
            .series
            .iter()
            .map(|series| json!({ "name": escape::visible_line(&series.name), "fills": fills(series) }));
        // One series is painted already.
        let data = json!(if self.series.len() > 1 { series.collect() } else { Vec::new() }).to_string();
        html::heading(&self.title)
            + &token_row(boxes, &data)
            + &html::notes(&self.notes(MAX_TOKENS))
            + &if self.ids.is_empty() && self.series.is_empty() { String::new() } else { self.listing() }
    }

    fn listing(&self) -> String {
        const ROWS: usize = 200;
        let mut head = vec!["position".to_string(), "token".to_string()];
        head.extend((!self.ids.is_empty()).then(|| "id".to_string()));
        head.extend(self.series.iter().map(|series| series.name.clone()));
        let row = |(i, token): (usize, &String)| {
            let mut row = html::cell(&i.to_string(), true);
            row += &html::cell(&escape::shorten(&escape::visible(token), 200), false);
            row += &self.ids.get(i).map(|id| html::cell(&id.to_string(), true)).unwrap_or_default();
            for series in &self.series {
                let colored =
                    |value: &f32| html::colored_cell(&number((*value).into()), self.scale_of(series).color(*value));
                row += &series.values.get(i).map_or_else(|| html::cell("", true), colored);
            }
            row
        };
        let rows: Vec<String> = self.tokens.iter().enumerate().take(ROWS).map(row).collect();
        let what = if self.tokens.len() > ROWS {
            format!("The first {ROWS} tokens as a table")
        } else {
            "As a table".to_string()
        };
        html::details(&what, &html::table(&head, &rows))
    }

    fn scene(&self) -> Scene {
        let mut scene = Scene::default();
        let mut y = 0.0;
        if self.series.len() < 2 {
            y = self.draw(&mut scene, y, self.series.first());
        } else {
            for series in &self.series {
                let name = font::fit(&font::drawable(&escape::visible_line(&series.name)), SMALL, WIDTH);
                scene.ink(0.0, y + 6.0, &name, SMALL, Align::Left, Rgb::FAINT);
                y = self.draw(&mut scene, y + 16.0, Some(series)) + 4.0;
            }
        }
        scene.title(&self.title, WIDTH);
        for note in self.notes(PICTURED) {
            y += scene.paragraph(0.0, y, &note, SMALL, WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    /// The tokens in the colours of one series. Returns where the next thing below may begin.
    fn draw(&self, scene: &mut Scene, top: f64, series: Option<&Series>) -> f64 {
        let height = if self.ids.is_empty() { 24.0 } else { 38.0 };
        let (mut x, mut y) = (0.0, top);
        for (i, token) in self.tokens.iter().take(PICTURED).enumerate() {
            let text = font::fit(&font::drawable(&escape::shorten(&escape::visible(token), 80)), TEXT, 300.0);
            let id = self.ids.get(i).map(u32::to_string);
            let wide = font::width(&text, TEXT).max(id.as_ref().map_or(0.0, |id| font::width(id, 9.0)));
            let width = (wide + 10.0).ceil();
            if x + width > WIDTH && x > 0.0 {
                (x, y) = (0.0, y + height + 6.0);
            }
            let fill = self.fill(i, series);
            scene.rect(x, y, width, height, fill);
            match self.marked == Some(i) {
                true => (0..3).for_each(|inset| {
                    let inset = f64::from(inset);
                    scene.frame(x + inset, y + inset, width - 2.0 * inset, height - 2.0 * inset, Rgb(212, 160, 23));
                }),
                false => scene.frame(x, y, width, height, Rgb(140, 149, 159)),
            }
            scene.ink(x + width / 2.0, y + 12.0, &text, TEXT, Align::Center, fill.ink());
            if let Some(id) = id {
                scene.ink(x + width / 2.0, y + 29.0, &id, 9.0, Align::Center, fill.ink());
            }
            x += width + 4.0;
            if token.ends_with('\n') {
                (x, y) = (0.0, y + height + 6.0);
            }
        }
        y + height + 8.0
    }

    fn text(&self) -> String {
        const SHOWN: usize = 400;
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let mut line = String::from("|");
        for (i, token) in self.tokens.iter().take(SHOWN).enumerate() {
            let values: Vec<String> = self
                .series
                .iter()
                .filter_map(|series| series.values.get(i))
                .map(|value| number(f64::from(*value)))
                .collect();
            let value = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
            let token_text = escape::shorten(&escape::visible(token), 60);
            let (open, close) = if self.marked == Some(i) { ("»", "«") } else { ("", "") };
            let cell = format!("{open}{token_text}{close}{value}|");
            if line.chars().count() + cell.chars().count() > 100 && line.chars().count() > 1 {
                lines.push(std::mem::replace(&mut line, String::from("|")));
            }
            line.push_str(&cell);
            if token.ends_with('\n') {
                lines.push(std::mem::replace(&mut line, String::from("|")));
            }
        }
        if line.chars().count() > 1 {
            lines.push(line);
        }
        if !self.ids.is_empty() {
            let ids: Vec<String> = self.ids.iter().take(SHOWN).map(u32::to_string).collect();
            let more = if self.ids.len() > SHOWN { ", .." } else { "" };
            let ids = format!("[{}{more}]", ids.join(", "));
            lines.extend(wrapped(&ids, 100));
        }
        if self.series.len() > 1 {
            let names: Vec<String> = self.series.iter().map(|series| escape::visible_line(&series.name)).collect();
            lines.push(format!("in brackets: {}", names.join(", ")));
        }
        lines.extend(self.notes(SHOWN).iter().map(|note| escape::terminal(note)));
        lines.join("\n")
    }
}

/// Lines of at most `width` characters, broken at spaces.
fn wrapped(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

show_own_page!(TokenBoxes);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn whitespace_and_ids_are_visible() {
        let bundle = TokenBoxes::new(["<|endoftext|>", " Claire", "\n"]).ids([50256, 32100, 198]).bundle();
        assert_eq!(bundle.text.lines().next(), Some("|<|endoftext|>|·Claire|↵|"));
        assert!(bundle.text.contains("[50256, 32100, 198]"));
        let html = bundle.html.unwrap();
        assert!(html.contains(">·Claire</code>") && html.contains("title=\"position 1, id 32100\""), "{html}");
    }

    #[test]
    fn several_series_are_all_there() {
        let boxes = TokenBoxes::new([" a", " b"]).values("one", [0.5, 2.0]).values("<two>", [1.0, -1.0]);
        let bundle = boxes.bundle();
        assert!(bundle.text.starts_with("|·a(0.5, 1)|·b(2, -1)|\nin brackets: one, <two>"), "{}", bundle.text);
        let html = bundle.html.unwrap();
        assert!(
            html.contains("one 2, &lt;two&gt; -1") && html.contains("&quot;name&quot;:&quot;&lt;two&gt;&quot;"),
            "{html}"
        );
        let tall = |boxes: &TokenBoxes| boxes.scene().height;
        assert!(tall(&boxes) > tall(&TokenBoxes::new([" a", " b"]).values("one", [0.5, 2.0])) + 30.0);
        assert!(
            TokenBoxes::new([" a"]).values("one", [0.5, 2.0]).bundle().text.contains("2 one were given for 1 tokens")
        );
    }

    #[test]
    fn the_marked_token_stands_out() {
        let bundle = TokenBoxes::new([" a", " b"]).values("loss", [0.5, 2.0]).mark(1).bundle();
        assert_eq!(bundle.text.lines().next(), Some("|·a(0.5)|»·b«(2)|"));
        assert_eq!(bundle.html.unwrap().matches("3px solid").count(), 1);
    }

    #[test]
    fn a_hostile_vocabulary_is_only_text() {
        let long = "x".repeat(10_000);
        let evil = [
            "<script>alert(1)</script>",
            "\"'",
            "</style>",
            "\0",
            "\u{202e}abc",
            "\u{1b}[2J",
            &long,
            "😀",
            "",
            "EVCXR_END_CONTENT",
        ];
        let bundle = TokenBoxes::new(evil).values("loss", [f32::NAN; 10]).bundle();
        let html = bundle.html.clone().unwrap();
        assert!(
            !html.contains("<script>alert")
                && html.matches("</style>").count() == 1
                && !html.contains(['\0', '\u{202e}', '\u{1b}'])
        );
        assert!(!bundle.text.contains(['\0', '\u{202e}', '\u{1b}']) && bundle.text.contains("grey: NaN (10)"));
        assert_eq!(bundle.to_evcxr().lines().filter(|l| *l == "EVCXR_END_CONTENT").count(), 3);
    }

    #[test]
    fn many_tokens_are_cut_and_it_is_said() {
        let bundle = TokenBoxes::new(vec!["ab"; 100_000]).bundle();
        assert!(bundle.html.unwrap().contains("100,000 tokens; the first 2,000 are shown"));
        assert!(bundle.text.lines().count() < 30);
        assert!(TokenBoxes::new(Vec::<String>::new()).bundle().text.contains("0 tokens"));
    }
}
