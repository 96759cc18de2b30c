//! The products of attention, head by head: each core has queries of its own, and finishes their scores while they are in
//! its cache. Heads are read where they lie, whatever the axes' order; what a query can't see is not computed.
//!
//! These have no backward pass; where gradients are tracked, candle's products and [`softmax`](super::softmax) are used.

use candle_core::{CpuStorage, Result, Storage, Tensor};

use super::math::tanh;
use super::matrix::{Matrix, Part, Target, written};
use super::rows::{each_unit, read};
use super::softmax::softmax_row;

/// How products of queries and keys become scores.
pub(crate) struct Scoring<'a> {
    /// They are divided by it.
    pub(crate) scale: f64,
    /// They are bent to ± this.
    pub(crate) cap: Option<f64>,
    /// Added: `[1 or batch, head, 1 or query, key]`.
    pub(crate) bias: Option<&'a Tensor>,
    /// Added: `[1 or batch, 1, query, key]`.
    pub(crate) mask: Option<&'a Tensor>,
    /// Whether the mask hides every key behind the query's own.
    pub(crate) looks_back: bool,
}

/// What is made of the products.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Scores,
    Pattern,
}

/// The scores of q `[batch, query, head, d]` and k `[batch, key, kv_head, d]`: `[batch, head, query, key]`. Heads that share
/// keys stand together.
pub(crate) fn head_scores(q: &Tensor, k: &Tensor, scoring: &Scoring) -> Result<Tensor> {
    look(q, k, scoring, Until::Scores)
}

/// The softmax of [`head_scores`]; a row that sees nothing is zero.
pub(crate) fn head_patterns(q: &Tensor, k: &Tensor, scoring: &Scoring) -> Result<Tensor> {
    look(q, k, scoring, Until::Pattern)
}

/// Values by pattern: pattern `[batch, head, query, key]` and v `[batch, key, kv_head, d]` to `[batch, query, head, d]`. If it
/// `looks_back`, nothing behind a query's own key is read.
pub(crate) fn head_mixes(pattern: &Tensor, v: &Tensor, looks_back: bool) -> Result<Tensor> {
    let (batch, heads, queries, keys) = pattern.dims4()?;
    let (_, v_keys, groups, d) = v.dims4()?;
    if v_keys != keys || groups == 0 || heads % groups != 0 {
        candle_core::bail!("a pattern {:?} can't mix values {:?}", pattern.shape(), v.shape());
    }
    let units = Units { batch, heads, queries, keys, looks_back };
    let out = read(pattern, |pattern| {
        with_heads(v, |v| {
            let mix = |target: &Target, unit: Unit| {
                let first = (unit.row * queries + unit.first) * heads * d + unit.head * d;
                // SAFETY: each unit has queries of a head to itself.
                let mut part = unsafe { target.part(first, [unit.queries, d], heads * d) };
                let pattern = &pattern[unit.score_row(&units) * keys..];
                let pattern = Matrix::new(pattern, [unit.queries, unit.visible], [keys, 1])?;
                part.set(pattern, v.head(unit.row, unit.head * groups / heads)?.part(0..unit.visible, 0..d));
                Ok(())
            };
            // SAFETY: the units are all queries of all heads, and each sets its part.
            unsafe { written(batch * queries * heads * d, |target| units.each(d, |unit| mix(target, unit))) }
        })
    })?;
    Tensor::from_vec(out, (batch, queries, heads, d), pattern.device())
}

fn look(q: &Tensor, k: &Tensor, scoring: &Scoring, until: Until) -> Result<Tensor> {
    let (batch, queries, heads, d) = q.dims4()?;
    let (_, keys, groups, _) = k.dims4()?;
    if k.dim(3)? != d || groups == 0 || heads % groups != 0 {
        candle_core::bail!("queries {:?} can't look at keys {:?}", q.shape(), k.shape());
    }
    let dims = (batch, heads, queries, keys);
    let [bias, mask] = [scoring.bias, scoring.mask].map(|added| added.map(|added| Added::new(added, dims)).transpose());
    let finish =
        Finish { scale: scoring.scale as f32, cap: scoring.cap.map(|cap| cap as f32), added: [bias?, mask?], until };
    // Only a mask can hide what is not computed.
    let units = Units { batch, heads, queries, keys, looks_back: scoring.looks_back && scoring.mask.is_some() };
    let out = with_heads(q, |q| {
        with_heads(k, |k| {
            finish.with_added(|added| {
                let score = |target: &Target, unit: Unit| {
                    let first = unit.score_row(&units);
                    // SAFETY: each unit has queries of a head to itself.
                    let mut part = unsafe { target.part(first * keys, [unit.queries, keys], keys) };
                    let q = q.head(unit.row, unit.head)?.part(unit.first..unit.first + unit.queries, 0..d);
                    let k = k.head(unit.row, unit.head * groups / heads)?.part(0..unit.visible, 0..d);
                    part.first_columns(unit.visible).set(q, k.transposed());
                    part.fill_behind(unit.visible, if until == Until::Pattern { 0.0 } else { f32::NEG_INFINITY });
                    finish.rows(&mut part.first_columns(unit.visible), &unit, added);
                    Ok(())
                };
                // SAFETY: the units are all queries of all heads, and each sets its part.
                unsafe { written(batch * heads * queries * keys, |target| units.each(d, |unit| score(target, unit))) }
            })
        })
    })?;
    Tensor::from_vec(out, dims, q.device())
}

/// A unit of work has so many queries of a head.
const QUERIES: usize = 128;
/// Less work than this (multiplications) is not worth a second core.
const SMALL: usize = 1 << 18;

/// All queries of all heads of all rows.
struct Units {
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    looks_back: bool,
}

/// Some queries of one head.
struct Unit {
    row: usize,
    head: usize,
    first: usize,
    queries: usize,
    /// How many keys the last of them can see.
    visible: usize,
}

impl Unit {
    /// Where its first query stands among all rows of scores.
    fn score_row(&self, units: &Units) -> usize {
        (self.row * units.heads + self.head) * units.queries + self.first
    }
}

impl Units {
    /// Does something with each of them; `d` is the width of a head.
    fn each(&self, d: usize, work: impl Fn(Unit) -> Result<()> + Sync) -> Result<()> {
        let blocks = self.queries.div_ceil(QUERIES);
        let unit = |i: usize| {
            let (first, head) = (i % blocks * QUERIES, i / blocks);
            let queries = QUERIES.min(self.queries - first);
            let behind = self.keys.saturating_sub(self.queries);
            let visible = if self.looks_back { self.keys.min(behind + first + queries) } else { self.keys };
            work(Unit { row: head / self.heads, head: head % self.heads, first, queries, visible })
        };
        let units = self.batch * self.heads * blocks;
        each_unit(units, self.batch * self.heads * self.queries * self.keys * d < SMALL, unit)
    }
}

/// A tensor `[batch, pos, head, d]` wherever its numbers lie.
struct Heads<'a> {
    numbers: &'a [f32],
    dims: [usize; 4],
    strides: [usize; 4],
}

impl<'a> Heads<'a> {
    /// A head's vectors, `[pos, d]`.
    fn head(&self, row: usize, head: usize) -> Result<Matrix<'a, f32>> {
        let first = row * self.strides[0] + head * self.strides[2];
        Matrix::new(&self.numbers[first..], [self.dims[1], self.dims[3]], [self.strides[1], self.strides[3]])
    }
}

fn with_heads<R>(x: &Tensor, f: impl FnOnce(&Heads) -> Result<R>) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(numbers)) = &*storage else {
        candle_core::bail!("this operation is for f32 on the CPU alone");
    };
    let four = |from: &[usize]| <[usize; 4]>::try_from(from).map_err(candle_core::Error::wrap);
    f(&Heads {
        numbers: &numbers[layout.start_offset()..],
        dims: four(layout.dims())?,
        strides: four(layout.stride())?,
    })
}

struct Finish {
    scale: f32,
    cap: Option<f32>,
    added: [Option<Added>; 2],
    until: Until,
}

/// A tensor that is repeated over some axes of the scores.
struct Added {
    tensor: Tensor,
    /// How far a step along batch, head and query goes in its rows; 0 where it is repeated.
    strides: [usize; 3],
}

impl Added {
    fn new(tensor: &Tensor, (batch, heads, queries, keys): (usize, usize, usize, usize)) -> Result<Self> {
        let (b, h, q, k) = tensor.dims4()?;
        let repeats = |own: usize, whole: usize| own == 1 || own == whole;
        if k != keys || !repeats(b, batch) || !repeats(h, heads) || !repeats(q, queries) {
            candle_core::bail!("{:?} can't be added to scores {:?}", tensor.shape(), (batch, heads, queries, keys));
        }
        let stride = |own: usize, stride: usize| if own == 1 { 0 } else { stride };
        Ok(Self { tensor: tensor.contiguous()?, strides: [stride(b, h * q), stride(h, q), stride(q, 1)] })
    }

    /// The row of these values that belongs to a row of scores.
    fn row<'a>(&self, values: &'a [f32], place: [usize; 3], keys: usize) -> &'a [f32] {
        let at: usize = self.strides.iter().zip(place).map(|(stride, place)| stride * place).sum();
        &values[at * keys..][..keys]
    }
}

impl Finish {
    /// Calls `f` with the values of what is added.
    fn with_added<R>(&self, f: impl FnOnce([Option<&[f32]>; 2]) -> Result<R>) -> Result<R> {
        let [bias, mask] = &self.added;
        with_values(bias, |bias| with_values(mask, |mask| f([bias, mask])))
    }

    /// Finishes the rows of a unit, as far as they are visible.
    fn rows(&self, part: &mut Part, unit: &Unit, added: [Option<&[f32]>; 2]) {
        pulp::Arch::new().dispatch(|| {
            for query in 0..unit.queries {
                let row = part.row(query);
                row.iter_mut().for_each(|x| *x /= self.scale);
                if let Some(cap) = self.cap {
                    row.iter_mut().for_each(|x| *x = cap * tanh(*x / cap));
                }
                for (added, values) in self.added.iter().zip(added) {
                    let (Some(added), Some(values)) = (added, values) else { continue };
                    let keys = added.tensor.dims()[3];
                    let values = added.row(values, [unit.row, unit.head, unit.first + query], keys);
                    row.iter_mut().zip(values).for_each(|(x, added)| *x += added);
                }
                if self.until == Until::Pattern {
                    softmax_row(row);
                }
            }
        });
    }
}

fn with_values<R>(added: &Option<Added>, f: impl FnOnce(Option<&[f32]>) -> Result<R>) -> Result<R> {
    match added {
        Some(added) => read(&added.tensor, |values| f(Some(values))),
        None => f(None),
    }
}
