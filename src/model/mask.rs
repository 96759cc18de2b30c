//! Which keys a query may look at.

use candle_core::{DType, Device, Tensor};

use crate::Result;

/// The additive masks of one run: 0 where a query may look, -inf where it may not.
pub(super) struct Masks {
    queries: usize,
    keys: usize,
    /// Real tokens among all keys, per row; none if all are real.
    real: Option<Vec<Vec<bool>>>,
    device: Device,
    dtype: DType,
    made: Vec<(Sees, Option<Tensor>)>,
}

/// What a layer's queries may look at, as far as it is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sees {
    /// Every key.
    All,
    /// Keys up to the query's own position; within a window, only the last ones (the query's own included).
    Past { window: Option<usize> },
    /// Keys on both sides, as far as a window reaches.
    Around { window: usize },
}

impl Masks {
    /// For `queries` at the end of `keys`; `real` marks the keys that are not padding, `[batch][keys]`.
    pub(super) fn new(
        queries: usize,
        keys: usize,
        real: Option<Vec<Vec<bool>>>,
        dtype: DType,
        device: &Device,
    ) -> Self {
        Self { queries, keys, real, device: device.clone(), dtype, made: Vec::new() }
    }

    /// Whether a row may have no key to look at, so that its softmax is not a number.
    pub(super) fn may_be_empty(&self) -> bool {
        self.real.is_some()
    }

    /// The mask `[1 or batch, 1, query, key]`, made once for all layers that share it; none if it hides nothing.
    pub(super) fn get(&mut self, sees: Sees) -> Result<Option<Tensor>> {
        let sees = match sees {
            // A window that reaches back to the first key hides nothing.
            Sees::Past { window } => Sees::Past { window: window.filter(|w| *w < self.keys) },
            Sees::Around { window } if window >= self.keys => Sees::All,
            other => other,
        };
        if let Some((_, mask)) = self.made.iter().find(|(made, _)| *made == sees) {
            return Ok(mask.clone());
        }
        let mask = if sees == Sees::All && self.real.is_none() { None } else { Some(self.make(sees)?) };
        self.made.push((sees, mask.clone()));
        Ok(mask)
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// 1 for each of the queries that is real, 0 for padding, `[batch, query, 1]`; none if all are real.
    pub(super) fn real_queries(&self) -> Result<Option<Tensor>> {
        let Some(real) = &self.real else { return Ok(None) };
        let last = |row: &Vec<bool>| {
            row.iter().skip(self.keys.saturating_sub(self.queries)).map(|&real| f32::from(u8::from(real))).collect()
        };
        let marks: Vec<Vec<f32>> = real.iter().map(last).collect();
        let shape = (marks.len(), self.queries, 1);
        Ok(Some(Tensor::from_vec(marks.concat(), shape, &self.device)?))
    }

    fn make(&self, sees: Sees) -> Result<Tensor> {
        // An encoder may have fewer keys than there are queries; all of them see all keys then.
        let offset = self.keys.saturating_sub(self.queries);
        let visible = |query: usize, key: usize| {
            let query = query + offset;
            match sees {
                Sees::All => true,
                Sees::Past { window } => key <= query && window.is_none_or(|w| query - key < w),
                Sees::Around { window } => query.abs_diff(key) < window,
            }
        };
        let batch = self.real.as_ref().map_or(1, Vec::len);
        let mut mask = Vec::with_capacity(batch * self.queries * self.keys);
        for row in 0..batch {
            let real = |key: usize| self.real.as_ref().is_none_or(|real| real[row][key]);
            for query in 0..self.queries {
                let value = |key| if visible(query, key) && real(key) { 0f32 } else { f32::NEG_INFINITY };
                mask.extend((0..self.keys).map(value));
            }
        }
        Ok(Tensor::from_vec(mask, (batch, 1, self.queries, self.keys), &self.device)?.to_dtype(self.dtype)?)
    }
}
