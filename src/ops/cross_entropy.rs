use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::{exp, log_sum_exp};
use super::rows::{change_rows, read, slice};

/// -log p(target) of each row of logits `[rows, d_vocab]`, in nats: `[rows]`. A row without a target has the loss 0.
pub(crate) fn cross_entropy(logits: &Tensor, targets: Vec<Option<u32>>) -> Result<Tensor> {
    logits.contiguous()?.apply_op1(CrossEntropy { targets })
}

struct CrossEntropy {
    targets: Vec<Option<u32>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        if rows != self.targets.len() {
            candle_core::bail!("{rows} rows of logits, and {} targets", self.targets.len());
        }
        if let Some(target) = self.targets.iter().flatten().find(|target| **target as usize >= width) {
            candle_core::bail!("the target {target} is out of range: the logits are of {width} tokens");
        }
        let loss = |(row, target): (&[f32], &Option<u32>)| target.map_or(0.0, |t| log_sum_exp(row) - row[t as usize]);
        let losses = slice(storage, layout)?.par_chunks(width).zip(&self.targets).map(loss).collect();
        Ok((CpuStorage::F32(losses), Shape::from(rows)))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = logits.dim(1)?;
        let grad: Vec<f32> = grad.to_vec1()?;
        let mut out = vec![0f32; logits.elem_count()];
        read(logits, |logits| {
            change_rows(&mut out, width, |first, out| {
                let rows = logits[first * width..].chunks(width).zip(&self.targets[first..]).zip(&grad[first..]);
                for (out, ((row, target), grad)) in out.chunks_mut(width).zip(rows) {
                    let Some(target) = target else { continue };
                    let normalizer = log_sum_exp(row);
                    out.iter_mut().zip(row).for_each(|(o, x)| *o = exp(x - normalizer) * grad);
                    out[*target as usize] -= grad;
                }
            });
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(out, logits.shape(), logits.device())?))
    }
}
