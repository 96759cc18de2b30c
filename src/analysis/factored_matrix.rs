//! A large matrix of low rank, kept as the product of two thin ones.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Tensor};
use faer::Mat;

use super::linalg;
use crate::{Error, Result};

/// The matrix A·B `[.., l, r]`, kept as its factors A `[.., l, m]` and B `[.., m, r]` and never multiplied out unasked.
///
/// The OV circuit of a head is `W_V · W_O`: `[d_model, d_model]` with rank d_head. All questions here are answered through
/// the factors, for whole stacks (all heads of all layers) at once; leading axes of the factors broadcast.
///
/// Decompositions are made on the CPU in f64 and give f32 tensors on the factors' device; no gradient flows through
/// them. Products, `scale`, `transpose` and `ab` stay ordinary candle operations, with gradients.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candlescope::analysis::FactoredMatrix;
///
/// let a = Tensor::new(&[[1f32], [2.], [2.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[3f32, 0., 4.]], &Device::Cpu)?;
/// let m = FactoredMatrix::new(&a, &b)?;
/// assert_eq!(m.shape(), [3, 3]);
/// assert_eq!(m.norm()?.to_scalar::<f32>()?, 15.);
/// assert_eq!(m.trace()?.to_scalar::<f32>()?, 11.);
/// # Ok::<(), candlescope::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FactoredMatrix {
    a: Tensor,
    b: Tensor,
    /// Made once; clones share it.
    svd: Arc<OnceLock<Svd>>,
}

/// The thin singular value decomposition `u · diag(s) · vᵀ`, with k = min(l, m, r).
#[derive(Clone, Debug)]
pub struct Svd {
    /// Left singular vectors as columns, `[.., l, k]`.
    pub u: Tensor,
    /// Singular values in descending order, `[.., k]`.
    pub s: Tensor,
    /// Right singular vectors as columns, `[.., r, k]`.
    pub v: Tensor,
}

/// Complex eigenvalues, largest modulus first.
#[derive(Clone, Debug)]
pub struct Eigenvalues {
    /// Real parts, `[.., m]`.
    pub re: Tensor,
    /// Imaginary parts, `[.., m]`.
    pub im: Tensor,
}

impl FactoredMatrix {
    /// A·B from `a` `[.., l, m]` and `b` `[.., m, r]`.
    ///
    /// # Errors
    /// When the inner sizes differ, the leading axes do not broadcast, or a factor has less than two axes.
    pub fn new(a: &Tensor, b: &Tensor) -> Result<Self> {
        let mismatch = |why: &str| {
            Err(Error::msg(format!(
                "a factored matrix needs A [.., l, m] and B [.., m, r], but {why}: A is {:?}, B is {:?}",
                a.dims(),
                b.dims()
            )))
        };
        if a.rank() < 2 || b.rank() < 2 {
            return mismatch("a factor has less than two axes");
        }
        if linalg::last_dims(a).1 != linalg::last_dims(b).0 {
            return mismatch("the inner sizes differ");
        }
        let Some(leading) = linalg::broadcast_leading(linalg::leading(a), linalg::leading(b)) else {
            return mismatch("the leading axes do not broadcast");
        };
        let spread = |t: &Tensor| -> Result<Tensor> {
            let (rows, cols) = linalg::last_dims(t);
            Ok(t.broadcast_as([&leading[..], &[rows, cols]].concat())?)
        };
        Ok(Self::of(spread(a)?, spread(b)?))
    }

    /// From factors that have the same leading axes.
    fn of(a: Tensor, b: Tensor) -> Self {
        Self { a, b, svd: Arc::new(OnceLock::new()) }
    }

    /// The left factor `[.., l, m]`, with all leading axes (a broadcast view where they were broadcast).
    pub fn a(&self) -> &Tensor {
        &self.a
    }

    /// The right factor `[.., m, r]`, with all leading axes (a broadcast view where they were broadcast).
    pub fn b(&self) -> &Tensor {
        &self.b
    }

    /// The dense product A·B [.., l, r]: large.
    pub fn ab(&self) -> Result<Tensor> {
        linalg::matmul(&self.a, &self.b)
    }

    /// The small product B·A `[.., m, m]`, which has the non-zero eigenvalues of A·B.
    ///
    /// # Errors
    /// When the matrix is not square.
    pub fn ba(&self) -> Result<Tensor> {
        self.check_square("B·A")?;
        linalg::matmul(&self.b, &self.a)
    }

    /// Rows of the product, l.
    pub fn ldim(&self) -> usize {
        linalg::last_dims(&self.a).0
    }

    /// The inner size, m: the largest rank that the product can have.
    pub fn mdim(&self) -> usize {
        linalg::last_dims(&self.a).1
    }

    /// Columns of the product, r.
    pub fn rdim(&self) -> usize {
        linalg::last_dims(&self.b).1
    }

    /// The shape of the product, `[.., l, r]`.
    pub fn shape(&self) -> Vec<usize> {
        [self.leading(), &[self.ldim(), self.rdim()]].concat()
    }

    /// The leading axes; empty for a single matrix, `[n_layers, n_heads]` for the heads of a model.
    pub fn leading(&self) -> &[usize] {
        linalg::leading(&self.a)
    }

    /// `self · other`, factored, with the smaller of the two inner sizes.
    pub fn matmul(&self, other: &FactoredMatrix) -> Result<FactoredMatrix> {
        self.check_inner(&self.shape(), &other.shape())?;
        if self.mdim() > other.mdim() {
            let left = linalg::matmul(&self.a, &linalg::matmul(&self.b, &other.a)?)?;
            return Self::new(&left, &other.b);
        }
        let right = linalg::matmul(&linalg::matmul(&self.b, &other.a)?, &other.b)?;
        Self::new(&self.a, &right)
    }

    /// `self · x` for a dense `x` `[.., r, n]`, factored: its inner size is the smaller of m and r.
    pub fn right_mul(&self, x: &Tensor) -> Result<FactoredMatrix> {
        self.check_matrix(x)?;
        self.check_inner(&self.shape(), x.dims())?;
        if self.rdim() > self.mdim() {
            return Self::new(&self.a, &linalg::matmul(&self.b, x)?);
        }
        Self::new(&self.ab()?, x)
    }

    /// `x · self` for a dense `x` `[.., n, l]`, factored: its inner size is the smaller of l and m.
    pub fn left_mul(&self, x: &Tensor) -> Result<FactoredMatrix> {
        self.check_matrix(x)?;
        self.check_inner(x.dims(), &self.shape())?;
        if self.ldim() > self.mdim() {
            return Self::new(&linalg::matmul(x, &self.a)?, &self.b);
        }
        Self::new(x, &self.ab()?)
    }

    /// `self · x` for vectors `x` `[.., r]`, dense: `[.., l]`.
    pub fn mul_vec(&self, x: &Tensor) -> Result<Tensor> {
        let column = self.as_column(x, self.rdim())?;
        Ok(linalg::matmul(&self.a, &linalg::matmul(&self.b, &column)?)?
            .squeeze(self.a.rank().max(column.rank()) - 1)?)
    }

    /// `x · self` for vectors `x` `[.., l]` as rows, dense: `[.., r]`. It is what a residual stream vector becomes.
    pub fn left_mul_vec(&self, x: &Tensor) -> Result<Tensor> {
        self.as_column(x, self.ldim())?;
        self.transpose()?.mul_vec(x)
    }

    /// The matrix times a number.
    pub fn scale(&self, factor: f64) -> Result<FactoredMatrix> {
        Self::new(&(&self.a * factor)?, &self.b)
    }

    /// (A·B)ᵀ = Bᵀ·Aᵀ, without a copy.
    pub fn transpose(&self) -> Result<FactoredMatrix> {
        Ok(Self::of(self.b.t()?, self.a.t()?))
    }

    /// Short for [`transpose`](Self::transpose).
    pub fn t(&self) -> Result<FactoredMatrix> {
        self.transpose()
    }

    /// The singular value decomposition, from the QR decompositions of the factors and the SVD of a k x k matrix. It is made
    /// once, and kept.
    ///
    /// # Errors
    /// When a factor holds NaN or infinity.
    pub fn svd(&self) -> Result<Svd> {
        match self.svd.get() {
            Some(svd) => Ok(svd.clone()),
            None => {
                let svd = self.decompose()?;
                Ok(self.svd.get_or_init(|| svd).clone())
            }
        }
    }

    fn decompose(&self) -> Result<Svd> {
        let found = linalg::map_pairs(&self.a, &self.b, |a, b| {
            let (q_a, r_a) = linalg::thin_qr(&a);
            let (q_b, r_b) = linalg::thin_qr(&b.transpose().to_owned());
            let (u, s, v) = linalg::thin_svd(&(r_a * r_b.transpose()))?;
            Ok((q_a * u, Mat::from_fn(s.len(), 1, |i, _| s[i]), q_b * v))
        })?;
        let (mut u, mut s, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for (item_u, item_s, item_v) in found {
            u.push(item_u);
            s.push(item_s);
            v.push(item_v);
        }
        let k = self.rank_bound();
        Ok(Svd {
            u: self.stack(&u, self.ldim(), k)?,
            s: self.stack(&s, k, 1)?.squeeze(self.leading().len() + 1)?,
            v: self.stack(&v, self.rdim(), k)?,
        })
    }

    /// The singular values in descending order, [.., min(l, m, r)]; faster than [`svd`](Self::svd).
    ///
    /// # Errors
    /// When a factor holds NaN or infinity.
    pub fn singular_values(&self) -> Result<Tensor> {
        if let Some(svd) = self.svd.get() {
            return Ok(svd.s.clone());
        }
        let found = linalg::map_pairs(&self.a, &self.b, |a, b| {
            let s = linalg::singular_values(&triangular_core(&a, &b))?;
            Ok(Mat::from_fn(s.len(), 1, |i, _| s[i]))
        })?;
        Ok(self.stack(&found, self.rank_bound(), 1)?.squeeze(self.leading().len() + 1)?)
    }

    /// The m eigenvalues of B·A, which are those of A·B (of which the other l - m are zero).
    ///
    /// Eigenvalues stay the same when a product is turned around: those of `W_E · OV · W_U` `[d_vocab, d_vocab]` are those
    /// of `ov.right_mul(W_U · W_E)`, which takes 1/60 of the memory.
    ///
    /// # Errors
    /// When the matrix is not square, or a factor holds NaN or infinity.
    pub fn eigenvalues(&self) -> Result<Eigenvalues> {
        self.check_square("an eigenvalue")?;
        let found = linalg::map_pairs(&self.a, &self.b, |a, b| {
            // The smaller of the two products; eigenvalues that only the larger one has are zero.
            let small = if a.ncols() <= a.nrows() { &b * &a } else { &a * &b };
            let values = linalg::eigenvalues(&small)?;
            let part = |i: usize, of: fn(&linalg::Complex) -> f64| values.get(i).map_or(0., of);
            let column = |of| Mat::from_fn(a.ncols(), 1, |i, _| part(i, of));
            Ok((column(|value| value.0), column(|value| value.1)))
        })?;
        let (re, im): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let axis = self.leading().len() + 1;
        Ok(Eigenvalues {
            re: self.stack(&re, self.mdim(), 1)?.squeeze(axis)?,
            im: self.stack(&im, self.mdim(), 1)?.squeeze(axis)?,
        })
    }

    /// How much of the matrix copies: Re Σλ / Σ|λ|, one number in `[-1, 1]` per matrix, shape = leading axes.
    ///
    /// On an OV circuit, 1 means that a head raises the tokens that it attends to, -1 that it lowers them.
    ///
    /// # Errors
    /// Those of [`eigenvalues`](Self::eigenvalues).
    pub fn copying_score(&self) -> Result<Tensor> {
        self.eigenvalues()?.copying_score()
    }

    /// The Frobenius norm, shape = leading axes.
    ///
    /// # Errors
    /// When a factor holds NaN or infinity.
    pub fn norm(&self) -> Result<Tensor> {
        let found = linalg::map_pairs(&self.a, &self.b, |a, b| Ok(scalar(triangular_core(&a, &b).norm_l2())))?;
        self.stack_scalars(&found)
    }

    /// The sum of the diagonal, shape = leading axes.
    ///
    /// # Errors
    /// When the matrix is not square, or a factor holds NaN or infinity.
    pub fn trace(&self) -> Result<Tensor> {
        self.check_square("a trace")?;
        let found = linalg::map_pairs(&self.a, &self.b, |a, b| {
            let sum: f64 = a.row_iter().zip(b.col_iter()).map(|(row, col)| row * col).sum();
            Ok(scalar(sum))
        })?;
        self.stack_scalars(&found)
    }

    /// How much of what this matrix writes the `later` one reads: ‖self · later‖ / (‖self‖ · ‖later‖) for every pair, in
    /// shape [self's leading axes.., later's leading axes..].
    ///
    /// With OV circuits of heads on the left, and QK circuits on the right, these are the Q-composition scores; with QKᵀ
    /// K-composition, with OV V-composition. A matrix that is zero composes with nothing: 0.
    ///
    /// # Errors
    /// When r of this matrix is not l of the later one, or a factor holds NaN or infinity.
    pub fn composition_scores(&self, later: &FactoredMatrix) -> Result<Tensor> {
        self.composition_scores_where(later, |_, _| true)
    }

    /// As [`composition_scores`](Self::composition_scores) for the wanted pairs, named by their numbers in row-major order of
    /// the leading axes; 0 for the others.
    pub(crate) fn composition_scores_where(
        &self,
        later: &FactoredMatrix,
        is_wanted: impl Fn(usize, usize) -> bool + Sync,
    ) -> Result<Tensor> {
        self.check_inner(&self.shape(), &later.shape())?;
        // The orthogonal parts of the outer factors change no norm: ‖A B C D‖ = ‖R_A B · C R_Dᵀ‖, thin times thin.
        let left = linalg::map_pairs(&self.a, &self.b, |a, b| Ok(linalg::triangular_factor(&a) * b))?;
        let right = linalg::map_pairs(&later.a, &later.b, |c, d| {
            Ok(c * linalg::triangular_factor(&d.transpose().to_owned()).transpose())
        })?;
        let scores = linalg::norms_of_products(&left, &right, is_wanted);
        let dims = [self.leading(), later.leading()].concat();
        Ok(Tensor::from_vec(scores, dims, self.a.device())?)
    }

    /// The same matrix with its singular values shared evenly: A = U·√S, B = √S·Vᵀ.
    pub fn make_even(&self) -> Result<FactoredMatrix> {
        let Svd { u, s, v } = self.svd()?;
        let root = s.sqrt()?.unsqueeze(s.rank() - 1)?;
        Self::new(&u.broadcast_mul(&root)?, &v.broadcast_mul(&root)?.t()?)
    }

    /// S·Vᵀ [.., k, r]: all of the matrix but the rotation of its outputs.
    pub fn collapse_l(&self) -> Result<Tensor> {
        let Svd { s, v, .. } = self.svd()?;
        Ok(v.broadcast_mul(&s.unsqueeze(s.rank() - 1)?)?.t()?)
    }

    /// U·S [.., l, k]: all of the matrix but the rotation of its inputs.
    pub fn collapse_r(&self) -> Result<Tensor> {
        let Svd { u, s, .. } = self.svd()?;
        Ok(u.broadcast_mul(&s.unsqueeze(s.rank() - 1)?)?)
    }

    /// The matrix, or smaller stack, at an index of the leading axes: `ov.at(&[5, 1])` is layer 5, head 1.
    ///
    /// # Errors
    /// When the index has more entries than there are leading axes, or one is out of range.
    pub fn at(&self, index: &[usize]) -> Result<FactoredMatrix> {
        let leading = self.leading();
        if index.len() > leading.len() || index.iter().zip(leading).any(|(i, size)| i >= size) {
            return Err(Error::msg(format!(
                "{index:?} is no index into the leading axes {leading:?} of a factored matrix"
            )));
        }
        Ok(Self::of(linalg::at_index(&self.a, index)?, linalg::at_index(&self.b, index)?))
    }

    /// The item at `index` of the first leading axis.
    ///
    /// # Errors
    /// Those of [`at`](Self::at).
    pub fn get(&self, index: usize) -> Result<FactoredMatrix> {
        self.at(&[index])
    }

    /// A new leading axis of size 1 at `axis`.
    ///
    /// # Errors
    /// When `axis` is beyond the leading axes.
    pub fn unsqueeze(&self, axis: usize) -> Result<FactoredMatrix> {
        let leading = self.leading();
        if axis > leading.len() {
            return Err(Error::msg(format!("axis {axis} is beyond the leading axes {leading:?} of a factored matrix")));
        }
        Ok(Self::of(self.a.unsqueeze(axis)?, self.b.unsqueeze(axis)?))
    }

    /// The upper left `k` x `k` corner as a dense tensor, and the first `k` of each leading axis: a look at the numbers.
    pub fn get_corner(&self, k: usize) -> Result<Tensor> {
        let corner = |t: &Tensor, axes: usize, skip: usize| {
            (0..axes).filter(|&axis| axis != skip).try_fold(t.clone(), |t, axis| t.narrow(axis, 0, k.min(t.dim(axis)?)))
        };
        let rank = self.a.rank();
        linalg::matmul(&corner(&self.a, rank, rank - 1)?, &corner(&self.b, rank, rank - 2)?)
    }

    fn rank_bound(&self) -> usize {
        self.ldim().min(self.mdim()).min(self.rdim())
    }

    fn stack(&self, mats: &[Mat<f64>], rows: usize, cols: usize) -> Result<Tensor> {
        linalg::stack(mats, self.leading(), rows, cols, self.a.device())
    }

    fn stack_scalars(&self, mats: &[Mat<f64>]) -> Result<Tensor> {
        Ok(self.stack(mats, 1, 1)?.reshape(self.leading())?)
    }

    /// Vectors `[.., n]` as matrices `[.., n, 1]`.
    fn as_column(&self, x: &Tensor, n: usize) -> Result<Tensor> {
        match x.dims() {
            [.., last] if *last == n => Ok(x.unsqueeze(x.rank())?),
            found => {
                Err(Error::msg(format!("a vector of {n} numbers [.., {n}] was expected, and {found:?} was given")))
            }
        }
    }

    fn check_matrix(&self, x: &Tensor) -> Result<()> {
        if x.rank() >= 2 {
            return Ok(());
        }
        let found = x.dims();
        Err(Error::msg(format!(
            "a matrix with two axes or more was expected, and {found:?} was given; for vectors there are mul_vec and left_mul_vec"
        )))
    }

    fn check_inner(&self, left: &[usize], right: &[usize]) -> Result<()> {
        let (cols, rows) = (left.last(), right.len().checked_sub(2).and_then(|axis| right.get(axis)));
        if cols == rows {
            return Ok(());
        }
        Err(Error::msg(format!(
            "{left:?} times {right:?} is no matrix product: the left has other columns than the right has rows"
        )))
    }

    fn check_square(&self, what: &str) -> Result<()> {
        if self.ldim() == self.rdim() {
            return Ok(());
        }
        Err(Error::msg(format!("{what} is asked of a square matrix only, and this one is {:?}", self.shape())))
    }
}

impl Eigenvalues {
    /// The moduli |λ|, `[.., m]`.
    pub fn abs(&self) -> Result<Tensor> {
        Ok((self.re.sqr()? + self.im.sqr()?)?.sqrt()?)
    }

    /// Re Σλ, shape = leading axes: the trace.
    pub fn sum_re(&self) -> Result<Tensor> {
        Ok(self.re.sum(self.re.rank() - 1)?)
    }

    /// Σ|λ|, shape = leading axes.
    pub fn sum_abs(&self) -> Result<Tensor> {
        Ok(self.abs()?.sum(self.re.rank() - 1)?)
    }

    /// Re Σλ / Σ|λ| in `[-1, 1]`, shape = leading axes; 0 where every eigenvalue is zero.
    pub fn copying_score(&self) -> Result<Tensor> {
        let total = self.sum_abs()?;
        let guard = total.eq(0f32)?.to_dtype(DType::F32)?;
        Ok((self.sum_re()? / (total + guard)?)?)
    }
}

/// A matrix of the factors' inner size with the singular values of A·B: R_A·R_Bᵀ, from A = Q_A·R_A and Bᵀ = Q_B·R_B.
fn triangular_core(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    linalg::triangular_factor(a) * linalg::triangular_factor(&b.transpose().to_owned()).transpose()
}

fn scalar(value: f64) -> Mat<f64> {
    Mat::full(1, 1, value)
}

mod parts;

#[cfg(test)]
mod tests;
