//! Points in the plane.

use candle_core::Tensor;

use crate::display::draw::color::{Rgb, SERIES};
use crate::display::draw::gather::sample;
use crate::display::draw::number::{count, number};
use crate::display::draw::plot::{self, Axis};
use crate::display::draw::scene::{SMALL, Scene};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// How many points are drawn; of more, an even sample.
pub const MAX_POINTS: usize = 4000;

/// Points (x, y), each with an optional label under the pointer.
#[derive(Clone, Debug)]
pub struct Scatter {
    points: Vec<(f64, f64)>,
    labels: Vec<String>,
    title: String,
    x_title: String,
    y_title: String,
    log_x: bool,
    log_y: bool,
    diagonal: bool,
}

impl Scatter {
    /// From coordinates.
    ///
    /// # Errors
    /// When there are not as many x as y.
    pub fn new<X: Into<f64>, Y: Into<f64>>(
        x: impl IntoIterator<Item = X>,
        y: impl IntoIterator<Item = Y>,
    ) -> Result<Self> {
        let x: Vec<f64> = x.into_iter().map(Into::into).collect();
        let y: Vec<f64> = y.into_iter().map(Into::into).collect();
        if x.len() != y.len() {
            return Err(Error::msg(format!(
                "a scatter needs one y for each x: {} x and {} y were given",
                x.len(),
                y.len()
            )));
        }
        let points = x.into_iter().zip(y).collect();
        let none = String::new;
        Ok(Self {
            points,
            labels: Vec::new(),
            title: none(),
            x_title: none(),
            y_title: none(),
            log_x: false,
            log_y: false,
            diagonal: false,
        })
    }

    /// From two tensors of the same shape.
    ///
    /// # Errors
    /// When the shapes differ, or a tensor can't be read.
    pub fn from_tensors(x: &Tensor, y: &Tensor) -> Result<Self> {
        if x.dims() != y.dims() {
            let (a, b) = (x.dims(), y.dims());
            return Err(Error::msg(format!(
                "a scatter needs one y for each x: the tensors have shapes {a:?} and {b:?}"
            )));
        }
        Self::new(sample(x)?, sample(y)?)
    }

    /// A label for each point.
    pub fn labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// A title above the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// What the horizontal axis is.
    pub fn x_title(mut self, title: impl Into<String>) -> Self {
        self.x_title = title.into();
        self
    }

    /// What the vertical axis is.
    pub fn y_title(mut self, title: impl Into<String>) -> Self {
        self.y_title = title.into();
        self
    }

    /// A logarithmic horizontal axis.
    pub fn log_x(mut self) -> Self {
        self.log_x = true;
        self
    }

    /// A logarithmic vertical axis.
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }

    /// The line on which both coordinates are the same.
    pub fn diagonal(mut self) -> Self {
        self.diagonal = true;
        self
    }

    pub(crate) fn view(&self) -> View {
        let shown = crate::display::draw::gather::spread(self.points.len(), MAX_POINTS);
        let x = Axis::fit(self.points.iter().map(|p| p.0), self.log_x);
        let y = Axis::fit(self.points.iter().map(|p| p.1), self.log_y);
        let lost = self.points.iter().filter(|p| plot::place(&x, &y, **p).is_none()).count();
        let mut notes = Vec::new();
        if shown.len() < self.points.len() {
            notes.push(format!(
                "{} of {} points are drawn, evenly chosen",
                count(shown.len()),
                count(self.points.len())
            ));
        }
        if lost > 0 {
            notes.push(format!(
                "{} points have no place here: NaN or infinite, or not positive on a logarithmic axis",
                count(lost)
            ));
        }
        View {
            text: self.text(&notes),
            scene: Some(self.scene(&shown, (&x, &y), &notes)),
            alt: format!("Scatter plot {}", self.title),
            above: String::new(),
            below: self.listing(),
        }
    }

    fn scene(&self, shown: &[usize], (x, y): (&Axis, &Axis), notes: &[String]) -> Scene {
        let mut scene = Scene::default();
        let mut below = plot::axes(&mut scene, x, y, (&self.title, &self.x_title, &self.y_title));
        let (low, high) = (x.low.max(y.low), x.high.min(y.high));
        if self.diagonal && low < high {
            let ends = [low, high].into_iter().filter_map(|value| plot::place(x, y, (value, value)));
            scene.line(ends.collect(), Rgb::FAINT, 1.0);
        }
        let radius = if shown.len() > 500 { 2.0 } else { 3.5 };
        for i in shown {
            let Some(point) = self.points.get(*i) else { continue };
            let Some(place) = plot::place(x, y, *point) else { continue };
            scene.dot(place.0, place.1, radius, SERIES[0]);
            if shown.len() <= 1000 {
                scene.hot(place.0 - 5.0, place.1 - 5.0, 10.0, 10.0, self.name(*i));
            }
        }
        for note in notes {
            below += scene.paragraph(0.0, below, note, SMALL, plot::WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn name(&self, i: usize) -> String {
        let label = self.labels.get(i).map(|l| escape::visible_line(l)).unwrap_or_else(|| i.to_string());
        let (x, y) = self.points.get(i).copied().unwrap_or((f64::NAN, f64::NAN));
        format!("{label}: ({}, {})", number(x), number(y))
    }

    fn row(&self, i: usize) -> [String; 3] {
        let label = self.labels.get(i).map(|l| escape::visible_line(l)).unwrap_or_else(|| i.to_string());
        let (x, y) = self.points.get(i).copied().unwrap_or((f64::NAN, f64::NAN));
        [label, number(x), number(y)]
    }

    fn head(&self) -> [String; 3] {
        let or = |title: &str, plain: &str| if title.is_empty() { plain.to_string() } else { title.to_string() };
        ["point".to_string(), or(&self.x_title, "x"), or(&self.y_title, "y")]
    }

    fn listing(&self) -> String {
        const ROWS: usize = 200;
        let cells = |i: usize| self.row(i).iter().enumerate().map(|(c, text)| html::cell(text, c > 0)).collect();
        let rows: Vec<String> = (0..self.points.len().min(ROWS)).map(cells).collect();
        let n = self.points.len();
        let what = if n > ROWS { format!("The first {ROWS} of {} points", count(n)) } else { "Points".to_string() };
        html::details(&what, &html::table(&self.head(), &rows))
    }

    fn text(&self, notes: &[String]) -> String {
        const ROWS: usize = 20;
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let rows = (0..self.points.len().min(ROWS)).map(|i| self.row(i).to_vec());
        let head = self.head().map(|t| escape::terminal(&t)).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        lines.extend(crate::display::draw::text::columns(&rows, &[false, true, true]));
        if self.points.len() > ROWS {
            lines.push(format!(".. {} more points", count(self.points.len() - ROWS)));
        }
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }
}

show_view!(Scatter);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn labels_are_under_the_pointer() {
        let bundle = Scatter::new([1.0, 2.0], [3.0, f64::NAN]).unwrap().labels(["<a>", "b"]).bundle();
        let html = bundle.html.unwrap();
        assert!(html.contains("title=\"&lt;a&gt;: (1, 3)\""), "{html}");
        assert!(bundle.text.contains("1 points have no place"));
        assert!(Scatter::new([1.0], [1.0, 2.0]).is_err());
    }

    #[test]
    fn a_diagonal_is_drawn_where_both_axes_have_it() {
        let lines = |view: Scatter| view.svg().unwrap().matches("polyline").count();
        let points = || Scatter::new([1.0, 2.0], [1.5, 3.0]).unwrap();
        assert_eq!(lines(points().diagonal()), lines(points()) + 1);
        let apart = || Scatter::new([1.0, 2.0], [11.0, 12.0]).unwrap();
        assert_eq!(lines(apart().diagonal()), lines(apart()));
    }

    #[test]
    fn many_points_are_thinned() {
        let values: Vec<f64> = (0..50_000).map(f64::from).collect();
        let bundle = Scatter::new(values.clone(), values).unwrap().bundle();
        assert!(bundle.text.contains("4,000 of 50,000 points are drawn"));
        assert!(bundle.png.unwrap().len() < 100_000);
    }
}
