//! The non-linear functions between the two linear maps of an MLP.

use candle_core::{D, DType, Tensor};

use crate::error::near_misses;
use crate::weights::XieluWeights;
use crate::{Error, Result, ops};

/// An activation function, by the names that Hugging Face's config.json files use.
///
/// All of them are differentiable. 16-bit input is computed in f32 and rounded once, as PyTorch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// x·Φ(x) with the error function: `gelu`, `gelu_python`.
    Gelu,
    /// GELU's tanh approximation: `gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`, `gelu_accurate` all mean this function.
    GeluNew,
    /// x·σ(1.702x): `quick_gelu`.
    QuickGelu,
    /// max(x, 0): `relu`. Its gradient at exactly 0 is 1 here (candle's choice; PyTorch has 0).
    Relu,
    /// max(x, 0)²: `relu2`.
    Relu2,
    /// x·σ(x): `silu`, `swish`.
    Silu,
    /// `tanh`.
    Tanh,
    /// σ(x): `sigmoid`.
    Sigmoid,
    /// x·softmax(x) over the last axis: `solu`. A LayerNorm that follows it is the model's.
    Solu,
    /// x itself: `linear`.
    Linear,
    /// A parabola for positive x, an exponential for negative x, with learned numbers: `xielu`. Those belong to each
    /// layer ([`XieluWeights`]); by itself this is the function at its starting values, α = 0.8 on both sides and β = 0.5.
    Xielu,
}

const NAMES: [(&str, Activation); 16] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluNew),
    ("gelu_fast", Activation::GeluNew),
    ("gelu_pytorch_tanh", Activation::GeluNew),
    ("gelu_accurate", Activation::GeluNew),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("relu2", Activation::Relu2),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
    ("solu", Activation::Solu),
    ("linear", Activation::Linear),
    ("xielu", Activation::Xielu),
];

impl Activation {
    /// The function that a config.json calls `name`.
    ///
    /// # Errors
    /// When no function has that name; the sentence lists those that exist.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some((_, activation)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*activation);
        }
        let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
        let hint = match near_misses(name, known.iter().copied()).first() {
            Some(near) => format!("; did you mean '{near}'?"),
            None => String::new(),
        };
        Err(Error::msg(format!("there is no activation function '{name}'{hint} (known: {})", known.join(", "))))
    }

    /// The name that [`parse`](Self::parse) knows it by.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, known)| *known == self).map_or("linear", |(name, _)| name)
    }

    /// The function of each element of `x`, in the shape and type of `x`.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if matches!(x.dtype(), DType::F16 | DType::BF16) {
            return Ok(self.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?);
        }
        Ok(match self {
            Self::Gelu if ops::are_for(x) => ops::activation(x, ops::Function::Gelu)?,
            Self::GeluNew if ops::are_for(x) => ops::activation(x, ops::Function::GeluNew)?,
            Self::Silu if ops::are_for(x) => ops::activation(x, ops::Function::Silu)?,
            Self::Gelu => x.gelu_erf()?,
            Self::GeluNew => x.gelu()?,
            Self::QuickGelu => (x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?,
            Self::Relu => x.relu()?,
            Self::Relu2 => x.relu()?.sqr()?,
            Self::Silu => x.silu()?,
            Self::Tanh => x.tanh()?,
            Self::Sigmoid => candle_nn::ops::sigmoid(x)?,
            // softmax, not softmax_last_dim: the latter has no gradient in candle.
            Self::Solu => (x * candle_nn::ops::softmax(x, D::Minus1)?)?,
            Self::Linear => x.clone(),
            Self::Xielu => {
                let number = |value: f64| Tensor::new(&[value], x.device())?.to_dtype(x.dtype());
                // The starting values before softplus.
                let before = |alpha: f64| number(alpha.exp_m1().ln());
                let (alpha_p, alpha_n) = (before(0.8)?, before(0.8 - 0.5)?);
                xielu(x, &XieluWeights { alpha_p, alpha_n, beta: number(0.5)?, eps: number(-1e-6)? })?
            }
        })
    }
}

/// xIELU (Huang 2024, arXiv 2411.13010) with these numbers: αₚx² + βx for positive x, αₙ(eˣ - 1 - x) + βx for others,
/// where αₚ and αₙ - β are the softplus of the stored numbers.
pub(super) fn xielu(x: &Tensor, numbers: &XieluWeights) -> Result<Tensor> {
    let softplus = |t: &Tensor| (t.exp()? + 1.0)?.log();
    let one = |t: &Tensor| t.reshape(1)?.to_dtype(x.dtype());
    let beta = one(&numbers.beta)?;
    let alpha_p = softplus(&one(&numbers.alpha_p)?)?;
    let alpha_n = (softplus(&one(&numbers.alpha_n)?)? + &beta)?;
    let positive = x.sqr()?.broadcast_mul(&alpha_p)?;
    // The exponential is of negative numbers only, so that it can't overflow.
    let below = x.broadcast_minimum(&one(&numbers.eps)?)?;
    let negative = ((below.exp()? - 1.0)? - x)?.broadcast_mul(&alpha_n)?;
    Ok((x.gt(0.0)?.where_cond(&positive, &negative)? + x.broadcast_mul(&beta)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const XS: [f64; 9] = [-6., -3., -1., -0.5, 0., 0.25, 1., 2., 5.];

    /// Computed in Python with math.erf, math.tanh and math.exp.
    #[rustfmt::skip]
    const EXPECTED: [(Activation, [f64; 9]); 10] = [
        (Activation::Gelu, [-5.91952587e-9, -0.00404969409, -0.158655254, -0.154268769, 0.0, 0.149676581, 0.841344746, 1.95449974, 4.99999857]),
        (Activation::GeluNew, [-8.43964898e-11, -0.00363739208, -0.158808009, -0.15428599, 0.0, 0.149675351, 0.841191991, 1.95459769, 4.99999977]),
        (Activation::QuickGelu, [-0.00022035355, -0.0180713097, -0.154204234, -0.149611563, 0.0, 0.15119965, 0.845795766, 1.93565862, 4.99899298]),
        (Activation::Relu, [0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 1.0, 2.0, 5.0]),
        (Activation::Relu2, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0625, 1.0, 4.0, 25.0]),
        (Activation::Silu, [-0.0148357389, -0.14227762, -0.268941421, -0.188770334, 0.0, 0.140544125, 0.731058579, 1.76159416, 4.96653575]),
        (Activation::Tanh, [-0.999987712, -0.995054754, -0.761594156, -0.462117157, 0.0, 0.244918662, 0.761594156, 0.96402758, 0.999909204]),
        (Activation::Sigmoid, [0.00247262316, 0.0474258732, 0.268941421, 0.377540669, 0.5, 0.562176501, 0.731058579, 0.880797078, 0.993307149]),
        (Activation::Solu, [-9.19013961e-5, -0.000922944442, -0.00227322942, -0.00187396085, 0.0, 0.00198358757, 0.0167970197, 0.0913180669, 4.58543101]),
        (Activation::Xielu, [1.001983, 0.139829655, -0.205696447, -0.164775472, -7.999996e-07, 0.175, 1.3, 4.2, 22.5]),
    ];

    #[test]
    fn values_are_those_of_the_formulas() -> Result<()> {
        let x = Tensor::new(&XS, &Device::Cpu)?;
        for (activation, expected) in EXPECTED {
            for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-8), (DType::BF16, 4e-3)] {
                let y = activation.forward(&x.to_dtype(dtype)?)?;
                assert_eq!(y.dtype(), dtype);
                for (found, wanted) in y.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().zip(expected) {
                    let error = (found - wanted).abs();
                    assert!(error <= tolerance * wanted.abs().max(1.), "{activation:?} {dtype:?}: {found} {wanted}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let points = [-20f64, -3., -1., -0.5, 0.25, 1., 2., 20.];
        for (_, activation) in NAMES {
            let x = Var::new(&points, &Device::Cpu)?;
            let total = |x: &[f64]| -> Result<f64> {
                Ok(activation.forward(&Tensor::new(x, &Device::Cpu)?)?.sum_all()?.to_scalar()?)
            };
            let grads = activation.forward(x.as_tensor())?.sum_all()?.backward()?;
            let found = grads.get(x.as_tensor()).ok_or(Error::msg("no gradient"))?.to_vec1::<f64>()?;
            for (i, found) in found.iter().enumerate() {
                let (mut up, mut down) = (points, points);
                up[i] += 1e-5;
                down[i] -= 1e-5;
                let slope = (total(&up)? - total(&down)?) / 2e-5;
                assert!((found - slope).abs() < 1e-5, "{activation:?} at {}: {found} {slope}", points[i]);
            }
        }
        Ok(())
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let sentence = Activation::parse("gelu_ne").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            sentence.contains("'gelu_ne'")
                && sentence.contains("did you mean 'gelu_new'")
                && sentence.contains("relu2")
        );
        assert_eq!(Activation::parse("swish").ok(), Some(Activation::Silu));
    }
}
