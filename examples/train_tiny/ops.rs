//! The few operations that training spends its time in, each as one pass over memory with its own backward pass.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};

/// Softmax over the last dimension of scores [batch, head, query, key], times `scale`, each query seeing itself and
/// what came before.
pub fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(CausalSoftmax { scale })
}

/// GPT-2's gelu (`gelu_new`).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// Layer norm over the last dimension: (x - mean) / sqrt(variance + eps) * weight + bias.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps })
}

/// Mean of -log p(target) over the rows of logits [rows, vocabulary], each row multiplied by its weight.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    logits
        .contiguous()?
        .apply_op1(CrossEntropy { targets: targets.iter().copied().zip(weights.iter().copied()).collect() })
}

/// -log p(target) for each row.
pub fn losses(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let width = logits.dim(1)?;
    read(logits, |logits| {
        logits.chunks(width).zip(targets).map(|(row, &t)| log_sum_exp(row) - row[t as usize]).collect()
    })
}

struct CausalSoftmax {
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let n = layout.dims()[layout.dims().len() - 1];
        let mut out = vec![0f32; x.len()];
        for (i, (x, out)) in x.chunks(n).zip(out.chunks_mut(n)).enumerate() {
            let seen = i % n + 1;
            let (x, out) = (&x[..seen], &mut out[..seen]);
            let max = x.iter().fold(f32::MIN, |a, &b| a.max(b));
            out.iter_mut().zip(x).for_each(|(o, &x)| *o = exp((x - max) * self.scale));
            let sum: f32 = out.iter().sum();
            out.iter_mut().for_each(|o| *o /= sum);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let n = res.dim(candle_core::D::Minus1)?;
        let mut out = vec![0f32; res.elem_count()];
        read(res, |p| {
            read(grad, |g| {
                for (i, ((p, g), out)) in p.chunks(n).zip(g.chunks(n)).zip(out.chunks_mut(n)).enumerate() {
                    let seen = i % n + 1;
                    let (p, g) = (&p[..seen], &g[..seen]);
                    let dot = dot(p, g);
                    out.iter_mut().zip(p.iter().zip(g)).for_each(|(o, (p, g))| *o = p * (g - dot) * self.scale);
                }
            })
        })??;
        Ok(Some(Tensor::from_vec(out, res.shape(), res.device())?))
    }
}

struct Gelu;

const GELU_A: f32 = 0.797_884_6; // sqrt(2 / pi)
const GELU_B: f32 = 0.044_715;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = slice(storage, layout)?.iter().map(|&x| 0.5 * x * (1.0 + tanh(GELU_A * (x + GELU_B * x * x * x))));
        Ok((CpuStorage::F32(out.collect()), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let slope = |x: f32| {
            let t = tanh(GELU_A * (x + GELU_B * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_A * (1.0 + 3.0 * GELU_B * x * x)
        };
        let out: Vec<f32> = read(arg, |x| read(grad, |g| x.iter().zip(g).map(|(&x, g)| slope(x) * g).collect()))??;
        Ok(Some(Tensor::from_vec(out, arg.shape(), arg.device())?))
    }
}

struct LayerNorm {
    eps: f32,
}

impl LayerNorm {
    /// Mean and 1 / deviation.
    fn statistics(&self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = row.iter().sum::<f32>() / n;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm-with-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(x, x_layout)?, slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let mut out = vec![0f32; x.len()];
        for (x, out) in x.chunks(weight.len()).zip(out.chunks_mut(weight.len())) {
            let (mean, scale) = self.statistics(x);
            for (((o, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *o = (x - mean) * scale * w + b;
            }
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let n = weight.elem_count();
        let mut d_x = vec![0f32; x.elem_count()];
        let (mut d_weight, mut d_bias) = (vec![0f32; n], vec![0f32; n]);
        let weights: Vec<f32> = weight.to_vec1()?;
        let mut normal = vec![0f32; n];
        let mut pulled = vec![0f32; n];
        read(x, |x| {
            read(grad, |grad| {
                for ((x, g), d_x) in x.chunks(n).zip(grad.chunks(n)).zip(d_x.chunks_mut(n)) {
                    let (mean, scale) = self.statistics(x);
                    for i in 0..n {
                        normal[i] = (x[i] - mean) * scale;
                        pulled[i] = g[i] * weights[i];
                        d_weight[i] += g[i] * normal[i];
                        d_bias[i] += g[i];
                    }
                    let mean_pull = pulled.iter().sum::<f32>() / n as f32;
                    let mean_turn = dot(&pulled, &normal) / n as f32;
                    for i in 0..n {
                        d_x[i] = scale * (pulled[i] - mean_pull - normal[i] * mean_turn);
                    }
                }
            })
        })??;
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(d_x, x.shape(), device)?),
            Some(Tensor::from_vec(d_weight, n, device)?),
            Some(Tensor::from_vec(d_bias, n, device)?),
        ))
    }
}

struct CrossEntropy {
    targets: Vec<(u32, f32)>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.dims()[1];
        let rows = slice(storage, layout)?.chunks(width).zip(&self.targets);
        let sum: f32 = rows.map(|(row, (target, weight))| weight * (log_sum_exp(row) - row[*target as usize])).sum();
        Ok((CpuStorage::F32(vec![sum / self.targets.len() as f32]), Shape::from(())))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = arg.dim(1)?;
        let factor = grad.to_scalar::<f32>()? / self.targets.len() as f32;
        let mut out = vec![0f32; arg.elem_count()];
        read(arg, |logits| {
            for ((row, out), (target, weight)) in logits.chunks(width).zip(out.chunks_mut(width)).zip(&self.targets) {
                let factor = factor * weight;
                let normalizer = log_sum_exp(row);
                out.iter_mut().zip(row).for_each(|(o, x)| *o = exp(x - normalizer) * factor);
                out[*target as usize] -= factor;
            }
        })?;
        Ok(Some(Tensor::from_vec(out, arg.shape(), arg.device())?))
    }
}

fn log_sum_exp(row: &[f32]) -> f32 {
    let max = row.iter().fold(f32::MIN, |a, &b| a.max(b));
    row.iter().map(|x| exp(x - max)).sum::<f32>().ln() + max
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// e^x to within 2 units in the last place or so, written without calls or branches, so that it is vectorized: 2^k times a series
/// for the rest.
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // adding 1.5 * 2^23 leaves a number rounded to an integer in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = x - k * std::f32::consts::LN_2;
    let series = 1.0 + r * (1.0 + r * (1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23).wrapping_add(127 << 23));
    series * power
}

fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x.clamp(-10.0, 10.0)) + 1.0)
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("this operation needs contiguous tensors"),
    }
}

/// Calls `f` with the numbers of a tensor.
fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(slice(storage, layout)?)),
        _ => candle_core::bail!("this program trains on the CPU"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Var};

    use super::*;
    use crate::rng::Rng;

    fn var(shape: &[usize], seed: u64) -> Var {
        let mut rng = Rng::new(seed, 0);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
        Var::from_vec(values, shape, &Device::Cpu).expect("a shape that fits")
    }

    /// Both functions give the same values, and the same gradients when their result is weighed by fixed numbers.
    fn same(vars: &[Var], ours: impl Fn() -> Result<Tensor>, plain: impl Fn() -> Result<Tensor>) -> Result<()> {
        let (ours, plain) = (ours()?, plain()?);
        let weight = var(plain.dims(), 99);
        let (a, b) = (ours.mul(&weight)?.sum_all()?.backward()?, plain.mul(&weight)?.sum_all()?.backward()?);
        let mut pairs = vec![(ours, plain)];
        for var in vars {
            let gradient = |store: &candle_core::backprop::GradStore| store.get(var).cloned().expect("a gradient");
            pairs.push((gradient(&a), gradient(&b)));
        }
        for (a, b) in pairs {
            let worst = (&a - &b)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst < 2e-5, "differ by {worst}");
        }
        Ok(())
    }

    #[test]
    fn operations_agree_with_candles_own() -> Result<()> {
        let x = var(&[2, 2, 5, 5], 1);
        let hidden = Tensor::from_vec(
            (0..25).map(|i| if i % 5 > i / 5 { f32::NEG_INFINITY } else { 0.0 }).collect::<Vec<_>>(),
            (5, 5),
            &Device::Cpu,
        )?;
        let plain = || candle_nn::ops::softmax(&x.affine(0.3, 0.0)?.broadcast_add(&hidden)?, D::Minus1);
        same(std::slice::from_ref(&x), || causal_softmax(&x, 0.3), plain)?;

        same(std::slice::from_ref(&x), || gelu(&x), || x.gelu())?;

        let (x, weight, bias) = (var(&[7, 12], 2), var(&[12], 3), var(&[12], 4));
        let plain = || candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-5);
        same(&[x.clone(), weight.clone(), bias.clone()], || layer_norm(&x, &weight, &bias, 1e-5), plain)?;

        let targets = [3, 0, 11, 5, 5, 1, 2];
        let plain = || candle_nn::loss::cross_entropy(&x, &Tensor::new(&targets, &Device::Cpu)?);
        same(std::slice::from_ref(&x), || cross_entropy(&x, &targets, &[1.0; 7]), plain)?;
        let one_row =
            || candle_nn::loss::cross_entropy(&x.narrow(0, 2, 1)?, &Tensor::new(&targets[2..3], &Device::Cpu)?);
        same(std::slice::from_ref(&x), || cross_entropy(&x, &targets, &[0.0, 0.0, 7.0, 0.0, 0.0, 0.0, 0.0]), one_row)?;
        let mean = losses(&x, &targets)?.iter().sum::<f32>() / 7.0;
        assert!((mean - plain()?.to_scalar::<f32>()?).abs() < 1e-5);
        Ok(())
    }
}
