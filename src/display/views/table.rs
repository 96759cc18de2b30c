//! Rows and columns of text and numbers.

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::number::count;
use crate::display::draw::scene::{Align, SMALL, Scene};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::View;

/// The widest column of a picture, in logical pixels.
const COLUMN: f64 = 260.0;
/// The longest cell of the text form, in characters.
const CELL: usize = 60;
/// How many rows a picture shows.
const PICTURED: usize = 40;

/// A table; numbers are aligned to the right. Beyond `max_rows` (60) the middle is left out, and the table says so.
#[derive(Clone, Debug)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns whose cells are links, and where to, row by row.
    links: Vec<(usize, Vec<Option<String>>)>,
    title: String,
    notes: Vec<String>,
    max_rows: usize,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(headers: impl IntoIterator<Item = S>) -> Self {
        let headers = headers.into_iter().map(Into::into).collect();
        let (rows, links, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { headers, rows, links, title: String::new(), notes, max_rows: 60 }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Adds several rows.
    pub fn rows<R: IntoIterator<Item = S>, S: Into<String>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        self.rows.extend(rows.into_iter().map(|row| row.into_iter().map(Into::into).collect()));
        self
    }

    /// Makes the cells of a column (counted from 0) links, row by row: in the page, where the address is one of the web.
    pub fn links(mut self, column: usize, urls: impl IntoIterator<Item = Option<String>>) -> Self {
        self.links.push((column, urls.into_iter().collect()));
        self
    }

    /// A title above the table.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// A sentence below the table.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// How many rows are shown at most.
    pub fn max_rows(mut self, rows: usize) -> Self {
        self.max_rows = rows.max(2);
        self
    }

    pub(crate) fn view(&self) -> View {
        let notes: String = html::notes(&self.notes_with(self.max_rows));
        View {
            text: self.text(),
            scene: Some(self.scene()),
            alt: String::new(),
            // The table itself is the page; the picture is for viewers without HTML.
            above: html::heading(&self.title) + &self.html_table() + &notes,
            below: String::new(),
        }
    }

    fn width(&self) -> usize {
        self.rows.iter().map(Vec::len).chain([self.headers.len()]).max().unwrap_or(0)
    }

    /// Which columns hold only numbers.
    fn right(&self) -> Vec<bool> {
        let numeric = |c: usize| {
            let mut cells = self.rows.iter().filter_map(|r| r.get(c)).filter(|t| !t.is_empty()).peekable();
            cells.peek().is_some() && cells.all(|t| is_number(t))
        };
        (0..self.width()).map(numeric).collect()
    }

    /// The rows that are shown, with their numbers; None stands for the rows left out.
    fn shown(&self, limit: usize) -> Vec<Option<(usize, &Vec<String>)>> {
        let rows = || self.rows.iter().enumerate();
        if self.rows.len() <= limit {
            return rows().map(Some).collect();
        }
        let head = limit.div_ceil(2);
        let tail = self.rows.len() - (limit - head);
        rows().take(head).map(Some).chain([None]).chain(rows().skip(tail).map(Some)).collect()
    }

    /// Where a cell leads.
    fn link(&self, row: usize, column: usize) -> Option<&str> {
        let (_, urls) = self.links.iter().find(|(linked, _)| *linked == column)?;
        urls.get(row)?.as_deref()
    }

    fn notes_with(&self, limit: usize) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.rows.len() > limit {
            notes.push(format!("{limit} of {} rows are shown", count(self.rows.len())));
        }
        notes
    }

    fn html_table(&self) -> String {
        let right = self.right();
        let row = |row: Option<(usize, &Vec<String>)>| match row {
            Some((i, row)) => (0..right.len())
                .map(|c| {
                    let text = escape::shorten(row.get(c).map_or("", String::as_str), 400);
                    html::linked_cell(&text, right[c], self.link(i, c))
                })
                .collect(),
            None => html::cell("…", false).repeat(right.len()),
        };
        let rows: Vec<String> = self.shown(self.max_rows).into_iter().map(row).collect();
        html::table(&self.headers, &rows)
    }

    /// All cells as one-line text, headers first.
    fn cells(&self, limit: usize) -> Vec<Vec<String>> {
        let clean = |text: &String| escape::shorten(&escape::visible_line(text), CELL);
        let width = self.width();
        let body = self.shown(limit).into_iter().map(|row| match row {
            Some((_, row)) => row.iter().map(clean).collect(),
            None => vec!["…".to_string(); width],
        });
        let head: Vec<String> = self.headers.iter().map(clean).collect();
        std::iter::once(head).filter(|h| !h.is_empty()).chain(body).collect()
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        lines.extend(crate::display::draw::text::columns(&self.cells(self.max_rows), &self.right()));
        lines.extend(self.notes_with(self.max_rows).iter().map(|n| escape::terminal(n)));
        lines.join("\n")
    }

    fn scene(&self) -> Scene {
        const ROW: f64 = 19.0;
        const GAP: f64 = 22.0;
        let limit = self.max_rows.min(PICTURED);
        let right = self.right();
        let cells: Vec<Vec<String>> = self
            .cells(limit)
            .iter()
            .map(|row| row.iter().map(|t| font::fit(&font::drawable(t), SMALL, COLUMN)).collect())
            .collect();
        let widths: Vec<f64> = (0..self.width())
            .map(|c| cells.iter().filter_map(|r| r.get(c)).map(|t| font::width(t, SMALL)).fold(8.0, f64::max))
            .collect();
        let total = widths.iter().map(|w| w + GAP).sum::<f64>();
        let mut scene = Scene::default();
        let headed = !self.headers.is_empty();
        for (i, row) in cells.iter().enumerate() {
            let y = i as f64 * ROW;
            let header = headed && i == 0;
            let fill = if header {
                Rgb(226, 232, 240)
            } else if i % 2 == 0 {
                Rgb(246, 248, 250)
            } else {
                Rgb::WHITE
            };
            scene.rect(0.0, y, total, ROW, fill);
            let mut x = GAP / 2.0;
            for (c, width) in widths.iter().enumerate() {
                let text = row.get(c).map_or("", String::as_str);
                let (at, align) = if right[c] { (x + width, Align::Right) } else { (x, Align::Left) };
                scene.text(at, y + ROW / 2.0, text, SMALL, align);
                x += width + GAP;
            }
        }
        scene.title(&self.title, total.max(420.0));
        let mut y = cells.len() as f64 * ROW + 4.0;
        for note in self.notes_with(limit) {
            y += scene.paragraph(0.0, y, &note, SMALL, total.max(360.0), Rgb::FAINT);
        }
        scene.finish()
    }
}

impl crate::display::Show for Table {
    fn bundle(&self) -> crate::display::Bundle {
        let view = self.view();
        let html = html::frame(&view.above);
        crate::display::Bundle { html: Some(html), ..view.bundle() }
    }
}

/// Whether a cell reads as a number, also with a unit or separators: `1,024`, `-0.5`, `12.5%`, `3.2 MB`, `1e-5`.
fn is_number(text: &str) -> bool {
    let text = text.trim();
    let first = text.split(' ').next().unwrap_or("").trim_end_matches('%').replace(',', "");
    let unit = text.split(' ').nth(1).is_none_or(|u| u.chars().count() <= 3 && u.chars().all(char::is_alphabetic));
    unit && text.split(' ').count() <= 2 && (first.parse::<f64>().is_ok() || first == "-" || first == "–")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn numbers_go_right_and_the_middle_is_left_out() {
        let rows = (0..100).map(|i| vec![format!("blocks.{i}"), i.to_string()]);
        let table = Table::new(["name", "size"]).rows(rows).max_rows(4).title("cache").note("total <1>");
        let bundle = table.bundle();
        let lines: Vec<&str> = bundle.text.lines().collect();
        assert_eq!(
            lines,
            [
                "cache",
                "name       size",
                "blocks.0      0",
                "blocks.1      1",
                "…             …",
                "blocks.98    98",
                "blocks.99    99",
                "total <1>",
                "4 of 100 rows are shown"
            ]
        );
        let html = bundle.html.unwrap();
        assert!(
            html.contains("class=\"dataframe\"")
                && html.contains("<td align=\"right\"")
                && html.contains("total &lt;1&gt;")
        );
        assert!(bundle.png.is_some());
    }

    #[test]
    fn links_stay_with_their_rows() {
        let rows = (0..10).map(|i| [i.to_string(), format!("name {i}")]);
        let urls = (0..10).map(|i| (i % 2 == 1).then(|| format!("https://x.org/{i}")));
        let html = Table::new(["i", "name"]).rows(rows).links(1, urls).max_rows(4).bundle().html.unwrap();
        assert_eq!(html.matches("<a ").count(), 2, "{html}");
        assert!(html.contains("https://x.org/1\"") && html.contains("https://x.org/9\""), "{html}");
        assert!(html.contains(">name 9</a>") && html.contains(">name 8</td>"), "{html}");
    }

    #[test]
    fn numbers_are_recognised() {
        for yes in ["1", "-0.5", "1,024", "12.5%", "3.2 MB", "1e-5", "NaN", "inf"] {
            assert!(is_number(yes), "{yes}");
        }
        for no in ["blocks", "1 2 3", "[1, 2]", "", "3 tokens"] {
            assert!(!is_number(no), "{no}");
        }
    }

    #[test]
    fn odd_tables_have_a_look() {
        for table in [
            Table::new(Vec::<String>::new()),
            Table::new(["a"]),
            Table::new(["a"]).row(["1", "2"]).row(Vec::<String>::new()),
        ] {
            assert!(table.bundle().png.is_some());
        }
    }
}
