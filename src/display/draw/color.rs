//! Colours that colour-blind readers can tell apart, and the scales that turn numbers into them.

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    pub(crate) const WHITE: Rgb = Rgb(255, 255, 255);
    pub(crate) const INK: Rgb = Rgb(31, 35, 40);
    pub(crate) const FAINT: Rgb = Rgb(105, 112, 120);
    pub(crate) const GRID: Rgb = Rgb(222, 226, 230);
    /// NaN.
    pub(crate) const NAN: Rgb = Rgb(160, 160, 160);
    /// Plus and minus infinity: colours that no scale uses.
    pub(crate) const PLUS_INF: Rgb = Rgb(240, 180, 0);
    pub(crate) const MINUS_INF: Rgb = Rgb(118, 42, 131);
    /// Where a causal pattern can't look.
    pub(crate) const MASKED: Rgb = Rgb(238, 238, 238);

    pub(crate) fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }

    /// Black or white, whichever reads better on this colour.
    pub(crate) fn ink(self) -> Rgb {
        let light = 0.299 * f32::from(self.0) + 0.587 * f32::from(self.1) + 0.114 * f32::from(self.2);
        if light < 140.0 { Rgb::WHITE } else { Rgb::INK }
    }
}

/// Okabe and Ito's colours, darkest first, for series.
pub(crate) const SERIES: [Rgb; 8] = [
    Rgb(0, 114, 178),
    Rgb(213, 94, 0),
    Rgb(0, 158, 115),
    Rgb(204, 121, 167),
    Rgb(230, 159, 0),
    Rgb(86, 180, 233),
    Rgb(0, 0, 0),
    Rgb(150, 150, 150),
];

/// From the strongest negative through white at zero to the strongest positive.
const DIVERGING: [Rgb; 7] = [
    Rgb(127, 10, 35),
    Rgb(205, 70, 60),
    Rgb(245, 170, 135),
    Rgb(255, 255, 255),
    Rgb(150, 195, 230),
    Rgb(60, 130, 190),
    Rgb(10, 55, 115),
];
const SEQUENTIAL: [Rgb; 5] =
    [Rgb(255, 255, 255), Rgb(190, 215, 240), Rgb(95, 160, 210), Rgb(30, 100, 175), Rgb(8, 40, 100)];

/// How many shades a scale has (even, so that zero has its own): more can't be told apart, and would cost file size.
const SHADES: f32 = 80.0;

/// How numbers become colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Red below zero, white at zero, blue above; full colour at `limit`.
    Diverging { limit: f32 },
    /// White at `low` to dark blue at `high`.
    Sequential { low: f32, high: f32 },
}

impl Scale {
    /// Sequential from 0 when no value is negative, otherwise diverging and centred at 0.
    pub fn fit(values: &[f32]) -> Scale {
        let (low, high) = extent(values);
        if low >= 0.0 { Scale::Sequential { low: 0.0, high: positive(high) } } else { Scale::diverging(values) }
    }

    /// Centred at 0, wide enough for every finite value.
    pub fn diverging(values: &[f32]) -> Scale {
        let (low, high) = extent(values);
        Scale::Diverging { limit: positive(high.abs().max(low.abs())) }
    }

    /// From the smallest to the largest finite value.
    pub fn sequential(values: &[f32]) -> Scale {
        let (low, high) = extent(values);
        Scale::Sequential { low, high: if high > low { high } else { low + 1.0 } }
    }

    /// The lowest and the highest value that has a colour of its own.
    pub fn limits(&self) -> (f32, f32) {
        match *self {
            Scale::Diverging { limit } => (-limit, limit),
            Scale::Sequential { low, high } => (low, high),
        }
    }

    /// The colour of a value; values outside of the limits get the colour at the limit.
    pub fn color(&self, value: f32) -> Rgb {
        if value.is_nan() {
            return Rgb::NAN;
        }
        if value.is_infinite() {
            return if value > 0.0 { Rgb::PLUS_INF } else { Rgb::MINUS_INF };
        }
        self.at(self.position(value))
    }

    /// Where a finite value lies between the limits: 0 to 1.
    pub(crate) fn position(&self, value: f32) -> f32 {
        let (low, high) = self.limits();
        // Halved, because the difference of two large numbers may overflow.
        let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        if part.is_nan() { 0.5 } else { part.clamp(0.0, 1.0) }
    }

    /// The colour at a position, 0 to 1.
    pub(crate) fn at(&self, position: f32) -> Rgb {
        let anchors: &[Rgb] = match self {
            Scale::Diverging { .. } => &DIVERGING,
            Scale::Sequential { .. } => &SEQUENTIAL,
        };
        let position = (position.clamp(0.0, 1.0) * SHADES).round() / SHADES;
        let place = position * (anchors.len() - 1) as f32;
        let i = (place as usize).min(anchors.len() - 2);
        mix(anchors[i], anchors[i + 1], place - i as f32)
    }
}

fn mix(a: Rgb, b: Rgb, part: f32) -> Rgb {
    let one = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * part).round() as u8;
    Rgb(one(a.0, b.0), one(a.1, b.1), one(a.2, b.2))
}

/// The smallest and the largest finite value; (0, 0) without any.
pub(crate) fn extent(values: &[f32]) -> (f32, f32) {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high { (0.0, 0.0) } else { (low, high) }
}

fn positive(limit: f32) -> f32 {
    if limit > 0.0 { limit } else { 1.0 }
}

/// What the colours of values that are no numbers mean, if there are such values.
pub(crate) fn not_finite_note(values: &[f32]) -> Option<String> {
    let nan = values.iter().filter(|v| v.is_nan()).count();
    let plus = values.iter().filter(|v| **v == f32::INFINITY).count();
    let minus = values.iter().filter(|v| **v == f32::NEG_INFINITY).count();
    let kinds = [(nan, "grey: NaN"), (plus, "yellow: +inf"), (minus, "purple: -inf")];
    let parts: Vec<String> = kinds.iter().filter(|k| k.0 > 0).map(|(n, name)| format!("{name} ({n})")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positive_is_blue_and_negative_red() {
        let scale = Scale::fit(&[-1.0, 2.0, f32::NAN]);
        assert_eq!(scale, Scale::Diverging { limit: 2.0 });
        let (blue, red) = (scale.color(1.5), scale.color(-1.5));
        assert!(blue.2 > blue.0 + 60 && red.0 > red.2 + 60);
        assert_eq!(scale.color(0.0), Rgb::WHITE);
        assert_eq!(scale.color(f32::NAN), Rgb::NAN);
        assert_eq!(scale.color(9.0), scale.color(2.0));
    }

    #[test]
    fn extreme_values_have_colours() {
        let scale = Scale::fit(&[f32::MIN, f32::MAX]);
        assert_eq!(scale.color(0.0), Rgb::WHITE);
        assert_eq!(Scale::fit(&[]).limits(), (0.0, 1.0));
        assert_eq!(Scale::sequential(&[3.0]).limits(), (3.0, 4.0));
        assert_eq!(Scale::fit(&[f32::NAN, f32::INFINITY]).limits(), (0.0, 1.0));
    }

    #[test]
    fn values_that_are_no_numbers_are_counted() {
        let note = not_finite_note(&[1.0, f32::NAN, f32::NAN, f32::NEG_INFINITY]).unwrap();
        assert_eq!(note, "grey: NaN (2), purple: -inf (1)");
        assert_eq!(not_finite_note(&[1.0]), None);
    }
}
