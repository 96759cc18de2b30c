//! Attention patterns: all heads of a layer as small pictures, one of them large with its tokens.

use candle_core::Tensor;

use super::attention_html;
use super::color::{Rgb, Scale, not_finite_note};
use super::draw_grid::{Labels, color_bar, draw_cells, draw_grid};
use super::escape;
use super::font;
use super::grid::Grid;
use super::html;
use super::number::number;
use super::scene::{Align, SMALL, Scene, TITLE};
use super::view::View;
use super::{Bundle, Show};
use crate::{Error, Result};

/// The most heads of a picture, and the most cells of a head's side; longer texts are reduced by block means.
pub const MAX_HEADS: usize = 64;
const CELLS: usize = 256;
/// The width of the picture.
const WIDTH: f64 = 660.0;
/// The largest side of the large head.
const LARGE: f64 = 440.0;

/// The attention of one layer, `[head, query, key]`, over its tokens.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candlescope::display::{AttentionView, Show};
/// let pattern = Tensor::new(&[[[1f32, 0.0], [0.25, 0.75]]], &Device::Cpu)?;
/// let view = AttentionView::new(&pattern, ["The", " cat"])?.title("blocks.0.attn.hook_pattern");
/// assert!(view.bundle().text.contains("head 0"));
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionView {
    pub(crate) heads: Vec<Grid>,
    pub(crate) names: Vec<String>,
    pub(crate) queries: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) scale: Scale,
    pub(crate) large: usize,
    pub(crate) causal: bool,
    title: String,
    total: usize,
}

impl AttentionView {
    /// From a pattern `[head, query, key]`, or `[query, key]`, or a batch of one; and the text of each key's token. With
    /// fewer queries than keys (a KV cache) the queries are the last tokens.
    ///
    /// # Errors
    /// When the shape is another one, there is not one token for each key, or the tensor can't be read.
    pub fn new<S: Into<String>>(pattern: &Tensor, tokens: impl IntoIterator<Item = S>) -> Result<Self> {
        let keys: Vec<String> = tokens.into_iter().map(Into::into).collect();
        let shape = pattern.dims();
        let pattern = match *shape {
            [1, _, _, _] => pattern.squeeze(0)?,
            [_, _] => pattern.unsqueeze(0)?,
            _ => pattern.clone(),
        };
        let [total, n_queries, n_keys] = *pattern.dims() else {
            return Err(Error::msg(format!(
                "attention has the shape [head, query, key]; this tensor has {shape:?}: choose one text of a batch with \
                 .get(i)?"
            )));
        };
        if keys.len() != n_keys {
            let n = keys.len();
            return Err(Error::msg(format!(
                "the pattern has {n_keys} keys, and {n} tokens were given: one for each key is needed"
            )));
        }
        let heads: Result<Vec<Grid>> =
            (0..total.min(MAX_HEADS)).map(|head| Grid::read(&pattern, &[head], CELLS, CELLS)).collect();
        let heads = heads?;
        let queries = keys.get(keys.len().saturating_sub(n_queries)..).unwrap_or(&[]).to_vec();
        let all: Vec<f32> = heads.iter().flat_map(|h| h.values.iter().copied()).collect();
        let causal = n_queries > 1 && n_queries <= n_keys && heads.iter().all(looks_causal);
        // Probabilities have one scale everywhere, so that layers can be compared.
        let scale = match Scale::fit(&all) {
            Scale::Sequential { high, .. } if high <= 1.0 => Scale::Sequential { low: 0.0, high: 1.0 },
            other => other,
        };
        let names = (0..heads.len()).map(|h| format!("head {h}")).collect();
        Ok(Self { heads, names, queries, keys, scale, large: 0, causal, title: String::new(), total })
    }

    /// A title above the picture, such as the hook's name.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Which head is drawn large (0 by default).
    pub fn head(mut self, head: usize) -> Self {
        self.large = head.min(self.heads.len().saturating_sub(1));
        self
    }

    /// Names of the heads, such as `L5H1`.
    pub fn head_names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        for (name, new) in self.names.iter_mut().zip(names) {
            *name = new.into();
        }
        self
    }

    /// A fixed colour scale.
    pub fn scale(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// Whether a key lies after its query, where a causal model can't look.
    pub(crate) fn masked(&self, row: usize, col: usize) -> bool {
        self.causal && self.heads.first().is_some_and(|h| h.rows == h.full.0 && col + h.rows > row + h.cols)
    }

    pub(crate) fn color(&self, row: usize, col: usize, value: f32) -> Rgb {
        if self.masked(row, col) { Rgb::MASKED } else { self.scale.color(value) }
    }

    fn shape(&self) -> String {
        format!("{} heads, {} queries, {} keys", self.total, self.queries.len(), self.keys.len())
    }

    pub(crate) fn heading(&self) -> String {
        let title = if self.title.is_empty() { "attention" } else { &self.title };
        format!("{} ({})", escape::visible_line(title), self.shape())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.total > self.heads.len() {
            notes.push(format!("the first {MAX_HEADS} of {} heads are drawn", self.total));
        }
        notes.extend(self.heads.first().and_then(|h| h.note.clone()));
        let seen: Vec<f32> = self
            .heads
            .iter()
            .flat_map(|h| (0..h.rows).flat_map(move |r| (0..h.cols).map(move |c| (h, r, c))))
            .filter(|(_, r, c)| !self.masked(*r, *c))
            .map(|(h, r, c)| h.at(r, c))
            .collect();
        notes.extend(not_finite_note(&seen));
        notes
    }

    /// The strongest (query, key, value) of a head, strongest first. The first token of a causal text can look only at
    /// itself, which tells nothing.
    pub(crate) fn strongest(&self, head: usize, n: usize) -> Vec<(usize, usize, f32)> {
        let Some(grid) = self.heads.get(head) else { return Vec::new() };
        let first = if self.causal && grid.rows == grid.cols && grid.rows > 1 { grid.cols } else { 0 };
        let mut order: Vec<usize> = (first..grid.values.len()).filter(|i| grid.values[*i].is_finite()).collect();
        let by = |a: &usize, b: &usize| grid.values[*b].abs().total_cmp(&grid.values[*a].abs());
        if order.len() > n && n > 0 {
            order.select_nth_unstable_by(n - 1, by);
            order.truncate(n);
        }
        order.sort_by(by);
        order.into_iter().map(|i| (i / grid.cols, i % grid.cols, grid.values[i])).collect()
    }

    pub(crate) fn query_name(&self, row: usize) -> String {
        let i = self.heads.first().map_or(row, |h| h.row_start(row));
        let position = i + self.keys.len().saturating_sub(self.queries.len());
        format!(
            "{} ({position})",
            escape::shorten(&self.queries.get(i).map(|t| escape::visible(t)).unwrap_or_default(), 24)
        )
    }

    pub(crate) fn key_name(&self, col: usize) -> String {
        let i = self.heads.first().map_or(col, |h| h.col_start(col));
        format!("{} ({i})", escape::shorten(&self.keys.get(i).map(|t| escape::visible(t)).unwrap_or_default(), 24))
    }

    fn drawn(&self) -> bool {
        self.heads.iter().any(|h| !h.values.is_empty())
    }

    fn scene(&self) -> Scene {
        let mut scene = Scene::default();
        let n = self.heads.len();
        let (across, gap) = (
            if n <= 4 {
                n.max(1)
            } else if n <= 12 {
                6
            } else {
                8
            },
            10.0,
        );
        let side = ((WIDTH - gap * (across as f64 - 1.0)) / across as f64).min(130.0);
        let mut y = 0.0;
        for (r, row) in self.heads.chunks(across).enumerate() {
            for (i, grid) in row.iter().enumerate() {
                let head = r * across + i;
                let x = i as f64 * (side + gap);
                let cell = side / grid.rows.max(grid.cols).max(1) as f64;
                let name = font::fit(&font::drawable(&escape::visible_line(&self.names[head])), SMALL, side);
                scene.text(x, y + 8.0, &name, SMALL, Align::Left);
                draw_cells(&mut scene, grid, (x, y + 18.0), (cell, cell), |r, c, v| self.color(r, c, v));
                if head == self.large {
                    scene.rect(
                        x - 2.0,
                        y + 19.0 + cell * grid.rows as f64,
                        cell * grid.cols as f64 + 4.0,
                        3.0,
                        Rgb(213, 94, 0),
                    );
                }
            }
            y += side + 18.0 + 8.0;
        }
        scene.text(0.0, -TITLE, &font::fit(&font::drawable(&self.heading()), TITLE, WIDTH), TITLE, Align::Left);
        if let Some(grid) = self.heads.get(self.large) {
            y += 12.0;
            let name = format!("{}, large: each row is a query, each column a key", self.names[self.large]);
            scene.text(
                0.0,
                y,
                &font::fit(&font::drawable(&escape::visible_line(&name)), SMALL, WIDTH),
                SMALL,
                Align::Left,
            );
            y += 14.0;
            let cell = (LARGE / grid.rows.max(grid.cols).max(1) as f64).min(24.0);
            let cell = if cell > 1.0 { (cell * 2.0).floor() / 2.0 } else { cell };
            let size = (cell + 1.0).clamp(9.0, SMALL);
            let left = 124.0;
            let shown = Grid { values: self.unmasked(grid), ..grid.clone() };
            let labels = Labels { x: &self.keys, y: &self.queries, x_title: "key", y_title: "query", size };
            let bottom = draw_grid(&mut scene, &shown, &self.scale, (left, y), (cell, cell), &labels);
            draw_cells(&mut scene, grid, (left, y), (cell, cell), |r, c, v| self.color(r, c, v));
            let height = (cell * grid.rows as f64).clamp(70.0, 160.0);
            color_bar(&mut scene, &self.scale, left + cell * grid.cols as f64 + 18.0, y, height);
            y = bottom.max(y + 84.0);
        }
        for note in self.notes() {
            y += scene.paragraph(0.0, y, &note, SMALL, WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn text(&self) -> String {
        let mut lines = vec![self.heading()];
        let rows: Vec<Vec<String>> = (0..self.heads.len().min(24))
            .map(|head| {
                let pair = |(q, k, v): (usize, usize, f32)| {
                    format!("{} → {} {}", self.query_name(q), self.key_name(k), number(round(v)))
                };
                let pairs: Vec<String> = self.strongest(head, 3).into_iter().map(pair).collect();
                vec![escape::visible_line(&self.names[head]), pairs.join(",  ")]
            })
            .collect();
        lines.extend(super::text::columns(&rows, &[]));
        if self.heads.len() > rows.len() {
            lines.push(format!(".. {} more heads", self.total - rows.len()));
        }
        if let Some(grid) = self.heads.get(self.large).filter(|g| !g.values.is_empty()) {
            let small = grid.reduced(24, 32);
            lines.push(format!("{}:", escape::visible_line(&self.names[self.large])));
            for row in 0..small.rows {
                let i = small.row_start(row);
                let name = escape::shorten(&self.queries.get(i).map(|t| escape::visible(t)).unwrap_or_default(), 14);
                let cells: String = (0..small.cols)
                    .map(|c| {
                        if self.masked(i, small.col_start(c)) {
                            "  ".to_string()
                        } else {
                            super::text::cell(&self.scale, small.at(row, c))
                        }
                    })
                    .collect();
                lines.push(format!("{name:>14} |{}", cells.trim_end()));
            }
            lines.push(super::text::legend(&self.scale));
            lines.extend(super::text::reduced(&small));
        }
        lines.extend(self.notes());
        lines.join("\n")
    }

    /// A head's values with what can't be seen set to 0: scores there are minus infinity.
    fn unmasked(&self, grid: &Grid) -> Vec<f32> {
        let value = |i: usize, v: &f32| if self.masked(i / grid.cols.max(1), i % grid.cols.max(1)) { 0.0 } else { *v };
        grid.values.iter().enumerate().map(|(i, v)| value(i, v)).collect()
    }
}

impl Show for AttentionView {
    fn bundle(&self) -> Bundle {
        let below = attention_html::tables(self) + &html::notes(&self.notes());
        let view = View {
            text: self.text(),
            scene: self.drawn().then(|| self.scene()),
            alt: format!("Attention patterns: {}", self.heading()),
            above: String::new(),
            below,
        };
        let still = view.bundle();
        let html = still.html.map(|page| attention_html::with_script(self, &page));
        Bundle { html, ..still }
    }

    fn svg(&self) -> Option<String> {
        super::raster::svg(&self.scene()).ok()
    }
}

/// Whether nothing is ever seen of later tokens.
fn looks_causal(grid: &Grid) -> bool {
    let later = |row: usize| (row + 1 + grid.cols.saturating_sub(grid.rows))..grid.cols;
    (0..grid.rows).all(|row| later(row).all(|col| matches!(grid.at(row, col), 0.0 | f32::NEG_INFINITY)))
}

/// Three decimals.
fn round(value: f32) -> f64 {
    (f64::from(value) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use std::time::Instant;

    /// A causal pattern in which each query looks evenly at all earlier tokens.
    fn even(heads: usize, n: usize) -> Tensor {
        let mut values = Vec::new();
        for _ in 0..heads {
            for q in 0..n {
                values.extend((0..n).map(|k| if k <= q { 1.0 / (q + 1) as f32 } else { 0.0 }));
            }
        }
        Tensor::from_vec(values, (heads, n, n), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_strongest_pairs_are_named() {
        let view = AttentionView::new(&even(2, 3), ["<s>", " a", "\n"]).unwrap();
        assert!(view.causal);
        assert_eq!(view.strongest(0, 2), [(1, 0, 0.5), (1, 1, 0.5)]);
        let bundle = view.title("L0").bundle();
        assert!(
            bundle.text.starts_with("L0 (2 heads, 3 queries, 3 keys)\nhead 0  ·a (1) → <s> (0) 0.5"),
            "{}",
            bundle.text
        );
        assert!(bundle.text.contains("↵ |░░░░░░"), "{}", bundle.text);
    }

    #[test]
    fn twelve_heads_are_small_and_quick() {
        // Values that don't compress well.
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let n = 64;
        let values: Vec<f32> = (0..12 * n * n).map(|i| if i % n <= i / n % n { random() } else { 0.0 }).collect();
        let pattern = Tensor::from_vec(values, (12, n, n), &Device::Cpu).unwrap();
        let start = Instant::now();
        let bundle = AttentionView::new(&pattern, (0..n).map(|i| format!(" token{i}"))).unwrap().bundle();
        assert!(start.elapsed().as_secs_f64() < 5.0, "{:?} in a debug build", start.elapsed());
        let size = bundle.to_evcxr().len();
        assert!(size < 320_000, "{size} bytes of random noise, png {}", bundle.png.unwrap().len());
    }

    #[test]
    fn shapes_and_tokens_are_checked() {
        let pattern = even(2, 3);
        assert!(AttentionView::new(&pattern, ["a"]).unwrap_err().to_string().contains("3 keys, and 1 tokens"));
        assert!(AttentionView::new(&pattern.get(0).unwrap(), ["a", "b", "c"]).is_ok());
        let batch = pattern.unsqueeze(0).unwrap().repeat((2, 1, 1, 1)).unwrap();
        assert!(AttentionView::new(&batch, ["a", "b", "c"]).unwrap_err().to_string().contains("[2, 2, 3, 3]"));
        let empty = Tensor::zeros((2, 0, 0), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(AttentionView::new(&empty, Vec::<String>::new()).unwrap().bundle().png.is_none());
    }

    #[test]
    fn long_texts_cached_queries_and_scores_work() {
        let long = AttentionView::new(&even(1, 700), vec!["x"; 700]).unwrap().bundle();
        assert!(long.text.contains("mean of a block") && !long.html.unwrap().contains("<script"));
        let cached = even(1, 4).narrow(1, 3, 1).unwrap();
        let view = AttentionView::new(&cached, ["a", "b", "c", "d"]).unwrap();
        assert_eq!((view.queries.as_slice(), view.query_name(0).as_str()), (&["d".to_string()][..], "d (3)"));
        let scores = Tensor::new(&[[[1f32, f32::NEG_INFINITY], [-2.0, 3.0]]], &Device::Cpu).unwrap();
        let view = AttentionView::new(&scores, ["a", "b"]).unwrap();
        assert!(view.causal && view.scale == Scale::Diverging { limit: 3.0 } && view.notes().is_empty());
    }

    #[test]
    fn token_text_is_inert_in_the_page() {
        let evil = ["</script><script>alert(1)</script>", "\"'><img src=x>", "EVCXR_END_CONTENT"];
        let html = AttentionView::new(&even(1, 3), evil).unwrap().bundle().html.unwrap();
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("<img").count(), 1);
    }
}
