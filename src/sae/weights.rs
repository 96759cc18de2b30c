//! The weights of a sparse autoencoder: checked as they are read, and with all constant scales folded in.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};

use super::SaeKind;
use super::config::Reading;
use crate::error::near_misses;
use crate::{Error, Result};

/// The weights, in f32 (or f64), y = x W + b.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// `[d_in, d_sae]`.
    pub w_enc: Tensor,
    /// `[d_sae, d_out]`, a feature's direction in each row.
    pub w_dec: Tensor,
    /// `[d_out]`.
    pub b_dec: Tensor,
    pub encoder: Encoder,
    /// From the input past the features to the output, `[d_out, d_in]`.
    pub w_skip: Option<Tensor>,
}

/// What the encoder has besides W_enc, `[d_sae]` each.
#[derive(Clone, Debug)]
pub(super) enum Encoder {
    Relu { b_enc: Tensor },
    TopK { b_enc: Tensor, k: usize },
    Gated { b_gate: Tensor, b_mag: Tensor, r_mag: Tensor },
    JumpRelu { b_enc: Tensor, threshold: Tensor },
}

/// The tensors of a file, of which each is taken once.
pub(super) struct Tensors {
    left: BTreeMap<String, Tensor>,
    origin: String,
}

impl Tensors {
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>, origin: &str) -> Self {
        Self { left: tensors.into_iter().collect(), origin: origin.to_string() }
    }

    fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// A tensor in f32, unless it is wider; all its numbers are finite.
    fn any(&mut self, name: &str) -> Result<Tensor> {
        let Some(tensor) = self.left.remove(name) else {
            let near = near_misses(name, self.left.keys().map(String::as_str));
            return Err(Error::MissingTensor { name: name.to_string(), origin: self.origin.clone(), near });
        };
        if !tensor.dtype().is_float() {
            let why = format!("its numbers are {:?}, and floats were expected", tensor.dtype());
            return Err(Error::msg(format!("the tensor '{name}' of {} can't be used: {why}", self.origin)));
        }
        let tensor = if tensor.dtype() == DType::F64 { tensor } else { tensor.to_dtype(DType::F32)? };
        // Nothing but NaN and infinity is other than zero after a product with zero.
        let sum = (&tensor * 0.0)?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        if sum != 0.0 {
            return Err(Error::msg(format!(
                "the tensor '{name}' of {} holds NaN or infinity; the file may be damaged, or the training failed",
                self.origin
            )));
        }
        Ok(tensor.contiguous()?)
    }

    fn take(&mut self, name: &str, axes: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.any(name)?;
        if tensor.dims() != shape {
            let expected = format!("{axes} = {shape:?}");
            return Err(Error::WrongShape { name: name.to_string(), expected, found: tensor.dims().to_vec() });
        }
        Ok(tensor)
    }

    fn finish(self) -> Result<()> {
        let Some(name) = self.left.keys().next() else { return Ok(()) };
        Err(Error::msg(format!(
            "{} holds the tensor '{name}' ({} are left in all), which an SAE of this kind has no place for; cfg.json may \
             be of another one, or it has a part that candlescope lacks",
            self.origin,
            self.left.len()
        )))
    }
}

impl Weights {
    /// The weights of a file, as its configuration says.
    pub fn read(mut tensors: Tensors, reading: &Reading) -> Result<Self> {
        let w_dec = tensors.any("W_dec")?;
        let (d_sae, d_out) = matrix("W_dec", "[d_sae, d_out]", &w_dec)?;
        let w_enc = tensors.any("W_enc")?;
        let (d_in, n) = matrix("W_enc", "[d_in, d_sae]", &w_enc)?;
        let expected = if reading.config.is_transcoder { vec![d_in, d_sae] } else { vec![d_out, d_sae] };
        if n != d_sae || vec![d_in, n] != expected {
            let expected = format!("[d_in, d_sae] = {expected:?} (W_dec is [{d_sae}, {d_out}])");
            return Err(Error::WrongShape { name: "W_enc".to_string(), expected, found: vec![d_in, n] });
        }
        for (name, said, found) in
            [("d_in", reading.d_in, d_in), ("d_sae", reading.d_sae, d_sae), ("d_out", reading.d_out, d_out)]
        {
            if let Some(said) = said.filter(|said| *said != found) {
                return Err(Error::msg(format!(
                    "{}: cfg.json says {name} = {said}, and the weights have {found}; the two files do not belong together",
                    tensors.origin
                )));
            }
        }
        let mut row = |name: &str| tensors.take(name, "[d_sae]", &[d_sae]);
        let encoder = match reading.config.kind {
            SaeKind::Relu => Encoder::Relu { b_enc: row("b_enc")? },
            SaeKind::TopK { k } if k > d_sae => {
                return Err(Error::msg(format!("k is {k}, and there are {d_sae} features; k can't be larger")));
            }
            SaeKind::TopK { k } => Encoder::TopK { b_enc: row("b_enc")?, k },
            SaeKind::Gated => Encoder::Gated { b_gate: row("b_gate")?, b_mag: row("b_mag")?, r_mag: row("r_mag")? },
            SaeKind::JumpRelu => Encoder::JumpRelu { b_enc: row("b_enc")?, threshold: row("threshold")? },
        };
        let b_dec = tensors.take("b_dec", "[d_out]", &[d_out])?;
        let w_skip = match tensors.has("W_skip") && reading.config.is_transcoder {
            true => Some(tensors.take("W_skip", "[d_out, d_in]", &[d_out, d_in])?),
            false => None,
        };
        let factor = ["scaling_factor", "finetuning_scaling_factor"].into_iter().find(|name| tensors.has(name));
        let factor = factor.map(|name| tensors.take(name, "[d_sae]", &[d_sae])).transpose()?;
        let mut weights = Self { w_enc, w_dec, b_dec, encoder, w_skip };
        if let Some(factor) = factor {
            weights = weights.with_factor(&factor, reading, &tensors.origin)?;
        }
        tensors.finish()?;
        if reading.by_decoder_norm { weights.with_unit_directions() } else { Ok(weights) }
    }

    /// (d_in, d_sae, d_out).
    pub fn sizes(&self) -> [usize; 3] {
        [self.w_enc.dims()[0], self.w_dec.dims()[0], self.w_dec.dims()[1]]
    }

    /// Those whose features the decoder multiplies by a factor each, which finetuning left behind.
    fn with_factor(self, factor: &Tensor, reading: &Reading, origin: &str) -> Result<Self> {
        let is_one = (factor - 1.0)?.abs()?.max_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()? < 1e-5;
        if is_one {
            return Ok(self);
        }
        if !reading.finetuning_scale {
            return Err(Error::msg(format!(
                "{origin} holds a scaling factor for each feature, and cfg.json does not set 'finetuning_scaling_factor'; \
                 set it to true if the factors are to be used"
            )));
        }
        Ok(Self { w_dec: self.w_dec.broadcast_mul(&factor.unsqueeze(1)?)?, ..self })
    }

    /// The same function with directions of length 1; features are then what the decoder's lengths made of them.
    pub fn with_unit_directions(self) -> Result<Self> {
        let norms = self.w_dec.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        let row = norms.flatten_all()?;
        let by_norm = |x: &Tensor| x.broadcast_mul(&row);
        let encoder = match self.encoder {
            Encoder::Relu { b_enc } => Encoder::Relu { b_enc: by_norm(&b_enc)? },
            Encoder::TopK { b_enc, k } => Encoder::TopK { b_enc: by_norm(&b_enc)?, k },
            Encoder::Gated { b_gate, b_mag, r_mag } => {
                Encoder::Gated { b_gate: by_norm(&b_gate)?, b_mag: by_norm(&b_mag)?, r_mag }
            }
            Encoder::JumpRelu { b_enc, threshold } => {
                Encoder::JumpRelu { b_enc: by_norm(&b_enc)?, threshold: by_norm(&threshold)? }
            }
        };
        // A direction of zero stays one.
        let w_dec = self.w_dec.broadcast_div(&norms.maximum(f64::from(f32::MIN_POSITIVE))?)?;
        Ok(Self { w_enc: by_norm(&self.w_enc)?, w_dec, encoder, ..self })
    }

    /// The same function of inputs that are `scale` times as short, with an output that is, too.
    pub fn for_scaled_input(self, scale: f64) -> Result<Self> {
        let [w_enc, w_dec, b_dec] = [(&self.w_enc * scale)?, (&self.w_dec / scale)?, (&self.b_dec / scale)?];
        Ok(Self { w_enc, w_dec, b_dec, ..self })
    }

    /// The tensors under the names that SAELens has.
    pub fn named(&self) -> Vec<(&'static str, &Tensor)> {
        let mut named = vec![("W_enc", &self.w_enc), ("W_dec", &self.w_dec), ("b_dec", &self.b_dec)];
        match &self.encoder {
            Encoder::Relu { b_enc } | Encoder::TopK { b_enc, .. } => named.push(("b_enc", b_enc)),
            Encoder::Gated { b_gate, b_mag, r_mag } => {
                named.extend([("b_gate", b_gate), ("b_mag", b_mag), ("r_mag", r_mag)]);
            }
            Encoder::JumpRelu { b_enc, threshold } => named.extend([("b_enc", b_enc), ("threshold", threshold)]),
        }
        named.extend(self.w_skip.iter().map(|w_skip| ("W_skip", w_skip)));
        named
    }

    /// The same on another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |tensor: &Tensor| tensor.to_device(device);
        let encoder = match &self.encoder {
            Encoder::Relu { b_enc } => Encoder::Relu { b_enc: moved(b_enc)? },
            Encoder::TopK { b_enc, k } => Encoder::TopK { b_enc: moved(b_enc)?, k: *k },
            Encoder::Gated { b_gate, b_mag, r_mag } => {
                Encoder::Gated { b_gate: moved(b_gate)?, b_mag: moved(b_mag)?, r_mag: moved(r_mag)? }
            }
            Encoder::JumpRelu { b_enc, threshold } => {
                Encoder::JumpRelu { b_enc: moved(b_enc)?, threshold: moved(threshold)? }
            }
        };
        Ok(Self {
            w_enc: moved(&self.w_enc)?,
            w_dec: moved(&self.w_dec)?,
            b_dec: moved(&self.b_dec)?,
            encoder,
            w_skip: self.w_skip.as_ref().map(moved).transpose()?,
        })
    }
}

fn matrix(name: &str, axes: &str, tensor: &Tensor) -> Result<(usize, usize)> {
    match *tensor.dims() {
        [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
        ref found => {
            Err(Error::WrongShape { name: name.to_string(), expected: axes.to_string(), found: found.to_vec() })
        }
    }
}
