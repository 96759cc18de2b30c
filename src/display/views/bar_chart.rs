//! Labelled numbers as bars.

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::number::{count, number};
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};
use crate::{Error, Result};

/// How many bars are drawn.
pub const MAX_BARS: usize = 48;
const WIDTH: f64 = 360.0;
const STEP: f64 = 18.0;

/// Horizontal bars, positive to the right in blue, negative to the left in red.
#[derive(Clone, Debug)]
pub struct BarChart {
    bars: Vec<(String, f64)>,
    title: String,
    x_title: String,
    total: usize,
}

impl BarChart {
    /// One bar for each label.
    ///
    /// # Errors
    /// When there are not as many values as labels.
    pub fn new<S: Into<String>, T: Into<f64>>(
        labels: impl IntoIterator<Item = S>,
        values: impl IntoIterator<Item = T>,
    ) -> Result<Self> {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        let values: Vec<f64> = values.into_iter().map(Into::into).collect();
        if labels.len() != values.len() {
            let (n, m) = (labels.len(), values.len());
            return Err(Error::msg(format!(
                "bars need one label for each value: {n} labels and {m} values were given"
            )));
        }
        let total = values.len();
        Ok(Self { bars: labels.into_iter().zip(values).collect(), title: String::new(), x_title: String::new(), total })
    }

    /// The largest bars (by magnitude) first.
    pub fn sorted(mut self) -> Self {
        self.bars.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        self
    }

    /// A title above the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// What the bars measure.
    pub fn x_title(mut self, title: impl Into<String>) -> Self {
        self.x_title = title.into();
        self
    }

    pub(crate) fn view(&self) -> View {
        let notes = self.notes();
        let right = |i: usize| i == 1;
        let rows: Vec<String> = self
            .bars
            .iter()
            .take(500)
            .map(|(label, value)| {
                [escape::visible_line(label), number(*value)]
                    .iter()
                    .enumerate()
                    .map(|(i, t)| html::cell(t, right(i)))
                    .collect()
            })
            .collect();
        let head = [String::new(), if self.x_title.is_empty() { "value".into() } else { self.x_title.clone() }];
        View {
            text: self.text(&notes),
            scene: Some(self.scene(&notes)),
            alt: format!("Bar chart {}", self.title),
            above: String::new(),
            below: html::details("Values", &html::table(&head, &rows)),
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.total > MAX_BARS {
            notes.push(format!("the first {MAX_BARS} of {} bars are drawn", count(self.total)));
        }
        if self.total == 0 {
            notes.push("there is nothing to draw: no bars".to_string());
        }
        notes
    }

    /// The lowest and the highest end of the bars; 0 is always within.
    fn limits(&self) -> (f64, f64) {
        let finite = self.bars.iter().map(|b| b.1).filter(|v| v.is_finite());
        let (low, high) = finite.fold((0f64, 0f64), |(l, h), v| (l.min(v), h.max(v)));
        if low == high { (0.0, 1.0) } else { (low, high) }
    }

    fn scene(&self, notes: &[String]) -> Scene {
        let (low, high) = self.limits();
        let place = |v: f64| (v / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) * WIDTH;
        let zero = place(0.0);
        let shown = self.bars.len().min(MAX_BARS);
        let mut scene = Scene::default();
        for (i, (label, value)) in self.bars.iter().take(shown).enumerate() {
            let y = i as f64 * STEP;
            let label = font::fit(&font::drawable(&escape::visible_line(label)), SMALL, 180.0);
            scene.text(-8.0, y + STEP / 2.0, &label, SMALL, Align::Right);
            let end = if value.is_finite() { place(*value) } else { zero };
            let fill = if *value < 0.0 { Rgb(205, 70, 60) } else { Rgb(60, 130, 190) };
            scene.rect(end.min(zero), y + 2.5, (end - zero).abs().max(1.0), STEP - 5.0, fill);
            scene.ink(WIDTH + 8.0, y + STEP / 2.0, &number(*value), SMALL, Align::Left, Rgb::INK);
            scene.hot(0.0, y, WIDTH, STEP, format!("{label}: {}", number(*value)));
        }
        let mut y = shown as f64 * STEP;
        scene.rect(zero - 0.5, -2.0, 1.0, y + 4.0, Rgb(120, 126, 132));
        if !self.x_title.is_empty() {
            scene.text(
                WIDTH / 2.0,
                y + 12.0,
                &font::fit(&font::drawable(&self.x_title), TEXT, WIDTH),
                TEXT,
                Align::Center,
            );
            y += 20.0;
        }
        scene.title(&self.title, WIDTH + 60.0);
        y += 6.0;
        for note in notes {
            y += scene.paragraph(0.0, y, note, SMALL, WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn text(&self, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let (low, high) = self.limits();
        let widest = low.abs().max(high);
        let rows: Vec<Vec<String>> = self
            .bars
            .iter()
            .take(MAX_BARS)
            .map(|(label, value)| {
                let part = if value.is_finite() { value.abs() / widest } else { 0.0 };
                vec![
                    escape::shorten(&escape::visible_line(label), 28),
                    number(*value),
                    crate::display::draw::text::bar(part, 30),
                ]
            })
            .collect();
        lines.extend(crate::display::draw::text::columns(&rows, &[false, true, false]));
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }
}

show_view!(BarChart);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;

    #[test]
    fn bars_point_by_sign() {
        let chart = BarChart::new(["up", "down"], [2.0, -1.0]).unwrap();
        let bundle = chart.bundle();
        assert!(bundle.text.lines().next().unwrap().starts_with("up     2  ████"), "{}", bundle.text);
        let scene = chart.view().scene.unwrap();
        let picture = image::load_from_memory(&bundle.png.unwrap()).unwrap().to_rgb8();
        let row = |i: usize, part: f64| {
            let hot = &scene.hots[i];
            picture.get_pixel(((hot.x + hot.w * part) * 2.0) as u32, ((hot.y + hot.h / 2.0) * 2.0) as u32).0
        };
        assert_eq!(row(0, 0.9), [60, 130, 190]);
        assert_eq!(row(1, 0.1), [205, 70, 60]);
        assert_eq!(row(0, 0.1), [255; 3]);
    }

    #[test]
    fn labels_and_values_must_match() {
        assert!(BarChart::new(["a"], [1.0, 2.0]).unwrap_err().to_string().contains("1 labels and 2 values"));
        assert!(BarChart::new(Vec::<String>::new(), Vec::<f32>::new()).unwrap().bundle().text.contains("no bars"));
        let odd = BarChart::new(["n", "i"], [f64::NAN, f64::INFINITY]).unwrap().bundle();
        assert!(odd.text.contains("NaN") && odd.text.contains("inf"));
    }
}
