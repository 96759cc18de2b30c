//! Products of activations with weights.

use candle_core::Tensor;

use crate::{Result, ops};

/// x `[.., in]` times w `[in, out]`, plus b `[out]` if there is one.
pub(super) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (d_in, d_out) = w.dims2()?;
    let mut dims = x.dims().to_vec();
    // One tall product instead of a batch of small ones.
    let x = x.reshape(((), d_in))?;
    let y = match (b, ops::are_for(&x) && ops::can_read(w)) {
        (_, true) => ops::product(&x, w, b)?,
        (Some(b), false) => x.matmul(w)?.broadcast_add(b)?,
        (None, false) => x.matmul(w)?,
    };
    if let Some(last) = dims.last_mut() {
        *last = d_out;
    }
    Ok(y.reshape(dims)?)
}

/// x `[batch, pos, d_model]` times w `[heads, d_model, d_head]`, plus b [heads, d_head]: `[batch, pos, heads, d_head]`.
///
/// An x with a head axis, `[batch, pos, heads, d_model]`, gives each head its own input.
pub(super) fn per_head(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (heads, d_model, d_head) = w.dims3()?;
    if let [batch, pos, _, _] = x.dims()[..] {
        let w = w.to_dtype(x.dtype())?;
        let y = x.transpose(1, 2)?.contiguous()?.broadcast_matmul(&w)?.transpose(1, 2)?.contiguous()?;
        return match b {
            Some(b) => Ok(y.broadcast_add(b)?),
            None => Ok(y.reshape((batch, pos, heads, d_head))?),
        };
    }
    // Free of copies when the memory is laid out as `for_reading` lays it out.
    let across = w.transpose(1, 2)?;
    let w = match across.is_contiguous() {
        true => across.reshape((heads * d_head, d_model))?.t()?,
        false => w.transpose(0, 1)?.reshape((d_model, heads * d_head))?,
    };
    let b = b.map(|b| b.flatten_all()).transpose()?;
    let (batch, pos, _) = x.dims3()?;
    Ok(linear(x, &w, b.as_ref())?.reshape((batch, pos, heads, d_head))?)
}

/// The same `[heads, d_model, d_head]` weight, laid out in memory as `[d_model, heads, d_head]`, or left where it is
/// `[heads, d_head, d_model]`, as torch's Linear lays it out.
pub(super) fn for_reading(w: &Tensor) -> Result<Tensor> {
    match w.transpose(1, 2)?.is_contiguous() {
        true => Ok(w.clone()),
        false => Ok(w.transpose(0, 1)?.contiguous()?.transpose(0, 1)?),
    }
}

/// The same `[heads, d_head, d_model]` weight, contiguous, or on the CPU left where it is `[d_model, heads, d_head]`, as torch's
/// Linear lays it out.
pub(super) fn for_writing(w: &Tensor) -> Result<Tensor> {
    match w.device().is_cpu() && w.permute((2, 0, 1))?.is_contiguous() {
        true => Ok(w.clone()),
        false => Ok(w.contiguous()?),
    }
}

/// A weight `[heads, d_head, d_model]`, laid out as [`for_writing`] lays it out, as one map `[heads * d_head, d_model]`.
pub(super) fn all_heads(w: &Tensor) -> Result<Tensor> {
    let (heads, d_head, d_model) = w.dims3()?;
    let across = w.permute((2, 0, 1))?;
    match across.is_contiguous() {
        true => Ok(across.reshape((d_model, heads * d_head))?.t()?),
        false => Ok(w.reshape((heads * d_head, d_model))?),
    }
}
