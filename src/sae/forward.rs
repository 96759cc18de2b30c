//! The forward pass: vectors to features, and back.

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use super::config::InputNorm;
use super::weights::{Encoder, Weights};
use super::{Sae, SaeKind};
use crate::{Error, Result};

/// Added to the standard deviation by which a layer norm divides.
const LAYER_NORM_EPS: f64 = 1e-5;

/// What takes an output from the units of normalised inputs back to those of the activation, `[n, 1]` each.
#[derive(Clone, Debug)]
pub(super) struct Back {
    scale: Tensor,
    shift: Option<Tensor>,
}

impl Sae {
    /// The features of vectors: `[.., d_in]` to `[.., d_sae]`. Where the SAE is of all heads together, also
    /// `[.., head, d_head]`. Gradients flow through what is active.
    ///
    /// # Errors
    /// Vectors of another width; an SAE whose [input scale](Self::input_scale) is unknown.
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        let [d_in, d_sae, _] = self.weights().sizes();
        let (rows, outer) = as_rows(x, d_in)?;
        let features = self.encode_rows(&rows)?;
        Ok(features.reshape([outer, vec![d_sae]].concat())?)
    }

    /// What features `[.., d_sae]` stand for: features W_dec + b_dec, `[.., d_out]`.
    ///
    /// Where each input is normalised by its own length or deviation ([`input_norm`](Self::input_norm)), the features alone
    /// do not know these: the output is then in normalised units, and [`reconstruct`](Self::reconstruct) has the activation's.
    ///
    /// # Errors
    /// Another number of features.
    pub fn decode(&self, features: &Tensor) -> Result<Tensor> {
        let [_, d_sae, d_out] = self.weights().sizes();
        let (rows, outer) = as_rows(features, d_sae)?;
        let decoded = self.decode_rows(&self.like_weights(&rows)?, None)?;
        Ok(decoded.reshape([outer, vec![d_out]].concat())?)
    }

    /// What the SAE makes of vectors: encoded, decoded, `[.., d_in]` to `[.., d_out]` (in the shape of `x` where the widths
    /// are the same). For a transcoder that is what it predicts at [`hook_out`](Self::hook_out), W_skip included.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn reconstruct(&self, x: &Tensor) -> Result<Tensor> {
        let [d_in, _, d_out] = self.weights().sizes();
        let (rows, outer) = as_rows(x, d_in)?;
        let made = self.reconstruct_rows(&rows)?;
        let shape = if d_in == d_out { x.dims().to_vec() } else { [outer, vec![d_out]].concat() };
        Ok(made.reshape(shape)?)
    }

    /// What the SAE does not explain: x less its reconstruction, in the shape of `x`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and a transcoder, whose output is compared with another activation: see
    /// [`error_against`](Self::error_against).
    pub fn error(&self, x: &Tensor) -> Result<Tensor> {
        if self.is_transcoder() {
            return Err(Error::msg(
                "a transcoder's output is of another activation than its input; give both to sae.error_against(input, target)",
            ));
        }
        self.error_against(x, x)
    }

    /// What the SAE does not explain of `target`, the activation at [`hook_out`](Self::hook_out): the target less what is
    /// made of `x`, in the shape of `target`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and a target of another shape.
    pub fn error_against(&self, x: &Tensor, target: &Tensor) -> Result<Tensor> {
        let made = self.reconstruct(x)?;
        if made.elem_count() != target.elem_count() {
            let expected = format!("that of the output, {:?}", made.dims());
            return Err(Error::WrongShape { name: "target".to_string(), expected, found: target.dims().to_vec() });
        }
        let target = target.to_dtype(made.dtype())?.to_device(made.device())?;
        Ok((&target - made.reshape(target.shape())?)?)
    }

    /// Rows in the type and on the device of the weights.
    pub(super) fn like_weights(&self, rows: &Tensor) -> Result<Tensor> {
        let like = &self.weights().w_enc;
        Ok(rows.to_device(like.device())?.to_dtype(like.dtype())?)
    }

    /// `[n, d_in]` to `[n, d_sae]`.
    pub(super) fn encode_rows(&self, rows: &Tensor) -> Result<Tensor> {
        let (x, _) = self.normalised(&self.like_weights(rows)?)?;
        self.features_of(&x)
    }

    /// `[n, d_in]` to `[n, d_out]`.
    pub(super) fn reconstruct_rows(&self, rows: &Tensor) -> Result<Tensor> {
        let rows = self.like_weights(rows)?;
        let (x, back) = self.normalised(&rows)?;
        self.output(&rows, &self.features_of(&x)?, back.as_ref())
    }

    /// The output of features `[n, d_sae]` of the inputs `rows`, W_skip included.
    pub(super) fn output(&self, rows: &Tensor, features: &Tensor, back: Option<&Back>) -> Result<Tensor> {
        let made = self.decode_rows(features, back)?;
        match &self.weights().w_skip {
            Some(w_skip) => Ok((made + rows.matmul(&w_skip.t()?)?)?),
            None => Ok(made),
        }
    }

    fn decode_rows(&self, features: &Tensor, back: Option<&Back>) -> Result<Tensor> {
        let Weights { w_dec, b_dec, .. } = self.weights();
        let made = features.matmul(w_dec)?.broadcast_add(b_dec)?;
        match back {
            Some(back) => back.apply(&made),
            None => Ok(made),
        }
    }

    /// What a change of features adds to the output: by the decoder's directions alone.
    pub(super) fn decoded_change(&self, change: &Tensor, back: Option<&Back>) -> Result<Tensor> {
        scaled_back(change.matmul(&self.weights().w_dec)?, back)
    }

    /// Inputs `[n, d_in]` as the encoder is to see them, and what takes the output back: nothing for a transcoder, whose output
    /// was not normalised with its input.
    pub(super) fn normalised(&self, x: &Tensor) -> Result<(Tensor, Option<Back>)> {
        let d_in = x.dim(1)?;
        let (x, back) = match self.input_norm() {
            InputNorm::None => (x.clone(), None),
            InputNorm::ConstantNorm => {
                let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
                let scale = (norm.maximum(f64::from(f32::MIN_POSITIVE))? / (d_in as f64).sqrt())?;
                (x.broadcast_div(&scale)?, Some(Back { scale, shift: None }))
            }
            InputNorm::LayerNorm => {
                let mean = x.mean_keepdim(D::Minus1)?;
                let x = x.broadcast_sub(&mean)?;
                let free = d_in.saturating_sub(1).max(1) as f64;
                let scale = (x.sqr()?.sum_keepdim(D::Minus1)? / free)?.sqrt()?;
                (x.broadcast_div(&(&scale + LAYER_NORM_EPS)?)?, Some(Back { scale, shift: Some(mean) }))
            }
            InputNorm::UnknownScale => {
                return Err(Error::msg(format!(
                    "{self:?} was trained on inputs scaled by one number (normalize_activations = \
                     expected_average_only_in), and its files do not say which; give it with sae.input_scale(..) (it is \
                     sqrt(d_in) over the mean length of the inputs, which sae.measure_input_scale(&text) measures)"
                )));
            }
        };
        Ok((x, back.filter(|_| !self.is_transcoder())))
    }

    /// The features of normalised inputs.
    pub(super) fn features_of(&self, x: &Tensor) -> Result<Tensor> {
        let weights = self.weights();
        let x = if self.applies_b_dec() { x.broadcast_sub(&weights.b_dec)? } else { x.clone() };
        let x = x.matmul(&weights.w_enc)?;
        Ok(match &weights.encoder {
            Encoder::Relu { b_enc } => x.broadcast_add(b_enc)?.relu()?,
            Encoder::TopK { b_enc, k } => {
                let x = x.broadcast_add(b_enc)?;
                (x.relu()? * largest(&x, *k)?)?
            }
            Encoder::Gated { b_gate, b_mag, r_mag } => {
                let open = x.broadcast_add(b_gate)?.gt(0f64)?.to_dtype(x.dtype())?;
                (x.broadcast_mul(&r_mag.exp()?)?.broadcast_add(b_mag)?.relu()? * open)?
            }
            Encoder::JumpRelu { b_enc, threshold } => {
                let x = x.broadcast_add(b_enc)?;
                let above = x.broadcast_gt(threshold)?.to_dtype(x.dtype())?;
                (x.relu()? * above)?
            }
        })
    }

    /// How the features are made.
    pub fn kind(&self) -> SaeKind {
        self.config().kind
    }
}

impl Back {
    fn apply(&self, made: &Tensor) -> Result<Tensor> {
        let made = made.broadcast_mul(&self.scale)?;
        match &self.shift {
            Some(shift) => Ok(made.broadcast_add(shift)?),
            None => Ok(made),
        }
    }
}

/// A change of the output in normalised units, in those of the activation.
pub(super) fn scaled_back(change: Tensor, back: Option<&Back>) -> Result<Tensor> {
    match back {
        Some(back) => Ok(change.broadcast_mul(&back.scale)?),
        None => Ok(change),
    }
}

/// 1 at the `k` largest numbers of each row `[n, width]` and 0 elsewhere; of equal ones the first count.
pub(super) fn largest(x: &Tensor, k: usize) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let values: Vec<f32> = x.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let mut mask = vec![0f32; n * width];
    mask.par_chunks_mut(width).zip(values.par_chunks(width)).for_each(|(mask, values)| {
        for place in top_places(values, k) {
            mask[place as usize] = 1.0;
        }
    });
    Ok(Tensor::from_vec(mask, (n, width), x.device())?.to_dtype(x.dtype())?)
}

/// The places of the `k` largest of some numbers, ascending; of equal ones the first.
pub(super) fn top_places(values: &[f32], k: usize) -> Vec<u32> {
    if k == 0 || k >= values.len() {
        return (0..values.len().min(k) as u32).collect();
    }
    let mut sorted = values.to_vec();
    let (_, &mut last, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    // What is above the last that counts is in; what equals it, as long as there is room.
    let mut room = k - values.iter().filter(|value| value.total_cmp(&last).is_gt()).count();
    let mut places = Vec::with_capacity(k);
    for (place, value) in (0u32..).zip(values) {
        let order = value.total_cmp(&last);
        if order.is_gt() || order.is_eq() && room > 0 {
            room -= usize::from(order.is_eq());
            places.push(place);
        }
    }
    places
}

/// `[.., width]`, or `[.., a, b]` with a * b = width, as rows `[n, width]`, and the sizes of the axes before.
pub(super) fn as_rows(x: &Tensor, width: usize) -> Result<(Tensor, Vec<usize>)> {
    let outer = match x.dims() {
        [outer @ .., last] if *last == width => outer.to_vec(),
        [outer @ .., heads, last] if heads * last == width => outer.to_vec(),
        found => {
            return Err(Error::msg(format!(
                "the tensor has shape {found:?}, and vectors of width {width} were expected: its last axis (or its last two \
                 together) must have that width; is the SAE of this model, and of this activation?"
            )));
        }
    };
    Ok((x.contiguous()?.reshape(((), width))?, outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_numbers_the_first_are_taken() {
        let values = [1.0, 3.0, -2.0, 3.0, 3.0, f32::INFINITY, 0.0];
        for (k, expected) in [(0, &[][..]), (1, &[5]), (3, &[1, 3, 5]), (4, &[1, 3, 4, 5]), (9, &[0, 1, 2, 3, 4, 5, 6])]
        {
            assert_eq!(top_places(&values, k), expected, "{k}");
        }
    }
}
