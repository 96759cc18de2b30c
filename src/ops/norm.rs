use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{dot, sum_of};
use super::rows::{change_rows, read, rows_at_once, slice};

/// Which norm: LayerNorm takes the mean off first, RMSNorm does not.
#[derive(Clone, Copy)]
pub(crate) struct NormRule {
    pub(crate) centers: bool,
    /// Added under the root.
    pub(crate) eps: f32,
}

/// The norm over the last axis of x, times w, plus b.
pub(crate) fn norm(x: &Tensor, rule: NormRule, w: Option<&Tensor>, b: Option<&Tensor>) -> Result<Tensor> {
    let x = x.contiguous()?;
    match (w, b) {
        (Some(w), Some(b)) => x.apply_op3(&w.contiguous()?, &b.contiguous()?, rule),
        (Some(w), None) => x.apply_op2(&w.contiguous()?, rule),
        (None, None) => x.apply_op1(rule),
        (None, Some(b)) => x.apply_op1(rule)?.broadcast_add(b),
    }
}

/// What the norm divides each row of x by, `[.., 1]`. It has no gradient.
pub(crate) fn norm_scale(x: &Tensor, rule: NormRule) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let scales: Vec<f32> = read(x, |x| {
        let mut scales = vec![0f32; x.len() / width.max(1)];
        change_rows(&mut scales, 1, |first, scales| {
            let rows = x[first * width..].chunks_exact(width);
            scales.iter_mut().zip(rows).for_each(|(scale, row)| *scale = rule.mean_and_scale(row).1);
        });
        Ok(scales)
    })?;
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = 1;
    }
    Tensor::from_vec(scales, dims, x.device())
}

impl NormRule {
    /// The mean that is taken off, and the factor.
    #[inline(always)]
    fn statistics(self, row: &[f32]) -> (f32, f32) {
        let (mean, scale) = self.mean_and_scale(row);
        (mean, 1.0 / scale)
    }

    #[inline(always)]
    fn mean_and_scale(self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = if self.centers { sum_of(row, |x| x) / n } else { 0.0 };
        let variance = sum_of(row, |x| (x - mean) * (x - mean)) / n;
        (mean, (variance + self.eps).sqrt())
    }

    fn forward(self, x: &[f32], width: usize, w: Option<&[f32]>, b: Option<&[f32]>) -> CpuStorage {
        let mut out = vec![0f32; x.len()];
        change_rows(&mut out, width, |first, out| {
            let x = &x[first * width..][..out.len()];
            for (x, out) in x.chunks(width).zip(out.chunks_mut(width)) {
                let (mean, scale) = self.statistics(x);
                out.iter_mut().zip(x).for_each(|(o, x)| *o = (x - mean) * scale);
                if let Some(w) = w {
                    out.iter_mut().zip(w).for_each(|(o, w)| *o *= w);
                }
                if let Some(b) = b {
                    out.iter_mut().zip(b).for_each(|(o, b)| *o += b);
                }
            }
        });
        CpuStorage::F32(out)
    }

    /// The gradients of x, w and b.
    fn backward(self, x: &Tensor, w: Option<&Tensor>, grad: &Tensor) -> Result<[Tensor; 3]> {
        let width = x.dim(D::Minus1)?;
        let w = w.map(|w| w.flatten_all()?.to_vec1::<f32>()).transpose()?;
        let mut d_x = vec![0f32; x.elem_count()];
        let share = rows_at_once(width) * width;
        let of_weights: Vec<[Vec<f32>; 2]> = read(x, |x| {
            read(grad, |grad| {
                let parts = d_x.par_chunks_mut(share).zip(x.par_chunks(share).zip(grad.par_chunks(share)));
                Ok(parts.map(|(d_x, (x, grad))| self.backward_rows(x, w.as_deref(), grad, d_x, width)).collect())
            })
        })?;
        // In the order of the rows, whichever thread was first: training twice is to give the same numbers.
        let mut sums = [vec![0f32; width], vec![0f32; width]];
        for part in &of_weights {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        let [d_w, d_b] = sums;
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, width, x.device());
        Ok([Tensor::from_vec(d_x, x.shape(), x.device())?, tensor(d_w)?, tensor(d_b)?])
    }

    /// Fills `d_x`, and gives what these rows add to the gradients of w and b.
    fn backward_rows(self, x: &[f32], w: Option<&[f32]>, grad: &[f32], d_x: &mut [f32], width: usize) -> [Vec<f32>; 2] {
        let (mut d_w, mut d_b) = (vec![0f32; width], vec![0f32; width]);
        let (mut normal, mut pulled) = (vec![0f32; width], vec![0f32; width]);
        for ((x, g), d_x) in x.chunks(width).zip(grad.chunks(width)).zip(d_x.chunks_mut(width)) {
            let (mean, scale) = self.statistics(x);
            for i in 0..width {
                normal[i] = (x[i] - mean) * scale;
                pulled[i] = g[i] * w.map_or(1.0, |w| w[i]);
                d_w[i] += g[i] * normal[i];
                d_b[i] += g[i];
            }
            let mean_pull = if self.centers { pulled.iter().sum::<f32>() / width as f32 } else { 0.0 };
            let mean_turn = dot(&pulled, &normal) / width as f32;
            for i in 0..width {
                d_x[i] = scale * (pulled[i] - mean_pull - normal[i] * mean_turn);
            }
        }
        [d_w, d_b]
    }
}

fn width(layout: &Layout) -> Result<usize> {
    layout.shape().dim(D::Minus1)
}

impl CustomOp1 for NormRule {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((self.forward(slice(x, at)?, width(at)?, None, None), at.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [d_x, _, _] = self.backward(x, None, grad)?;
        Ok(Some(d_x))
    }
}

impl CustomOp2 for NormRule {
    fn name(&self) -> &'static str {
        "norm-with-factor"
    }

    fn cpu_fwd(&self, x: &CpuStorage, at: &Layout, w: &CpuStorage, w_at: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((self.forward(slice(x, at)?, width(at)?, Some(slice(w, w_at)?), None), at.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [d_x, d_w, _] = self.backward(x, Some(w), grad)?;
        Ok((Some(d_x), Some(d_w.reshape(w.shape())?)))
    }
}

impl CustomOp3 for NormRule {
    fn name(&self) -> &'static str {
        "norm-with-factor-and-shift"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        at: &Layout,
        w: &CpuStorage,
        w_at: &Layout,
        b: &CpuStorage,
        b_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, b) = (slice(x, at)?, slice(w, w_at)?, slice(b, b_at)?);
        Ok((self.forward(x, width(at)?, Some(w), Some(b)), at.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [d_x, d_w, d_b] = self.backward(x, Some(w), grad)?;
        Ok((Some(d_x), Some(d_w.reshape(w.shape())?), Some(d_b.reshape(b.shape())?)))
    }
}
