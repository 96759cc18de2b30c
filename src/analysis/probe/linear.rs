//! The two linear readouts: multinomial logistic regression and ridge regression, in f64.

use faer::prelude::Solve;
use faer::{Mat, Side};

use super::lbfgs::minimize;
use crate::{Error, Result};

/// Outputs that are linear in the features: `x W' + b`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[outputs, d]`
    pub w: Mat<f64>,
    pub b: Vec<f64>,
    /// Steps until it converged, and the largest entry of the gradient there; 0 for a closed form.
    pub iterations: usize,
    pub gradient: f64,
}

impl Linear {
    /// The outputs for features `[n, d]`, `[n, outputs]`.
    pub fn outputs(&self, x: &Mat<f64>) -> Mat<f64> {
        let mut out = x * self.w.transpose();
        for (output, b) in self.b.iter().enumerate() {
            for row in 0..out.nrows() {
                out[(row, output)] += b;
            }
        }
        out
    }

    /// The same outputs for features before they were centred by `mean` and divided by `std`.
    pub fn on_raw(mut self, scaling: &Scaling) -> Self {
        for output in 0..self.w.nrows() {
            for (i, std) in scaling.std.iter().enumerate() {
                self.w[(output, i)] /= std;
                self.b[output] -= self.w[(output, i)] * scaling.mean[i];
            }
        }
        self
    }
}

/// Mean and standard deviation of each feature.
pub(super) struct Scaling {
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

impl Scaling {
    /// Of the columns of `x`; a column that is constant keeps its scale.
    pub fn of(x: &Mat<f64>, divide: bool) -> Self {
        let n = x.nrows() as f64;
        let mean: Vec<f64> = x.col_iter().map(|column| column.iter().sum::<f64>() / n).collect();
        let std = x.col_iter().zip(&mean).map(|(column, mean)| {
            let std = (column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
            // What is left of a constant by rounding is not a scale.
            if divide && std > 1e-12 * mean.abs() && std > 0.0 { std } else { 1.0 }
        });
        let std = std.collect();
        Self { mean, std }
    }

    pub fn apply(&self, x: &Mat<f64>) -> Mat<f64> {
        Mat::from_fn(x.nrows(), x.ncols(), |row, i| (x[(row, i)] - self.mean[i]) / self.std[i])
    }
}

/// Logistic regression: the minimum over W and b of the mean of -log p(class), plus l2/2 ‖W‖². Two classes have one output,
/// the log odds of the second; more have one each.
pub(super) fn logistic(
    x: &Mat<f64>,
    classes: &[usize],
    n_classes: usize,
    l2: f64,
    tolerance: f64,
    max_iterations: usize,
) -> Result<Linear> {
    let (n, d) = (x.nrows(), x.ncols());
    let outputs = if n_classes == 2 { 1 } else { n_classes };
    let unpack = |theta: &[f64], iterations, gradient| Linear {
        w: Mat::from_fn(outputs, d, |output, i| theta[output * d + i]),
        b: theta[outputs * d..].to_vec(),
        iterations,
        gradient,
    };
    let objective = |theta: &[f64]| {
        let model = unpack(theta, 0, 0.0);
        let mut residual = model.outputs(x);
        let mut loss = 0.0;
        for (row, &class) in classes.iter().enumerate() {
            let mut probs = probabilities(&(0..outputs).map(|output| residual[(row, output)]).collect::<Vec<_>>());
            loss -= probs[class].max(f64::MIN_POSITIVE).ln();
            probs[class] -= 1.0;
            let first = n_classes - outputs;
            for output in 0..outputs {
                residual[(row, output)] = probs[first + output] / n as f64;
            }
        }
        let products = residual.transpose() * x;
        let mut gradient = Vec::with_capacity(theta.len());
        for output in 0..outputs {
            gradient.extend((0..d).map(|i| products[(output, i)] + l2 * model.w[(output, i)]));
        }
        gradient.extend(residual.col_iter().map(|column| column.iter().sum::<f64>()));
        let norm: f64 = theta[..outputs * d].iter().map(|w| w * w).sum();
        (loss / n as f64 + l2 / 2.0 * norm, gradient)
    };
    let minimum = minimize(vec![0.0; outputs * (d + 1)], objective, tolerance, max_iterations)?;
    Ok(unpack(&minimum.x, minimum.iterations, minimum.gradient))
}

/// The probability of each class from a row of outputs; one output is the log odds of the second class.
pub(super) fn probabilities(outputs: &[f64]) -> Vec<f64> {
    let logits = if let [odds] = outputs { vec![0.0, *odds] } else { outputs.to_vec() };
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Ridge regression: the minimum over w and b of the mean of (x w + b - y)²/2, plus l2/2 ‖w‖², in closed form; where there are
/// more features than rows, in terms of the rows. The columns of `x` must have mean 0.
pub(super) fn ridge(x: &Mat<f64>, y: &[f64], l2: f64) -> Result<Linear> {
    let (n, d) = (x.nrows() as f64, x.ncols());
    let mean = y.iter().sum::<f64>() / n;
    let y = Mat::from_fn(y.len(), 1, |row, _| (y[row] - mean) / n);
    let solve = |mut square: Mat<f64>, right: &Mat<f64>| -> Result<Mat<f64>> {
        for i in 0..square.nrows() {
            square[(i, i)] += l2;
        }
        let cholesky = square.llt(Side::Lower).map_err(|_| {
            Error::msg(
                "ridge regression failed: the features are too large for this l2(..); raise it, or standardize them",
            )
        })?;
        Ok(cholesky.solve(right))
    };
    let scaled = |m: Mat<f64>| faer::Scale(1.0 / n) * m;
    let w = if d <= x.nrows() {
        solve(scaled(x.transpose() * x), &(x.transpose() * &y))?
    } else {
        x.transpose() * solve(scaled(x * x.transpose()), &y)?
    };
    Ok(Linear { w: w.transpose().to_owned(), b: vec![mean], iterations: 0, gradient: 0.0 })
}
