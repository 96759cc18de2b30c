//! Subspaces of activations: what a model does when only a part of an activation is changed (Geiger et al. 2021,
//! arXiv 2106.02997; 2023, arXiv 2303.02536).

mod learn;
mod positions;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::linalg::{thin_qr, thin_svd};
use crate::hooks::{Hooks, Selector};
use crate::normal::normal;
use crate::{Error, Result};

pub use learn::{InterchangePairs, LearnOptions, LearnedSubspace};
pub use positions::TokenPositions;

/// A subspace of the vectors at a hook point, by an orthonormal basis `[width, k]`.
///
/// It is about an activation's last axis (a stream's d_model, a head's d_head), or, where its width is that of the last two
/// together, about these as one vector (all heads of z).
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
/// let other = "After John and Mary went to the store, John gave a bottle of milk to";
/// let (_, clean_cache) = model.run_with_cache(clean)?;
/// let (_, other_cache) = model.run_with_cache(other)?;
/// // The direction in which the one who gives differs, at position 10, and nothing else of the other run.
/// let (at, pos) = (resid_pre(1), 10);
/// let difference = (clean_cache.get(&at)? - other_cache.get(&at)?)?.i((0, pos))?;
/// let hooks = Subspace::new(&difference)?.interchange(&at, &other_cache.get(&at)?, pos);
/// let (before, after) = (model.forward(clean)?, model.run_with_hooks(clean, &hooks)?);
/// assert!(before.logit_diff(" John", " Mary")? > 0.0 && after.logit_diff(" John", " Mary")? < 0.0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Subspace {
    /// `[width, k]`, f32, on the CPU.
    basis: Tensor,
}

impl Subspace {
    /// The space that one vector `[width]` or several `[n, width]` span. They must not depend on each other.
    ///
    /// # Errors
    /// Vectors that are zero, or depend on each other, or hold NaN.
    pub fn new(vectors: &Tensor) -> Result<Self> {
        let vectors = if vectors.rank() == 1 { vectors.unsqueeze(0)? } else { vectors.clone() };
        let (n, width) = check_rows(&vectors)?;
        let mat = to_mat(&vectors)?.transpose().to_owned();
        if n > width {
            return Err(Error::msg(format!("{n} vectors of width {width} depend on each other: give {width} at most")));
        }
        let (q, r) = thin_qr(&mat);
        if let Some(i) = (0..n).find(|&i| r[(i, i)].abs() <= 1e-6 * mat.col(i).norm_l2()) {
            return Err(Error::msg(format!(
                "vector {i} is zero or a sum of those before it, so that {n} vectors span fewer dimensions; leave it out"
            )));
        }
        Ok(Self { basis: from_columns(&q, width, n)? })
    }

    /// The `k` directions that hold most of the rows of `samples` `[n, width]` (their first right singular vectors), such as
    /// the differences between the activations of paired runs. The mean is not taken off.
    ///
    /// # Errors
    /// When there are fewer samples or dimensions than `k`, or NaN.
    pub fn principal(samples: &Tensor, k: usize) -> Result<Self> {
        let (n, width) = check_rows(samples)?;
        if k == 0 || k > n.min(width) {
            return Err(Error::msg(format!(
                "{n} samples of width {width} have {} principal directions, and {k} were asked for",
                n.min(width)
            )));
        }
        let (_, values, v) = thin_svd(&to_mat(samples)?)?;
        if values[k - 1] <= 1e-9 * values[0] {
            return Err(Error::msg(format!("the samples span fewer than {k} dimensions")));
        }
        Ok(Self { basis: from_columns(&v, width, k)? })
    }

    /// `k` random directions, uniform over all subspaces: what a found one is to be compared with.
    ///
    /// # Errors
    /// When `k` is 0 or more than `width`.
    pub fn random(width: usize, k: usize, seed: u64) -> Result<Self> {
        Self::new(&normals(width, k, seed)?.t()?)
    }

    /// The orthonormal basis, `[width, k]`.
    pub fn basis(&self) -> &Tensor {
        &self.basis
    }

    /// The basis as rows, `[k, width]`, as [`Sweep`](crate::analysis::Sweep) takes directions.
    pub fn directions(&self) -> Result<Tensor> {
        Ok(self.basis.t()?.contiguous()?)
    }

    /// The width of the vectors that it is a space of.
    pub fn width(&self) -> usize {
        self.basis.dims()[0]
    }

    /// Its number of dimensions.
    pub fn dim(&self) -> usize {
        self.basis.dims()[1]
    }

    /// The coordinates of vectors `[.., width]` in the basis, `[.., k]`.
    pub fn coordinates(&self, x: &Tensor) -> Result<Tensor> {
        let basis = self.basis.to_device(x.device())?.to_dtype(x.dtype())?;
        let (rows, mut shape) = (as_rows(x, self.width())?, x.dims().to_vec());
        if x.dims().last() != Some(&self.width()) {
            shape.pop();
        }
        if let Some(last) = shape.last_mut() {
            *last = self.dim();
        }
        Ok(rows.matmul(&basis)?.reshape(shape)?)
    }

    /// The part of vectors `[.., width]` that lies in the subspace, x B Bᵀ.
    pub fn project(&self, x: &Tensor) -> Result<Tensor> {
        project(x, &self.basis)
    }

    /// How much of the subspace lies in another, 0 (orthogonal) to 1 (inside of it): the mean squared cosine of the
    /// principal angles between the two.
    ///
    /// # Errors
    /// When they are spaces of vectors of other widths.
    pub fn overlap(&self, other: &Subspace) -> Result<f32> {
        if self.width() != other.width() {
            return Err(Error::msg(format!(
                "one subspace is of vectors of width {}, the other of {}; only those of one activation compare",
                self.width(),
                other.width()
            )));
        }
        let cosines: f32 = self.directions()?.matmul(&other.basis)?.sqr()?.sum_all()?.to_scalar()?;
        Ok(cosines / self.dim().min(other.dim()) as f32)
    }

    /// Hooks that put the source's part in the subspace in place of the activation's, x + (x_source - x) B Bᵀ: an
    /// interchange intervention. `source` is the activation of another run at this point (one row serves all prompts).
    pub fn interchange(&self, at: impl Into<Selector>, source: &Tensor, positions: impl Into<TokenPositions>) -> Hooks {
        interchange(at.into(), self.basis.clone(), source.clone(), positions.into())
    }

    /// Hooks that take the part in the subspace out, x - x B Bᵀ.
    pub fn ablate(&self, at: impl Into<Selector>, positions: impl Into<TokenPositions>) -> Hooks {
        let basis = self.basis.clone();
        changing(at.into(), positions.into(), move |x| Ok(project(x, &basis)?.neg()?))
    }

    /// Hooks that leave only the part in the subspace, x B Bᵀ.
    pub fn keep_only(&self, at: impl Into<Selector>, positions: impl Into<TokenPositions>) -> Hooks {
        let basis = self.basis.clone();
        changing(at.into(), positions.into(), move |x| Ok((project(x, &basis)? - x)?))
    }

    /// Writes the basis to a safetensors file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(candle_core::safetensors::save(&HashMap::from([(BASIS, self.basis.clone())]), path)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A file that holds no `basis` `[width, k]` with orthonormal columns.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let basis = tensors
            .get(BASIS)
            .filter(|basis| basis.rank() == 2)
            .ok_or_else(|| Error::msg(format!("{}: there is no '{BASIS}' [width, k] in it", path.display())))?;
        let basis = basis.to_dtype(DType::F32)?;
        let gram = basis.t()?.contiguous()?.matmul(&basis)?;
        let off = (gram - Tensor::eye(basis.dim(1)?, DType::F32, &Device::Cpu)?)?.abs()?;
        let off: f32 = off.flatten_all()?.max(0)?.to_scalar()?;
        if off.is_nan() || off > 1e-3 {
            return Err(Error::msg(format!(
                "{}: the columns of '{BASIS}' are not orthonormal; make a subspace of them with Subspace::new",
                path.display()
            )));
        }
        Ok(Self { basis })
    }
}

/// The name of the basis in a file.
const BASIS: &str = "basis";

/// Hooks for an interchange; gradients flow to the basis `[width, k]` if it is a variable's.
fn interchange(at: Selector, basis: Tensor, source: Tensor, positions: TokenPositions) -> Hooks {
    changing(at, positions, move |x| {
        let source = source.to_device(x.device())?.to_dtype(x.dtype())?;
        let fits = source.broadcast_as(x.shape()).map_err(|_| {
            Error::msg(format!(
                "the source's activation has shape {:?} and the one to change {:?}: an interchange goes from place to \
                 place, so give prompts of equal length, and as many (or one source for all)",
                source.dims(),
                x.dims()
            ))
        })?;
        project(&(fits - x)?, &basis)
    })
}

/// Hooks that add what `change` makes of an activation, at some positions.
pub(crate) fn changing<F>(at: Selector, positions: TokenPositions, change: F) -> Hooks
where
    F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    Hooks::new().edit(at, move |x, _| {
        let change = change(x)?;
        match positions.mask(x)? {
            Some(mask) => Ok((x + change.broadcast_mul(&mask)?)?),
            None => Ok((x + change)?),
        }
    })
}

fn project(x: &Tensor, basis: &Tensor) -> Result<Tensor> {
    let basis = basis.to_device(x.device())?.to_dtype(x.dtype())?;
    let rows = as_rows(x, basis.dim(0)?)?;
    Ok(rows.matmul(&basis)?.matmul(&basis.t()?)?.reshape(x.shape())?)
}

/// An activation as rows of this width: its last axis, or its last two.
pub(crate) fn as_rows(x: &Tensor, width: usize) -> Result<Tensor> {
    let dims = x.dims();
    match dims {
        [.., last] if *last == width => {}
        [.., heads, last] if heads * last == width => {}
        _ => {
            return Err(Error::msg(format!(
                "the vectors are of width {width}, and the activation has shape {dims:?}: its last axis (or its last two \
                 together) must have that width"
            )));
        }
    }
    Ok(x.contiguous()?.reshape(((), width))?)
}

fn check_rows(vectors: &Tensor) -> Result<(usize, usize)> {
    match *vectors.dims() {
        [n, width] if n > 0 && width > 0 => Ok((n, width)),
        _ => Err(Error::msg(format!(
            "vectors are rows, [n, width] (or one vector, [width]), and this has shape {:?}",
            vectors.dims()
        ))),
    }
}

fn to_mat(rows: &Tensor) -> Result<faer::Mat<f64>> {
    let values: Vec<Vec<f64>> = rows.to_dtype(DType::F64)?.to_vec2()?;
    if values.iter().flatten().any(|value| !value.is_finite()) {
        return Err(Error::msg("the vectors hold NaN or infinity"));
    }
    Ok(faer::Mat::from_fn(values.len(), values.first().map_or(0, Vec::len), |i, j| values[i][j]))
}

/// The first `k` columns.
fn from_columns(mat: &faer::Mat<f64>, width: usize, k: usize) -> Result<Tensor> {
    let values = (0..width).flat_map(|i| (0..k).map(move |j| mat[(i, j)] as f32));
    Ok(Tensor::from_vec(values.collect::<Vec<f32>>(), (width, k), &Device::Cpu)?)
}

/// Normally distributed numbers, `[width, k]`.
fn normals(width: usize, k: usize, seed: u64) -> Result<Tensor> {
    if k == 0 || k > width {
        return Err(Error::msg(format!(
            "a subspace of vectors of width {width} has 1 to {width} dimensions, and not {k}"
        )));
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f32> = (0..width * k).map(|_| normal(&mut rng) as f32).collect();
    Ok(Tensor::from_vec(values, (width, k), &Device::Cpu)?)
}
