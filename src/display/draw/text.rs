//! Values as characters, for terminals.

use crate::display::draw::color::Scale;
use crate::display::draw::grid::Grid;
use crate::display::draw::number::number;

/// Two characters for a value: its sign and its size in tenths of the scale, or a shade on a sequential scale.
pub(crate) fn cell(scale: &Scale, value: f32) -> String {
    if value.is_nan() {
        return " ?".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+∞" } else { "-∞" }.to_string();
    }
    match *scale {
        Scale::Diverging { limit } => {
            let tenths = (value / limit * 9.0).round().clamp(-9.0, 9.0) as i32;
            if tenths == 0 { " ·".to_string() } else { format!("{tenths:+}") }
        }
        Scale::Sequential { .. } => ["··", "░░", "▒▒", "▓▓", "██"][shade(scale, value)].to_string(),
    }
}

/// What [`cell`]'s characters mean.
pub(crate) fn legend(scale: &Scale) -> String {
    let (low, high) = scale.limits();
    match scale {
        Scale::Diverging { .. } => format!("-9 is {}, · is 0, +9 is {}", number(low.into()), number(high.into())),
        Scale::Sequential { .. } => format!("· is {}, █ is {}", number(low.into()), number(high.into())),
    }
}

/// What is said below a grid that has fewer cells in text than in the picture.
pub(crate) fn reduced(grid: &Grid) -> Option<String> {
    let (rows, cols) = (grid.rows, grid.cols);
    ((rows, cols) != grid.full).then(|| format!("(in this text {rows} x {cols} cells, each the mean of a block)"))
}

/// 0 to 4.
fn shade(scale: &Scale, value: f32) -> usize {
    ((scale.position(value) * 4.999) as usize).min(4)
}

/// Values as a line of eighth blocks from the smallest to the largest.
pub(crate) fn sparkline(values: &[f64]) -> String {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let blocks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let one = |v: f64| match v {
        v if !v.is_finite() => '?',
        v if high > low => blocks[(((v / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0) * 7.0).round() as usize).min(7)],
        _ => '▄',
    };
    values.iter().map(|v| one(*v)).collect()
}

/// A bar of up to `width` characters, for a part from 0 to 1.
pub(crate) fn bar(part: f64, width: usize) -> String {
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let rest = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let mut out = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        out.push(rest[eighths % 8 - 1]);
    }
    out
}

/// Columns of text, each as wide as its widest cell; `right` says which are aligned to the right.
pub(crate) fn columns(rows: &[Vec<String>], right: &[bool]) -> Vec<String> {
    let n = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..n).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(c, text)| {
            let width = widths[c];
            if right.get(c) == Some(&true) { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_show_sign_and_size() {
        let scale = Scale::Diverging { limit: 2.0 };
        let cells: Vec<String> = [2.0, -1.0, 0.0, f32::NAN, f32::INFINITY].iter().map(|v| cell(&scale, *v)).collect();
        assert_eq!(cells, ["+9", "-5", " ·", " ?", "+∞"]);
        assert_eq!(cell(&Scale::Sequential { low: 0.0, high: 1.0 }, 1.0), "██");
    }

    #[test]
    fn lines_and_bars() {
        assert_eq!(sparkline(&[0.0, 1.0, f64::NAN]), "▁█?");
        assert_eq!(bar(0.5, 5), "██▌");
        assert_eq!(bar(2.0, 2), "██");
        let rows = vec![vec!["a".into(), "10".into()], vec!["bb".into(), "5".into()]];
        assert_eq!(columns(&rows, &[false, true]), ["a   10", "bb   5"]);
    }
}
