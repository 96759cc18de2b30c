//! The frame of a chart: two axes, linear or logarithmic, their ticks and titles.

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::number::{log_ticks, number, ticks};
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT};

/// The size of the plotting area, in logical pixels.
pub(crate) const WIDTH: f64 = 560.0;
pub(crate) const HEIGHT: f64 = 300.0;

/// One axis: its limits and whether it is logarithmic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    pub low: f64,
    pub high: f64,
    pub log: bool,
}

impl Axis {
    /// Wide enough for the finite values (positive ones, on a logarithmic axis), with some air.
    pub fn fit(values: impl Iterator<Item = f64>, log: bool) -> Axis {
        let usable = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return if log { Axis { low: 1.0, high: 10.0, log } } else { Axis { low: 0.0, high: 1.0, log } };
        }
        if log {
            let (low, high) = if high > low { (low, high) } else { (low / 2.0, high * 2.0) };
            let air = (high / low).powf(0.04);
            return Axis { low: low / air, high: high * air, log };
        }
        let air = if high > low { (high - low) * 0.04 } else { low.abs().max(1.0) * 0.5 };
        let air = if air.is_finite() { air } else { 0.0 };
        Axis { low: low - air, high: high + air, log }
    }

    /// Where a value lies, 0 to 1; None for values that this axis can't place.
    pub fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.log && value <= 0.0) {
            return None;
        }
        let of = |v: f64| if self.log { v.ln() } else { v / 2.0 };
        let part = (of(value) - of(self.low)) / (of(self.high) - of(self.low));
        part.is_finite().then_some(part)
    }

    fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.log { log_ticks(self.low, self.high) } else { ticks(self.low, self.high, wanted) }
    }
}

/// Where on the picture a point lies; the plotting area begins at (0, 0).
pub(crate) fn place(x: &Axis, y: &Axis, point: (f64, f64)) -> Option<(f64, f64)> {
    Some((x.place(point.0)? * WIDTH, (1.0 - y.place(point.1)?) * HEIGHT))
}

/// Grid lines, tick labels, titles. Returns where the next thing below may begin.
pub(crate) fn axes(scene: &mut Scene, x: &Axis, y: &Axis, titles: (&str, &str, &str)) -> f64 {
    let (title, x_title, y_title) = titles;
    let mut widest = 0f64;
    for tick in y.ticks(6) {
        let Some(part) = y.place(tick).filter(|p| (-0.001..=1.001).contains(p)) else { continue };
        let at = (1.0 - part) * HEIGHT;
        scene.rect(0.0, at - 0.25, WIDTH, 0.5, if tick == 0.0 && !y.log { Rgb(120, 126, 132) } else { Rgb::GRID });
        let text = number(tick);
        widest = widest.max(font::width(&text, SMALL));
        scene.text(-6.0, at, &text, SMALL, Align::Right);
    }
    for tick in x.ticks(8) {
        let Some(part) = x.place(tick).filter(|p| (-0.001..=1.001).contains(p)) else { continue };
        scene.rect(part * WIDTH - 0.25, 0.0, 0.5, HEIGHT, Rgb::GRID);
        scene.text(part * WIDTH, HEIGHT + 12.0, &number(tick), SMALL, Align::Center);
    }
    scene.frame(0.0, 0.0, WIDTH, HEIGHT, Rgb(140, 146, 152));
    let mut bottom = HEIGHT + 24.0;
    if !x_title.is_empty() {
        scene.text(WIDTH / 2.0, bottom + 6.0, &font::fit(&font::drawable(x_title), TEXT, WIDTH), TEXT, Align::Center);
        bottom += TEXT + 10.0;
    }
    if !y_title.is_empty() {
        let text = font::fit(&font::drawable(y_title), TEXT, HEIGHT);
        scene.turned(-widest - 20.0, HEIGHT / 2.0, &text, TEXT, Align::Center, Rgb::INK);
    }
    scene.title(title, WIDTH);
    bottom
}

/// Names of series with their colours, to the right of the plotting area.
pub(crate) fn legend(scene: &mut Scene, names: &[(String, Rgb)]) {
    for (i, (name, color)) in names.iter().enumerate() {
        let y = 8.0 + i as f64 * 18.0;
        scene.rect(WIDTH + 14.0, y - 2.0, 18.0, 4.0, *color);
        scene.text(WIDTH + 38.0, y, &font::fit(&font::drawable(name), SMALL, 150.0), SMALL, Align::Left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_place_values() {
        let axis = Axis { low: 1.0, high: 100.0, log: true };
        assert!((axis.place(10.0).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(axis.place(-1.0), None);
        let flat = Axis::fit([3.0, 3.0].into_iter(), false);
        assert!(flat.low < 3.0 && flat.high > 3.0);
        assert_eq!(Axis::fit([f64::NAN].into_iter(), false), Axis { low: 0.0, high: 1.0, log: false });
        let huge = Axis::fit([f64::MIN, f64::MAX].into_iter(), false);
        assert_eq!(huge.place(0.0), Some(0.5));
    }
}
