//! Linear probes: what can be read out of an activation by a linear map (Alain and Bengio 2016, arXiv 1610.01644), and how
//! much of that is the probe's own doing (Hewitt and Liang 2019, arXiv 1909.03368).

mod features;
mod layers;
mod lbfgs;
mod linear;
mod options;
mod split;
mod target;

use candle_core::{DType, Device, Tensor};
use faer::Mat;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Axis, LabelledTensor};
use crate::{Error, Result};
use linear::{Linear, Scaling};
use split::Split;

pub use features::{ProbePosition, features};
pub use layers::{LayerProbes, probe_layers};
pub use options::ProbeOptions;
pub use target::ProbeTarget;

/// A linear readout, trained on some rows of features and measured on the others.
///
/// Classes are read by multinomial logistic regression, numbers by ridge regression. The same is trained on shuffled labels
/// (the control): a probe says something about the activation only by as much as it does better than that.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// // Forty rows of three features; the class is the sign of the second.
/// let rows: Vec<f32> = (0..120).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
/// let labels: Vec<bool> = rows.chunks(3).map(|row| row[1] > 0.0).collect();
/// let x = Tensor::from_vec(rows, (40, 3), &Device::Cpu)?;
/// let probe = Probe::fit(&x, &labels, &ProbeOptions::new())?;
/// println!("{:.2} held out, {:.2} on shuffled labels", probe.score(), probe.control().unwrap_or(f64::NAN));
/// let direction: Vec<f32> = probe.direction()?.to_vec1()?; // towards "true"
/// assert!(direction[1] > 0.9);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Probe {
    /// Class names; empty for numbers.
    classes: Vec<String>,
    /// On features as they are.
    readout: Linear,
    /// The mean of the training rows of each class, `[class, d]`.
    class_means: Mat<f64>,
    rows: (usize, usize),
    scores: (f64, f64),
    baseline: f64,
    control: Option<f64>,
    /// Of the held-out rows: how often each class was taken for each.
    confusion: Vec<Vec<usize>>,
}

impl Probe {
    /// Trains a probe on features `[n, d]` and a label for each row, and measures it on rows held out.
    ///
    /// The features are centred and scaled by the training rows; the penalty acts on these. Everything is in f64. Logistic
    /// regression goes on until no entry of the gradient is above the tolerance (1e-8), ridge regression has a closed form. Cost:
    /// one fit, and one for each control.
    ///
    /// # Errors
    /// When there are not as many labels as rows, fewer than two classes, too few rows of any, or numbers that are all equal; when a
    /// feature is NaN or infinite; when it does not converge.
    pub fn fit(x: &Tensor, labels: impl Into<ProbeTarget>, options: &ProbeOptions) -> Result<Self> {
        options.check()?;
        let (x, target) = (matrix(x)?, labels.into());
        target.check(x.nrows())?;
        let split = Split::new(&target, options)?;
        let (readout, scores, confusion) = train(&x, &target, &split, options)?;

        let mut rng = StdRng::seed_from_u64(options.seed.wrapping_add(1));
        let mut control = 0.0;
        for _ in 0..options.controls {
            let shuffled = split.shuffled(&target, options, &mut rng)?;
            control += train(&x, &shuffled, &split, options)?.1.1 / options.controls as f64;
        }
        Ok(Self {
            class_means: class_means(&x, &target, &split),
            baseline: baseline(&target, &split),
            classes: match target {
                ProbeTarget::Classes { names, .. } => names,
                ProbeTarget::Numbers(_) => Vec::new(),
            },
            readout,
            rows: (split.train.len(), split.test.len()),
            scores,
            control: (options.controls > 0).then_some(control),
            confusion,
        })
    }

    /// How well it does on the rows that were held out: the part of them that it gets right (classes), or R² (numbers: 1 minus
    /// the mean squared error over the variance; below 0 it does worse than the mean).
    pub fn score(&self) -> f64 {
        self.scores.1
    }

    /// The same on the rows that it was trained on.
    pub fn train_score(&self) -> f64 {
        self.scores.0
    }

    /// The mean held-out score of the same kind of probe on shuffled labels; none if there was no control.
    pub fn control(&self) -> Option<f64> {
        self.control
    }

    /// The held-out score minus the control's (Hewitt and Liang 2019): what the activation knows, beyond what such a probe gets
    /// out of anything.
    pub fn selectivity(&self) -> Option<f64> {
        self.control.map(|control| self.score() - control)
    }

    /// The held-out score of the best guess that ignores the features: the commonest class of the training rows, or their mean
    /// (R² of 0 or a little below).
    pub fn baseline(&self) -> f64 {
        self.baseline
    }

    /// The standard error of a held-out accuracy; none for numbers.
    pub fn standard_error(&self) -> Option<f64> {
        let (p, n) = (self.score(), self.rows.1 as f64);
        self.is_classifier().then(|| (p * (1.0 - p) / n).sqrt())
    }

    /// Whether it reads out classes.
    pub fn is_classifier(&self) -> bool {
        !self.classes.is_empty()
    }

    /// The names of the classes; empty for numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// How many rows it was trained on, and how many were held out.
    pub fn rows(&self) -> (usize, usize) {
        self.rows
    }

    /// How many features it reads.
    pub fn n_features(&self) -> usize {
        self.readout.w.ncols()
    }

    /// Steps until logistic regression converged, and the largest entry of the gradient there; (0, 0) for a closed form.
    pub fn convergence(&self) -> (usize, f64) {
        (self.readout.iterations, self.readout.gradient)
    }

    /// Of the held-out rows, how many of each class (first axis) were taken for each (second), `[true, predicted]`.
    ///
    /// # Errors
    /// When it reads numbers.
    pub fn confusion(&self) -> Result<LabelledTensor> {
        self.need_classes("confusion()")?;
        let n = self.classes.len();
        let counts: Vec<f32> = self.confusion.iter().flatten().map(|&count| count as f32).collect();
        let axes = ["true", "predicted"].map(|name| Axis::new(name, self.classes.iter().cloned()));
        LabelledTensor::new("held-out rows", &Tensor::from_vec(counts, (n, n), &Device::Cpu)?, axes)
    }

    /// The unit vector along which the readout grows fastest, in the space of the activation, `[d]`: of two classes, towards the
    /// second (`true`); of a number, towards larger ones. Its product with an activation reads, and adding it steers.
    ///
    /// # Errors
    /// When there are more than two classes: see [`direction_to`](Self::direction_to).
    pub fn direction(&self) -> Result<Tensor> {
        match self.classes.len() {
            0 => unit(self.weights_of(0)),
            2 => self.direction_to(&self.classes[1]),
            n => Err(Error::msg(format!(
                "there are {n} classes ({}), so name one: direction_to(..)",
                self.classes.join(", ")
            ))),
        }
    }

    /// The unit vector along which a class's lead over the mean of the others grows fastest, `[d]`.
    ///
    /// # Errors
    /// When there is no such class.
    pub fn direction_to(&self, class: &str) -> Result<Tensor> {
        let class = self.class(class)?;
        if self.classes.len() == 2 {
            let sign = if class == 1 { 1.0 } else { -1.0 };
            return unit(self.weights_of(0).map(|w| sign * w));
        }
        let others = (self.classes.len() - 1) as f64;
        let rest = |i: usize| {
            (0..self.classes.len()).filter(|&other| other != class).map(|o| self.readout.w[(o, i)]).sum::<f64>()
        };
        unit((0..self.n_features()).map(|i| self.readout.w[(class, i)] - rest(i) / others))
    }

    /// The mean of a class's training rows minus the mean of all others, `[d]`. It has the length of a real difference, and often
    /// steers better than the direction that reads best (Marks and Tegmark 2023, arXiv 2310.06824).
    ///
    /// # Errors
    /// When there is no such class.
    pub fn mean_difference(&self, class: &str) -> Result<Tensor> {
        let class = self.class(class)?;
        let difference = (0..self.n_features())
            .map(|i| (self.class_means[(2 * class, i)] - self.class_means[(2 * class + 1, i)]) as f32);
        Ok(Tensor::from_vec(difference.collect::<Vec<f32>>(), self.n_features(), &Device::Cpu)?)
    }

    /// The weights `[outputs, d]` and biases `[outputs]` on activations as they are. Two classes have one output, the log odds
    /// of the second; more have one each; a number is the output.
    pub fn weights(&self) -> Result<(Tensor, Tensor)> {
        let outputs = self.readout.b.len();
        let w: Vec<f32> = (0..outputs).flat_map(|output| self.weights_of(output)).map(|w| w as f32).collect();
        let b: Vec<f32> = self.readout.b.iter().map(|&b| b as f32).collect();
        let w = Tensor::from_vec(w, (outputs, self.n_features()), &Device::Cpu)?;
        Ok((w, Tensor::from_vec(b, outputs, &Device::Cpu)?))
    }

    /// The outputs for other activations `[n, d]`, `[n, outputs]`: see [`weights`](Self::weights).
    ///
    /// # Errors
    /// When there are not as many features.
    pub fn outputs(&self, x: &Tensor) -> Result<Tensor> {
        let outputs = self.outputs_of(x)?;
        let values = outputs.row_iter().flat_map(|row| row.iter().map(|&value| value as f32).collect::<Vec<_>>());
        Ok(Tensor::from_vec(values.collect::<Vec<f32>>(), (outputs.nrows(), outputs.ncols()), &Device::Cpu)?)
    }

    /// The likeliest class of each row of other activations `[n, d]`, as an index into [`classes`](Self::classes).
    ///
    /// # Errors
    /// When there are not as many features, and when it reads numbers.
    pub fn predict(&self, x: &Tensor) -> Result<Vec<usize>> {
        self.need_classes("predict(..)")?;
        let outputs = self.outputs_of(x)?;
        Ok((0..outputs.nrows()).map(|row| likeliest(&outputs, row)).collect())
    }

    /// The probability of each class for each row of other activations `[n, d]`, `[n, class]`.
    ///
    /// # Errors
    /// When there are not as many features, and when it reads numbers.
    pub fn probabilities(&self, x: &Tensor) -> Result<Tensor> {
        self.need_classes("probabilities(..)")?;
        let outputs = self.outputs_of(x)?;
        let of = |row| linear::probabilities(&(0..outputs.ncols()).map(|o| outputs[(row, o)]).collect::<Vec<_>>());
        let values: Vec<f32> = (0..outputs.nrows()).flat_map(of).map(|p| p as f32).collect();
        Ok(Tensor::from_vec(values, (outputs.nrows(), self.classes.len()), &Device::Cpu)?)
    }

    fn outputs_of(&self, x: &Tensor) -> Result<Mat<f64>> {
        let x = matrix(x)?;
        if x.ncols() != self.n_features() {
            let expected = format!("[n, {}]", self.n_features());
            return Err(Error::WrongShape { name: "features".into(), expected, found: vec![x.nrows(), x.ncols()] });
        }
        Ok(self.readout.outputs(&x))
    }

    fn weights_of(&self, output: usize) -> impl Iterator<Item = f64> {
        (0..self.n_features()).map(move |i| self.readout.w[(output, i)])
    }

    fn class(&self, name: &str) -> Result<usize> {
        self.classes.iter().position(|class| class == name).ok_or_else(|| {
            let known = if self.classes.is_empty() { "it reads numbers".into() } else { self.classes.join(", ") };
            Error::msg(format!("the probe has no class '{name}' ({known})"))
        })
    }

    fn need_classes(&self, what: &str) -> Result<()> {
        match self.is_classifier() {
            true => Ok(()),
            false => Err(Error::msg(format!("{what} is for classes, and this probe reads numbers; see outputs(..)"))),
        }
    }
}

type Trained = (Linear, (f64, f64), Vec<Vec<usize>>);

/// A readout of the training rows, its scores on these and on the others, and what it takes the others for.
fn train(x: &Mat<f64>, target: &ProbeTarget, split: &Split, options: &ProbeOptions) -> Result<Trained> {
    let (train_x, test_x) = (rows(x, &split.train), rows(x, &split.test));
    let scaling = Scaling::of(&train_x, options.standardize);
    let scaled = scaling.apply(&train_x);
    let (train_y, test_y) = (target.reordered(&split.train), target.reordered(&split.test));
    let readout = match &train_y {
        ProbeTarget::Classes { names, rows } => {
            linear::logistic(&scaled, rows, names.len(), options.l2, options.tolerance, options.max_iterations)?
        }
        ProbeTarget::Numbers(rows) => linear::ridge(&scaled, rows, options.l2)?,
    };
    let readout = readout.on_raw(&scaling);
    let (train_score, _) = score(&readout, &train_x, &train_y);
    let (test_score, confusion) = score(&readout, &test_x, &test_y);
    Ok((readout, (train_score, test_score), confusion))
}

/// Accuracy or R², and how often each class was taken for each.
fn score(readout: &Linear, x: &Mat<f64>, target: &ProbeTarget) -> (f64, Vec<Vec<usize>>) {
    let outputs = readout.outputs(x);
    match target {
        ProbeTarget::Classes { names, rows } => {
            let mut confusion = vec![vec![0; names.len()]; names.len()];
            for (row, &class) in rows.iter().enumerate() {
                confusion[class][likeliest(&outputs, row)] += 1;
            }
            let right: usize = (0..names.len()).map(|class| confusion[class][class]).sum();
            (right as f64 / rows.len() as f64, confusion)
        }
        ProbeTarget::Numbers(rows) => {
            let guesses: Vec<f64> = (0..rows.len()).map(|row| outputs[(row, 0)]).collect();
            (r_squared(rows, &guesses), Vec::new())
        }
    }
}

fn r_squared(numbers: &[f64], guesses: &[f64]) -> f64 {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let off: f64 = numbers.iter().zip(guesses).map(|(number, guess)| (number - guess).powi(2)).sum();
    let spread: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    1.0 - off / spread
}

fn likeliest(outputs: &Mat<f64>, row: usize) -> usize {
    if outputs.ncols() == 1 {
        return usize::from(outputs[(row, 0)] > 0.0);
    }
    (0..outputs.ncols()).max_by(|&a, &b| outputs[(row, a)].total_cmp(&outputs[(row, b)])).unwrap_or(0)
}

fn baseline(target: &ProbeTarget, split: &Split) -> f64 {
    match target {
        ProbeTarget::Classes { names, rows } => {
            let count = |of: &[usize], class| of.iter().filter(|&&row| rows[row] == class).count();
            let commonest = (0..names.len()).max_by_key(|&class| (count(&split.train, class), names.len() - class));
            count(&split.test, commonest.unwrap_or(0)) as f64 / split.test.len() as f64
        }
        ProbeTarget::Numbers(rows) => {
            let mean = split.train.iter().map(|&row| rows[row]).sum::<f64>() / split.train.len() as f64;
            let held_out: Vec<f64> = split.test.iter().map(|&row| rows[row]).collect();
            r_squared(&held_out, &vec![mean; held_out.len()])
        }
    }
}

/// For each class the mean of its training rows, then that of all others, `[2 * class, d]`.
fn class_means(x: &Mat<f64>, target: &ProbeTarget, split: &Split) -> Mat<f64> {
    let ProbeTarget::Classes { names, rows } = target else { return Mat::zeros(0, x.ncols()) };
    let mean = |chosen: Vec<usize>, i: usize| chosen.iter().map(|&row| x[(row, i)]).sum::<f64>() / chosen.len() as f64;
    Mat::from_fn(2 * names.len(), x.ncols(), |at, i| {
        let inside = |row: &&usize| (rows[**row] == at / 2) == (at % 2 == 0);
        mean(split.train.iter().filter(inside).copied().collect(), i)
    })
}

fn rows(x: &Mat<f64>, chosen: &[usize]) -> Mat<f64> {
    Mat::from_fn(chosen.len(), x.ncols(), |row, i| x[(chosen[row], i)])
}

/// Features `[n, d]` in f64, all finite.
fn matrix(x: &Tensor) -> Result<Mat<f64>> {
    let &[n, d] = x.dims() else {
        return Err(Error::WrongShape { name: "features".into(), expected: "[n, d]".into(), found: x.dims().to_vec() });
    };
    let values: Vec<f64> = x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::msg(format!(
            "feature {} of row {} is {}, and must be finite",
            place % d,
            place / d,
            values[place]
        )));
    }
    Ok(Mat::from_fn(n, d, |row, i| values[row * d + i]))
}

/// A vector of length 1, as f32.
fn unit(vector: impl Iterator<Item = f64>) -> Result<Tensor> {
    let vector: Vec<f64> = vector.collect();
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm == 0.0 {
        return Err(Error::msg(
            "the probe's weights are all zero, so it has no direction: no feature varies with the label",
        ));
    }
    let vector: Vec<f32> = vector.iter().map(|x| (x / norm) as f32).collect();
    let d = vector.len();
    Ok(Tensor::from_vec(vector, d, &Device::Cpu)?)
}
