use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::{erf, exp, tanh};
use super::rows::{change_rows, read, slice};

/// A function of each number by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// x Φ(x), by the error function.
    Gelu,
    /// GPT-2's: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))).
    GeluNew,
    /// x σ(x).
    Silu,
}

/// The function of each number of x.
pub(crate) fn activation(x: &Tensor, function: Function) -> Result<Tensor> {
    x.contiguous()?.apply_op1(function)
}

const A: f32 = 0.797_884_6; // sqrt(2 / pi)
const B: f32 = 0.044_715;
const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(ROOT_HALF * x))
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    // The density of the normal distribution has 1 / sqrt(2 pi) = sqrt(2 / pi) / 2 in front.
    0.5 * (1.0 + erf(ROOT_HALF * x)) + 0.5 * A * x * exp(-0.5 * x * x)
}

#[inline(always)]
fn gelu_new(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(A * (x + B * x * x * x)))
}

#[inline(always)]
fn gelu_new_slope(x: f32) -> f32 {
    let t = tanh(A * (x + B * x * x * x));
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * A * (1.0 + 3.0 * B * x * x)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// `f` of each number of x.
#[inline(always)]
fn each(x: &[f32], f: impl Fn(f32) -> f32 + Sync + Copy) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    change_rows(&mut out, 1, |first, out| {
        out.iter_mut().zip(&x[first..]).for_each(|(o, &x)| *o = f(x));
    });
    out
}

/// The slope at each number of x times what comes from behind.
#[inline(always)]
fn pulled(x: &[f32], grad: &[f32], slope: impl Fn(f32) -> f32 + Sync + Copy) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    change_rows(&mut out, 1, |first, out| {
        let from = x[first..].iter().zip(&grad[first..]);
        out.iter_mut().zip(from).for_each(|(o, (&x, g))| *o = slope(x) * g);
    });
    out
}

impl CustomOp1 for Function {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let out = match self {
            Self::Gelu => each(x, gelu),
            Self::GeluNew => each(x, gelu_new),
            Self::Silu => each(x, silu),
        };
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let out = read(x, |x| {
            read(grad, |grad| {
                Ok(match self {
                    Self::Gelu => pulled(x, grad, gelu_slope),
                    Self::GeluNew => pulled(x, grad, gelu_new_slope),
                    Self::Silu => pulled(x, grad, silu_slope),
                })
            })
        })?;
        Ok(Some(Tensor::from_vec(out, x.shape(), x.device())?))
    }
}
