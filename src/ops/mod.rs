//! What training spends its time in beside matrix products: each operation is one sweep over memory, with its own backward
//! pass. Candle puts each of them together from about ten, and keeps what lies between for the backward pass.
//!
//! They are used where gradients are tracked, in f32 on the CPU; elsewhere candle's own operations are.

mod cross_entropy;
mod gelu;
mod math;
mod norm;
mod rows;
mod softmax;

pub(crate) use cross_entropy::cross_entropy;
pub(crate) use gelu::gelu_new;
pub(crate) use norm::{NormRule, norm};
pub(crate) use softmax::softmax;

use candle_core::{DType, Tensor};

/// Whether these operations are the ones for a tensor.
pub(crate) fn are_for(x: &Tensor) -> bool {
    x.track_op() && x.dtype() == DType::F32 && x.device().is_cpu()
}

#[cfg(test)]
mod tests {
    use candle_core::backprop::GradStore;
    use candle_core::{D, Device, Result, Tensor, Var};
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
    fn gelu_agrees_with_candles() {
        // Long enough to be shared out among threads.
        let x = var(&[300, 70], 2);
        same(std::slice::from_ref(&x), || gelu_new(&x), || x.gelu());
        slopes(&var(&[4, 9], 3), gelu_new);
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
