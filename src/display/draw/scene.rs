//! A picture as a list of marks in logical pixels, before it becomes PNG or SVG.
//!
//! Views draw around any origin: [`Scene::finish`] moves everything into view and adds the margin, so nothing is cut.

use crate::display::draw::color::Rgb;
use crate::display::draw::font;

/// Sizes of text, in logical pixels.
pub(crate) const TITLE: f64 = 15.0;
pub(crate) const TEXT: f64 = 12.0;
pub(crate) const SMALL: f64 = 11.0;

/// Where a text lies relative to its point. Vertically it is always centred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    Rect {
        x: f64,
        y: f64,
        w: f64,
        h: f64,
        fill: Rgb,
    },
    Line {
        points: Vec<(f64, f64)>,
        color: Rgb,
        width: f64,
    },
    Dot {
        x: f64,
        y: f64,
        r: f64,
        color: Rgb,
    },
    /// `turned` text reads from bottom to top.
    Text {
        x: f64,
        y: f64,
        text: String,
        size: f64,
        color: Rgb,
        align: Align,
        turned: bool,
    },
}

/// A place that has a text to show under the pointer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hot {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
    pub title: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scene {
    pub width: f64,
    pub height: f64,
    pub marks: Vec<Mark>,
    pub hots: Vec<Hot>,
}

impl Scene {
    pub fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, fill: Rgb) {
        self.marks.push(Mark::Rect { x, y, w, h, fill });
    }

    /// A thin rectangle's outline.
    pub fn frame(&mut self, x: f64, y: f64, w: f64, h: f64, color: Rgb) {
        let t = 1.0;
        self.rect(x - t, y - t, w + 2.0 * t, t, color);
        self.rect(x - t, y + h, w + 2.0 * t, t, color);
        self.rect(x - t, y, t, h, color);
        self.rect(x + w, y, t, h, color);
    }

    pub fn line(&mut self, points: Vec<(f64, f64)>, color: Rgb, width: f64) {
        if points.len() > 1 {
            self.marks.push(Mark::Line { points, color, width });
        }
    }

    pub fn dot(&mut self, x: f64, y: f64, r: f64, color: Rgb) {
        self.marks.push(Mark::Dot { x, y, r, color });
    }

    pub fn text(&mut self, x: f64, y: f64, text: &str, size: f64, align: Align) {
        self.ink(x, y, text, size, align, Rgb::INK);
    }

    pub fn ink(&mut self, x: f64, y: f64, text: &str, size: f64, align: Align, color: Rgb) {
        let text = font::drawable(text);
        self.marks.push(Mark::Text { x, y, text, size, color, align, turned: false });
    }

    /// A title above what begins at y = 0, cut to a width; nothing where it is empty.
    pub fn title(&mut self, title: &str, width: f64) {
        if !title.is_empty() {
            self.text(0.0, -TITLE, &font::fit(&font::drawable(title), TITLE, width), TITLE, Align::Left);
        }
    }

    /// Text that reads from bottom to top.
    pub fn turned(&mut self, x: f64, y: f64, text: &str, size: f64, align: Align, color: Rgb) {
        let text = font::drawable(text);
        self.marks.push(Mark::Text { x, y, text, size, color, align, turned: true });
    }

    /// Paragraphs broken at spaces to fit a width; the height that they take.
    pub fn paragraph(&mut self, x: f64, y: f64, text: &str, size: f64, width: f64, color: Rgb) -> f64 {
        let mut line = String::new();
        let mut lines = Vec::new();
        for word in font::drawable(text).split_whitespace() {
            let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
            if font::width(&longer, size) > width && !line.is_empty() {
                lines.push(std::mem::replace(&mut line, word.to_string()));
            } else {
                line = longer;
            }
        }
        lines.push(line);
        let step = size * 1.35;
        for (i, line) in lines.iter().enumerate() {
            self.ink(x, y + step * (i as f64 + 0.5), &font::fit(line, size, width), size, Align::Left, color);
        }
        step * lines.len() as f64
    }

    pub fn hot(&mut self, x: f64, y: f64, w: f64, h: f64, title: String) {
        self.hots.push(Hot { x, y, w, h, title });
    }

    /// Moves everything into view, with a margin, and fixes the size.
    pub fn finish(mut self) -> Scene {
        const MARGIN: f64 = 8.0;
        let (mut left, mut top, mut right, mut bottom) = (f64::INFINITY, f64::INFINITY, 0f64, 0f64);
        for mark in &self.marks {
            let (l, t, r, b) = mark.bounds();
            (left, top, right, bottom) = (left.min(l), top.min(t), right.max(r), bottom.max(b));
        }
        if left > right {
            (left, top) = (0.0, 0.0);
        }
        // Whole pixels: a rectangle that began on one still does.
        let (dx, dy) = (MARGIN - left.floor(), MARGIN - top.floor());
        self.marks.iter_mut().for_each(|mark| mark.shift(dx, dy));
        for hot in &mut self.hots {
            hot.x += dx;
            hot.y += dy;
        }
        self.width = (right + dx + MARGIN).ceil();
        self.height = (bottom + dy + MARGIN).ceil();
        self
    }
}

impl Mark {
    /// Left, top, right, bottom.
    fn bounds(&self) -> (f64, f64, f64, f64) {
        match self {
            Mark::Rect { x, y, w, h, .. } => (*x, *y, x + w, y + h),
            Mark::Dot { x, y, r, .. } => (x - r, y - r, x + r, y + r),
            Mark::Line { points, .. } => {
                let start = (f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);
                points.iter().fold(start, |b, p| (b.0.min(p.0), b.1.min(p.1), b.2.max(p.0), b.3.max(p.1)))
            }
            Mark::Text { x, y, text, size, align, turned, .. } => {
                let w = font::width(text, *size);
                let before = match align {
                    Align::Left => 0.0,
                    Align::Center => w / 2.0,
                    Align::Right => w,
                };
                let half = size * 0.7;
                if *turned {
                    (x - half, y + before - w, x + half, y + before)
                } else {
                    (x - before, y - half, x - before + w, y + half)
                }
            }
        }
    }

    /// The same mark elsewhere.
    pub fn shifted(mut self, dx: f64, dy: f64) -> Mark {
        self.shift(dx, dy);
        self
    }

    fn shift(&mut self, dx: f64, dy: f64) {
        match self {
            Mark::Rect { x, y, .. } | Mark::Dot { x, y, .. } | Mark::Text { x, y, .. } => {
                *x += dx;
                *y += dy;
            }
            Mark::Line { points, .. } => points.iter_mut().for_each(|p| *p = (p.0 + dx, p.1 + dy)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_ends_up_in_view() {
        let mut scene = Scene::default();
        scene.text(-50.0, -10.0, "label", TEXT, Align::Right);
        scene.turned(0.0, 40.0, "below", TEXT, Align::Right, Rgb::INK);
        let scene = scene.finish();
        for mark in &scene.marks {
            let (l, t, r, b) = mark.bounds();
            assert!(l >= 0.0 && t >= 0.0 && r <= scene.width && b <= scene.height);
        }
        assert!(Scene::default().finish().width > 0.0);
    }
}
