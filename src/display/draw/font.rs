//! The font of the pictures: measuring text, drawing it, and what happens to characters that it lacks.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};

static BYTES: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf");
/// None only if the asset is damaged, which a test rules out.
static FONT: LazyLock<Option<FontRef<'static>>> = LazyLock::new(|| FontRef::try_from_slice(BYTES).ok());

/// The text with each character that the font lacks written as its code, such as `U+1F600`.
pub(crate) fn drawable(text: &str) -> String {
    let Some(font) = FONT.as_ref() else { return text.to_string() };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if font.glyph_id(c) != GlyphId(0) {
            out.push(c);
        } else {
            out.push_str(&format!("U+{:04X}", c as u32));
        }
    }
    out
}

/// The width of a drawable text, in the unit of `size` (the font's em).
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let Some(font) = FONT.as_ref() else { return 0.0 };
    let scaled = font.as_scaled(scale(font, size));
    text.chars().map(|c| f64::from(scaled.h_advance(scaled.glyph_id(c)))).sum()
}

/// A drawable text cut to a width; a cut one ends in `…`. Takes no longer for a long text than for one that fits.
pub(crate) fn fit(text: &str, size: f64, limit: f64) -> String {
    let Some(font) = FONT.as_ref() else { return text.to_string() };
    let scaled = font.as_scaled(scale(font, size));
    let advance = |c: char| f64::from(scaled.h_advance(scaled.glyph_id(c)));
    let room = limit - advance('…');
    let (mut width, mut kept) = (0.0, 0);
    for (at, c) in text.char_indices() {
        width += advance(c);
        if width > limit {
            return format!("{}…", &text[..kept]);
        }
        if width <= room {
            kept = at + c.len_utf8();
        }
    }
    text.to_string()
}

/// Glyphs stand on whole pixels and have few shades: equal letters are then equal pixels, which halves the files.
const SHADES: f32 = 6.0;

/// Calls `dot(x, y, coverage)` for each pixel of a text that starts at x = 0 and is centred on the line y = 0 (by the
/// height of its capitals).
pub(crate) fn draw(text: &str, size: f64, mut dot: impl FnMut(i32, i32, f32)) {
    let Some(font) = FONT.as_ref() else { return };
    let scaled = font.as_scaled(scale(font, size));
    let base = (size * 0.365) as f32;
    let mut x = 0f32;
    for c in text.chars() {
        let id = scaled.glyph_id(c);
        let glyph = id.with_scale_and_position(scaled.scale(), point(x.round(), base.round()));
        x += scaled.h_advance(id);
        if let Some(outline) = font.outline_glyph(glyph) {
            let bounds = outline.px_bounds();
            let (left, top) = (bounds.min.x as i32, bounds.min.y as i32);
            outline.draw(|dx, dy, coverage| {
                dot(left + dx as i32, top + dy as i32, (coverage.min(1.0) * SHADES).round() / SHADES)
            });
        }
    }
}

/// ab_glyph scales by the height from descent to ascent; everybody else by the em.
fn scale(font: &FontRef<'_>, size: f64) -> PxScale {
    let em = font.units_per_em().unwrap_or(2048.0);
    PxScale::from(size as f32 * font.height_unscaled() / em)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_loads_and_measures() {
        assert!(FONT.is_some());
        assert!(width("MM", 12.0) > width("ii", 12.0));
        assert!((width("M", 100.0) - 86.3).abs() < 1.0, "{}", width("M", 100.0));
    }

    #[test]
    fn missing_characters_show_their_code() {
        assert_eq!(drawable("aβЖ·↵⇥—█∅⍽"), "aβЖ·↵⇥—█∅⍽");
        assert_eq!(drawable("😀語"), "U+1F600U+8A9E");
    }

    #[test]
    fn fitting_cuts_with_a_mark() {
        let short = fit("a very long label indeed", 12.0, 60.0);
        assert!(short.ends_with('…') && width(&short, 12.0) <= 60.0);
        assert_eq!(fit("ok", 12.0, 60.0), "ok");
        assert_eq!(fit("ok", 12.0, 0.0), "…");
        assert_eq!(fit(&"é".repeat(1_000_000), 12.0, 60.0), fit("éééééééééééé", 12.0, 60.0));
    }
}
