//! The attention view's page: the still picture and tables first, then a script that replaces them where scripts run.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::attention_view::AttentionView;
use super::color::Rgb;
use super::escape;
use super::html;
use super::number::number;

/// The script: no network, no globals, no library.
const SCRIPT: &str = include_str!("attention.js");
/// The most cells that travel to the page; a larger pattern keeps its still picture.
const CELLS: usize = 1_200_000;
/// Up to so many tokens the large head is also a table.
const TABLE: usize = 32;
/// Quantised levels: 0 to 253 are values between the scale's limits.
const LEVELS: f32 = 253.0;
const MASKED: u8 = 254;
const NOT_FINITE: u8 = 255;

/// For those without scripts: the strongest pairs of every head, and the large head's values if they are few.
pub(crate) fn tables(view: &AttentionView) -> String {
    let mut rows = Vec::new();
    for head in 0..view.heads.len() {
        for (i, (query, key, value)) in view.strongest(head, 3).into_iter().enumerate() {
            let name = if i == 0 { escape::visible_line(&view.names[head]) } else { String::new() };
            let names = [name, view.query_name(query), view.key_name(key)];
            let cells: String = names.iter().map(|n| html::cell(n, false)).collect();
            rows.push(cells + &html::colored_cell(&number(value.into()), view.scale.color(value)));
        }
    }
    let head = ["head", "query", "looks at", "value"].map(String::from);
    let strongest = html::details("The strongest pairs of each head", &html::table(&head, &rows));
    let Some(grid) = view.heads.get(view.large).filter(|g| g.rows.max(g.cols) <= TABLE && !g.values.is_empty()) else {
        return strongest;
    };
    let mut head = vec!["query \\ key".to_string()];
    head.extend(view.keys.iter().map(|t| escape::visible(t)));
    let row = |row: usize| {
        let cells = (0..grid.cols).map(|col| {
            let value = grid.at(row, col);
            let text = if view.masked(row, col) { String::new() } else { format!("{value:.2}") };
            html::colored_cell(&text, view.color(row, col, value))
        });
        let name = escape::html(&view.query_name(row));
        format!("<th align=\"left\">{name}</th>{}", cells.collect::<String>())
    };
    let rows: Vec<String> = (0..grid.rows).map(row).collect();
    let name = format!("{} as a table", view.names[view.large]);
    strongest + &html::details(&name, &html::table(&head, &rows))
}

/// The still page with the data and the script that makes it interactive.
pub(crate) fn with_script(view: &AttentionView, still: &str) -> String {
    let Some(first) = view.heads.first() else { return still.to_string() };
    let cells: usize = view.heads.iter().map(|h| h.values.len()).sum();
    if first.note.is_some() || cells == 0 || cells > CELLS {
        return still.to_string();
    }
    let mut levels = Vec::with_capacity(cells);
    for grid in &view.heads {
        for (i, value) in grid.values.iter().enumerate() {
            levels.push(match (view.masked(i / grid.cols, i % grid.cols), value.is_finite()) {
                (true, _) => MASKED,
                (false, false) => NOT_FINITE,
                (false, true) => (view.scale.position(*value) * LEVELS).round() as u8,
            });
        }
    }
    let mut colors: String =
        (0..=LEVELS as u8).map(|l| view.scale.at(f32::from(l) / LEVELS).hex()[1..].to_string()).collect();
    colors += &Rgb::MASKED.hex()[1..];
    colors += &Rgb::NAN.hex()[1..];
    let (low, high) = view.scale.limits();
    let names = |tokens: &[String]| -> Vec<String> {
        tokens.iter().map(|t| escape::shorten(&escape::visible(t), 60)).collect()
    };
    let data = json!({
        "rows": first.rows, "cols": first.cols, "low": low, "high": high, "start": view.large, "colors": colors, "title": view.heading(),
        "heads": view.names.iter().map(|n| escape::visible_line(n)).collect::<Vec<_>>(),
        "queries": names(&view.queries), "keys": names(&view.keys), "levels": STANDARD.encode(&levels),
    })
    .to_string();
    let id = html::fingerprint(&data);
    let data = escape::html(&data);
    let script = SCRIPT.replace("ROOT_ID", &id);
    format!("<div data-candlescope=\"{id}\" data-attention=\"{data}\">{still}</div><script>{script}</script>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn the_script_is_small_and_alone() {
        assert!(SCRIPT.len() < 15_000, "{}", SCRIPT.len());
        for word in ["http", "fetch(", "import", "require", "</", "innerHTML", "eval("] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }

    #[test]
    fn data_is_quantised() {
        let pattern = Tensor::new(&[[[1f32, 0.0], [0.5, f32::NAN]]], &Device::Cpu).unwrap();
        let view = AttentionView::new(&pattern, ["a", "b\""]).unwrap();
        let page = with_script(&view, "STILL");
        assert!(page.contains(&STANDARD.encode([253u8, 254, 127, 255])), "{page}");
        assert!(page.contains("b\\&quot;") && page.contains(">STILL</div>"));
    }
}
