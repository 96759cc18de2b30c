//! Several matrices side by side, on one colour scale.

use candle_core::Tensor;

use crate::analysis::unravel;
use crate::display::draw::color::{Rgb, Scale, not_finite_note};
use crate::display::draw::draw_grid::{Labels, color_bar, draw_grid, place_name};
use crate::display::draw::font;
use crate::display::draw::gather::BUDGET;
use crate::display::draw::grid::Grid;
use crate::display::draw::number::number;
use crate::display::draw::scene::{Align, SMALL, Scene};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// How many panels are drawn; more are left out, and the picture says so.
pub const MAX_PANELS: usize = 48;
/// The width that all panels of a row share.
const WIDTH: f64 = 640.0;
/// Up to so many cells of all panels together are named under the pointer.
const HOVERED: usize = 1200;
/// The most cells of a panel's side.
const CELLS: usize = 256;

/// Several matrices as small heatmaps on a common scale, in reading order.
#[derive(Clone, Debug)]
pub struct Facets {
    panels: Vec<(String, Grid)>,
    total: usize,
    scale: Scale,
    title: String,
    x_title: String,
    y_title: String,
    x_labels: Vec<String>,
    y_labels: Vec<String>,
}

impl Facets {
    /// From titles and row-major values: `(title, values, rows, cols)` for each panel.
    ///
    /// # Errors
    /// When a panel has not rows x cols values.
    pub fn new<S: Into<String>>(panels: impl IntoIterator<Item = (S, Vec<f32>, usize, usize)>) -> Result<Self> {
        let panels: Vec<_> = panels.into_iter().collect();
        let total = panels.len();
        let grids: Result<Vec<_>> = panels
            .into_iter()
            .take(MAX_PANELS)
            .map(|(title, values, rows, cols)| Ok((title.into(), Grid::new(values, rows, cols)?.reduced(CELLS, CELLS))))
            .collect();
        Ok(Self::of(grids?, total))
    }

    /// The matrices of a tensor `[.., rows, cols]` with at least one leading dimension, such as `[layer, rows, cols]`.
    ///
    /// # Errors
    /// When the tensor has fewer than three dimensions, or can't be read.
    pub fn from_tensor(values: &Tensor) -> Result<Self> {
        let dims = values.dims();
        let [lead @ .., _, _] = dims else {
            return Err(Error::msg(format!("facets need at least [n, rows, cols]; the tensor has shape {dims:?}")));
        };
        if lead.is_empty() {
            return Err(Error::msg(format!("facets need at least [n, rows, cols]; the tensor has shape {dims:?}")));
        }
        let total: usize = lead.iter().product();
        // Smaller pictures where there are many: the whole reads no more than one large heatmap.
        let side = match total {
            0..=12 => CELLS,
            13..=24 => 96,
            _ => 48,
        };
        let budget = BUDGET / total.clamp(1, MAX_PANELS);
        let panels: Result<Vec<_>> = (0..total.min(MAX_PANELS))
            .map(|n| {
                let index = unravel(n, lead);
                Ok((panel_name(&index), Grid::read_within(budget, values, &index, side, side)?))
            })
            .collect();
        Ok(Self::of(panels?, total))
    }

    fn of(panels: Vec<(String, Grid)>, total: usize) -> Self {
        let scale = Scale::fit(&all_values(&panels));
        let (x_labels, y_labels) = (Vec::new(), Vec::new());
        let (title, x_title, y_title) = (String::new(), String::new(), String::new());
        Self { panels, total, scale, title, x_title, y_title, x_labels, y_labels }
    }

    /// A title above all panels.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Titles of the panels, in order.
    pub fn panel_titles<S: Into<String>>(mut self, titles: impl IntoIterator<Item = S>) -> Self {
        for (panel, title) in self.panels.iter_mut().zip(titles) {
            panel.0 = title.into();
        }
        self
    }

    /// What the columns of each panel are.
    pub fn x_title(mut self, title: impl Into<String>) -> Self {
        self.x_title = title.into();
        self
    }

    /// What the rows of each panel are.
    pub fn y_title(mut self, title: impl Into<String>) -> Self {
        self.y_title = title.into();
        self
    }

    /// A label for each column of every panel, such as tokens.
    pub fn x_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.x_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// A label for each row of every panel.
    pub fn y_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.y_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Red to white to blue, centred at 0, also when no value is negative.
    pub fn diverging(mut self) -> Self {
        self.scale = Scale::diverging(&all_values(&self.panels));
        self
    }

    /// A fixed scale, so that several pictures can be compared.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    pub(crate) fn view(&self) -> View {
        let notes = self.notes();
        let drawn = self.panels.iter().any(|p| !p.1.values.is_empty());
        View {
            text: self.text(&notes),
            scene: drawn.then(|| self.scene(&notes)),
            alt: format!("{} heatmaps {}", self.panels.len(), self.title),
            above: String::new(),
            below: self.listing(&notes, drawn),
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.total > self.panels.len() {
            notes.push(format!("the first {} of {} matrices are drawn", self.panels.len(), self.total));
        }
        notes.extend(self.panels.iter().find_map(|p| p.1.note.clone()));
        notes.extend(not_finite_note(&all_values(&self.panels)));
        notes
    }

    fn scene(&self, notes: &[String]) -> Scene {
        let n = self.panels.len();
        let across = match n {
            1..=4 => n,
            5..=6 => 3,
            7..=8 => 4,
            9 => 3,
            10..=24 => 4,
            _ => 6,
        };
        // The panels to the left and those at the bottom are labelled.
        let gap = 16.0;
        let cells: usize = self.panels.iter().map(|panel| panel.1.values.len()).sum();
        let side = ((WIDTH - gap * (across as f64 - 1.0)) / across as f64).min(260.0);
        let top = if n > 24 { 16.0 } else { 20.0 };
        let mut scene = Scene::default();
        let mut y = 0.0;
        let mut bar = None;
        let mut bottom = 0f64;
        for (r, row) in self.panels.chunks(across).enumerate() {
            let tallest = row.iter().map(|p| panel_size(&p.1, side).1).fold(0.0, f64::max);
            for (i, (title, grid)) in row.iter().enumerate() {
                let x = i as f64 * (side + gap);
                let (cell_w, cell_h) = panel_cell(grid, side);
                let below = (r + 1) * across + i >= n;
                let labels = Labels {
                    x: if below { &self.x_labels } else { &[] },
                    y: if i == 0 { &self.y_labels } else { &[] },
                    x_title: "",
                    y_title: "",
                    size: SMALL - 2.0,
                    numbered: false,
                };
                let end = draw_grid(&mut scene, grid, &self.scale, (x, y + top), (cell_w, cell_h), &labels);
                if !labels.x.is_empty() || !labels.y.is_empty() {
                    bottom = bottom.max(end);
                }
                let title = font::fit(&font::drawable(&escape::visible_line(title)), SMALL, side);
                scene.text(x, y + top - 9.0, &title, SMALL, Align::Left);
                if cells <= HOVERED {
                    for (row, col) in (0..grid.rows).flat_map(|row| (0..grid.cols).map(move |col| (row, col))) {
                        let (x, y) = (x + col as f64 * cell_w, y + top + row as f64 * cell_h);
                        let value = number(grid.at(row, col).into());
                        let place =
                            format!("{}, {}", self.y_name(grid.row_start(row)), self.x_name(grid.col_start(col)));
                        scene.hot(x, y, cell_w, cell_h, format!("{title}: {place}: {value}"));
                    }
                } else {
                    let (w, h) = panel_size(grid, side);
                    scene.hot(x, y + top, w, h, format!("{title}: {} x {}", grid.full.0, grid.full.1));
                }
            }
            bar.get_or_insert(y + top);
            y += top + tallest + 8.0;
        }
        let width = across as f64 * (side + gap) - gap;
        color_bar(&mut scene, &self.scale, width + 18.0, bar.unwrap_or(0.0), side.clamp(70.0, 160.0));
        scene.title(&self.title, WIDTH);
        let mut y = y.max(90.0).max(bottom) + 2.0;
        if let Some(axes) = self.axes() {
            y += scene.paragraph(0.0, y, &axes, SMALL, width.max(420.0), Rgb::INK);
        }
        for note in notes {
            y += scene.paragraph(0.0, y, note, SMALL, width.max(420.0), Rgb::FAINT);
        }
        scene.finish()
    }

    fn x_name(&self, col: usize) -> String {
        place_name(&self.x_labels, col, if self.x_title.is_empty() { "column" } else { &self.x_title })
    }

    fn y_name(&self, row: usize) -> String {
        place_name(&self.y_labels, row, if self.y_title.is_empty() { "row" } else { &self.y_title })
    }

    fn axes(&self) -> Option<String> {
        match (self.x_title.as_str(), self.y_title.as_str()) {
            ("", "") => None,
            (x, "") => Some(format!("across: {x}")),
            ("", y) => Some(format!("down: {y}")),
            (x, y) => Some(format!("down: {y}, across: {x}")),
        }
    }

    fn summary(&self) -> Vec<[String; 5]> {
        let one = |(title, grid): &(String, Grid)| {
            let (low, high) = crate::display::draw::color::extent(&grid.values);
            let mean = grid.values.iter().map(|v| f64::from(*v)).sum::<f64>() / grid.values.len().max(1) as f64;
            let shape = format!("{} x {}", grid.full.0, grid.full.1);
            [title.clone(), shape, number(low.into()), number(mean), number(high.into())]
        };
        self.panels.iter().map(one).collect()
    }

    fn listing(&self, notes: &[String], drawn: bool) -> String {
        let rows: Vec<String> = self
            .summary()
            .iter()
            .map(|row| row.iter().enumerate().map(|(i, text)| html::cell(&escape::visible_line(text), i > 1)).collect())
            .collect();
        let head = ["panel", "shape", "min", "mean", "max"].map(String::from);
        let table = html::details("Panels", &html::table(&head, &rows));
        if drawn { table } else { html::heading(&self.title) + &html::notes(notes) + &table }
    }

    fn text(&self, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        lines.extend(self.axes().map(|a| escape::terminal(&a)));
        if self.panels.len() <= 4 {
            for (title, grid) in &self.panels {
                lines.push(escape::visible_line(title));
                let small = grid.reduced(8, 30);
                for row in 0..small.rows {
                    let cells: String = (0..small.cols)
                        .map(|c| crate::display::draw::text::cell(&self.scale, small.at(row, c)))
                        .collect();
                    lines.push(format!("  |{cells}|"));
                }
            }
            lines.push(crate::display::draw::text::legend(&self.scale));
        } else {
            let head = ["panel", "shape", "min", "mean", "max"].map(String::from).to_vec();
            let rows = self.summary().into_iter().take(24).map(|r| r.iter().map(|t| escape::visible_line(t)).collect());
            let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
            lines.extend(crate::display::draw::text::columns(&rows, &[false, false, true, true, true]));
        }
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }
}

show_view!(Facets);

fn all_values(panels: &[(String, Grid)]) -> Vec<f32> {
    panels.iter().flat_map(|p| p.1.values.iter().copied()).collect()
}

/// The size of a cell of a panel whose larger side gets `side` pixels.
fn panel_cell(grid: &Grid, side: f64) -> (f64, f64) {
    let (rows, cols) = (grid.rows.max(1) as f64, grid.cols.max(1) as f64);
    if (0.25..4.0).contains(&(cols / rows)) {
        let cell = (side / rows.max(cols)).min(28.0);
        (cell, cell)
    } else {
        ((side / cols).min(28.0), (side / rows).min(28.0))
    }
}

fn panel_size(grid: &Grid, side: f64) -> (f64, f64) {
    let (w, h) = panel_cell(grid, side);
    (w * grid.cols as f64, h * grid.rows as f64)
}

fn panel_name(index: &[usize]) -> String {
    format!("[{}]", index.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;
    use candle_core::{DType, Device};

    #[test]
    fn panels_share_one_scale() {
        let facets = Facets::new([("a", vec![1.0, -4.0], 1, 2), ("b", vec![2.0, 0.0], 1, 2)]).unwrap();
        assert_eq!(facets.scale, Scale::Diverging { limit: 4.0 });
        let bundle = facets.title("<b>").bundle();
        assert!(bundle.png.is_some() && !bundle.html.unwrap().contains("<b><b>"));
    }

    #[test]
    fn labels_stand_once_and_cells_are_named() {
        let panel = |name: &str| (name.to_string(), vec![1.0, 2.0, 3.0, 4.0], 2, 2);
        let facets = Facets::new(["a", "b", "c", "d", "e", "f", "g"].map(panel)).unwrap();
        let html = facets.x_labels(["<x>", "y"]).y_labels(["p", "q"]).bundle().html.unwrap();
        assert!(html.contains("b: q (1), &lt;x&gt; (0): 3"), "{html}");
        let svg = Facets::new(["a", "b"].map(panel)).unwrap().y_labels(["left", "right"]).svg().unwrap();
        assert_eq!((svg.matches("left").count(), svg.matches("right").count()), (1, 1));
    }

    #[test]
    fn leading_dimensions_become_panels() {
        let tensor = Tensor::zeros((2, 30, 4, 5), DType::F32, &Device::Cpu).unwrap();
        let facets = Facets::from_tensor(&tensor).unwrap();
        assert_eq!((facets.panels.len(), facets.panels[31].0.as_str()), (MAX_PANELS, "[1, 1]"));
        assert!(facets.bundle().text.contains("the first 48 of 60 matrices"));
        assert!(Facets::from_tensor(&Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap()).is_err());
        let empty = Tensor::zeros((0, 4, 5), DType::F32, &Device::Cpu).unwrap();
        assert!(Facets::from_tensor(&empty).unwrap().bundle().png.is_none());
    }
}
