//! How the loss fell.

use std::fmt::Write;
use std::path::Path;

use crate::{Error, Result};

/// The loss of each training step, in nats. In a notebook it shows itself as a line, smoothed where it is long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingCurve {
    losses: Vec<f32>,
    rates: Vec<f64>,
}

impl TrainingCurve {
    /// The loss of each step.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The learning rate of each step.
    pub fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// The mean loss of the last `steps` steps; none where there was no step.
    pub fn recent(&self, steps: usize) -> Option<f32> {
        let recent = &self.losses[self.losses.len().saturating_sub(steps.max(1))..];
        (!recent.is_empty()).then(|| recent.iter().sum::<f32>() / recent.len() as f32)
    }

    /// The mean loss of each `steps` steps: (the last of these steps, counted from 1, and their mean).
    pub fn means(&self, steps: usize) -> Vec<(usize, f32)> {
        let steps = steps.max(1);
        let mean = |(i, part): (usize, &[f32])| (i * steps + part.len(), part.iter().sum::<f32>() / part.len() as f32);
        self.losses.chunks(steps).enumerate().map(mean).collect()
    }

    /// Writes a table with the columns step, rate, loss: the mean loss of every `each` steps.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save_csv(&self, path: impl AsRef<Path>, each: usize) -> Result<()> {
        let path = path.as_ref();
        let mut text = "step,rate,loss\n".to_string();
        for (step, loss) in self.means(each) {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{step},{:.6},{loss:.4}", self.rates[step - 1]);
        }
        std::fs::write(path, text).map_err(|source| Error::io(path, source))
    }

    pub(super) fn push(&mut self, loss: f32, rate: f64) {
        self.losses.push(loss);
        self.rates.push(rate);
    }

    pub(super) fn from_parts(losses: Vec<f32>, rates: Vec<f64>) -> Self {
        Self { losses, rates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_whole_and_last_parts() {
        let curve = TrainingCurve::from_parts(vec![4.0, 2.0, 3.0, 1.0, 5.0], vec![0.1; 5]);
        assert_eq!(curve.means(2), [(2, 3.0), (4, 2.0), (5, 5.0)]);
        assert_eq!(curve.recent(2), Some(3.0));
        assert_eq!(curve.recent(100), Some(3.0));
        assert_eq!(TrainingCurve::default().recent(3), None);
    }
}
