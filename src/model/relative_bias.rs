//! T5's positions (Raffel et al. 2019, arXiv 1910.10683): each head adds a learned number to a score, by the distance
//! between query and key. Near distances have a bucket each, farther ones share, logarithmically.

use candle_core::Tensor;

use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};

/// The relative bias of one stack, shared by its layers.
#[derive(Clone, Debug)]
pub(super) struct RelativeBias {
    /// `[buckets, head]`.
    table: Tensor,
    max_distance: usize,
    bidirectional: bool,
    hook: HookPoint,
}

impl RelativeBias {
    pub(super) fn new(hook: &str, table: Tensor, max_distance: usize, bidirectional: bool) -> Self {
        Self { table, max_distance, bidirectional, hook: HookPoint::new(hook) }
    }

    pub(super) fn hook_point(&self) -> PointInfo {
        PointInfo::always(&self.hook, "[query, key, head]")
    }

    pub(super) fn weights(&self) -> &Tensor {
        &self.table
    }

    /// What is added to the scores, `[1, head, query, key]`, of `queries` at the end of `keys`.
    pub(super) fn forward(&self, queries: usize, keys: usize, tap: &mut Tap) -> Result<Tensor> {
        let (buckets, heads) = self.table.dims2()?;
        let behind = keys.saturating_sub(queries);
        let ids = (0..queries).flat_map(|query| (0..keys).map(move |key| key as i64 - (query + behind) as i64));
        let ids: Vec<u32> =
            ids.map(|distance| bucket(distance, buckets, self.max_distance, self.bidirectional)).collect();
        let ids = Tensor::from_vec(ids, queries * keys, self.table.device())?;
        let bias = self.table.index_select(&ids, 0)?.reshape((queries, keys, heads))?;
        Ok(tap.pass(&self.hook, bias)?.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?)
    }
}

/// The bucket of a key `distance` behind (or, negative, before) its query. Half of the buckets are for single distances;
/// a bidirectional stack has one set for each side.
fn bucket(distance: i64, buckets: usize, max_distance: usize, bidirectional: bool) -> u32 {
    let (buckets, first, distance) = match bidirectional {
        true if distance > 0 => (buckets / 2, buckets / 2, distance as usize),
        true => (buckets / 2, 0, distance.unsigned_abs() as usize),
        false => (buckets, 0, distance.min(0).unsigned_abs() as usize),
    };
    let single = buckets / 2;
    if distance < single {
        return (first + distance) as u32;
    }
    let single = single.max(1);
    let farther = (distance as f32 / single as f32).ln() / (max_distance as f32 / single as f32).ln();
    let shared = (farther * (buckets - single) as f32) as usize;
    (first + (single + shared).min(buckets - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::bucket;

    /// From Hugging Face's `T5Attention._relative_position_bucket` with 32 buckets and a distance of 128.
    #[test]
    fn buckets_of_the_reference() {
        let both = [-200, -128, -64, -32, -16, -11, -8, -7, -1, 0, 1, 7, 8, 11, 12, 16, 32, 64, 91, 128];
        let expected = [15, 15, 14, 12, 10, 8, 8, 7, 1, 0, 17, 23, 24, 24, 25, 26, 28, 30, 31, 31];
        assert_eq!(both.map(|d| bucket(d, 32, 128, true)), expected);
        let causal = [-200, -128, -64, -32, -20, -16, -15, -1, 0, 5];
        assert_eq!(causal.map(|d| bucket(d, 32, 128, false)), [31, 31, 26, 21, 17, 16, 15, 1, 0, 0]);
    }
}
