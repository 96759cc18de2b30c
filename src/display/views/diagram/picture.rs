//! The diagram as a picture: the stream runs down at x = 0, and what reads it and adds to it stands to its right.

use super::{Diagram, Kind, ON_REQUEST, Part, Point, Stack, Stage};
use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::scene::{Align, SMALL, Scene, TEXT, TITLE};
use crate::display::escape;

/// Where pills, and boxes that the stream goes through, begin.
const LEFT: f64 = -54.0;
/// Where boxes beside the stream begin, and the width that they have together.
const BESIDE: f64 = 32.0;
const ROOM: f64 = 636.0;
/// A box is at least so wide.
const NARROW: f64 = 200.0;
const ROW: f64 = 16.0;
const PAD: f64 = 6.0;
/// Between the parts of a line.
const SPACE: f64 = 8.0;
/// Between boxes: room for an arrow.
const GAP: f64 = 14.0;
/// From the stream down to the first boxes of its branches.
const TURN: f64 = 22.0;
/// For each branch's way back.
const BACK: f64 = 26.0;
const PILL: f64 = 20.0;
const SKIPPED: f64 = 20.0;
const BLOCK_TITLE: f64 = 22.0;
/// The size of shapes.
const FINE: f64 = 10.0;

const STREAM: Rgb = Rgb(60, 130, 190);
const WIRE: Rgb = Rgb(120, 130, 140);
const EDGE: Rgb = Rgb(200, 206, 212);
const GROUND: Rgb = Rgb(250, 251, 252);

pub(super) fn scene(diagram: &Diagram) -> Scene {
    let mut drawing = Drawing { scene: Scene::default(), y: 0.0 };
    let title = font::fit(&font::drawable(&escape::visible_line(&diagram.title)), TITLE, ROOM);
    drawing.scene.text(LEFT, -TITLE, &title, TITLE, Align::Left);
    for stack in &diagram.stacks {
        drawing.stack(stack);
    }
    drawing.scene.paragraph(LEFT, drawing.y, ON_REQUEST, SMALL, ROOM, Rgb::FAINT);
    drawing.scene.finish()
}

struct Drawing {
    scene: Scene,
    /// How far down it has come.
    y: f64,
}

impl Drawing {
    fn stack(&mut self, stack: &Stack) {
        if !stack.title.is_empty() {
            self.scene.text(LEFT, self.y + ROW / 2.0, &stack.title, TITLE, Align::Left);
            self.y += ROW + GAP / 2.0;
        }
        if let Some((first, rest)) = stack.before.split_first() {
            self.stage(first);
            rest.iter().for_each(|stage| self.next(stage));
        }
        if !stack.block.is_empty() {
            self.stream(GAP);
            self.block(stack);
        }
        stack.after.iter().for_each(|stage| self.next(stage));
        self.y += 2.0 * GAP;
    }

    /// The block on a ground of its own, which is drawn first.
    fn block(&mut self, stack: &Stack) {
        let right = stack.block.iter().map(right).fold(-LEFT, f64::max) + SPACE;
        let height = BLOCK_TITLE + stack.block.iter().map(|stage| GAP + height(stage)).sum::<f64>() + GAP;
        let left = LEFT - PAD;
        self.rounded([left, self.y, right - left, height], PAD, Rgb::GRID);
        self.rounded([left + 1.0, self.y + 1.0, right - left - 2.0, height - 2.0], PAD, GROUND);
        let title = font::fit(&stack.block_title, TEXT, ROOM);
        self.scene.ink(2.0 * SPACE, self.y + BLOCK_TITLE / 2.0 + 2.0, &title, TEXT, Align::Left, Rgb::FAINT);
        self.stream(BLOCK_TITLE);
        stack.block.iter().for_each(|stage| self.next(stage));
        self.stream(GAP);
    }

    /// A stretch of the stream, and a stage.
    fn next(&mut self, stage: &Stage) {
        let top = self.y;
        self.stream(GAP);
        if matches!(stage, Stage::Through(_)) {
            self.arrow(vec![(0.0, top), (0.0, self.y)], STREAM, 2.0);
        }
        self.stage(stage);
    }

    fn stage(&mut self, stage: &Stage) {
        match stage {
            Stage::Node(point) => self.pill(point),
            Stage::Through(part) => self.part(part, LEFT, self.y, width(part).min(ROOM)),
            Stage::Branches(branches) => self.branches(branches),
            Stage::Skipped(blocks) => {
                for y in [4.0, 10.0, 16.0] {
                    self.scene.dot(0.0, self.y + y, 1.5, STREAM);
                }
                let text = font::fit(blocks, TEXT, ROOM);
                self.scene.ink(2.0 * SPACE, self.y + SKIPPED / 2.0, &text, TEXT, Align::Left, Rgb::FAINT);
            }
        }
        // Branches have drawn the stream, and come to its end.
        if !matches!(stage, Stage::Branches(_)) {
            self.y += height(stage);
        }
    }

    fn stream(&mut self, length: f64) {
        self.scene.line(vec![(0.0, self.y), (0.0, self.y + length)], STREAM, 3.0);
        self.y += length;
    }

    fn pill(&mut self, point: &Point) {
        let (wide, middle) = (-2.0 * LEFT, self.y + PILL / 2.0);
        self.rounded([LEFT, self.y, wide, PILL], PILL / 2.0, STREAM);
        let name = font::fit(&font::drawable(&point.name), SMALL, wide - SPACE);
        self.scene.ink(0.0, middle, &name, SMALL, Align::Center, STREAM.ink());
        let shape = font::fit(&font::drawable(point.info.shape), FINE, ROOM);
        self.scene.ink(SPACE - LEFT, middle, &shape, FINE, Align::Left, Rgb::FAINT);
        self.scene.hot(LEFT, self.y, wide, PILL, hover(point));
    }

    /// Branches side by side. All of them leave the stream at its top, and each comes back below the ones before it.
    fn branches(&mut self, branches: &[Vec<Part>]) {
        let (top, tallest) = (self.y, tallest(branches));
        self.stream(branches_height(branches));
        let mut x = BESIDE;
        for (i, (parts, wide)) in branches.iter().zip(widths(branches)).enumerate() {
            let middle = x + 3.0 * SPACE;
            self.arrow(vec![(0.0, top + 5.0), (middle, top + 5.0), (middle, top + TURN)], WIRE, 1.5);
            let mut y = top + TURN;
            for (n, part) in parts.iter().enumerate() {
                if n > 0 {
                    self.arrow(vec![(middle, y), (middle, y + GAP)], WIRE, 1.5);
                    y += GAP;
                }
                self.part(part, x, y, wide);
                y += part_height(part);
            }
            let end = top + TURN + tallest + BACK * (i as f64 + 0.6);
            self.arrow(vec![(middle, y), (middle, end), (10.0, end)], WIRE, 1.5);
            self.plus(end);
            x += wide + GAP;
        }
        self.scene.dot(0.0, top + 5.0, 3.0, STREAM);
    }

    /// Where something is added to the stream.
    fn plus(&mut self, y: f64) {
        self.scene.dot(0.0, y, 9.0, STREAM);
        self.scene.dot(0.0, y, 7.5, Rgb::WHITE);
        self.scene.line(vec![(-5.0, y), (5.0, y)], STREAM, 1.5);
        self.scene.line(vec![(0.0, y - 5.0), (0.0, y + 5.0)], STREAM, 1.5);
    }

    fn part(&mut self, part: &Part, x: f64, y: f64, wide: f64) {
        let high = part_height(part);
        self.rounded([x, y, wide, high], PAD, EDGE);
        self.rounded([x + 1.0, y + 1.0, wide - 2.0, high - 2.0], PAD, fill(part.kind));
        let (left, right) = (x + SPACE, x + wide - SPACE);
        let heading = font::fit(&font::drawable(&part.heading), TEXT, right - left);
        self.scene.text(left, y + PAD + ROW / 2.0, &heading, TEXT, Align::Left);

        let shapes = left + names_width(part) + SPACE;
        for (i, point) in part.points.iter().enumerate() {
            let top = y + PAD + ROW * (i as f64 + 1.0);
            let middle = top + ROW / 2.0;
            let mut end = right;
            if point.is_on_request() {
                self.scene.ink(right, middle, "on request", FINE, Align::Right, Rgb::FAINT);
                end -= request_width();
            }
            let name = font::fit(&font::drawable(&point.name), SMALL, end - left);
            let ink = if point.is_on_request() { Rgb::FAINT } else { Rgb::INK };
            self.scene.ink(left, middle, &name, SMALL, Align::Left, ink);
            // A shape that is cut to nothing says nothing.
            if end - shapes > 2.0 * SPACE {
                let shape = font::fit(&font::drawable(point.info.shape), FINE, end - shapes);
                self.scene.ink(shapes, middle, &shape, FINE, Align::Left, Rgb::FAINT);
            }
            self.scene.hot(x, top, wide, ROW, hover(point));
        }
        if let Some(note) = &part.note {
            let note = font::fit(&font::drawable(note), FINE, right - left);
            self.scene.ink(left, y + high - PAD - ROW / 2.0, &note, FINE, Align::Left, Rgb::FAINT);
        }
    }

    /// A line with a head at its end.
    fn arrow(&mut self, points: Vec<(f64, f64)>, color: Rgb, thick: f64) {
        if let [.., (ax, ay), (bx, by)] = points[..] {
            let length = (bx - ax).hypot(by - ay).max(1.0);
            let (dx, dy) = (5.0 * (bx - ax) / length, 5.0 * (by - ay) / length);
            let ends = [(bx - dx - 0.7 * dy, by - dy + 0.7 * dx), (bx - dx + 0.7 * dy, by - dy - 0.7 * dx)];
            self.scene.line(vec![ends[0], (bx, by), ends[1]], color, thick);
        }
        self.scene.line(points, color, thick);
    }

    /// A rectangle with round corners.
    fn rounded(&mut self, [x, y, w, h]: [f64; 4], r: f64, fill: Rgb) {
        self.scene.rect(x + r, y, w - 2.0 * r, h, fill);
        self.scene.rect(x, y + r, w, h - 2.0 * r, fill);
        // A dot reaches half a pixel further than a rectangle of its width, to the right and down.
        for cx in [x + r, x + w - r - 0.5] {
            for cy in [y + r, y + h - r - 0.5] {
                self.scene.dot(cx, cy, r, fill);
            }
        }
    }
}

fn height(stage: &Stage) -> f64 {
    match stage {
        Stage::Node(_) => PILL,
        Stage::Through(part) => part_height(part),
        Stage::Branches(branches) => branches_height(branches),
        Stage::Skipped(_) => SKIPPED,
    }
}

fn branches_height(branches: &[Vec<Part>]) -> f64 {
    TURN + tallest(branches) + BACK * branches.len() as f64
}

fn tallest(branches: &[Vec<Part>]) -> f64 {
    let height = |parts: &Vec<Part>| parts.iter().map(|part| part_height(part) + GAP).sum::<f64>() - GAP;
    branches.iter().map(height).fold(0.0, f64::max)
}

fn part_height(part: &Part) -> f64 {
    let rows = 1 + part.points.len() + usize::from(part.note.is_some());
    2.0 * PAD + ROW * rows as f64
}

/// The right end of a stage.
fn right(stage: &Stage) -> f64 {
    match stage {
        Stage::Node(_) | Stage::Skipped(_) => -LEFT,
        Stage::Through(part) => LEFT + width(part).min(ROOM),
        Stage::Branches(branches) => BESIDE + widths(branches).iter().map(|wide| wide + GAP).sum::<f64>() - GAP,
    }
}

/// How wide the boxes of each branch are: as their texts want it, as long as there is room.
fn widths(branches: &[Vec<Part>]) -> Vec<f64> {
    let wanted: Vec<f64> = branches.iter().map(|parts| parts.iter().map(width).fold(NARROW, f64::max)).collect();
    let room = ROOM - GAP * branches.len().saturating_sub(1) as f64;
    let scale = (room / wanted.iter().sum::<f64>()).min(1.0);
    wanted.iter().map(|wide| (wide * scale).floor()).collect()
}

/// The width that a part's texts want.
fn width(part: &Part) -> f64 {
    let shape = |point: &Point| {
        let more = if point.is_on_request() { request_width() } else { 0.0 };
        font::width(&font::drawable(point.info.shape), FINE) + more
    };
    let points = names_width(part) + SPACE + part.points.iter().map(shape).fold(0.0, f64::max);
    let note = part.note.as_ref().map_or(0.0, |note| font::width(&font::drawable(note), FINE));
    let heading = font::width(&font::drawable(&part.heading), TEXT);
    // One more, so that rounding cuts nothing.
    (points.max(note).max(heading) + 2.0 * SPACE + 1.0).ceil()
}

fn names_width(part: &Part) -> f64 {
    part.points.iter().map(|point| font::width(&font::drawable(&point.name), SMALL)).fold(0.0, f64::max)
}

fn request_width() -> f64 {
    font::width("on request", FINE) + SPACE
}

fn fill(kind: Kind) -> Rgb {
    match kind {
        Kind::Ends => Rgb(240, 242, 245),
        Kind::Norm => Rgb(238, 246, 238),
        Kind::Attention => Rgb(232, 240, 250),
        Kind::Mlp => Rgb(250, 240, 228),
        Kind::Mixer => Rgb(246, 236, 243),
        Kind::Plain => Rgb::WHITE,
    }
}

/// What a point shows under the pointer.
fn hover(point: &Point) -> String {
    let fires = if point.is_on_request() { ON_REQUEST } else { "fires in every run" };
    format!("{}  {}\n{fires}", point.info.point.name(), point.info.shape)
}
