//! Parts, sums, inverses and approximations of factored matrices: factored again.

use std::ops::{Bound, RangeBounds};

use candle_core::Tensor;

use super::{FactoredMatrix, Svd};
use crate::analysis::linalg;
use crate::{Error, Result};

impl FactoredMatrix {
    /// Some rows of the product, still factored: `m.rows(3..5)?`, `m.rows(7..=7)?` for one row.
    ///
    /// # Errors
    /// When the range is empty or goes beyond the l rows.
    pub fn rows(&self, rows: impl RangeBounds<usize>) -> Result<FactoredMatrix> {
        let axis = self.a.rank() - 2;
        let (start, len) = within(rows, self.ldim(), "rows")?;
        Ok(Self::of(self.a.narrow(axis, start, len)?, self.b.clone()))
    }

    /// Some columns of the product, still factored.
    ///
    /// # Errors
    /// When the range is empty or goes beyond the r columns.
    pub fn cols(&self, cols: impl RangeBounds<usize>) -> Result<FactoredMatrix> {
        let axis = self.b.rank() - 1;
        let (start, len) = within(cols, self.rdim(), "columns")?;
        Ok(Self::of(self.a.clone(), self.b.narrow(axis, start, len)?))
    }

    /// These rows of the product, in this order, still factored: those of some tokens, say.
    ///
    /// # Errors
    /// When none is named, or one is not there.
    pub fn select_rows(&self, rows: &[usize]) -> Result<FactoredMatrix> {
        let index = self.index(rows, self.ldim(), "row")?;
        Ok(Self::of(self.a.contiguous()?.index_select(&index, self.a.rank() - 2)?, self.b.clone()))
    }

    /// These columns of the product, in this order, still factored.
    ///
    /// # Errors
    /// When none is named, or one is not there.
    pub fn select_cols(&self, cols: &[usize]) -> Result<FactoredMatrix> {
        let index = self.index(cols, self.rdim(), "column")?;
        Ok(Self::of(self.a.clone(), self.b.contiguous()?.index_select(&index, self.b.rank() - 1)?))
    }

    /// `self + other`, factored through the sum of the inner sizes: two heads' OV circuits as one.
    ///
    /// # Errors
    /// When the shapes differ; leading axes broadcast.
    pub fn add(&self, other: &FactoredMatrix) -> Result<FactoredMatrix> {
        let leading = linalg::broadcast_leading(self.leading(), other.leading());
        let (Some(leading), true) = (leading, (self.ldim(), self.rdim()) == (other.ldim(), other.rdim())) else {
            return Err(Error::msg(format!("{:?} and {:?} have no sum", self.shape(), other.shape())));
        };
        let side_by_side = |x: &Tensor, y: &Tensor, axis_from_end: usize| -> Result<Tensor> {
            let spread = |t: &Tensor| -> Result<Tensor> {
                let (rows, cols) = linalg::last_dims(t);
                Ok(t.broadcast_as([&leading[..], &[rows, cols]].concat())?.contiguous()?)
            };
            Ok(Tensor::cat(&[spread(x)?, spread(y)?], leading.len() + 2 - axis_from_end)?)
        };
        Ok(Self::of(side_by_side(&self.a, &other.a, 1)?, side_by_side(&self.b, &other.b, 2)?))
    }

    /// The nearest matrix of rank `rank` (in Frobenius and spectral norm: Eckart & Young 1936), with the singular values shared
    /// evenly between the factors.
    ///
    /// # Errors
    /// When `rank` is 0 or more than min(l, m, r), and those of [`svd`](Self::svd).
    pub fn truncate(&self, rank: usize) -> Result<FactoredMatrix> {
        let largest = self.rank_bound();
        if rank == 0 || rank > largest {
            return Err(Error::msg(format!(
                "a rank of 1 to {largest} can be kept of a factored matrix of shape {:?}, and {rank} was asked for",
                self.shape()
            )));
        }
        let Svd { u, s, v } = self.svd()?;
        let last = s.rank() - 1;
        let root = s.narrow(last, 0, rank)?.sqrt()?.unsqueeze(last)?;
        let (u, v) = (u.narrow(last + 1, 0, rank)?, v.narrow(last + 1, 0, rank)?);
        Self::new(&u.broadcast_mul(&root)?, &v.broadcast_mul(&root)?.t()?)
    }

    /// The pseudo-inverse (Moore-Penrose) V S⁺ Uᵀ, `[.., r, l]`, factored. Singular values below k times f32's precision (k =
    /// min(l, m, r)) times the largest count as zero.
    ///
    /// # Errors
    /// Those of [`svd`](Self::svd).
    pub fn pinv(&self) -> Result<FactoredMatrix> {
        self.pinv_with(self.rank_bound() as f64 * f64::from(f32::EPSILON))
    }

    /// As [`pinv`](Self::pinv), where singular values up to `rtol` times the largest count as zero.
    ///
    /// # Errors
    /// Those of [`svd`](Self::svd).
    pub fn pinv_with(&self, rtol: f64) -> Result<FactoredMatrix> {
        let Svd { u, s, v } = self.svd()?;
        let last = s.rank() - 1;
        if s.elem_count() == 0 {
            return Self::new(&v, &u.t()?);
        }
        let kept = s.broadcast_gt(&(s.max_keepdim(last)? * rtol)?)?;
        let inverse = kept.where_cond(&s.recip()?, &s.zeros_like()?)?;
        Self::new(&v.broadcast_mul(&inverse.unsqueeze(last)?)?, &u.t()?)
    }

    /// The spectral norm, the largest singular value, shape = leading axes.
    ///
    /// # Errors
    /// Those of [`svd`](Self::svd), and a matrix without entries.
    pub fn spectral_norm(&self) -> Result<Tensor> {
        let s = self.singular_values()?;
        match s.dims().last() {
            Some(0) | None => Err(Error::msg("a matrix without entries has no singular value")),
            Some(_) => Ok(s.max(s.rank() - 1)?),
        }
    }

    /// The nuclear norm, the sum of the singular values, shape = leading axes.
    ///
    /// # Errors
    /// Those of [`svd`](Self::svd).
    pub fn nuclear_norm(&self) -> Result<Tensor> {
        let s = self.singular_values()?;
        Ok(s.sum(s.rank() - 1)?)
    }

    fn index(&self, places: &[usize], size: usize, what: &str) -> Result<Tensor> {
        match places.iter().find(|&&place| place >= size) {
            Some(place) => Err(Error::msg(format!("there is no {what} {place}: the matrix is {:?}", self.shape()))),
            None if places.is_empty() => Err(Error::msg(format!("no {what} was named; give at least one"))),
            None => {
                let index = places.iter().map(|&place| place as u32).collect();
                Ok(Tensor::from_vec(index, places.len(), self.a.device())?)
            }
        }
    }
}

/// A range as start and length, within `size`.
fn within(range: impl RangeBounds<usize>, size: usize, what: &str) -> Result<(usize, usize)> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => size,
    };
    if start >= end || end > size {
        return Err(Error::msg(format!("{start}..{end} are no {what} of a matrix that has {size}")));
    }
    Ok((start, end - start))
}
