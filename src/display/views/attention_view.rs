//! Attention patterns: all heads of a layer as small pictures, one of them large with its tokens.

use candle_core::Tensor;

use crate::display::draw::color::{Rgb, Scale, not_finite_note};
use crate::display::draw::draw_grid::{Labels, color_bar, draw_cells, draw_grid};
use crate::display::draw::font;
use crate::display::draw::grid::Grid;
use crate::display::draw::number::number;
use crate::display::draw::scene::{Align, SMALL, Scene, TITLE};
use crate::display::escape;
use crate::display::page::attention_html;
use crate::display::page::html;
use crate::display::view::View;
use crate::display::{Bundle, Show};
use crate::{Error, Result};

/// The most heads of a picture, and the most cells of a head's side; longer texts are reduced by block means.
pub const MAX_HEADS: usize = 128;
const CELLS: usize = 256;
/// The most heads of an overview, and the most cells of all of them together.
const OVERVIEW_HEADS: usize = 1024;
const OVERVIEW_CELLS: usize = 110_000;
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
    /// An overview has this many heads in a row, a layer.
    pub(crate) across: Option<usize>,
    title: String,
    total: usize,
    notes: Vec<String>,
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
        one_token_each("the pattern has", n_keys, &keys)?;
        let heads = (0..total.min(MAX_HEADS)).map(|head| Grid::read(&pattern, &[head], CELLS, CELLS));
        let names = (0..total.min(MAX_HEADS)).map(|h| format!("head {h}")).collect();
        Ok(Self::of(heads.collect::<Result<_>>()?, names, n_queries, keys, total))
    }

    /// Every head of several layers, one row of small pictures for each layer: which heads of the model do something
    /// special. Each pattern is `[head, query, key]`; the layer's number goes before it.
    ///
    /// # Errors
    /// As for [`AttentionView::new`]; and when the layers have patterns of different shapes.
    pub fn overview<S: Into<String>>(
        layers: impl IntoIterator<Item = (usize, Tensor)>,
        tokens: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let layers: Vec<(usize, Tensor)> = layers.into_iter().collect();
        let keys: Vec<String> = tokens.into_iter().map(Into::into).collect();
        let Some((_, first)) = layers.first() else {
            return Err(Error::msg("an overview needs the pattern of one layer at least; none was given"));
        };
        let [across, n_queries, n_keys] = *first.dims() else {
            return Err(Error::msg(format!(
                "an overview needs patterns [head, query, key]; this one has {:?}: choose one text of a batch with .get(i)?",
                first.dims()
            )));
        };
        if let Some((layer, other)) = layers.iter().find(|(_, other)| other.dims() != first.dims()) {
            return Err(Error::msg(format!(
                "the layers of an overview need patterns of one shape: layer {layer} has {:?}, the first one {:?}",
                other.dims(),
                first.dims()
            )));
        }
        one_token_each("the patterns have", n_keys, &keys)?;
        let shown = layers.len().min((OVERVIEW_HEADS / across.max(1)).max(1));
        let cells = OVERVIEW_CELLS / (shown * across).max(1);
        let side = (cells as f64).sqrt() as usize;
        let (mut heads, mut names) = (Vec::new(), Vec::new());
        for (layer, pattern) in layers.iter().take(shown) {
            for head in 0..across {
                heads.push(Grid::read(pattern, &[head], side, side)?);
                names.push(format!("L{layer}H{head}"));
            }
        }
        let mut view = Self::of(heads, names, n_queries, keys, layers.len() * across);
        view.across = Some(across.max(1));
        view.title = "attention of every head, a row for each layer".to_string();
        Ok(view)
    }

    /// The queries are the last tokens.
    fn of(heads: Vec<Grid>, names: Vec<String>, n_queries: usize, keys: Vec<String>, total: usize) -> Self {
        let queries = keys.get(keys.len().saturating_sub(n_queries)..).unwrap_or(&[]).to_vec();
        let all: Vec<f32> = heads.iter().flat_map(|h| h.values.iter().copied()).collect();
        let causal = queries.len() > 1 && queries.len() <= keys.len() && heads.iter().all(looks_causal);
        // Probabilities have one scale everywhere, so that layers can be compared.
        let scale = match Scale::fit(&all) {
            Scale::Sequential { high, .. } if high <= 1.0 => Scale::Sequential { low: 0.0, high: 1.0 },
            other => other,
        };
        let (across, title, notes) = (None, String::new(), Vec::new());
        Self { heads, names, queries, keys, scale, large: 0, causal, across, title, total, notes }
    }

    /// Only these heads, in this order, on the scale of all.
    ///
    /// # Errors
    /// When a head isn't there.
    pub fn only(mut self, heads: impl IntoIterator<Item = usize>) -> Result<Self> {
        let (mut grids, mut names) = (Vec::new(), Vec::new());
        for head in heads {
            let (Some(grid), Some(name)) = (self.heads.get(head), self.names.get(head)) else {
                let n = self.heads.len();
                return Err(Error::msg(format!("there is no head {head} to show: this view has {n}, counted from 0")));
            };
            grids.push(grid.clone());
            names.push(name.clone());
        }
        (self.total, self.large, self.across) = (grids.len(), 0, None);
        (self.heads, self.names) = (grids, names);
        Ok(self)
    }

    /// The mean of the heads in their place.
    pub fn mean(mut self) -> Self {
        let Some(first) = self.heads.first() else { return self };
        let n = self.heads.len() as f32;
        let mean = |i: usize| self.heads.iter().map(|head| head.values.get(i).copied().unwrap_or(0.0)).sum::<f32>() / n;
        let values = (0..first.values.len()).map(mean).collect();
        let (grid, names) = (Grid { values, ..first.clone() }, vec![format!("mean of {} heads", self.heads.len())]);
        (self.heads, self.names) = (vec![grid], names);
        (self.total, self.large, self.across) = (1, 0, None);
        self
    }

    /// A sentence below the picture.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
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
        let mut notes = self.notes.clone();
        if self.total > self.heads.len() {
            notes.push(format!("the first {} of {} heads are drawn", self.heads.len(), self.total));
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
        let mut y = match self.across {
            Some(across) => self.draw_overview(&mut scene, across),
            None => self.draw_heads(&mut scene),
        };
        let above = if self.across.is_some() { 14.0 } else { 0.0 };
        scene.text(0.0, -TITLE - above, &font::fit(&font::drawable(&self.heading()), TITLE, WIDTH), TITLE, Align::Left);
        if let Some(grid) = self.heads.get(self.large).filter(|_| self.across.is_none()) {
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
            let labels =
                Labels { x: &self.keys, y: &self.queries, x_title: "key", y_title: "query", size, numbered: true };
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

    /// Small pictures with their names, the large one's underlined. Returns where the next thing below may begin.
    fn draw_heads(&self, scene: &mut Scene) -> f64 {
        let n = self.heads.len();
        if n == 1 {
            return 0.0;
        }
        let across = match n {
            0..=4 => n.max(1),
            5..=12 => 6,
            _ => 8,
        };
        let gap = 10.0;
        let side = ((WIDTH - gap * (across as f64 - 1.0)) / across as f64).min(130.0);
        for (head, grid) in self.heads.iter().enumerate() {
            let (x, y) = ((head % across) as f64 * (side + gap), (head / across) as f64 * (side + 26.0));
            let cell = side / grid.rows.max(grid.cols).max(1) as f64;
            let name = font::fit(&font::drawable(&escape::visible_line(&self.names[head])), SMALL, side);
            scene.text(x, y + 8.0, &name, SMALL, Align::Left);
            draw_cells(scene, grid, (x, y + 18.0), (cell, cell), |r, c, v| self.color(r, c, v));
            if head == self.large && n > 1 {
                let (below, width) = (y + 19.0 + cell * grid.rows as f64, cell * grid.cols as f64 + 4.0);
                scene.rect(x - 2.0, below, width, 3.0, Rgb(213, 94, 0));
            }
        }
        n.div_ceil(across) as f64 * (side + 26.0)
    }

    /// A row of small pictures for each layer, heads numbered above, layers to the left.
    fn draw_overview(&self, scene: &mut Scene, across: usize) -> f64 {
        let gap = 4.0;
        let side = ((WIDTH - gap * (across as f64 - 1.0)) / across as f64).clamp(16.0, 72.0).floor();
        for (i, grid) in self.heads.iter().enumerate() {
            let (x, y) = ((i % across) as f64 * (side + gap), (i / across) as f64 * (side + gap));
            let cell = side / grid.rows.max(grid.cols).max(1) as f64;
            draw_cells(scene, grid, (x, y), (cell, cell), |r, c, v| self.color(r, c, v));
            let name = escape::visible_line(&self.names[i]);
            let strongest = self.strongest(i, 1).first().map_or_else(String::new, |(q, k, v)| {
                format!(": {} looks at {}, {}", self.query_name(*q), self.key_name(*k), number(round(*v)))
            });
            scene.hot(x, y, side, side, name.clone() + &strongest);
            let (layer, head) = name.split_once('H').unwrap_or((&name, ""));
            if i < across {
                let text = font::fit(&font::drawable(&format!("H{head}")), SMALL - 1.0, side + gap);
                scene.ink(x + side / 2.0, -10.0, &text, SMALL - 1.0, Align::Center, Rgb::FAINT);
            }
            if i % across == 0 {
                scene.ink(-6.0, y + side / 2.0, layer, SMALL, Align::Right, Rgb::FAINT);
            }
        }
        color_bar(scene, &self.scale, across as f64 * (side + gap) + 12.0, 0.0, 90.0);
        (self.heads.len().div_ceil(across) as f64 * (side + gap)).max(96.0) + 6.0
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
        lines.extend(crate::display::draw::text::columns(&rows, &[]));
        if self.heads.len() > rows.len() {
            lines.push(format!(".. {} more heads", self.total - rows.len()));
        }
        if let Some(grid) = self.heads.get(self.large).filter(|g| !g.values.is_empty() && self.across.is_none()) {
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
                            crate::display::draw::text::cell(&self.scale, small.at(row, c))
                        }
                    })
                    .collect();
                lines.push(format!("{name:>14} |{}", cells.trim_end()));
            }
            lines.push(crate::display::draw::text::legend(&self.scale));
            lines.extend(crate::display::draw::text::reduced(&small));
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
}

fn one_token_each(what: &str, n_keys: usize, keys: &[String]) -> Result<()> {
    if keys.len() == n_keys {
        return Ok(());
    }
    let n = keys.len();
    Err(Error::msg(format!("{what} {n_keys} keys, and {n} tokens were given: one for each key is needed")))
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
