//! How often and how strongly each feature is active in a text.

use candle_core::{Device, Tensor};

use super::Sae;
use super::sparse::SparseRows;
use crate::analysis::{Axis, LabelledTensor, OverText};
use crate::{Error, Result};

/// How often and how strongly each feature is active in a text. Made by [`Sae::statistics`]; shows itself as a histogram of
/// the densities.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureStatistics {
    tokens: usize,
    active: Vec<u64>,
    sums: Vec<f64>,
    largest: Vec<f32>,
}

impl Sae {
    /// How often and how strongly each feature is active in a text, in one pass.
    ///
    /// # Errors
    /// As those of a pass over the text; an activation of another width.
    pub fn statistics(&self, text: &OverText) -> Result<FeatureStatistics> {
        let mut statistics = FeatureStatistics::new(self.d_sae());
        self.each_batch(text, |batch| {
            statistics.add(&self.encode_sparse(&batch.inputs)?);
            Ok(())
        })?;
        Ok(statistics)
    }
}

impl FeatureStatistics {
    pub(super) fn new(d_sae: usize) -> Self {
        Self { tokens: 0, active: vec![0; d_sae], sums: vec![0.0; d_sae], largest: vec![0.0; d_sae] }
    }

    pub(super) fn add(&mut self, rows: &SparseRows) {
        self.tokens += rows.len();
        for (feature, value) in (0..rows.len()).flat_map(|row| rows.row(row)) {
            self.active[feature] += 1;
            self.sums[feature] += f64::from(value);
            self.largest[feature] = self.largest[feature].max(value);
        }
    }

    /// How many tokens were looked at.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many features are active at a token in the mean.
    pub fn l0(&self) -> f64 {
        self.active.iter().sum::<u64>() as f64 / self.tokens.max(1) as f64
    }

    /// At which part of the tokens a feature is active.
    ///
    /// # Errors
    /// When there is no such feature.
    pub fn density(&self, feature: usize) -> Result<f64> {
        match self.active.get(feature) {
            Some(&active) => Ok(active as f64 / self.tokens.max(1) as f64),
            None => Err(Error::msg(format!("there is no feature {feature}: the SAE has {}", self.active.len()))),
        }
    }

    /// The density of each feature: axis `feature`.
    ///
    /// # Errors
    /// When the tensor can't be made.
    pub fn densities(&self) -> Result<LabelledTensor> {
        let n = self.tokens.max(1) as f64;
        self.by_feature("density", self.active.iter().map(|&active| (active as f64 / n) as f32))
    }

    /// The mean activation of each feature where it is active (0 where it never is): axis `feature`.
    ///
    /// # Errors
    /// When the tensor can't be made.
    pub fn means(&self) -> Result<LabelledTensor> {
        let mean = |(sum, &active): (&f64, &u64)| (sum / active.max(1) as f64) as f32;
        self.by_feature("mean activation", self.sums.iter().zip(&self.active).map(mean))
    }

    /// The largest activation of each feature: axis `feature`.
    ///
    /// # Errors
    /// When the tensor can't be made.
    pub fn largest(&self) -> Result<LabelledTensor> {
        self.by_feature("largest activation", self.largest.iter().copied())
    }

    /// The features that are never active in the text.
    pub fn dead(&self) -> Vec<usize> {
        (0..self.active.len()).filter(|&feature| self.active[feature] == 0).collect()
    }

    fn by_feature(&self, title: &str, values: impl Iterator<Item = f32>) -> Result<LabelledTensor> {
        let values = Tensor::from_vec(values.collect::<Vec<f32>>(), self.active.len(), &Device::Cpu)?;
        LabelledTensor::new(title, &values, [Axis::numbered("feature", self.active.len())])
    }
}
