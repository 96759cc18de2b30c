//! What state-space mixers compute over positions: a short convolution, and the selective scan (Gu and Dao 2023,
//! arXiv 2312.00752; Dao and Gu 2024, arXiv 2405.21060). Both go on from a state, so that generation computes only new tokens.

use candle_core::{D, DType, Tensor};

use super::kv_cache::LayerCache;
use crate::{Result, interrupt};

/// What a state-space layer keeps of the tokens that it has seen.
#[derive(Clone, Debug)]
pub(super) struct SsmState {
    /// The last inputs of the convolution, `[batch, K - 1, channels]`; none where it reads no earlier ones.
    conv: Option<Tensor>,
    /// `[batch, group, channel, N]`.
    ssm: Tensor,
    /// How many tokens there were.
    seen: usize,
}

impl SsmState {
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    pub(super) fn batch(&self) -> usize {
        self.ssm.dims().first().copied().unwrap_or(0)
    }
}

/// The inputs of one scan: G groups of C channels each, states of size N.
pub(super) struct Scan {
    /// The channels, `[batch, pos, G, C]`.
    pub(super) x: Tensor,
    /// Their time steps, `[batch, pos, G, C]`.
    pub(super) dt: Tensor,
    /// What the states' decay is proportional to, `[G, C, N]` or `[G, C, 1]`; negative.
    pub(super) a: Tensor,
    /// What is written to the states, `[batch, pos, G, N]`.
    pub(super) b: Tensor,
    /// What is read from them, `[batch, pos, G, N]`.
    pub(super) c: Tensor,
}

impl Scan {
    /// y(t) = h(t) C(t), with h(t) = exp(dt(t) A) h(t - 1) + dt(t) x(t) B(t): `[batch, pos, G, C]`, and the last state
    /// `[batch, G, C, N]`. Without a state it starts from zero.
    pub(super) fn run(&self, state: Option<Tensor>) -> Result<(Tensor, Tensor)> {
        let (batch, pos, groups, channels) = self.x.dims4()?;
        let n = self.b.dim(3)?;
        let mut state = match state {
            Some(state) => state,
            None => Tensor::zeros((batch, groups, channels, n), self.x.dtype(), self.x.device())?,
        };
        let a = self.a.unsqueeze(0)?;
        let added = (&self.x * &self.dt)?;
        let at = |t: &Tensor, pos: usize| t.narrow(1, pos, 1)?.squeeze(1);
        let mut y = Vec::with_capacity(pos);
        for pos in 0..pos {
            interrupt::check()?;
            let decay = at(&self.dt, pos)?.unsqueeze(D::Minus1)?.broadcast_mul(&a)?.exp()?;
            let write = at(&added, pos)?.unsqueeze(D::Minus1)?.broadcast_mul(&at(&self.b, pos)?.unsqueeze(2)?)?;
            state = (state.broadcast_mul(&decay)? + write)?;
            y.push(state.broadcast_mul(&at(&self.c, pos)?.unsqueeze(2)?)?.sum(D::Minus1)?);
        }
        Ok((Tensor::stack(&y, 1)?, state))
    }
}

/// The convolution of each channel with its last K inputs: x `[batch, pos, channels]`, `w` `[channels, K]`, `b` `[channels]`.
/// Gives the same shape, and the inputs that later positions need.
pub(super) fn causal_conv(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    past: Option<&LayerCache>,
) -> Result<(Tensor, Option<Tensor>)> {
    let (batch, pos, channels) = x.dims3()?;
    let kernel = w.dim(1)?;
    let before = kernel.saturating_sub(1);
    let inputs = if before == 0 {
        x.clone()
    } else {
        let earlier = match past.and_then(|past| past.state.as_ref()).and_then(|state| state.conv.clone()) {
            Some(earlier) => earlier,
            None => Tensor::zeros((batch, before, channels), x.dtype(), x.device())?,
        };
        Tensor::cat(&[&earlier, x], 1)?
    };
    let mut out = inputs.narrow(1, 0, pos)?.broadcast_mul(&w.narrow(1, 0, 1)?.squeeze(1)?)?;
    for back in 1..kernel {
        out = (out + inputs.narrow(1, back, pos)?.broadcast_mul(&w.narrow(1, back, 1)?.squeeze(1)?)?)?;
    }
    if let Some(b) = b {
        out = out.broadcast_add(b)?;
    }
    let kept = if before == 0 { None } else { Some(inputs.narrow(1, pos, before)?.contiguous()?) };
    Ok((out, kept))
}

/// The state that a cache holds.
pub(super) fn state_of(past: Option<&LayerCache>) -> Option<Tensor> {
    past.and_then(|past| past.state.as_ref()).map(|state| state.ssm.clone())
}

/// Keeps a layer's state after `pos` more tokens.
pub(super) fn keep(past: Option<&mut LayerCache>, conv: Option<Tensor>, ssm: Tensor, pos: usize) {
    if let Some(past) = past {
        let seen = past.state.as_ref().map_or(0, SsmState::seen) + pos;
        past.state = Some(SsmState { conv, ssm, seen });
    }
}

/// ln(1 + eˣ), without overflow.
pub(super) fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

/// The type that a scan is computed in: float32, as states add up over many positions.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { dtype } else { DType::F32 }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn numbers(seed: usize, shape: &[usize]) -> Result<Tensor> {
        let count: usize = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| ((i * 37 + seed * 101) as f64 * 0.7).sin()).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn example() -> Result<Scan> {
        Ok(Scan {
            x: numbers(1, &[2, 5, 2, 3])?,
            dt: numbers(2, &[2, 5, 2, 3])?.abs()?,
            a: numbers(3, &[2, 3, 4])?.abs()?.neg()?,
            b: numbers(4, &[2, 5, 2, 4])?,
            c: numbers(5, &[2, 5, 2, 4])?,
        })
    }

    fn flat(t: &Tensor) -> Result<Vec<f64>> {
        Ok(t.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn a_scan_is_the_recurrence_written_out() -> Result<()> {
        let scan = example()?;
        let (y, last) = scan.run(None)?;
        let (y, last) = (flat(&y)?, flat(&last)?);
        let (x, dt, a, b, c) = (flat(&scan.x)?, flat(&scan.dt)?, flat(&scan.a)?, flat(&scan.b)?, flat(&scan.c)?);
        for batch in 0..2 {
            for group in 0..2 {
                for channel in 0..3 {
                    let mut h = [0.0; 4];
                    for pos in 0..5 {
                        let at = ((batch * 5 + pos) * 2 + group) * 3 + channel;
                        let mut out = 0.0;
                        for (n, h) in h.iter_mut().enumerate() {
                            let bc = ((batch * 5 + pos) * 2 + group) * 4 + n;
                            let decay = (dt[at] * a[(group * 3 + channel) * 4 + n]).exp();
                            *h = decay * *h + dt[at] * x[at] * b[bc];
                            out += *h * c[bc];
                        }
                        assert!((out - y[at]).abs() < 1e-12, "{out} and {}", y[at]);
                    }
                    for (n, h) in h.iter().enumerate() {
                        assert!((h - last[((batch * 2 + group) * 3 + channel) * 4 + n]).abs() < 1e-12);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_scan_and_a_convolution_in_two_parts_are_those_in_one() -> Result<()> {
        let scan = example()?;
        let part = |start: usize, length: usize| -> Result<Scan> {
            let cut = |t: &Tensor| t.narrow(1, start, length);
            let (x, dt, b, c) = (cut(&scan.x)?, cut(&scan.dt)?, cut(&scan.b)?, cut(&scan.c)?);
            Ok(Scan { x, dt, a: scan.a.clone(), b, c })
        };
        let (first, state) = part(0, 2)?.run(None)?;
        let (second, _) = part(2, 3)?.run(Some(state.clone()))?;
        let whole = flat(&scan.run(None)?.0)?;
        assert_eq!(flat(&Tensor::cat(&[first, second], 1)?)?, whole);

        let (x, w, b) = (numbers(6, &[2, 5, 3])?, numbers(7, &[3, 4])?, numbers(8, &[3])?);
        let (whole, _) = causal_conv(&x, &w, Some(&b), None)?;
        let mut past = LayerCache::default();
        let mut parts = Vec::new();
        for (start, length) in [(0, 1), (1, 3), (4, 1)] {
            let (out, kept) = causal_conv(&x.narrow(1, start, length)?, &w, Some(&b), Some(&past))?;
            keep(Some(&mut past), kept, state.clone(), length);
            parts.push(out);
        }
        assert_eq!(flat(&Tensor::cat(&parts, 1)?)?, flat(&whole)?);
        assert_eq!(past.state.map(|state| state.seen()), Some(5));

        // Written out: the last weight is that of the position itself.
        let (x, w, b, whole) = (flat(&x)?, flat(&w)?, flat(&b)?, flat(&whole)?);
        for pos in 0..5usize {
            for channel in 0..3 {
                let taps = (0..4usize).filter(|k| pos + k >= 3);
                let sum: f64 = taps.map(|k| w[channel * 4 + k] * x[(pos + k - 3) * 3 + channel]).sum();
                assert!((sum + b[channel] - whole[pos * 3 + channel]).abs() < 1e-12);
            }
        }
        Ok(())
    }

    #[test]
    fn gradients_flow_through_scan_and_softplus() -> Result<()> {
        let scan = example()?;
        let raw = numbers(9, &[2, 5, 2, 3])?;
        let loss = |raw: &Tensor| -> Result<Tensor> {
            let (x, a, b, c) = (scan.x.clone(), scan.a.clone(), scan.b.clone(), scan.c.clone());
            let (y, _) = Scan { x, dt: softplus(raw)?, a, b, c }.run(None)?;
            Ok(y.sqr()?.sum_all()?)
        };
        let var = Var::from_tensor(&raw)?;
        let grads = loss(var.as_tensor())?.backward()?;
        let gradient = grads.get(var.as_tensor()).ok_or_else(|| crate::Error::msg("no gradient"))?;
        let direction = numbers(10, &[2, 5, 2, 3])?;
        let found: f64 = (gradient * &direction)?.sum_all()?.to_scalar()?;
        let moved = |step: f64| -> Result<f64> { Ok(loss(&(&raw + (&direction * step)?)?)?.to_scalar()?) };
        let slope = (moved(1e-5)? - moved(-1e-5)?) / 2e-5;
        assert!((found - slope).abs() < 1e-6 * slope.abs().max(1.0), "{found} and {slope}");
        Ok(())
    }
}
