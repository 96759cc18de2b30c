//! One place in a text, with what stands around it.

use crate::tokens::Tokenizer;

/// A token of a corpus that stands out by its value, with the tokens around it and theirs.
#[derive(Clone, Debug)]
pub struct Example {
    value: f32,
    row: usize,
    pos: usize,
    marked: usize,
    ids: Vec<u32>,
    values: Vec<f32>,
    tokenizer: Option<Tokenizer>,
}

impl Example {
    /// The token at `pos` of a row, with so many before and after it; `values` has one for each token of the row.
    pub(super) fn new(
        (row, pos): (usize, usize),
        ids: &[u32],
        values: &[f32],
        (before, after): (usize, usize),
        tokenizer: Option<&Tokenizer>,
    ) -> Self {
        let from = pos.saturating_sub(before);
        let to = pos.saturating_add(after).saturating_add(1).min(ids.len());
        Self {
            value: values[pos],
            row,
            pos,
            marked: pos - from,
            ids: ids[from..to].to_vec(),
            values: values[from..to].to_vec(),
            tokenizer: tokenizer.cloned(),
        }
    }

    /// Its value.
    pub fn value(&self) -> f32 {
        self.value
    }

    /// The row of the corpus that it is in.
    pub fn row(&self) -> usize {
        self.row
    }

    /// Its position in the row, BOS counted.
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// Which of [`ids`](Self::ids) it is.
    pub fn marked(&self) -> usize {
        self.marked
    }

    /// The ids of it and of the tokens around it.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The values of it and of the tokens around it; NaN where a token has none.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The texts of it and of the tokens around it; ids where the model has no tokenizer.
    pub fn tokens(&self) -> Vec<String> {
        let piece =
            |id: &u32| self.tokenizer.as_ref().map_or_else(|| format!("[{id}]"), |tokenizer| tokenizer.piece(*id));
        self.ids.iter().map(piece).collect()
    }

    /// Its own text.
    pub fn token(&self) -> String {
        self.tokens().swap_remove(self.marked)
    }
}

/// Puts an item among the `k` of largest value, largest first; of equal ones the earlier stays in front.
pub(super) fn keep_best<T>(
    best: &mut Vec<T>,
    k: usize,
    value: f32,
    value_of: impl Fn(&T) -> f32,
    make: impl FnOnce() -> T,
) {
    let place = best.partition_point(|other| value_of(other) >= value);
    if place < k && !value.is_nan() {
        best.insert(place, make());
        best.truncate(k);
    }
}
