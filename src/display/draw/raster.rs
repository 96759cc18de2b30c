//! Scenes as PNG (twice the logical size, so that they are sharp on dense screens) and as SVG, through plotters' backends.

use std::collections::HashMap;
use std::fmt::Display;

use plotters::style::{Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, TextStyle, text_anchor};
use plotters_backend::{BackendColor, BackendStyle, DrawingBackend, DrawingErrorKind};

use crate::display::draw::color::Rgb;
use crate::display::draw::font;
use crate::display::draw::scene::{Align, Mark, Scene};
use crate::{Error, Result};

const ZOOM: f64 = 2.0;
/// Pictures are cut at this many pixels a side, whatever a view asks for.
const MAX_SIDE: f64 = 12_000.0;

/// The scene as a PNG file.
pub(crate) fn picture(scene: &Scene) -> Result<Vec<u8>> {
    let width = (scene.width * ZOOM).clamp(1.0, MAX_SIDE) as u32;
    let height = (scene.height * ZOOM).clamp(1.0, MAX_SIDE) as u32;
    let mut pixels = vec![255u8; width as usize * height as usize * 3];
    {
        let mut backend = plotters::backend::BitMapBackend::with_buffer(&mut pixels, (width, height));
        for mark in &scene.marks {
            paint(&mut backend, mark, ZOOM, draw_glyphs)?;
        }
        backend.present().map_err(failed)?;
    }
    encode(&pixels, width, height)
}

/// Scenes one below the other as an SVG file.
pub(crate) fn svg(scenes: &[Scene]) -> Result<String> {
    let mut text = String::new();
    {
        let width = scenes.iter().map(|scene| scene.width).fold(1.0, f64::max);
        let height = scenes.iter().map(|scene| scene.height).sum::<f64>().max(1.0);
        let mut backend = plotters::backend::SVGBackend::with_string(&mut text, (width as u32, height as u32));
        let white = Mark::Rect { x: 0.0, y: 0.0, w: width, h: height, fill: Rgb::WHITE };
        paint(&mut backend, &white, 1.0, draw_svg_text)?;
        let mut top = 0.0;
        for scene in scenes {
            for mark in &scene.marks {
                paint(&mut backend, &mark.clone().shifted(0.0, top), 1.0, draw_svg_text)?;
            }
            top += scene.height;
        }
        backend.present().map_err(failed)?;
    }
    Ok(text)
}

/// PNG files one below the other, in one file; None when there is nothing to stack.
pub(crate) fn stack(files: &[&[u8]]) -> Option<Vec<u8>> {
    if let [one] = files {
        return Some(one.to_vec());
    }
    let pictures: Vec<_> =
        files.iter().filter_map(|file| image::load_from_memory(file).ok()).map(|p| p.to_rgb8()).collect();
    let width = pictures.iter().map(|p| p.width()).max()?;
    let height = pictures.iter().map(|p| p.height()).sum();
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for picture in &pictures {
        for row in picture.rows() {
            pixels.extend(row.flat_map(|pixel| pixel.0));
            pixels.extend(std::iter::repeat_n(255u8, (width - picture.width()) as usize * 3));
        }
    }
    encode(&pixels, width, height).ok()
}

/// A byte for each pixel: a third of the size of full colour.
fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let (palette, indices) = indexed(pixels);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(palette.concat());
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&indices).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

/// A palette of the 256 most frequent colours, and each pixel's index. Rarer colours, if any, are shades at the edges of
/// letters and lines: they get the nearest of the palette.
fn indexed(pixels: &[u8]) -> (Vec<[u8; 3]>, Vec<u8>) {
    let mut runs: Vec<([u8; 3], usize)> = Vec::new();
    for pixel in pixels.chunks_exact(3) {
        let color = [pixel[0], pixel[1], pixel[2]];
        match runs.last_mut() {
            Some((same, n)) if *same == color => *n += 1,
            _ => runs.push((color, 1)),
        }
    }
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for (color, n) in &runs {
        *counts.entry(*color).or_default() += n;
    }
    let mut palette: Vec<([u8; 3], usize)> = counts.into_iter().collect();
    palette.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let rare = palette.split_off(palette.len().min(256));
    let palette: Vec<[u8; 3]> = palette.into_iter().map(|p| p.0).collect();
    let mut index: HashMap<[u8; 3], u8> = palette.iter().enumerate().map(|(i, color)| (*color, i as u8)).collect();
    for (color, _) in rare {
        let far = |other: &[u8; 3]| -> u32 { (0..3).map(|c| u32::from(color[c].abs_diff(other[c])).pow(2)).sum() };
        let nearest = (0..palette.len()).min_by_key(|i| far(&palette[*i])).unwrap_or(0);
        index.insert(color, nearest as u8);
    }
    let of = |(color, n)| std::iter::repeat_n(index.get(&color).copied().unwrap_or(0), n);
    (palette, runs.into_iter().flat_map(of).collect())
}

fn failed(why: impl Display) -> Error {
    Error::msg(format!("the picture can't be drawn: {why}"))
}

/// A backend's own way to draw text.
type DrawText<B> = fn(&mut B, &Mark, f64) -> Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

fn paint<B: DrawingBackend>(backend: &mut B, mark: &Mark, zoom: f64, text: DrawText<B>) -> Result<()> {
    let at = |v: f64| (v * zoom).round() as i32;
    match mark {
        Mark::Rect { x, y, w, h, fill } => {
            let (left, top, right, bottom) = (at(*x), at(*y), at(x + w), at(y + h));
            if right > left && bottom > top {
                backend.draw_rect((left, top), (right, bottom), &Pen::new(*fill, 1.0), true)
            } else {
                Ok(())
            }
        }
        // One segment at a time: plotters joins the segments of a path with mitres, which become spikes in dense curves.
        Mark::Line { points, color, width } => {
            let pen = Pen::new(*color, width * zoom);
            points.windows(2).try_for_each(|pair| match pair {
                [a, b] => backend.draw_path([(at(a.0), at(a.1)), (at(b.0), at(b.1))], &pen),
                _ => Ok(()),
            })
        }
        Mark::Dot { x, y, r, color } => {
            backend.draw_circle((at(*x), at(*y)), at(*r).max(1) as u32, &Pen::new(*color, 1.0), true)
        }
        Mark::Text { .. } => text(backend, mark, zoom),
    }
    .map_err(failed)
}

/// plotters' own text in bitmaps ignores the side bearings of glyphs, which sets letters unevenly.
fn draw_glyphs<B: DrawingBackend>(
    backend: &mut B,
    mark: &Mark,
    zoom: f64,
) -> Result<(), DrawingErrorKind<B::ErrorType>> {
    let Mark::Text { x, y, text, size, color, align, turned } = mark else { return Ok(()) };
    let size = size * zoom;
    let start = match align {
        Align::Left => 0.0,
        Align::Center => -font::width(text, size) / 2.0,
        Align::Right => -font::width(text, size),
    }
    .round() as i32;
    let (left, top) = ((x * zoom).round() as i32, (y * zoom).round() as i32);
    let (width, height) = backend.get_size();
    let mut result = Ok(());
    font::draw(text, size, |dx, dy, coverage| {
        let (px, py) = if *turned { (left + dy, top - start - dx) } else { (left + start + dx, top + dy) };
        if px >= 0 && py >= 0 && px < width as i32 && py < height as i32 && result.is_ok() {
            result = backend
                .draw_pixel((px, py), BackendColor { alpha: f64::from(coverage), rgb: (color.0, color.1, color.2) });
        }
    });
    result
}

fn draw_svg_text<B: DrawingBackend>(
    backend: &mut B,
    mark: &Mark,
    _zoom: f64,
) -> Result<(), DrawingErrorKind<B::ErrorType>> {
    let Mark::Text { x, y, text, size, color, align, turned } = mark else { return Ok(()) };
    // plotters' sizes are 1.24 of the em that it writes.
    let family = FontFamily::Name("DejaVu Sans, Verdana, sans-serif");
    let mut desc = FontDesc::new(family, size * 1.24, FontStyle::Normal);
    if *turned {
        desc = desc.transform(FontTransform::Rotate270);
    }
    let horizontal = match align {
        Align::Left => text_anchor::HPos::Left,
        Align::Center => text_anchor::HPos::Center,
        Align::Right => text_anchor::HPos::Right,
    };
    let color = RGBColor(color.0, color.1, color.2).to_rgba();
    let style = TextStyle::from(desc).color(&color).pos(text_anchor::Pos::new(horizontal, text_anchor::VPos::Center));
    backend.draw_text(text, &style, (x.round() as i32, y.round() as i32))
}

struct Pen {
    color: BackendColor,
    width: u32,
}

impl Pen {
    fn new(color: Rgb, width: f64) -> Self {
        let color = BackendColor { alpha: 1.0, rgb: (color.0, color.1, color.2) };
        Self { color, width: width.round().max(1.0) as u32 }
    }
}

impl BackendStyle for Pen {
    fn color(&self) -> BackendColor {
        self.color
    }

    fn stroke_width(&self) -> u32 {
        self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_has_twice_the_size_and_exact_rectangles() {
        let mut scene = Scene::default();
        scene.rect(0.0, 0.0, 3.0, 2.0, Rgb(10, 20, 30));
        let scene = scene.finish();
        let picture = image::load_from_memory(&picture(&scene).unwrap()).unwrap().to_rgb8();
        assert_eq!((picture.width(), picture.height()), (38, 36));
        let dark = picture.pixels().filter(|p| p.0 == [10, 20, 30]).count();
        assert_eq!(dark, 6 * 4);
        assert_eq!(picture.get_pixel(16, 16).0, [10, 20, 30]);
        assert_eq!(picture.get_pixel(15, 16).0, [255, 255, 255]);
    }

    #[test]
    fn svg_escapes_its_text() {
        let mut scene = Scene::default();
        scene.text(0.0, 0.0, "<script>\"&", 12.0, Align::Left);
        let text = svg(&[scene.finish()]).unwrap();
        assert!(text.starts_with("<svg") && text.contains("&lt;script&gt;"), "{text}");
        assert!(!text.contains("<script>"));
    }
}
