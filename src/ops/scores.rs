use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};

use super::math::tanh;
use super::rows::{change_rows, read, slice_mut};

/// Attention scores `[batch, head, query, key]` from the products of queries and keys: divided by `scale`, bent to ±`cap`,
/// with `bias` `[1 or batch, head, 1 or query, key]` and `mask` `[1 or batch, 1, query, key]` added. One sweep that changes
/// the products, which must not be shared and have no gradient.
pub(crate) fn finish_scores(
    products: Tensor,
    scale: f64,
    cap: Option<f64>,
    bias: Option<&Tensor>,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let dims = products.dims4()?;
    let [bias, mask] = [bias, mask].map(|added| added.map(|added| Added::new(added, dims)).transpose());
    let all = Finish { scale: scale as f32, cap: cap.map(|cap| cap as f32), added: [bias?, mask?] };
    products.inplace_op1(&all)?;
    Ok(products)
}

struct Finish {
    scale: f32,
    cap: Option<f32>,
    added: [Option<Added>; 2],
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
}

impl InplaceOp1 for Finish {
    fn name(&self) -> &'static str {
        "finish-scores"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (_, heads, queries, keys) = layout.shape().dims4()?;
        let scores = slice_mut(storage, layout)?;
        with_values(&self.added[0], |bias| {
            with_values(&self.added[1], |mask| {
                change_rows(scores, keys, |first, part| {
                    for (i, row) in part.chunks_exact_mut(keys).enumerate() {
                        let n = first + i;
                        let place = [n / (heads * queries), n / queries % heads, n % queries];
                        row.iter_mut().for_each(|x| *x /= self.scale);
                        if let Some(cap) = self.cap {
                            row.iter_mut().for_each(|x| *x = cap * tanh(*x / cap));
                        }
                        for (added, values) in self.added.iter().zip([bias, mask]) {
                            let (Some(added), Some(values)) = (added, values) else { continue };
                            let at: usize = added.strides.iter().zip(place).map(|(stride, place)| stride * place).sum();
                            let values = &values[at * keys..][..keys];
                            row.iter_mut().zip(values).for_each(|(x, added)| *x += added);
                        }
                    }
                });
                Ok(())
            })
        })
    }
}

fn with_values<R>(added: &Option<Added>, f: impl FnOnce(Option<&[f32]>) -> Result<R>) -> Result<R> {
    match added {
        Some(added) => read(&added.tensor, |values| f(Some(values))),
        None => f(None),
    }
}
