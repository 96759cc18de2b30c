//! Complex numbers in their plane.

use std::f64::consts::TAU;

use crate::display::draw::color::{Rgb, SERIES};
use crate::display::draw::font;
use crate::display::draw::gather::spread;
use crate::display::draw::number::{count, number, ticks};
use crate::display::draw::plot::Axis;
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// How many numbers are drawn; of more, an even sample.
const DRAWN: usize = 2000;
/// How many numbers say what they are under the pointer.
const HOVERED: usize = 1000;
/// The side of the plotting area, in logical pixels.
const SIDE: f64 = 360.0;
/// The width of titles and notes.
const WIDTH: f64 = 440.0;
/// The plane in text: characters are about twice as high as wide.
const COLUMNS: usize = 31;
const ROWS: usize = 15;
/// The axes through zero, and the circle of the largest modulus.
const AXIS: Rgb = Rgb(120, 126, 132);
const CIRCLE: Rgb = Rgb(190, 197, 204);

/// Complex numbers λ, eigenvalues above all, as points: blue where the real part is positive, orange where it is
/// negative. Both axes have one scale, and a faint circle goes through the largest number.
///
/// ```
/// use candlescope::display::{ComplexPlane, Show};
/// let plane = ComplexPlane::new([0.9, 0.3, 0.3], [0.0, 0.4, -0.4])?.title("Eigenvalues").unit_circle();
/// assert!(plane.bundle().text.contains("Re Σλ / Σ|λ| = 0.79"));
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ComplexPlane {
    points: Vec<(f64, f64)>,
    labels: Vec<String>,
    title: String,
    unit_circle: bool,
}

impl ComplexPlane {
    /// From real and imaginary parts.
    ///
    /// # Errors
    /// When there are not as many of the one as of the other.
    pub fn new<X: Into<f64>, Y: Into<f64>>(
        re: impl IntoIterator<Item = X>,
        im: impl IntoIterator<Item = Y>,
    ) -> Result<Self> {
        let re: Vec<f64> = re.into_iter().map(Into::into).collect();
        let im: Vec<f64> = im.into_iter().map(Into::into).collect();
        if re.len() != im.len() {
            return Err(Error::msg(format!(
                "a complex number needs both of its parts: {} real and {} imaginary parts were given",
                re.len(),
                im.len()
            )));
        }
        let points = re.into_iter().zip(im).collect();
        Ok(Self { points, labels: Vec::new(), title: String::new(), unit_circle: false })
    }

    /// A label for each number, under the pointer.
    pub fn labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// A title above the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// The circle of the numbers whose modulus is 1.
    pub fn unit_circle(mut self) -> Self {
        self.unit_circle = true;
        self
    }

    /// Re Σλ / Σ|λ| of the finite numbers, -1 to 1; 0 where all are zero.
    pub(crate) fn score(&self) -> f64 {
        // Divided by the largest part, because sums of large numbers may overflow.
        let largest = self.finite().fold(0f64, |most, (re, im)| most.max(re.abs()).max(im.abs()));
        if largest == 0.0 {
            return 0.0;
        }
        let parts = self.finite().map(|(re, im)| (re / largest, im / largest));
        let (sum, moduli) = parts.fold((0f64, 0f64), |sums, (re, im)| (sums.0 + re, sums.1 + re.hypot(im)));
        sum / moduli
    }

    pub(crate) fn view(&self) -> View {
        let axis = self.axis();
        let finite: Vec<usize> =
            (0..self.points.len()).filter(|i| self.points.get(*i).is_some_and(is_finite)).collect();
        let shown: Vec<usize> = spread(finite.len(), DRAWN).iter().filter_map(|i| finite.get(*i).copied()).collect();
        let notes = self.notes(finite.len(), shown.len());
        View {
            text: self.text(&axis, &notes),
            scene: Some(self.scene(&axis, &shown, &notes)),
            alt: format!("Complex plane {}", self.title),
            above: String::new(),
            below: self.listing(),
        }
    }

    fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(is_finite)
    }

    fn largest(&self) -> f64 {
        self.finite().map(|(re, im)| re.hypot(im)).fold(0.0, f64::max)
    }

    /// Both axes: zero is in the middle, and the largest number within.
    fn axis(&self) -> Axis {
        let reach = if self.unit_circle { self.largest().max(1.0) } else { self.largest() };
        let reach = if reach > 0.0 { (reach * 1.08).min(f64::MAX) } else { 1.0 };
        Axis { low: -reach, high: reach, log: false }
    }

    fn notes(&self, finite: usize, shown: usize) -> Vec<String> {
        if self.points.is_empty() {
            return vec!["there is nothing to draw: no numbers".to_string()];
        }
        let (all, positive) = (self.points.len(), self.finite().filter(|point| point.0 > 0.0).count());
        let (all, positive, score) = (count(all), count(positive), number(hundredths(self.score())));
        let mut notes =
            vec![format!("{all} eigenvalues, {positive} with a positive real part: Re Σλ / Σ|λ| = {score}")];
        if shown < finite {
            notes.push(format!("{} of {} points are drawn, evenly chosen", count(shown), count(finite)));
        }
        if finite < self.points.len() {
            notes.push(format!("{} numbers have no place here: NaN or infinite", count(self.points.len() - finite)));
        }
        notes
    }

    fn scene(&self, axis: &Axis, shown: &[usize], notes: &[String]) -> Scene {
        let mut scene = Scene::default();
        let mut below = frame(&mut scene, axis);
        scene.title(&self.title, WIDTH);
        circle(&mut scene, axis, self.largest(), CIRCLE);
        if self.unit_circle {
            circle(&mut scene, axis, 1.0, Rgb::FAINT);
        }
        let radius = if shown.len() > 500 { 2.0 } else { 3.5 };
        for i in shown {
            let Some(point) = self.points.get(*i) else { continue };
            let Some((x, y)) = place(axis, *point) else { continue };
            scene.dot(x, y, radius, if point.0 < 0.0 { SERIES[1] } else { SERIES[0] });
            if shown.len() <= HOVERED {
                let label = self.labels.get(*i).map(|label| format!("{}: ", escape::visible_line(label)));
                scene.hot(x - 5.0, y - 5.0, 10.0, 10.0, label.unwrap_or_default() + &written(*point));
            }
        }
        for note in notes {
            below += scene.paragraph(0.0, below, note, SMALL, WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn listing(&self) -> String {
        const LISTED: usize = 200;
        let row = |(i, (re, im)): (usize, &(f64, f64))| {
            let label = self.labels.get(i).map_or_else(|| i.to_string(), |label| escape::visible_line(label));
            let numbers = [*re, *im, re.hypot(*im)].map(|part| html::cell(&number(part), true));
            html::cell(&label, false) + &numbers.concat()
        };
        let rows: Vec<String> = self.points.iter().take(LISTED).enumerate().map(row).collect();
        let head = ["", "Re λ", "Im λ", "|λ|"].map(str::to_string);
        let n = self.points.len();
        let what =
            if n > LISTED { format!("The first {LISTED} of {} numbers", count(n)) } else { "Numbers".to_string() };
        html::details(&what, &html::table(&head, &rows))
    }

    fn text(&self, axis: &Axis, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        if !self.points.is_empty() {
            lines.extend(self.characters(axis));
            let (low, high) = (number(axis.low), number(axis.high));
            lines.push(format!("Re to the right and Im upwards, {low} to {high}; o is one, # ten or more"));
        }
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }

    /// The plane as lines of characters: how many numbers are at each place.
    fn characters(&self, axis: &Axis) -> Vec<String> {
        let mut counts = vec![vec![0usize; COLUMNS]; ROWS];
        let nearest = |part: f64, n: usize| (part * (n - 1) as f64).round() as usize;
        for (re, im) in self.finite() {
            let (Some(x), Some(y)) = (axis.place(re), axis.place(im)) else { continue };
            let row = counts.get_mut(nearest(1.0 - y, ROWS));
            if let Some(n) = row.and_then(|row| row.get_mut(nearest(x, COLUMNS))) {
                *n += 1;
            }
        }
        let character = |n: usize, is_axis: bool| match (n, is_axis) {
            (0, true) => '·',
            (0, false) => ' ',
            (1, _) => 'o',
            _ => u32::try_from(n).ok().and_then(|n| char::from_digit(n, 10)).unwrap_or('#'),
        };
        let line = |(row, counts): (usize, &Vec<usize>)| {
            let is_axis = |col: usize| row == ROWS / 2 || col == COLUMNS / 2;
            let line: String = counts.iter().enumerate().map(|(col, n)| character(*n, is_axis(col))).collect();
            line.trim_end().to_string()
        };
        counts.iter().enumerate().map(line).collect()
    }
}

show_view!(ComplexPlane);

/// Rounded to two decimals.
pub(crate) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

/// Where on the picture a number lies; the plotting area begins at (0, 0).
fn place(axis: &Axis, (re, im): (f64, f64)) -> Option<(f64, f64)> {
    Some((axis.place(re)? * SIDE, (1.0 - axis.place(im)?) * SIDE))
}

/// Grid lines, the axes through zero, tick labels, names of the axes. Returns where the next thing below may begin.
fn frame(scene: &mut Scene, axis: &Axis) -> f64 {
    let mut widest = 0f64;
    for tick in ticks(axis.low, axis.high, 6) {
        let Some(part) = axis.place(tick).filter(|part| (0.0..=1.0).contains(part)) else { continue };
        let (name, at) = (number(tick), part * SIDE);
        scene.rect(at - 0.25, 0.0, 0.5, SIDE, Rgb::GRID);
        scene.rect(0.0, SIDE - at - 0.25, SIDE, 0.5, Rgb::GRID);
        scene.text(at, SIDE + 12.0, &name, SMALL, Align::Center);
        scene.text(-6.0, SIDE - at, &name, SMALL, Align::Right);
        widest = widest.max(font::width(&name, SMALL));
    }
    scene.rect(SIDE / 2.0 - 0.5, 0.0, 1.0, SIDE, AXIS);
    scene.rect(0.0, SIDE / 2.0 - 0.5, SIDE, 1.0, AXIS);
    scene.frame(0.0, 0.0, SIDE, SIDE, Rgb(140, 146, 152));
    scene.text(SIDE / 2.0, SIDE + 30.0, "Re λ", TEXT, Align::Center);
    scene.turned(-widest - 20.0, SIDE / 2.0, "Im λ", TEXT, Align::Center, Rgb::INK);
    SIDE + 46.0
}

/// A circle around zero, if it has a size.
fn circle(scene: &mut Scene, axis: &Axis, radius: f64, color: Rgb) {
    const STEPS: usize = 120;
    let at = |i: usize| {
        let angle = TAU * i as f64 / STEPS as f64;
        place(axis, (radius * angle.cos(), radius * angle.sin()))
    };
    if radius > 0.0 {
        scene.line((0..=STEPS).filter_map(at).collect(), color, 1.0);
    }
}

/// `0.31 + 0.12i (|λ| 0.3324)`
fn written((re, im): (f64, f64)) -> String {
    let sign = if im < 0.0 { '-' } else { '+' };
    format!("{} {sign} {}i (|λ| {})", number(re), number(im.abs()), number(re.hypot(im)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn colours_say_the_sign_and_both_axes_have_one_scale() {
        let plane = ComplexPlane::new([1.0, -1.0, 0.0], [0.0, 0.0, 1.0]).unwrap().labels(["<a>"]);
        let bundle = plane.bundle();
        let scene = plane.view().scene.unwrap();
        let picture = image::load_from_memory(&bundle.png.unwrap()).unwrap().to_rgb8();
        let at = |i: usize| (scene.hots[i].x + 5.0, scene.hots[i].y + 5.0);
        let pixel = |i: usize| picture.get_pixel((at(i).0 * 2.0) as u32, (at(i).1 * 2.0) as u32).0;
        assert_eq!((pixel(0), pixel(1)), ([0, 114, 178], [213, 94, 0]));
        let zero = (at(0).0 + at(1).0) / 2.0;
        assert!((at(0).0 - zero - (at(0).1 - at(2).1)).abs() < 1e-9, "1 is as far from zero as i");
        assert!((at(2).0 - zero).abs() < 1e-9);
        let html = bundle.html.unwrap();
        assert!(html.contains("title=\"&lt;a&gt;: 1 + 0i (|λ| 1)\"") && html.contains("title=\"-1 + 0i (|λ| 1)\""));
    }

    #[test]
    fn notes_say_how_far_the_numbers_are_positive() {
        let plane = ComplexPlane::new([1.0, -0.5, f64::NAN], [0.0, -0.25, 0.0]).unwrap();
        assert!((plane.score() - 0.5 / (1.0 + 0.3125f64.sqrt())).abs() < 1e-12);
        let bundle = plane.bundle();
        let wanted = "3 eigenvalues, 1 with a positive real part: Re Σλ / Σ|λ| = 0.32";
        assert!(
            bundle.text.contains(wanted) && bundle.text.contains("1 numbers have no place here"),
            "{}",
            bundle.text
        );
        assert!(bundle.html.unwrap().contains("-0.5 - 0.25i (|λ| 0.559)"));
        let error = ComplexPlane::new([1.0, 2.0], [1.0]).unwrap_err().to_string();
        assert!(error.contains("2 real and 1 imaginary"), "{error}");
    }

    #[test]
    fn text_counts_the_numbers_at_each_place() {
        let re = [0.0, 0.0, 0.0, 1.0].into_iter().chain([-1.0; 12]);
        let text = ComplexPlane::new(re, [0.0; 16]).unwrap().bundle().text;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[7], "·#·············3·············o·", "{text}");
        assert!((0..15).filter(|i| *i != 7).all(|i| lines[i].trim() == "·"), "{text}");
    }

    #[test]
    fn circles_are_drawn_where_they_have_a_size() {
        let lines = |plane: ComplexPlane| plane.svg().unwrap().matches("<polyline").count();
        let zero = || ComplexPlane::new([0.0], [0.0]).unwrap();
        let half = || ComplexPlane::new([0.5], [0.0]).unwrap();
        assert_eq!((lines(zero()), lines(half())), (0, 120));
        assert_eq!((lines(zero().unit_circle()), lines(half().unit_circle())), (120, 240));
    }

    #[test]
    fn many_points_are_thinned_and_odd_ones_harmless() {
        let values = || (0..5000).map(f64::from);
        let text = ComplexPlane::new(values(), values()).unwrap().bundle().text;
        assert!(text.contains("2,000 of 5,000 points are drawn"), "{text}");
        let none = ComplexPlane::new(Vec::<f32>::new(), Vec::<f32>::new()).unwrap().unit_circle().bundle();
        assert!(none.text.contains("no numbers") && none.png.is_some());
        for odd in [f64::MAX, 5e-324, f64::NAN, f64::INFINITY] {
            let plane = ComplexPlane::new([odd, -odd], [odd, odd]).unwrap().title("odd");
            assert!((-1.0..=1.0).contains(&plane.score()) && plane.bundle().png.is_some(), "{odd}");
        }
    }
}
