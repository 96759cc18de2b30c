//! A norm with the scale that it had in the run: a linear map, so that parts of the stream still add up behind it.

use candle_core::{D, DType, Tensor};

use super::{ActivationCache, StreamPlace};
use crate::model::{Branch, NormInfo};
use crate::{Error, Result};

/// x (less its mean, for a LayerNorm) / scale, times w; scale `[.., 1]`. The norm's b belongs to no part and is left out.
#[derive(Clone, Debug)]
pub(crate) struct HeldNorm {
    centers: bool,
    w: Option<Tensor>,
    scale: Tensor,
}

/// What reads the stream at a place.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// Something that reads the stream as it is.
    Plain,
    Norm(HeldNorm),
    /// A norm whose scale can't be had, and why.
    Unknown(String),
}

impl HeldNorm {
    /// Of x `[.., d_model]`, whose axes may begin before those of the scale.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.divide(&self.apply_unscaled(x)?)
    }

    /// All of it but the division by the scale.
    pub(crate) fn apply_unscaled(&self, x: &Tensor) -> Result<Tensor> {
        let x = if self.centers { x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)? } else { x.clone() };
        match &self.w {
            Some(w) => Ok(x.broadcast_mul(w)?),
            None => Ok(x),
        }
    }

    /// x / scale.
    pub(crate) fn divide(&self, x: &Tensor) -> Result<Tensor> {
        let sizes = &self.scale.dims()[..self.scale.rank() - 1];
        let fits = x.rank() > sizes.len() && x.dims()[..x.rank() - 1].ends_with(sizes);
        if !fits {
            return Err(Error::msg(format!(
                "the norm's scale is of {:?} and the vectors have shape {:?}: they are of different slices of a cache; slice                  the cache once and make the stack from that",
                self.scale.dims(),
                x.dims()
            )));
        }
        Ok(x.broadcast_div(&self.scale)?)
    }

    /// The direction whose product with x is that of `direction` with what the norm makes of x, but for the division by
    /// the scale: `[.., d_model]` to the same shape.
    pub(crate) fn pull_back(&self, direction: &Tensor) -> Result<Tensor> {
        let direction = match &self.w {
            Some(w) => direction.broadcast_mul(w)?,
            None => direction.clone(),
        };
        if self.centers { Ok(direction.broadcast_sub(&direction.mean_keepdim(D::Minus1)?)?) } else { Ok(direction) }
    }
}

impl Reader {
    /// The norm, if there is one; an error if its scale can't be had.
    pub(crate) fn norm(&self) -> Result<Option<&HeldNorm>> {
        match self {
            Self::Plain => Ok(None),
            Self::Norm(norm) => Ok(Some(norm)),
            Self::Unknown(why) => Err(Error::msg(why)),
        }
    }

    /// As [`HeldNorm::apply`].
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.norm()?.map_or_else(|| Ok(x.clone()), |norm| norm.apply(x))
    }
}

impl ActivationCache {
    /// What reads the stream at a place, as it was in the run.
    pub(crate) fn reader(&self, place: StreamPlace) -> Reader {
        match self.model.norm_that_reads(place).and_then(|info| info.map(|info| self.held(&info)).transpose()) {
            Ok(Some(norm)) => Reader::Norm(norm),
            Ok(None) => Reader::Plain,
            Err(error) => Reader::Unknown(error.to_string()),
        }
    }

    /// What a branch's result becomes before it is added to the stream: x `[.., d_model]`, with or without a head axis.
    pub(super) fn written(&self, layer: usize, branch: Branch, x: &Tensor) -> Result<Tensor> {
        let x = f32(x)?;
        let x = match self.norm_behind(layer, branch)? {
            Some(norm) if x.rank() == norm.scale.rank() + 1 => {
                let mut dims = x.dims().to_vec();
                if let Some(last) = dims.last_mut() {
                    *last = 1;
                }
                let scale = norm.scale.unsqueeze(norm.scale.rank() - 1)?.broadcast_as(dims)?;
                HeldNorm { scale, ..norm }.apply(&x)?
            }
            Some(norm) => norm.apply(&x)?,
            None => x,
        };
        let multiplier = self.model.cfg().residual_multiplier;
        if multiplier == 1.0 { Ok(x) } else { Ok((x * multiplier)?) }
    }

    /// The norm that a branch's result goes through, if there is one.
    pub(super) fn norm_behind(&self, layer: usize, branch: Branch) -> Result<Option<HeldNorm>> {
        self.model.norm_behind(layer, branch)?.map(|info| self.held(&info)).transpose()
    }

    fn held(&self, info: &NormInfo) -> Result<HeldNorm> {
        let scale = self.get(&info.hook_scale)?;
        let rank = 1 + usize::from(self.has_batch_dim) + usize::from(self.has_pos_dim);
        if scale.rank() != rank {
            return Err(Error::msg(format!(
                "'{}' has shape {:?}: the inputs of queries, keys and values were split in this run, so that the norm has \
                 no one scale; cache a run without hook_q_input, hook_k_input, hook_v_input and hook_attn_in",
                info.hook_scale,
                scale.dims()
            )));
        }
        Ok(HeldNorm { centers: info.centers, w: info.w.as_ref().map(f32).transpose()?, scale: f32(&scale)? })
    }
}

/// In f32, unless it is wider.
pub(crate) fn f32(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::F64 { Ok(x.clone()) } else { Ok(x.to_dtype(DType::F32)?) }
}
