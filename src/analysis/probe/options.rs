//! How a probe is trained and measured.

use crate::progress::Progress;
use crate::{Error, Result};

/// How a probe is trained and measured. The default holds a quarter of the rows out, has a penalty of 0.01, and three controls.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    pub(super) l2: f64,
    pub(super) test_fraction: f64,
    pub(super) seed: u64,
    pub(super) controls: usize,
    pub(super) control_types: Option<Vec<u32>>,
    pub(super) standardize: bool,
    pub(super) tolerance: f64,
    pub(super) max_iterations: usize,
    pub(super) progress: Progress,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            l2: 0.01,
            test_fraction: 0.25,
            seed: 0,
            controls: 3,
            control_types: None,
            standardize: true,
            tolerance: 1e-8,
            max_iterations: 2000,
            progress: Progress::default(),
        }
    }
}

impl ProbeOptions {
    /// A quarter held out, a penalty of 0.01, three controls.
    pub fn new() -> Self {
        Self::default()
    }

    /// The penalty: l2/2 times the squared length of the weights is added to the mean loss of a row (scikit-learn's C is
    /// 1 / (n l2), its Ridge alpha n l2). Above 0, so that there is one optimum even with more features than rows.
    pub fn l2(mut self, l2: f64) -> Self {
        self.l2 = l2;
        self
    }

    /// The part of the rows that is held out; of each class as much.
    pub fn test_fraction(mut self, part: f64) -> Self {
        self.test_fraction = part;
        self
    }

    /// Seed of the split and of the controls.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many times labels are shuffled and learned again; 0 for no control.
    pub fn controls(mut self, times: usize) -> Self {
        self.controls = times;
        self
    }

    /// Control labels by type, as in Hewitt and Liang's control tasks: rows of one type (such as the id of the token that they are
    /// of) get one random label. A probe that can learn words by heart does well on these.
    pub fn control_types(mut self, types: impl Into<Vec<u32>>) -> Self {
        self.control_types = Some(types.into());
        self
    }

    /// Whether features are divided by their standard deviation; they are centred in any case. They are by default.
    pub fn standardize(mut self, divide: bool) -> Self {
        self.standardize = divide;
        self
    }

    /// Logistic regression goes on until no entry of the gradient is larger than this: 1e-8.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Most steps of logistic regression: 2000.
    pub fn max_iterations(mut self, steps: usize) -> Self {
        self.max_iterations = steps;
        self
    }

    /// Who is told how far a sweep over layers is.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if !(self.l2 > 0.0 && self.l2.is_finite()) {
            return Err(Error::msg(format!("l2 is {}; it must be above 0, or there may be no optimum", self.l2)));
        }
        if !(self.test_fraction > 0.0 && self.test_fraction < 1.0) {
            return Err(Error::msg(format!("test_fraction is {}; it must lie between 0 and 1", self.test_fraction)));
        }
        if !(self.tolerance > 0.0 && self.tolerance.is_finite()) {
            return Err(Error::msg(format!("tolerance is {}; it must be above 0", self.tolerance)));
        }
        Ok(())
    }
}
