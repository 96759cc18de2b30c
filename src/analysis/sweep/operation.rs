//! What an intervention puts in place of an activation.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::fitted;
use crate::cache::ActivationCache;
use crate::hooks::HookPoint;
use crate::{Error, Result};

/// What an intervention puts in place of (a part of) an activation.
#[derive(Clone)]
pub(super) enum Operation {
    /// The activation of another run.
    Patch(ActivationCache),
    /// Zero.
    Zero,
    /// The mean over the prompts of another run, and over their positions too unless these are to be kept.
    Mean { of: ActivationCache, keep_positions: bool },
    /// The activation that another prompt of a run has there.
    Resample { of: ActivationCache, seed: u64 },
    /// The activation plus a vector, `[width]`, times each of some strengths.
    Add { direction: Tensor, strengths: Vec<f64> },
    /// The activation without its part along some directions.
    ProjectOut(Tensor),
    /// The part along some directions is that of another run.
    Interchange { directions: Tensor, of: ActivationCache },
    /// What a function makes of it.
    Edit(Arc<Edit>),
}

type Edit = dyn Fn(&Tensor, &HookPoint) -> Result<Tensor> + Send + Sync;

impl Operation {
    /// The same, with the directions (rows, `[n, width]` or one `[width]`) made orthonormal columns, `[width, k]`.
    pub(super) fn ready(self) -> Result<Self> {
        Ok(match self {
            Self::ProjectOut(directions) => Self::ProjectOut(orthonormal(&directions)?),
            Self::Interchange { directions, of } => Self::Interchange { directions: orthonormal(&directions)?, of },
            other => other,
        })
    }

    /// The run whose activations it needs.
    pub(super) fn source(&self) -> Option<&ActivationCache> {
        match self {
            Self::Patch(of) | Self::Mean { of, .. } | Self::Resample { of, .. } | Self::Interchange { of, .. } => {
                Some(of)
            }
            _ => None,
        }
    }

    /// Whether its result depends on places other than its own, so that the prompts must correspond.
    pub(super) fn copies_by_position(&self) -> bool {
        !matches!(self, Self::Mean { keep_positions: false, .. })
    }

    /// What it makes of an activation that needs nothing else than the source: the whole tensor, of the base's shape.
    /// None if it depends on the activation at hand.
    pub(super) fn replacement(&self, point: &HookPoint, base: &Tensor, axes: &[&str]) -> Result<Option<Tensor>> {
        let like_base = |tensor: Tensor| fitted(point, &tensor, base);
        Ok(match self {
            Self::Patch(of) => Some(like_base(of.get(point)?)?),
            Self::Zero => Some(base.zeros_like()?),
            Self::Mean { of, keep_positions } => {
                let mut mean = of.get(point)?.to_dtype(DType::F32)?.mean_keepdim(0)?;
                if let (Some(axis), false) = (super::region::find_axis(axes, "pos"), keep_positions) {
                    mean = mean.mean_keepdim(axis)?;
                }
                Some(like_base(mean.to_dtype(base.dtype())?)?)
            }
            Self::Resample { of, seed } => Some(like_base(resampled(&of.get(point)?, *seed)?)?),
            Self::Add { .. } | Self::ProjectOut(_) | Self::Interchange { .. } | Self::Edit(_) => None,
        })
    }

    /// What it makes of a part of an activation, where that depends on the activation; `source` is the same part of the
    /// source, and `strength` which of the strengths is meant.
    pub(super) fn apply(
        &self,
        point: &HookPoint,
        part: &Tensor,
        source: Option<&Tensor>,
        strength: usize,
    ) -> Result<Tensor> {
        let on_width = |vectors: &Tensor| -> Result<Tensor> {
            let width = part.dims().last().copied().unwrap_or(0);
            if vectors.dim(0)? != width {
                return Err(Error::msg(format!(
                    "the directions have {} dimensions, and '{point}' has vectors of {width}",
                    vectors.dim(0)?
                )));
            }
            Ok(vectors.to_device(part.device())?.to_dtype(part.dtype())?)
        };
        match self {
            Self::Add { direction, strengths } => {
                Ok(part.broadcast_add(&(on_width(direction)? * strengths[strength])?)?)
            }
            Self::ProjectOut(directions) => Ok((part - along(part, &on_width(directions)?)?)?),
            Self::Interchange { directions, .. } => {
                let source = source.ok_or_else(|| Error::msg("an interchange needs the run to take from"))?;
                let difference = source.to_dtype(part.dtype())?.broadcast_sub(part)?;
                Ok((part + along(&difference, &on_width(directions)?)?)?)
            }
            Self::Edit(edit) => edit(part, point),
            _ => Ok(part.clone()),
        }
    }
}

/// The part of vectors `[.., width]` along orthonormal columns `[width, k]`.
fn along(vectors: &Tensor, basis: &Tensor) -> Result<Tensor> {
    let flat = vectors.reshape(((), basis.dim(0)?))?;
    Ok(flat.matmul(basis)?.matmul(&basis.t()?)?.reshape(vectors.shape())?)
}

/// Each prompt's activation is that of another prompt of the batch, drawn by `seed` so that none keeps its own.
fn resampled(activation: &Tensor, seed: u64) -> Result<Tensor> {
    let batch = activation.dim(0)?;
    if batch < 2 {
        return Err(Error::msg(
            "resampling takes the activation of another prompt, so the source needs a batch of at least two",
        ));
    }
    let mut order: Vec<u32> = (0..batch as u32).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    // Everyone gets their successor's in a random circle.
    let mut from = vec![0u32; batch];
    for (i, &prompt) in order.iter().enumerate() {
        from[prompt as usize] = order[(i + 1) % batch];
    }
    Ok(activation.contiguous()?.index_select(&Tensor::new(from, activation.device())?, 0)?)
}

/// Orthonormal columns `[width, k]` that span the same space as the rows of `vectors` (`[width]` or `[n, width]`).
fn orthonormal(vectors: &Tensor) -> Result<Tensor> {
    let rows = if vectors.rank() == 1 { vectors.unsqueeze(0)? } else { vectors.clone() };
    let rows: Vec<Vec<f64>> = rows.to_dtype(DType::F64)?.to_vec2()?;
    let width = rows.first().map_or(0, Vec::len);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for row in rows {
        let size = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        let mut rest = row;
        // Twice is enough (Kahan; Parlett 1980).
        for _ in 0..2 {
            for known in &basis {
                let overlap: f64 = rest.iter().zip(known).map(|(a, b)| a * b).sum();
                rest.iter_mut().zip(known).for_each(|(a, b)| *a -= overlap * b);
            }
        }
        let left = rest.iter().map(|x| x * x).sum::<f64>().sqrt();
        if !left.is_finite() {
            return Err(Error::msg("a direction holds NaN or infinity"));
        }
        if left > 1e-6 * size && left > 0.0 {
            basis.push(rest.into_iter().map(|x| x / left).collect());
        }
    }
    if basis.is_empty() {
        return Err(Error::msg("there is no direction here: all vectors are zero"));
    }
    let k = basis.len();
    Ok(Tensor::from_vec(basis.concat(), (k, width), vectors.device())?.t()?.contiguous()?.to_dtype(DType::F32)?)
}
