//! A few facts under a title: what a model is, what a run was.

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT, TITLE};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::show_own_page;

/// A title, rows of a name and a value, and notes.
#[derive(Clone, Debug)]
pub struct Card {
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    value: String,
    /// Where the value leads.
    url: Option<String>,
}

impl Card {
    /// An empty card.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a fact.
    pub fn row(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.rows.push(Row { name: name.into(), value: value.into(), url: None });
        self
    }

    /// Adds a fact that is a link: in the page, where the address is one of the web.
    pub fn link(mut self, name: impl Into<String>, value: impl Into<String>, url: impl Into<String>) -> Self {
        self.rows.push(Row { name: name.into(), value: value.into(), url: Some(url.into()) });
        self
    }

    /// Adds a sentence below the facts.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn html(&self) -> String {
        let row = |row: &Row| {
            format!(
                "<th align=\"left\" style=\"padding:2px 6px;text-align:left;font-weight:600\">{}</th>{}",
                escape::html(&row.name),
                html::linked_cell(&row.value, false, row.url.as_deref())
            )
        };
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        html::heading(&self.title) + &html::table(&[], &rows) + &html::notes(&self.notes)
    }

    fn scene(&self) -> Scene {
        const ROW: f64 = 20.0;
        const WIDTH: f64 = 560.0;
        let clean = |text: &str, limit: f64| font::fit(&font::drawable(&escape::visible_line(text)), TEXT, limit);
        let names: Vec<String> = self.rows.iter().map(|r| clean(&r.name, 200.0)).collect();
        let left = names.iter().map(|n| font::width(n, TEXT)).fold(0.0, f64::max) + 24.0;
        let mut scene = Scene::default();
        scene.text(
            0.0,
            -TITLE,
            &font::fit(&font::drawable(&escape::visible_line(&self.title)), TITLE, WIDTH),
            TITLE,
            Align::Left,
        );
        for (i, (name, row)) in names.iter().zip(&self.rows).enumerate() {
            let y = i as f64 * ROW;
            scene.rect(0.0, y, WIDTH, ROW, if i % 2 == 0 { Rgb(246, 248, 250) } else { Rgb::WHITE });
            scene.ink(8.0, y + ROW / 2.0, name, TEXT, Align::Left, Rgb::FAINT);
            scene.text(left, y + ROW / 2.0, &clean(&row.value, WIDTH - left - 8.0), TEXT, Align::Left);
        }
        let mut y = self.rows.len() as f64 * ROW + 6.0;
        for note in &self.notes {
            y += scene.paragraph(0.0, y, note, SMALL, WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn text(&self) -> String {
        let mut lines = vec![escape::terminal(&self.title)];
        let rows = self
            .rows
            .iter()
            .map(|row| vec![format!("  {}", escape::visible_line(&row.name)), escape::visible_line(&row.value)]);
        lines.extend(crate::display::draw::text::columns(&rows.collect::<Vec<_>>(), &[]));
        lines.extend(self.notes.iter().map(|n| escape::terminal(n)));
        lines.join("\n")
    }
}

show_own_page!(Card);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn facts_are_aligned_and_escaped() {
        let bundle = Card::new("tiny <x>").row("layers", "2").row("d_model", "64").note("trained here").bundle();
        assert_eq!(bundle.text, "tiny <x>\n  layers   2\n  d_model  64\ntrained here");
        assert!(bundle.html.unwrap().contains("tiny &lt;x&gt;") && bundle.png.is_some());
    }
}
