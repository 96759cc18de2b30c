use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use super::math::{dot, exp, max, sum_of};
use super::rows::{change_rows, read, slice};

/// Softmax over the last axis. A row that is minus infinity throughout gives zeros, and so does its gradient.
pub(crate) fn softmax(scores: &Tensor) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(Softmax)
}

/// The softmax of one row, in its place.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32]) {
    let max = max(row);
    if max == f32::NEG_INFINITY {
        return row.fill(0.0);
    }
    row.iter_mut().for_each(|x| *x = exp(*x - max));
    let scale = 1.0 / sum_of(row, |x| x);
    row.iter_mut().for_each(|x| *x *= scale);
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = slice(storage, layout)?;
        let width = layout.shape().dim(D::Minus1)?;
        let mut out = vec![0f32; scores.len()];
        change_rows(&mut out, width, |first, out| {
            let scores = &scores[first * width..][..out.len()];
            for (scores, out) in scores.chunks(width).zip(out.chunks_mut(width)) {
                out.copy_from_slice(scores);
                softmax_row(out);
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _scores: &Tensor, pattern: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = pattern.dim(D::Minus1)?;
        let mut out = vec![0f32; pattern.elem_count()];
        read(pattern, |pattern| {
            read(grad, |grad| {
                change_rows(&mut out, width, |first, out| {
                    let part = first * width..first * width + out.len();
                    let rows = pattern[part.clone()].chunks(width).zip(grad[part].chunks(width));
                    for ((p, g), out) in rows.zip(out.chunks_mut(width)) {
                        let mean = dot(p, g);
                        out.iter_mut().zip(p.iter().zip(g)).for_each(|(o, (p, g))| *o = p * (g - mean));
                    }
                });
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(out, pattern.shape(), pattern.device())?))
    }
}
