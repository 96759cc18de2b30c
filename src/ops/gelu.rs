use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::tanh;
use super::rows::{fill_rows, read, slice};

/// GPT-2's gelu: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))).
pub(crate) fn gelu_new(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(GeluNew)
}

struct GeluNew;

const A: f32 = 0.797_884_6; // sqrt(2 / pi)
const B: f32 = 0.044_715;

impl CustomOp1 for GeluNew {
    fn name(&self) -> &'static str {
        "gelu_new"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut out = vec![0f32; x.len()];
        fill_rows(&mut out, 1, |first, out| {
            out.iter_mut().zip(&x[first..]).for_each(|(o, &x)| *o = 0.5 * x * (1.0 + tanh(A * (x + B * x * x * x))));
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let slope = |x: f32| {
            let t = tanh(A * (x + B * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * A * (1.0 + 3.0 * B * x * x)
        };
        let mut out = vec![0f32; x.elem_count()];
        read(x, |x| {
            read(grad, |grad| {
                fill_rows(&mut out, 1, |first, out| {
                    let from = x[first..].iter().zip(&grad[first..]);
                    out.iter_mut().zip(from).for_each(|(o, (&x, g))| *o = slope(x) * g);
                });
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(out, x.shape(), x.device())?))
    }
}
