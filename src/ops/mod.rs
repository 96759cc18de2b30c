//! What a forward pass spends its time in beside matrix products: each operation is one sweep over memory on all cores, in
//! the widest vectors that the processor has, with its own backward pass. Candle puts each of them together from several,
//! on one core, and keeps what lies between for the backward pass.
//!
//! They are used in f32 on the CPU; elsewhere candle's own operations are.

mod activation;
mod cross_entropy;
mod heads;
mod math;
mod matrix;
mod norm;
mod product;
mod rows;
mod softmax;

pub(crate) use activation::{Function, activation};
pub(crate) use cross_entropy::cross_entropy;
pub(crate) use heads::{Scoring, head_mixes, head_patterns, head_scores};
pub(crate) use norm::{NormRule, norm, norm_scale};
pub(crate) use product::{can_read, product};
pub(crate) use softmax::softmax;

use candle_core::{DType, Tensor};

/// Whether these operations are the ones for a tensor.
pub(crate) fn are_for(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && x.device().is_cpu()
}

#[cfg(test)]
mod tests {
    use candle_core::backprop::GradStore;
    use candle_core::{D, DType, Device, Result, Tensor, Var};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn var(shape: &[usize], seed: u64) -> Var {
        let mut rng = StdRng::seed_from_u64(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    /// Both functions give the same values, and the same gradients of a weighted sum.
    fn same(vars: &[Var], ours: impl Fn() -> Result<Tensor>, plain: impl Fn() -> Result<Tensor>) {
        let (ours, plain) = (ours().unwrap(), plain().unwrap());
        assert!(largest_difference(&ours, &plain) < 2e-5);
        let weight = var(plain.dims(), 99).as_detached_tensor();
        let gradients = |y: &Tensor| y.mul(&weight).unwrap().sum_all().unwrap().backward().unwrap();
        let (ours, plain) = (gradients(&ours), gradients(&plain));
        for var in vars {
            let of = |store: &GradStore| store.get(var).cloned().expect("a gradient");
            assert!(largest_difference(&of(&ours), &of(&plain)) < 3e-5);
        }
    }

    /// The gradient of a weighted sum is the slope between two near points, in a random direction.
    fn slopes(x: &Var, f: impl Fn(&Tensor) -> Result<Tensor>) {
        let weight = var(f(x).unwrap().dims(), 98).as_detached_tensor();
        let total = |x: &Tensor| -> f64 {
            let sum: f32 = f(x).unwrap().mul(&weight).unwrap().sum_all().unwrap().to_scalar().unwrap();
            f64::from(sum)
        };
        let direction = var(x.dims(), 97).as_detached_tensor();
        let at = |step: f64| total(&(x.as_tensor() + (&direction * step).unwrap()).unwrap());
        let slope = (at(5e-3) - at(-5e-3)) / 1e-2;
        let gradients = f(x).unwrap().mul(&weight).unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients.get(x).unwrap().mul(&direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!((f64::from(found) - slope).abs() < 0.01 * slope.abs().max(1.0), "{found} {slope}");
    }

    #[test]
    fn softmax_agrees_with_candles() {
        let x = var(&[2, 3, 5, 5], 1);
        let hidden = |i: usize| if i % 5 > i / 5 { f32::NEG_INFINITY } else { 0.0 };
        let mask = Tensor::from_iter((0..25).map(hidden), &Device::Cpu).unwrap().reshape((5, 5)).unwrap();
        let masked = || x.as_tensor().broadcast_add(&mask);
        same(std::slice::from_ref(&x), || softmax(&masked()?), || candle_nn::ops::softmax(&masked()?, D::Minus1));
        slopes(&x, softmax);
    }

    #[test]
    fn a_row_that_sees_nothing_is_zero_and_so_is_its_gradient() {
        let x = Var::from_slice(&[f32::NEG_INFINITY, f32::NEG_INFINITY, 1.0, -200.0], (2, 2), &Device::Cpu).unwrap();
        let y = softmax(&x).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.0, 0.0], [1.0, 0.0]]);
        let gradient = y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).cloned().unwrap();
        assert_eq!(gradient.to_vec2::<f32>().unwrap(), [[0.0; 2]; 2]);
    }

    #[test]
    fn activations_agree_with_candles() {
        // Long enough to be shared out among threads.
        let x = var(&[300, 70], 2);
        type Plain = fn(&Tensor) -> Result<Tensor>;
        let all = [
            (Function::GeluNew, Tensor::gelu as Plain),
            (Function::Gelu, Tensor::gelu_erf),
            (Function::Silu, Tensor::silu),
        ];
        for (function, plain) in all {
            same(std::slice::from_ref(&x), || activation(&x, function), || plain(&x));
            slopes(&var(&[4, 9], 3), |x| activation(x, function));
        }
        let far = Tensor::new(&[-1e30f32, -30.0, -9.0, 9.0, 30.0, 1e30], &Device::Cpu).unwrap();
        for (function, plain) in all {
            let (ours, plain) = (activation(&far, function).unwrap(), plain(&far).unwrap());
            for (ours, plain) in ours.to_vec1::<f32>().unwrap().iter().zip(plain.to_vec1::<f32>().unwrap()) {
                assert!((ours - plain).abs() <= 1e-6 * plain.abs().max(1.0), "{ours} {plain}");
            }
        }
    }

    #[test]
    fn scores_are_scaled_capped_moved_and_masked() {
        let (batch, heads, groups, queries, keys, d) = (3, 4, 2, 150, 170, 5);
        let [q, k] = [(queries, heads, 7), (keys, groups, 8)]
            .map(|(pos, heads, seed)| var(&[batch, pos, heads, d], seed).as_detached_tensor());
        let hidden = |i: usize| if i % keys > i / keys % queries + 20 { f32::NEG_INFINITY } else { 0.0 };
        let mask = |rows: usize| {
            let values = (0..rows * queries * keys).map(hidden).collect::<Vec<_>>();
            Tensor::from_vec(values, (rows, 1, queries, keys), &Device::Cpu).unwrap()
        };
        let bias = |rows: usize, queries: usize| var(&[rows, heads, queries, keys], 8).as_detached_tensor();
        for (cap, bias, mask) in [
            (None, None, None),
            (None, None, Some(mask(1))),
            (Some(3.0), None, Some(mask(batch))),
            (None, Some(bias(1, 1)), Some(mask(1))),
            (Some(5.0), Some(bias(batch, queries)), None),
        ] {
            let looks_back = mask.is_some();
            let scoring = Scoring { scale: 8.0, cap, bias: bias.as_ref(), mask: mask.as_ref(), looks_back };
            let shared = |x: &Tensor| repeated(x, heads / groups).transpose(1, 2)?.contiguous();
            let q_rows = q.transpose(1, 2).unwrap().contiguous().unwrap();
            let mut plain = (q_rows.matmul(&shared(&k).unwrap().t().unwrap()).unwrap() / 8.0).unwrap();
            if let Some(cap) = cap {
                plain = ((plain / cap).unwrap().tanh().unwrap() * cap).unwrap();
            }
            for moved in [bias.as_ref(), mask.as_ref()].into_iter().flatten() {
                plain = plain.broadcast_add(moved).unwrap();
            }
            // The same numbers in another order of memory, as behind a norm of each head.
            let turned = q.transpose(1, 2).unwrap().contiguous().unwrap().transpose(1, 2).unwrap();
            for q in [&q, &turned] {
                let ours = head_scores(q, &k, &scoring).unwrap();
                let [ours, plain] = [&ours, &plain].map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
                assert!(ours.iter().zip(&plain).all(|(a, b)| a == b || (a - b).abs() < 1e-5));
            }
            let pattern = candle_nn::ops::softmax(&plain, D::Minus1).unwrap();
            assert!(largest_difference(&head_patterns(&q, &k, &scoring).unwrap(), &pattern) < 1e-6);
            let mixed = pattern.matmul(&shared(&k).unwrap()).unwrap().transpose(1, 2).unwrap();
            for looks_back in [looks_back, false] {
                assert!(largest_difference(&head_mixes(&pattern, &k, looks_back).unwrap(), &mixed) < 1e-5);
            }
        }
        assert!(head_mixes(&var(&[1, 3, 2, 4], 1), &var(&[1, 4, 2, 4], 1), false).is_err());
    }

    /// Each head of `[batch, pos, head, d]` so often.
    fn repeated(x: &Tensor, times: usize) -> Tensor {
        let (batch, pos, heads, d) = x.dims4().unwrap();
        let wide = x.unsqueeze(3).unwrap().broadcast_as((batch, pos, heads, times, d)).unwrap();
        wide.reshape((batch, pos, heads * times, d)).unwrap()
    }

    #[test]
    fn products_agree_with_candles() {
        for (rows, depth, columns) in
            [(1, 7, 5), (1, 300, 1100), (5, 300, 1100), (20, 64, 130), (40, 300, 270), (530, 9, 140)]
        {
            let [x, w, b] = [vec![rows, depth], vec![depth, columns], vec![columns]].map(|dims| var(&dims, 12));
            let across = var(&[columns, depth], 13);
            let near = |ours: Tensor, plain: Tensor| {
                let size = (depth as f32).sqrt();
                assert!(largest_difference(&ours, &plain) < 1e-5 * size, "{rows} x {depth} x {columns}");
            };
            near(product(&x, &w, None).unwrap(), x.matmul(&w).unwrap());
            near(product(&x, &w, Some(&b)).unwrap(), x.matmul(&w).unwrap().broadcast_add(&b).unwrap());
            near(product(&x, &across.t().unwrap(), None).unwrap(), x.matmul(&across.t().unwrap()).unwrap());
            for dtype in [DType::BF16, DType::F16] {
                let [half, half_across] = [&w, &across].map(|w| w.as_detached_tensor().to_dtype(dtype).unwrap());
                let wide = |w: &Tensor| w.to_dtype(DType::F32).unwrap();
                near(product(&x, &half, Some(&b)).unwrap(), x.matmul(&wide(&half)).unwrap().broadcast_add(&b).unwrap());
                let (turned, plain) = (half_across.t().unwrap(), wide(&half_across).t().unwrap());
                near(product(&x, &turned, None).unwrap(), x.matmul(&plain).unwrap());
            }
        }
        let (x, w, b) = (var(&[6, 8], 14), var(&[8, 5], 15), var(&[5], 16));
        let all = [x.clone(), w.clone(), b.clone()];
        same(&all, || product(&x, &w, Some(&b)), || x.matmul(&w)?.broadcast_add(&b));
        same(&all[..2], || product(&x, &w, None), || x.matmul(&w));
        slopes(&x, |x| product(x, &w, Some(&b)));
        assert!(product(&x, &var(&[9, 5], 17), None).is_err());
        assert!(product(&x, &w, Some(&var(&[6], 18))).is_err());
    }

    #[test]
    fn norms_agree_with_candles() {
        let (x, w, b) = (var(&[3, 100, 64], 2), var(&[64], 3), var(&[64], 4));
        let layer = NormRule { centers: true, eps: 1e-5 };
        let all = [x.clone(), w.clone(), b.clone()];
        let plain = || candle_nn::ops::layer_norm_slow(&x, &w, &b, 1e-5);
        same(&all, || norm(&x, layer, Some(&w), Some(&b)), plain);
        let rms = NormRule { centers: false, eps: 1e-6 };
        same(&all[..2], || norm(&x, rms, Some(&w), None), || candle_nn::ops::rms_norm_slow(&x, &w, 1e-6));
        let (ones, zeros) = (Tensor::ones_like(&w).unwrap(), Tensor::zeros_like(&w).unwrap());
        let plain = || candle_nn::ops::layer_norm_slow(&x, &ones, &zeros, 1e-5);
        same(&all[..1], || norm(&x, layer, None, None), plain);
        slopes(&var(&[2, 8], 5), |x| norm(x, layer, None, None));
        for rule in [layer, rms] {
            let centered = match rule.centers {
                true => x.broadcast_sub(&x.mean_keepdim(D::Minus1).unwrap()).unwrap(),
                false => x.as_detached_tensor(),
            };
            let mean = centered.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            let plain = (mean + f64::from(rule.eps)).unwrap().sqrt().unwrap();
            assert!(largest_difference(&norm_scale(&x, rule).unwrap(), &plain) < 1e-6);
        }
    }

    #[test]
    fn cross_entropy_agrees_with_candles() {
        let x = var(&[7, 12], 6);
        let targets = [3u32, 0, 11, 5, 5, 1, 2];
        let plain = || {
            let log_probs = candle_nn::ops::log_softmax(&x, D::Minus1)?;
            log_probs.gather(&Tensor::new(&targets, &Device::Cpu)?.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
        };
        let given: Vec<Option<u32>> = targets.iter().copied().map(Some).collect();
        same(std::slice::from_ref(&x), || cross_entropy(&x, given.clone()), plain);
        // A row without a target has no loss, and moves nothing.
        let some = vec![Some(3), None, Some(11), None, None, None, None];
        let loss = cross_entropy(&x, some).unwrap();
        assert_eq!(loss.to_vec1::<f32>().unwrap()[1], 0.0);
        let gradient = loss.sum_all().unwrap().backward().unwrap().get(&x).cloned().unwrap();
        assert!(gradient.to_vec2::<f32>().unwrap()[1].iter().all(|g| *g == 0.0));
    }
}
