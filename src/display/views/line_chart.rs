//! Curves.

use candle_core::Tensor;

use crate::display::draw::color::{Rgb, SERIES};
use crate::display::draw::gather::{gather, spread};
use crate::display::draw::number::{count, number};
use crate::display::draw::plot::{self, Axis};
use crate::display::draw::scene::{SMALL, Scene};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// A curve with more points than this is drawn by the lowest and the highest of each piece.
const POINTS: usize = 800;
/// How many curves are drawn.
pub const MAX_SERIES: usize = 24;

/// One or several curves in one frame.
///
/// ```
/// use candlescope::display::{LineChart, Show};
/// let chart = LineChart::new().series("train", [3.1, 2.0, 1.4]).series("test", [3.2, 2.4, 2.1]).x_title("epoch").log_y();
/// assert!(chart.bundle().png.is_some());
/// ```
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    series: Vec<Series>,
    title: String,
    x_title: String,
    y_title: String,
    log_x: bool,
    log_y: bool,
    markers: Option<bool>,
    left_out: usize,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl LineChart {
    /// An empty frame; add curves with [`series`](Self::series) or [`points`](Self::points).
    pub fn new() -> Self {
        Self::default()
    }

    /// A vector as one curve, or each row of a matrix `[series, points]` as one (the first [`MAX_SERIES`]).
    ///
    /// # Errors
    /// When the tensor has another number of dimensions, or can't be read.
    pub fn from_tensor(values: &Tensor) -> Result<Self> {
        match *values.dims() {
            [n] => {
                let (index, points) = thinned(values, &[], n)?;
                Ok(Self::new().points("", index.into_iter().zip(points)))
            }
            [rows, cols] => {
                let mut chart = Self::new();
                for row in 0..rows.min(MAX_SERIES) {
                    let (index, points) = thinned(values, &[row], cols)?;
                    chart = chart.points(row.to_string(), index.into_iter().zip(points));
                }
                chart.left_out = rows.saturating_sub(MAX_SERIES);
                Ok(chart)
            }
            _ => {
                let shape = values.dims();
                Err(Error::msg(format!(
                    "a line chart needs a vector or a matrix [series, points]; the tensor has shape {shape:?}"
                )))
            }
        }
    }

    /// Adds a curve over 0, 1, 2, ..
    pub fn series<T: Into<f64>>(self, name: impl Into<String>, y: impl IntoIterator<Item = T>) -> Self {
        self.points(name, y.into_iter().enumerate().map(|(i, y)| (i as f64, y.into())))
    }

    /// Adds a curve through points (x, y).
    pub fn points(mut self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        if self.series.len() >= MAX_SERIES {
            self.left_out += 1;
        } else {
            self.series.push(Series { name: name.into(), points: points.into_iter().collect() });
        }
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

    /// Whether points have markers; by default short curves do.
    pub fn markers(mut self, markers: bool) -> Self {
        self.markers = Some(markers);
        self
    }

    pub(crate) fn view(&self) -> View {
        let notes = self.notes();
        View {
            text: self.text(&notes),
            scene: Some(self.scene(&notes)),
            alt: format!("Line chart {}", self.title),
            above: String::new(),
            below: self.listing(),
        }
    }

    fn placed(&self, point: &(f64, f64)) -> bool {
        let fine = |v: f64, log: bool| v.is_finite() && (!log || v > 0.0);
        fine(point.0, self.log_x) && fine(point.1, self.log_y)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let all: usize = self.series.iter().map(|s| s.points.len()).sum();
        let lost = self.series.iter().flat_map(|s| &s.points).filter(|p| !self.placed(p)).count();
        if lost > 0 {
            let log = if self.log_x || self.log_y { ", or not positive on a logarithmic axis" } else { "" };
            notes.push(format!("{} of {} points are not drawn: NaN or infinite{log}", count(lost), count(all)));
        }
        if let Some(long) = self.series.iter().map(|s| s.points.len()).filter(|n| *n > POINTS).max() {
            notes.push(format!("{} points drawn as the lowest and highest of each piece", count(long)));
        }
        if self.left_out > 0 {
            notes.push(format!("the first {MAX_SERIES} of {} curves are drawn", MAX_SERIES + self.left_out));
        }
        if all == 0 {
            notes.push("there is nothing to draw: no points".to_string());
        }
        notes
    }

    fn scene(&self, notes: &[String]) -> Scene {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let x = Axis::fit(points().map(|p| p.0), self.log_x);
        let y = Axis::fit(points().map(|p| p.1), self.log_y);
        let mut scene = Scene::default();
        let bottom = plot::axes(&mut scene, &x, &y, (&self.title, &self.x_title, &self.y_title));
        for (i, series) in self.series.iter().enumerate() {
            let color = SERIES[i % SERIES.len()];
            let points = envelope(&series.points);
            let markers = self.markers.unwrap_or(points.len() <= 40);
            let (mut run, mut last_named) = (Vec::new(), None);
            for point in &points {
                match plot::place(&x, &y, *point) {
                    Some(place) => {
                        run.push(place);
                        if markers {
                            scene.dot(place.0, place.1, 3.0, color);
                        }
                        // Points that the pointer can't tell apart have one text, the first one's.
                        let apart = |named: (f64, f64)| (place.0 - named.0).abs() + (place.1 - named.1).abs() >= 4.0;
                        if points.len() * self.series.len() <= 400 && last_named.is_none_or(apart) {
                            last_named = Some(place);
                            let title = format!("{} ({}, {})", series.name, number(point.0), number(point.1));
                            scene.hot(place.0 - 5.0, place.1 - 5.0, 10.0, 10.0, title.trim().to_string());
                        }
                    }
                    // A point without a place is a gap in the curve; a point alone between gaps is a dot.
                    None => finish_run(&mut scene, &mut run, color),
                }
            }
            finish_run(&mut scene, &mut run, color);
        }
        if self.series.len() > 1 || self.series.iter().any(|s| !s.name.is_empty()) {
            let names: Vec<(String, Rgb)> = self
                .series
                .iter()
                .enumerate()
                .map(|(i, s)| (escape::visible_line(&s.name), SERIES[i % SERIES.len()]))
                .collect();
            plot::legend(&mut scene, &names);
        }
        let mut y = bottom;
        for note in notes {
            y += scene.paragraph(0.0, y, note, SMALL, plot::WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn listing(&self) -> String {
        const ROWS: usize = 100;
        let longest = self.series.iter().map(|s| s.points.len()).max().unwrap_or(0);
        let mut head = vec![if self.x_title.is_empty() { "x".to_string() } else { self.x_title.clone() }];
        head.extend(self.series.iter().take(8).map(|s| s.name.clone()));
        let rows: Vec<String> = (0..longest.min(ROWS))
            .map(|i| {
                let x = self.series.iter().find_map(|s| s.points.get(i)).map(|p| number(p.0)).unwrap_or_default();
                let mut row = html::cell(&x, true);
                for series in self.series.iter().take(8) {
                    row += &html::cell(&series.points.get(i).map(|p| number(p.1)).unwrap_or_default(), true);
                }
                row
            })
            .collect();
        let what = if longest > ROWS {
            format!("The first {ROWS} of {} points", count(longest))
        } else {
            "Points".to_string()
        };
        html::details(&what, &html::table(&head, &rows))
    }

    fn text(&self, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let width = self.series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).min(20);
        for series in &self.series {
            let y: Vec<f64> = series.points.iter().map(|p| p.1).collect();
            let shown: Vec<f64> = spread(y.len(), 60).into_iter().filter_map(|i| y.get(i).copied()).collect();
            let finite = y.iter().copied().filter(|v| v.is_finite());
            let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            let range = if low > high { String::new() } else { format!("{} to {}", number(low), number(high)) };
            let name = escape::shorten(&escape::visible_line(&series.name), 20);
            lines.push(
                format!(
                    "{name:<width$} {}  {range}, {} points",
                    crate::display::draw::text::sparkline(&shown),
                    count(y.len())
                )
                .trim()
                .to_string(),
            );
        }
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }
}

show_view!(LineChart);

fn finish_run(scene: &mut Scene, run: &mut Vec<(f64, f64)>, color: Rgb) {
    if let [(x, y)] = run[..] {
        scene.dot(x, y, 2.0, color);
    }
    scene.line(std::mem::take(run), color, 1.5);
}

/// At most about [`POINTS`] points: of each piece the lowest and the highest, in order, and a gap where it has one.
fn envelope(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let mut out = Vec::new();
    for piece in points.chunks(points.len().div_ceil(POINTS / 2)) {
        let finite = || piece.iter().enumerate().filter(|p| p.1.1.is_finite());
        let low = finite().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let high = finite().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        match (low, high) {
            (Some(low), Some(high)) => out.extend(if low.0 <= high.0 { [*low.1, *high.1] } else { [*high.1, *low.1] }),
            _ => out.extend(piece.first()),
        }
    }
    out
}

/// A row's values, thinned to what one look may read, with their indices.
fn thinned(values: &Tensor, lead: &[usize], n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let index = spread(n, 1 << 18);
    let mut picks: Vec<Vec<usize>> = lead.iter().map(|i| vec![*i]).collect();
    picks.push(index.clone());
    let points = gather(values, &picks)?;
    Ok((index.into_iter().map(|i| i as f64).collect(), points))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn curves_have_gaps_and_notes() {
        let chart = LineChart::new().series("loss<", [1.0, f64::NAN, 10.0, 100.0]).series("b", [1.0f32, 2.0]).log_y();
        let bundle = chart.bundle();
        assert!(bundle.text.contains("1 of 6 points are not drawn"), "{}", bundle.text);
        assert!(bundle.text.contains("1 to 100"));
        assert!(bundle.html.unwrap().contains("loss&lt; (0, 1)"));
    }

    #[test]
    fn long_curves_keep_their_extremes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 0.0)).collect();
        points[77_777].1 = 5.0;
        points[3].1 = -5.0;
        let drawn = envelope(&points);
        assert!(drawn.len() <= POINTS + 2);
        assert!(drawn.contains(&(77_777.0, 5.0)) && drawn.contains(&(3.0, -5.0)));
    }

    #[test]
    fn nothing_is_an_empty_frame() {
        assert!(LineChart::new().bundle().text.contains("no points"));
        assert!(LineChart::new().series("", Vec::<f64>::new()).bundle().png.is_some());
        let infinite = LineChart::new().series("", [f64::INFINITY]).log_x().log_y();
        assert!(infinite.bundle().png.is_some());
    }
}
