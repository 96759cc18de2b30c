//! A matrix as colours.

use candle_core::Tensor;

use crate::display::draw::color::{Rgb, Scale, not_finite_note};
use crate::display::draw::draw_grid::{Labels, color_bar, draw_grid, place_name};
use crate::display::draw::grid::Grid;
use crate::display::draw::number::number;
use crate::display::draw::scene::{Align, SMALL, Scene, TITLE};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// The largest picture of the cells, in logical pixels.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 440.0;
/// The most cells of a side: a cell is at least 2 logical pixels, so that it can be seen and files stay small.
const COLS: usize = 300;
const ROWS: usize = 220;
/// Up to so many cells are listed as a table, and named under the pointer.
const LISTED: usize = 1024;
const HOVERED: usize = 600;

/// A matrix as a heatmap, `[rows, cols]`, row 0 on top.
///
/// Negative values are red, positive ones blue, zero is white; without negative values the scale runs from white at 0
/// to dark blue. A matrix with more cells than fit is reduced by block means, and the picture says so.
///
/// ```
/// use candlescope::display::{Heatmap, Show};
/// let view = Heatmap::new(vec![0.5, -1.0, 2.0, 0.0], 2, 2)?.title("effect").x_labels(["a", "b"]).y_title("layer");
/// assert!(view.bundle().png.is_some());
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Heatmap {
    grid: Grid,
    scale: Scale,
    title: String,
    x_labels: Vec<String>,
    y_labels: Vec<String>,
    x_title: String,
    y_title: String,
    numbers: Option<bool>,
    notes: Vec<String>,
}

impl Heatmap {
    /// From row-major values.
    ///
    /// # Errors
    /// When there are not rows x cols values.
    pub fn new(values: Vec<f32>, rows: usize, cols: usize) -> Result<Self> {
        Ok(Self::of(Grid::new(values, rows, cols)?.reduced(ROWS, COLS)))
    }

    /// From a matrix `[rows, cols]`; leading dimensions of size 1 are ignored, and a vector is one row.
    ///
    /// # Errors
    /// When the tensor has more dimensions than that, or can't be read.
    pub fn from_tensor(values: &Tensor) -> Result<Self> {
        let mut matrix = values.clone();
        while matrix.rank() < 2 {
            matrix = matrix.unsqueeze(0)?;
        }
        let lead = matrix.rank() - 2;
        if matrix.dims().iter().take(lead).any(|n| *n != 1) {
            let shape = values.dims();
            return Err(Error::msg(format!(
                "a heatmap needs a matrix [rows, cols]; the tensor has shape {shape:?}: choose one with .get(i)?, or show \
                 all with Facets"
            )));
        }
        Ok(Self::of(Grid::read(&matrix, &vec![0; lead], ROWS, COLS)?))
    }

    fn of(grid: Grid) -> Self {
        let scale = Scale::fit(&grid.values);
        let none = String::new;
        let labels = Vec::new;
        Self {
            grid,
            scale,
            title: none(),
            x_labels: labels(),
            y_labels: labels(),
            x_title: none(),
            y_title: none(),
            numbers: None,
            notes: Vec::new(),
        }
    }

    /// A title above the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// A label for each column, such as tokens.
    pub fn x_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.x_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// A label for each row.
    pub fn y_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.y_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// What the columns are.
    pub fn x_title(mut self, title: impl Into<String>) -> Self {
        self.x_title = title.into();
        self
    }

    /// What the rows are.
    pub fn y_title(mut self, title: impl Into<String>) -> Self {
        self.y_title = title.into();
        self
    }

    /// Red to white to blue, centred at 0, also when no value is negative.
    pub fn diverging(mut self) -> Self {
        self.scale = Scale::diverging(&self.grid.values);
        self
    }

    /// White to dark blue, from the smallest value to the largest.
    pub fn sequential(mut self) -> Self {
        self.scale = Scale::sequential(&self.grid.values);
        self
    }

    /// A fixed scale, so that several pictures can be compared.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// Whether each cell shows its number; by default small matrices do.
    pub fn numbers(mut self, numbers: bool) -> Self {
        self.numbers = Some(numbers);
        self
    }

    /// A sentence below the picture.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn view(&self) -> View {
        let notes = self.all_notes();
        View {
            text: self.text(&notes),
            scene: (!self.grid.values.is_empty()).then(|| self.scene(&notes)),
            alt: format!("Heatmap {} {} x {}", self.title, self.grid.full.0, self.grid.full.1),
            above: String::new(),
            below: self.listing(),
        }
    }

    fn all_notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.grid.note.clone());
        notes.extend(not_finite_note(&self.grid.values));
        let (rows, cols) = self.grid.full;
        for (labels, n, what) in [(&self.x_labels, cols, "columns"), (&self.y_labels, rows, "rows")] {
            if !labels.is_empty() && labels.len() != n {
                notes.push(format!("{} labels were given for {n} {what}", labels.len()));
            }
        }
        if self.grid.values.is_empty() {
            notes.push("there is nothing to draw: the matrix is empty".to_string());
        }
        notes
    }

    fn scene(&self, notes: &[String]) -> Scene {
        let grid = &self.grid;
        let (rows, cols) = (grid.rows as f64, grid.cols as f64);
        let numbers = self.numbers.unwrap_or(rows * cols <= 150.0 && cols <= 14.0) && grid.note.is_none();
        let (widest, tallest) = if numbers { (46.0, 24.0) } else { (30.0, 26.0) };
        let mut cell_w = (WIDTH / cols).min(widest);
        let mut cell_h = (HEIGHT / rows).min(tallest);
        if !numbers && rows > 1.0 && (0.4..2.5).contains(&(cols / rows)) {
            cell_w = cell_w.min(cell_h);
            cell_h = cell_w;
        }
        // Whole device pixels (two for a logical one): all cells have the same size.
        let snap = |side: f64| if side > 1.0 { (side * 2.0).floor() / 2.0 } else { side };
        let (cell_w, cell_h) = (snap(cell_w), snap(cell_h));
        let (width, height) = (cell_w * cols, cell_h * rows);

        let mut scene = Scene::default();
        let labels = Labels {
            x: &self.x_labels,
            y: &self.y_labels,
            x_title: &self.x_title,
            y_title: &self.y_title,
            size: SMALL,
            numbered: true,
        };
        let bottom = draw_grid(&mut scene, grid, &self.scale, (0.0, 0.0), (cell_w, cell_h), &labels);
        if numbers {
            for row in 0..grid.rows {
                for col in 0..grid.cols {
                    let value = grid.at(row, col);
                    let (x, y) = ((col as f64 + 0.5) * cell_w, (row as f64 + 0.5) * cell_h);
                    let text = crate::display::draw::font::fit(&short(value, &self.scale), SMALL - 1.0, cell_w - 2.0);
                    scene.ink(x, y, &text, SMALL - 1.0, Align::Center, self.scale.color(value).ink());
                }
            }
        }
        if grid.values.len() <= HOVERED {
            for row in 0..grid.rows {
                for col in 0..grid.cols {
                    let title =
                        format!("{}, {}: {}", self.y_name(row), self.x_name(col), number(grid.at(row, col).into()));
                    scene.hot(col as f64 * cell_w, row as f64 * cell_h, cell_w, cell_h, title);
                }
            }
        }
        color_bar(&mut scene, &self.scale, width + 18.0, 0.0, height.clamp(70.0, 180.0));
        if !self.title.is_empty() {
            scene.text(
                0.0,
                -TITLE - 2.0,
                &crate::display::draw::font::fit(&crate::display::draw::font::drawable(&self.title), TITLE, WIDTH),
                TITLE,
                Align::Left,
            );
        }
        let mut y = bottom.max(height.max(70.0) + 14.0);
        for note in notes {
            y += scene.paragraph(0.0, y, note, SMALL, width.max(420.0), Rgb::FAINT);
        }
        scene.finish()
    }

    fn x_name(&self, col: usize) -> String {
        place_name(
            &self.x_labels,
            self.grid.col_start(col),
            if self.x_title.is_empty() { "column" } else { &self.x_title },
        )
    }

    fn y_name(&self, row: usize) -> String {
        place_name(
            &self.y_labels,
            self.grid.row_start(row),
            if self.y_title.is_empty() { "row" } else { &self.y_title },
        )
    }

    /// A table of all values if they are few, of the largest otherwise.
    fn listing(&self) -> String {
        let grid = &self.grid;
        if grid.values.is_empty() {
            return html::notes(&self.all_notes());
        }
        if grid.values.len() <= LISTED && grid.note.is_none() {
            let mut head = vec![String::new()];
            head.extend((0..grid.cols).map(|c| label(&self.x_labels, c)));
            let rows: Vec<String> = (0..grid.rows)
                .map(|row| {
                    let cells = (0..grid.cols).map(|col| {
                        let value = grid.at(row, col);
                        html::colored_cell(&short(value, &self.scale), self.scale.color(value))
                    });
                    format!(
                        "<th align=\"left\">{}</th>{}",
                        escape::html(&label(&self.y_labels, row)),
                        cells.collect::<String>()
                    )
                })
                .collect();
            return html::details("Values", &html::table(&head, &rows));
        }
        let rows: Vec<String> = self
            .largest(10)
            .iter()
            .map(|(row, col)| {
                let value = grid.at(*row, *col);
                let names = html::cell(&self.y_name(*row), false) + &html::cell(&self.x_name(*col), false);
                names + &html::colored_cell(&number(value.into()), self.scale.color(value))
            })
            .collect();
        let head = [self.y_title.clone(), self.x_title.clone(), "value".to_string()];
        html::details("The cells furthest from zero", &html::table(&head, &rows))
    }

    /// The cells with the largest magnitudes, largest first.
    fn largest(&self, n: usize) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = (0..self.grid.values.len()).filter(|i| self.grid.values[*i].is_finite()).collect();
        order.sort_by(|a, b| self.grid.values[*b].abs().total_cmp(&self.grid.values[*a].abs()));
        order.into_iter().take(n).map(|i| (i / self.grid.cols, i % self.grid.cols)).collect()
    }

    fn text(&self, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let small = self.grid.reduced(24, 30);
        let width = (0..small.rows)
            .map(|r| label(&self.y_labels, small.row_start(r)).chars().count())
            .max()
            .unwrap_or(0)
            .min(14);
        for row in 0..small.rows {
            let name = escape::shorten(&label(&self.y_labels, small.row_start(row)), 14);
            let cells: String =
                (0..small.cols).map(|col| crate::display::draw::text::cell(&self.scale, small.at(row, col))).collect();
            lines.push(format!("{name:>width$} |{cells}|"));
        }
        if !self.x_labels.is_empty() && small.cols > 0 {
            let names: Vec<String> = (0..small.cols).map(|c| label(&self.x_labels, small.col_start(c))).collect();
            lines.push(format!("columns: {}", escape::shorten(&names.join(" "), 100)));
        }
        lines.push(crate::display::draw::text::legend(&self.scale));
        lines.extend(crate::display::draw::text::reduced(&small));
        lines.extend(notes.iter().map(|n| escape::terminal(n)));
        lines.join("\n")
    }
}

show_view!(Heatmap);

/// The label of a row or a column: the one given, or the index.
fn label(labels: &[String], i: usize) -> String {
    labels.get(i).map(|l| escape::visible_line(l)).unwrap_or_else(|| i.to_string())
}

/// A number for a narrow cell, with the decimals that the scale's width asks for.
fn short(value: f32, scale: &Scale) -> String {
    let (low, high) = scale.limits();
    let widest = low.abs().max(high.abs());
    let whole = value.fract() == 0.0 && value != 0.0;
    if !value.is_finite() || whole || !(0.01..1000.0).contains(&widest) {
        return number(value.into());
    }
    let decimals = if widest < 0.1 {
        3
    } else if widest < 100.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.decimals$}");
    // A zero has no sign.
    if text.trim_start_matches('-').chars().all(|c| "0.".contains(c)) {
        text.trim_start_matches('-').to_string()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn colours_lie_where_the_values_are() {
        let view = Heatmap::new(vec![1.0, -1.0, 0.0, f32::NAN], 2, 2).unwrap().numbers(false);
        let bundle = view.bundle();
        let picture = image::load_from_memory(bundle.png.as_ref().unwrap()).unwrap().to_rgb8();
        let scene = view.view().scene.unwrap();
        assert_eq!((picture.width(), picture.height()), ((scene.width * 2.0) as u32, (scene.height * 2.0) as u32));
        let colors: Vec<[u8; 3]> = scene
            .hots
            .iter()
            .map(|hot| picture.get_pixel(((hot.x + hot.w / 2.0) * 2.0) as u32, ((hot.y + hot.h / 2.0) * 2.0) as u32).0)
            .collect();
        let [blue, red, white, grey] = colors[..] else { panic!("{colors:?}") };
        assert!(blue[2] > blue[0] + 60 && red[0] > red[2] + 60, "{colors:?}");
        assert_eq!((white, grey), ([255; 3], [160; 3]));
        assert!(bundle.text.contains("grey: NaN (1)"), "{}", bundle.text);
    }

    #[test]
    fn labels_are_escaped_everywhere() {
        let evil = "<script>alert(1)</script>";
        let bundle =
            Heatmap::new(vec![1.0], 1, 1).unwrap().x_labels([evil]).y_labels(["\u{1b}[31m"]).title(evil).bundle();
        assert!(!bundle.html.unwrap().contains("<script>alert"));
        assert!(!bundle.text.contains('\u{1b}'));
    }

    #[test]
    fn any_shape_has_a_look() {
        for (rows, cols) in [(0, 0), (0, 3), (1, 1), (1, 3000), (3000, 1), (1000, 1000)] {
            let bundle = Heatmap::new(vec![0.5; rows * cols], rows, cols).unwrap().bundle();
            assert_eq!(bundle.png.is_some(), rows * cols > 0);
            assert!(bundle.text.lines().count() < 32);
        }
        let odd = Heatmap::new(vec![f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN], 2, 2).unwrap().bundle();
        assert!(odd.text.contains("yellow: +inf (1), purple: -inf (1)"));
    }
}
