//! Drawing a grid of cells with labels at its sides, and the colour bar beside it.

use crate::display::draw::color::{Rgb, Scale};
use crate::display::draw::font;
use crate::display::draw::grid::Grid;
use crate::display::draw::number::number;
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT};
use crate::display::escape;

/// The longest label, in logical pixels.
const LABEL: f64 = 96.0;

pub(crate) struct Labels<'a> {
    pub x: &'a [String],
    pub y: &'a [String],
    pub x_title: &'a str,
    pub y_title: &'a str,
    pub size: f64,
    /// Whether a side without labels counts its cells instead.
    pub numbered: bool,
}

/// The label of a row or a column with its index, or what it is with its index.
pub(crate) fn place_name(labels: &[String], i: usize, what: &str) -> String {
    match labels.get(i) {
        Some(label) => format!("{} ({i})", escape::visible_line(label)),
        None => format!("{what} {i}"),
    }
}

/// Draws the cells with their top left corner at `at`, labels below and to the left. Returns where the next thing below
/// may begin.
pub(crate) fn draw_grid(
    scene: &mut Scene,
    grid: &Grid,
    scale: &Scale,
    at: (f64, f64),
    cell: (f64, f64),
    labels: &Labels<'_>,
) -> f64 {
    let (width, height) = (cell.0 * grid.cols as f64, cell.1 * grid.rows as f64);
    draw_cells(scene, grid, at, cell, |_, _, value| scale.color(value));

    let has = |side: &[String]| labels.numbered || !side.is_empty();
    let rows = has(labels.y).then(|| Ticks::down(labels.y, grid.rows, grid.full.0, cell.1, labels.size));
    let rows = rows.unwrap_or_default();
    let mut widest = 0f64;
    for (i, text) in &rows.texts {
        let y = at.1 + *i * cell.1;
        scene.ink(at.0 - 5.0, y, text, labels.size, Align::Right, Rgb::INK);
        widest = widest.max(font::width(text, labels.size));
    }
    if !labels.y_title.is_empty() {
        scene.turned(at.0 - widest - 18.0, at.1 + height / 2.0, labels.y_title, TEXT, Align::Center, Rgb::INK);
    }

    let below = at.1 + height;
    let across = has(labels.x).then(|| Ticks::across(labels.x, grid.cols, grid.full.1, cell.0, labels.size));
    let across = across.unwrap_or_default();
    let mut bottom = below + labels.size + 8.0;
    for (i, text) in &across.texts {
        let x = at.0 + *i * cell.0;
        if across.turned {
            scene.turned(x, below + 5.0, text, labels.size, Align::Right, Rgb::INK);
            bottom = bottom.max(below + 10.0 + font::width(text, labels.size));
        } else {
            scene.ink(x, below + labels.size * 0.7 + 3.0, text, labels.size, Align::Center, Rgb::INK);
        }
    }
    if !labels.x_title.is_empty() {
        scene.ink(at.0 + width / 2.0, bottom + 6.0, labels.x_title, TEXT, Align::Center, Rgb::INK);
        bottom += TEXT + 10.0;
    }
    bottom + 4.0
}

/// The cells and a frame around them; runs of one colour are one rectangle.
pub(crate) fn draw_cells(
    scene: &mut Scene,
    grid: &Grid,
    at: (f64, f64),
    cell: (f64, f64),
    color: impl Fn(usize, usize, f32) -> Rgb,
) {
    for row in 0..grid.rows {
        let y = at.1 + row as f64 * cell.1;
        let mut col = 0;
        while col < grid.cols {
            let fill = color(row, col, grid.at(row, col));
            let start = col;
            while col < grid.cols && color(row, col, grid.at(row, col)) == fill {
                col += 1;
            }
            scene.rect(at.0 + start as f64 * cell.0, y, (col - start) as f64 * cell.0, cell.1, fill);
        }
    }
    scene.frame(at.0, at.1, cell.0 * grid.cols as f64, cell.1 * grid.rows as f64, Rgb(140, 146, 152));
}

/// The labels of one side that have room, each with its place in cells.
#[derive(Default)]
struct Ticks {
    texts: Vec<(f64, String)>,
    turned: bool,
}

impl Ticks {
    /// Labels one below the other. A cell takes `step` pixels, and `n` cells stand for `full` rows.
    fn down(labels: &[String], n: usize, full: usize, step: f64, size: f64) -> Ticks {
        if labels.is_empty() {
            return Ticks::indices(n, full, step, size * 1.7);
        }
        let every = ((size + 2.0) / step).ceil().max(1.0) as usize;
        let start = |i: usize| i * full / n.max(1);
        let texts = (0..n).step_by(every).map(|i| (i as f64 + 0.5, tick(labels, start(i), size)));
        Ticks { texts: texts.collect(), turned: false }
    }

    /// Labels side by side if they fit, otherwise turned.
    fn across(labels: &[String], n: usize, full: usize, step: f64, size: f64) -> Ticks {
        if labels.is_empty() {
            let widest = font::width(&full.saturating_sub(1).to_string(), size);
            return Ticks::indices(n, full, step, widest + 8.0);
        }
        let all = Ticks::down(labels, n, full, step, size);
        let widest = all.texts.iter().map(|t| font::width(&t.1, size)).fold(0.0, f64::max);
        Ticks { turned: widest + 4.0 > step, ..all }
    }

    /// Multiples of a round number, as far apart as they need to be.
    fn indices(n: usize, full: usize, step: f64, room: f64) -> Ticks {
        let cells = n as f64 / full.max(1) as f64;
        let least = room / (step * cells).max(1e-9);
        let round = (0..18).flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(p)));
        let every = round.into_iter().find(|s| *s >= least).unwrap_or(1e18) as usize;
        let texts = (0..full)
            .step_by(every.max(1))
            .map(|i| (if n == full { i as f64 + 0.5 } else { i as f64 * cells }, i.to_string()));
        Ticks { texts: texts.collect(), turned: false }
    }
}

fn tick(labels: &[String], i: usize, size: f64) -> String {
    let text = labels.get(i).map(|l| escape::visible_line(l)).unwrap_or_default();
    font::fit(&font::drawable(&escape::shorten(&text, 40)), size, LABEL)
}

/// A vertical colour bar with its numbers, top left corner at (x, y).
pub(crate) fn color_bar(scene: &mut Scene, scale: &Scale, x: f64, y: f64, height: f64) {
    let steps = (height * 2.0) as usize;
    for i in 0..steps {
        let position = 1.0 - (i as f32 + 0.5) / steps as f32;
        scene.rect(x, y + i as f64 * 0.5, 12.0, 0.5, scale.at(position));
    }
    let height = steps as f64 * 0.5;
    scene.frame(x, y, 12.0, height, Rgb(140, 146, 152));
    let (low, high) = scale.limits();
    for (position, value) in [(0.0, low), (0.5, low / 2.0 + high / 2.0), (1.0, high)] {
        scene.ink(x + 18.0, y + height * (1.0 - position), &number(value.into()), SMALL, Align::Left, Rgb::INK);
    }
}
