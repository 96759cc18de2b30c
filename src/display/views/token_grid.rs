//! A grid of tokens: a text and a colour in every cell.

use crate::display::draw::color::{Rgb, Scale, not_finite_note};
use crate::display::draw::font;
use crate::display::draw::number::number;
use crate::display::draw::scene::{Align, SMALL, Scene};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// The most rows and columns that are shown; beyond them, rows are taken evenly and columns from the end.
const ROWS: usize = 60;
const COLS: usize = 40;
/// A cell of the picture, in logical pixels.
const CELL: (f64, f64) = (62.0, 20.0);
/// A cell of the text form, in characters, and how many fit beside each other.
const CHARS: usize = 10;
const TEXT_COLS: usize = 10;
const LABEL: f64 = 90.0;

/// Rows and columns of tokens, whitespace visible, each with a value as its colour: what a lens shows for layers (rows) and
/// positions (columns). Row 0 is at the bottom, as layers are.
///
/// ```
/// use candlescope::display::{Show, TokenGrid};
/// let cells = vec![(" the".to_string(), 0.2), (" cat".to_string(), 0.9)];
/// let view = TokenGrid::new(cells, 2, 1)?.y_labels(["0_pre", "final_post"]).x_labels(["The"]).value_name("probability");
/// assert!(view.bundle().text.contains("·cat"));
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenGrid {
    cells: Vec<(String, f32)>,
    rows: usize,
    cols: usize,
    scale: Option<Scale>,
    x_labels: Vec<String>,
    y_labels: Vec<String>,
    value_name: String,
    title: String,
    notes: Vec<String>,
    hints: Vec<String>,
}

impl TokenGrid {
    /// From texts with their values, in row-major order.
    ///
    /// # Errors
    /// When there are not rows x cols of them.
    pub fn new(cells: Vec<(String, f32)>, rows: usize, cols: usize) -> Result<Self> {
        if rows.checked_mul(cols) != Some(cells.len()) {
            let n = cells.len();
            return Err(Error::msg(format!(
                "a grid of {rows} rows and {cols} columns needs that many cells, and {n} were given"
            )));
        }
        Ok(Self {
            cells,
            rows,
            cols,
            scale: None,
            x_labels: Vec::new(),
            y_labels: Vec::new(),
            value_name: "value".to_string(),
            title: String::new(),
            notes: Vec::new(),
            hints: Vec::new(),
        })
    }

    /// A label for each column, such as the prompt's tokens.
    pub fn x_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.x_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// A label for each row, such as layers.
    pub fn y_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.y_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// What the values are, such as `probability`.
    pub fn value_name(mut self, name: impl Into<String>) -> Self {
        self.value_name = name.into();
        self
    }

    /// A fixed colour scale.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = Some(scale);
        self
    }

    /// A title above the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// A sentence below the picture.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// What is shown under the pointer, for each cell in row-major order, beside its text and value.
    pub fn hints<S: Into<String>>(mut self, hints: impl IntoIterator<Item = S>) -> Self {
        self.hints = hints.into_iter().map(Into::into).collect();
        self
    }

    pub(crate) fn view(&self) -> View {
        let notes = self.all_notes();
        View {
            text: self.text(&notes),
            scene: (self.rows * self.cols > 0).then(|| self.scene(&notes)),
            alt: format!("Grid of tokens {}", self.title),
            above: String::new(),
            below: html::details("As a table", &self.table()),
        }
    }

    fn scale_used(&self) -> Scale {
        let values: Vec<f32> = self.cells.iter().map(|(_, value)| *value).collect();
        self.scale.unwrap_or_else(|| Scale::fit(&values))
    }

    /// The rows that are shown, top to bottom: the last one on top, and always the first and the last.
    fn rows_shown(&self) -> Vec<usize> {
        let shown = self.rows.min(ROWS);
        let row = |i: usize| if shown < 2 { 0 } else { i * (self.rows - 1) / (shown - 1) };
        (0..shown).rev().map(row).collect()
    }

    /// The columns that are shown: the last ones.
    fn cols_shown(&self, limit: usize) -> std::ops::Range<usize> {
        self.cols.saturating_sub(limit)..self.cols
    }

    fn all_notes(&self) -> Vec<String> {
        let (low, high) = self.scale_used().limits();
        let mut notes =
            vec![format!("colour: {} from {} to {}", self.value_name, number(low.into()), number(high.into()))];
        if self.rows > ROWS {
            notes.push(format!("{ROWS} of {} rows are shown", self.rows));
        }
        if self.cols > COLS {
            notes.push(format!("the last {COLS} of {} columns are shown", self.cols));
        }
        if self.rows * self.cols == 0 {
            notes = vec!["there is nothing to draw: no cells".to_string()];
        }
        notes.extend(not_finite_note(&self.cells.iter().map(|(_, value)| *value).collect::<Vec<_>>()));
        notes.extend(self.notes.iter().cloned());
        notes
    }

    fn scene(&self, notes: &[String]) -> Scene {
        let scale = self.scale_used();
        let (rows, cols) = (self.rows_shown(), self.cols_shown(COLS));
        let (w, h) = CELL;
        let mut scene = Scene::default();
        for (i, &row) in rows.iter().enumerate() {
            let y = i as f64 * h;
            let label = font::fit(&font::drawable(&label(&self.y_labels, row)), SMALL, LABEL);
            scene.text(-6.0, y + h / 2.0, &label, SMALL, Align::Right);
            for (j, col) in cols.clone().enumerate() {
                let x = j as f64 * w;
                let Some((token, value)) = self.cells.get(row * self.cols + col) else { continue };
                let fill = scale.color(*value);
                scene.rect(x, y, w - 1.0, h - 1.0, fill);
                let text = font::fit(&font::drawable(&escape::shorten(&escape::visible(token), 40)), SMALL, w - 6.0);
                scene.ink(x + (w - 1.0) / 2.0, y + (h - 1.0) / 2.0, &text, SMALL, Align::Center, fill.ink());
                scene.hots.push(crate::display::draw::scene::Hot { x, y, w, h, title: self.hover(row, col) });
            }
        }
        let bottom = rows.len() as f64 * h;
        for (j, col) in cols.clone().enumerate() {
            let text = font::fit(&font::drawable(&label(&self.x_labels, col)), SMALL, w - 4.0);
            scene.text(j as f64 * w + w / 2.0, bottom + h / 2.0, &text, SMALL, Align::Center);
        }
        let width = (cols.len() as f64 * w).max(420.0);
        scene.title(&escape::visible_line(&self.title), width);
        let mut y = bottom + h + 6.0;
        for note in notes {
            y += scene.paragraph(0.0, y, note, SMALL, width, Rgb::FAINT);
        }
        scene.finish()
    }

    fn hover(&self, row: usize, col: usize) -> String {
        let at = row * self.cols + col;
        let Some((token, value)) = self.cells.get(at) else { return String::new() };
        let token = escape::shorten(&escape::visible(token), 80);
        let place = format!("{}, {}", label(&self.y_labels, row), label(&self.x_labels, col));
        let value = format!("{} {}", self.value_name, number(f64::from(*value)));
        let hint = self.hints.get(at).map_or(String::new(), |hint| format!("; {}", escape::visible_line(hint)));
        format!("{place}: {token}, {value}{hint}")
    }

    fn table(&self) -> String {
        let scale = self.scale_used();
        let cols = self.cols_shown(COLS);
        let head: Vec<String> =
            std::iter::once(String::new()).chain(cols.clone().map(|col| label(&self.x_labels, col))).collect();
        let row = |row: usize| {
            let cells = cols.clone().filter_map(|col| self.cells.get(row * self.cols + col));
            let cells = cells.map(|(token, value)| {
                html::colored_cell(&escape::shorten(&escape::visible(token), 40), scale.color(*value))
            });
            html::cell(&label(&self.y_labels, row), false) + &cells.collect::<String>()
        };
        html::table(&head, &self.rows_shown().into_iter().map(row).collect::<Vec<_>>())
    }

    /// In a terminal colours are left out: each cell is its token, and those of the last columns fit.
    fn text(&self, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let cols = self.cols_shown(TEXT_COLS);
        let mut cells = Vec::new();
        for row in self.rows_shown() {
            let tokens = cols.clone().filter_map(|col| self.cells.get(row * self.cols + col));
            let tokens = tokens.map(|(token, _)| escape::shorten(&escape::visible(token), CHARS));
            cells.push(std::iter::once(escape::shorten(&label(&self.y_labels, row), 14)).chain(tokens).collect());
        }
        let names = cols.clone().map(|col| escape::shorten(&label(&self.x_labels, col), CHARS));
        cells.push(std::iter::once(String::new()).chain(names).collect::<Vec<_>>());
        lines.extend(crate::display::draw::text::columns(&cells, &vec![false; cols.len() + 1]));
        if self.cols > TEXT_COLS {
            lines.push(format!("the last {TEXT_COLS} of {} columns", self.cols));
        }
        lines.extend(notes.iter().skip(usize::from(self.rows * self.cols > 0)).map(|note| escape::terminal(note)));
        lines.join("\n")
    }
}

show_view!(TokenGrid);

/// The label of a row or column: the one given, or its number.
fn label(labels: &[String], i: usize) -> String {
    labels.get(i).map_or_else(|| i.to_string(), |label| escape::visible(label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    fn grid(rows: usize, cols: usize, token: &str) -> TokenGrid {
        let cells = (0..rows * cols).map(|i| (format!("{token}{i}"), i as f32)).collect();
        TokenGrid::new(cells, rows, cols).unwrap()
    }

    #[test]
    fn layers_grow_upwards() {
        let bundle =
            grid(2, 2, " t").y_labels(["0_pre", "final_post"]).x_labels(["The", " cat"]).title("Lens").bundle();
        let lines: Vec<&str> = bundle.text.lines().collect();
        assert_eq!(lines[0], "Lens");
        assert!(
            lines[1].starts_with("final_post") && lines[1].contains("·t2") && lines[1].contains("·t3"),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("0_pre") && lines[2].contains("·t0"), "{lines:?}");
        assert!(lines[3].contains("The") && lines[3].contains("·cat"), "{lines:?}");
        assert!(bundle.html.unwrap().contains("final_post, The: ·t2, value 2"));
    }

    #[test]
    fn any_size_and_any_text_has_a_look() {
        for (rows, cols) in [(0, 0), (0, 4), (1, 1), (300, 2), (2, 900)] {
            let bundle = grid(rows, cols, "<script>\u{1b}").title("<b>").bundle();
            assert_eq!(bundle.png.is_some(), rows * cols > 0);
            assert!(!bundle.html.unwrap().contains("<script>\\") && !bundle.text.contains('\u{1b}'));
            assert!(bundle.text.lines().count() < 80);
        }
        assert!(grid(2, 900, "a").bundle().text.contains("the last 40 of 900 columns are shown"));
        assert!(TokenGrid::new(vec![("a".to_string(), 0.0)], 2, 1).unwrap_err().to_string().contains("2 rows"));
    }
}
