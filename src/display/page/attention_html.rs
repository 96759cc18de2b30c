//! The attention view's page: the still picture and tables first, then a script that replaces them where scripts run.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::display::draw::color::Rgb;
use crate::display::draw::number::number;
use crate::display::escape;
use crate::display::page::html;
use crate::display::views::attention_view::AttentionView;

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
    let pairs = if view.across.is_some() { 1 } else { 3 };
    for head in 0..view.heads.len() {
        for (i, (query, key, value)) in view.strongest(head, pairs).into_iter().enumerate() {
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
    // Cells of a long text are means of blocks: only an overview, where none has a token of its own, is worth touching then.
    let reduced = first.note.is_some();
    if (reduced && view.across.is_none()) || cells == 0 || cells > CELLS {
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
    // Where each row and column of cells begins, and the token there.
    let rows: Vec<usize> = (0..first.rows).map(|row| first.row_start(row)).collect();
    let cols: Vec<usize> = (0..first.cols).map(|col| first.col_start(col)).collect();
    let names = |tokens: &[String], places: &[usize]| -> Vec<String> {
        let token = |place: &usize| tokens.get(*place).map(|token| escape::visible(token)).unwrap_or_default();
        places.iter().map(|place| escape::shorten(&token(place), 60)).collect()
    };
    let offset = view.keys.len().saturating_sub(view.queries.len());
    let data = json!({
        "rows": first.rows, "cols": first.cols, "across": view.across, "words": !reduced, "title": view.heading(),
        "low": low, "high": high, "start": view.large, "colors": colors, "levels": STANDARD.encode(&levels),
        "heads": view.names.iter().map(|n| escape::visible_line(n)).collect::<Vec<_>>(),
        "queries": names(&view.queries, &rows), "keys": names(&view.keys, &cols),
        "rowPlaces": rows.iter().map(|row| row + offset).collect::<Vec<_>>(), "colPlaces": cols,
    })
    .to_string();
    let id = html::fingerprint(&data);
    let data = escape::html(&data);
    format!(
        "<div data-candlescope=\"{id}\" data-attention=\"{data}\">{still}</div>{}",
        html::with_id(html::ATTENTION, &id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn data_is_quantised() {
        let pattern = Tensor::new(&[[[1f32, 0.0], [0.5, f32::NAN]]], &Device::Cpu).unwrap();
        let view = AttentionView::new(&pattern, ["a", "b\""]).unwrap();
        let page = with_script(&view, "STILL");
        assert!(page.contains(&STANDARD.encode([253u8, 254, 127, 255])), "{page}");
        assert!(page.contains("b\\&quot;") && page.contains(">STILL</div>"));
    }
}
