//! The bridge from candle tensors to faer, which has the decompositions that candle lacks.
//!
//! A stack of matrices `[.., rows, columns]` is worked on matrix by matrix, in parallel, in f64; only the matrices in work
//! are ever copied. Results come back as f32.

use candle_core::{D, DType, Device, Tensor};
use faer::{Mat, MatRef};
use rayon::prelude::*;

use super::labelled::unravel;
use crate::{Error, Result, interrupt};

/// A complex number as (real, imaginary).
pub(crate) type Complex = (f64, f64);

/// Calls `f` with each pair of matrices of two stacks that have the same leading axes; results in row-major order.
///
/// NaN and infinity are refused here, so that no decomposition meets them.
pub(crate) fn map_pairs<T: Send>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(Mat<f64>, Mat<f64>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let leading = &a.dims()[..a.rank().saturating_sub(2)];
    let (a, b) = (a.to_device(&Device::Cpu)?, b.to_device(&Device::Cpu)?);
    (0..leading.iter().product())
        .into_par_iter()
        .map(|item| {
            interrupt::check()?;
            let at = unravel(item, leading);
            f(to_mat(&at_index(&a, &at)?, "A", &at)?, to_mat(&at_index(&b, &at)?, "B", &at)?)
        })
        .collect()
}

/// Puts equally large matrices, in row-major order of `leading`, into one f32 tensor `[leading.., rows, columns]`.
pub(crate) fn stack(mats: &[Mat<f64>], leading: &[usize], rows: usize, cols: usize, device: &Device) -> Result<Tensor> {
    let mut values = Vec::with_capacity(mats.len() * rows * cols);
    for mat in mats {
        for row in mat.row_iter() {
            values.extend(row.iter().map(|&value| value as f32));
        }
    }
    Ok(Tensor::from_vec(values, [leading, &[rows, cols]].concat(), device)?)
}

/// The matrix (or whatever lies) at an index of the leading axes.
pub(crate) fn at_index(t: &Tensor, index: &[usize]) -> Result<Tensor> {
    index.iter().try_fold(t.clone(), |t, &i| Ok(t.get(i)?))
}

/// Thin QR, Q `[rows, k]` and R `[k, columns]` with k = min(rows, columns).
pub(crate) fn thin_qr(mat: &Mat<f64>) -> (Mat<f64>, Mat<f64>) {
    let qr = mat.qr();
    (qr.compute_thin_Q(), qr.thin_R().to_owned())
}

/// The R of [`thin_qr`] alone: it has the singular values and the norm of `mat`.
pub(crate) fn triangular_factor(mat: &Mat<f64>) -> Mat<f64> {
    mat.qr().thin_R().to_owned()
}

/// U `[rows, k]`, the singular values in descending order, and V `[columns, k]`.
pub(crate) fn thin_svd(mat: &Mat<f64>) -> Result<(Mat<f64>, Vec<f64>, Mat<f64>)> {
    if mat.nrows() == 0 || mat.ncols() == 0 {
        return Ok((Mat::zeros(mat.nrows(), 0), Vec::new(), Mat::zeros(mat.ncols(), 0)));
    }
    check_finite(mat.as_ref())?;
    let svd = mat.thin_svd().map_err(|_| no_convergence("singular values", mat))?;
    let s = svd.S().column_vector().iter().copied().collect();
    Ok((svd.U().to_owned(), s, svd.V().to_owned()))
}

/// The singular values in descending order.
pub(crate) fn singular_values(mat: &Mat<f64>) -> Result<Vec<f64>> {
    if mat.nrows() == 0 || mat.ncols() == 0 {
        return Ok(Vec::new());
    }
    check_finite(mat.as_ref())?;
    mat.singular_values().map_err(|_| no_convergence("singular values", mat))
}

/// The eigenvalues of a square matrix, largest modulus first; of a conjugate pair, the one above the real axis first.
pub(crate) fn eigenvalues(mat: &Mat<f64>) -> Result<Vec<Complex>> {
    if mat.nrows() == 0 {
        return Ok(Vec::new());
    }
    check_finite(mat.as_ref())?;
    let found = mat.eigenvalues().map_err(|_| no_convergence("eigenvalues", mat))?;
    let mut values: Vec<Complex> = found.iter().map(|value| (value.re, value.im)).collect();

    // faer drops the status of its QR iteration, so that it is checked here: the eigenvalues sum up to the trace.
    let sum: f64 = values.iter().map(|value| value.0).sum();
    let error = (sum - trace(mat)).abs();
    if error.is_nan() || error > 1e-9 * mat.nrows() as f64 * mat.norm_l2() {
        return Err(no_convergence("eigenvalues", mat));
    }
    values.sort_by(|x, y| {
        let by_modulus = y.0.hypot(y.1).total_cmp(&x.0.hypot(x.1));
        by_modulus.then(y.0.total_cmp(&x.0)).then(y.1.total_cmp(&x.1))
    });
    Ok(values)
}

/// The sum of the diagonal.
pub(crate) fn trace(mat: &Mat<f64>) -> f64 {
    mat.diagonal().column_vector().iter().sum()
}

/// ‖x·y‖ / (‖x‖·‖y‖) for every `x` of `left` with every `y` of `right`, row by row; 0 where either is zero, and for pairs (by
/// number) that are not wanted.
pub(crate) fn norms_of_products(
    left: &[Mat<f64>],
    right: &[Mat<f64>],
    is_wanted: impl Fn(usize, usize) -> bool + Sync,
) -> Vec<f32> {
    let norms = |mats: &[Mat<f64>]| mats.iter().map(|mat| mat.norm_l2()).collect::<Vec<f64>>();
    let (left_norms, right_norms) = (norms(left), norms(right));
    let score = |pair: usize| {
        let (i, j) = (pair / right.len(), pair % right.len());
        let scale = left_norms[i] * right_norms[j];
        if scale == 0. || !is_wanted(i, j) { 0. } else { ((&left[i] * &right[j]).norm_l2() / scale) as f32 }
    };
    (0..left.len() * right.len()).into_par_iter().map(score).collect()
}

/// The lengths of the vectors along the last axis, in f32.
pub(crate) fn lengths(t: &Tensor) -> Result<Tensor> {
    Ok(t.to_dtype(DType::F32)?.sqr()?.sum(D::Minus1)?.sqrt()?)
}

/// The matrix product over broadcast leading axes.
///
/// candle copies a broadcast operand once per item of the stack; here a single matrix is multiplied once, with all rows
/// (or columns) of the stack side by side.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let Some(shared) = broadcast_leading(leading(a), leading(b)) else {
        return Err(Error::msg(format!("the leading axes of {:?} and {:?} do not broadcast", a.dims(), b.dims())));
    };
    let out_dims = [shared, vec![last_dims(a).0, last_dims(b).1]].concat();
    let (a, b) = (unbroadcast(a)?, unbroadcast(b)?);
    let product = match (a.rank(), b.rank()) {
        (2, 2) => a.matmul(&b)?,
        (_, 2) => rows_matmul(&a, &b)?,
        (2, _) => rows_matmul(&b.t()?, &a.t()?)?.t()?,
        _ => a.contiguous()?.broadcast_matmul(&b.contiguous()?)?,
    };
    if product.dims() == out_dims { Ok(product) } else { Ok(product.broadcast_as(out_dims)?) }
}

/// The axes before the last two.
pub(crate) fn leading(t: &Tensor) -> &[usize] {
    &t.dims()[..t.rank().saturating_sub(2)]
}

/// Rows and columns of each matrix of a stack.
pub(crate) fn last_dims(t: &Tensor) -> (usize, usize) {
    match t.dims() {
        [.., rows, cols] => (*rows, *cols),
        _ => (0, 0),
    }
}

/// The leading shape that both shapes broadcast to, or nothing where they do not fit.
pub(crate) fn broadcast_leading(x: &[usize], y: &[usize]) -> Option<Vec<usize>> {
    let rank = x.len().max(y.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let mut out = Vec::with_capacity(rank);
    for axis in 0..rank {
        out.push(match (dim(x, axis), dim(y, axis)) {
            (1, n) | (n, 1) => n,
            (n, m) if n == m => n,
            _ => return None,
        });
    }
    Some(out)
}

/// One product for a stack `[.., n, k]` and a single matrix [k, m]: the rows of the whole stack, one under the other.
fn rows_matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dims = [leading(a), &[last_dims(a).0, last_dims(b).1]].concat();
    Ok(a.contiguous()?.flatten_to(a.rank() - 2)?.matmul(b)?.reshape(dims)?)
}

/// A stack that is one matrix, repeated, as that matrix.
fn unbroadcast(t: &Tensor) -> Result<Tensor> {
    let outer = leading(t).len();
    let repeated = leading(t).iter().zip(t.stride()).all(|(&dim, &stride)| dim > 0 && (dim == 1 || stride == 0));
    if repeated { at_index(t, &vec![0; outer]) } else { Ok(t.clone()) }
}

/// A matrix in f64; NaN and infinity are refused.
pub(crate) fn to_mat(t: &Tensor, name: &str, at: &[usize]) -> Result<Mat<f64>> {
    let (rows, cols) = t.dims2()?;
    let values = t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    if values.iter().any(|value| !value.is_finite()) {
        let place = if at.is_empty() { String::new() } else { format!(" at {at:?}") };
        return Err(Error::msg(format!(
            "the factor {name} [{rows}, {cols}]{place} holds NaN or infinity, and finite numbers are needed here; \
             look at the weights or activations that it was made from"
        )));
    }
    Ok(MatRef::from_row_major_slice(&values, rows, cols).to_owned())
}

fn check_finite(mat: MatRef<'_, f64>) -> Result<()> {
    if mat.is_all_finite() {
        return Ok(());
    }
    Err(Error::msg("the product of the two factors overflows: their numbers are too large, scale them down first"))
}

fn no_convergence(what: &str, mat: &Mat<f64>) -> Error {
    let (rows, cols) = (mat.nrows(), mat.ncols());
    Error::msg(format!("the {what} of a {rows} x {cols} matrix could not be computed: the iteration did not converge"))
}
