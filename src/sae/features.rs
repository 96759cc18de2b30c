//! The features of a prompt.

use candle_core::{Device, Tensor};

use super::Sae;
use super::sparse::SparseRows;
use crate::analysis::{Axis, LabelledTensor};
use crate::cache::ActivationCache;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// The features of each token of a prompt, or of several. Made by [`Sae::features`].
///
/// Only what is not zero is kept: a token has some tens of features out of tens of thousands. In a notebook it shows the
/// strongest features of the first prompt by token.
#[derive(Clone, Debug)]
pub struct FeatureActivations {
    rows: SparseRows,
    shape: (usize, usize),
    d_sae: usize,
    tokens: Option<Tokens>,
    title: String,
    neuronpedia_id: Option<String>,
}

/// A feature that is active at a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActiveFeature {
    /// Which feature.
    pub feature: usize,
    /// How strong it is.
    pub value: f32,
    /// Which prompt of the batch.
    pub row: usize,
    /// Which token of the prompt, BOS counted.
    pub pos: usize,
}

impl Sae {
    /// The features of a run, from what the cache holds of [`hook_in`](Self::hook_in).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(1).progress(&Progress::quiet());
    /// # let sae = Sae::train(&model.over("John gave a book to Mary."), resid_post(1), &options)?;
    /// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
    /// let features = sae.features(&cache)?;
    /// println!("{:.1} features a token", features.l0());
    /// let last = &features.top_per_token(3)[0][7]; // the three strongest of the last token
    /// let values = features.of(last[0].feature)?; // of one feature at every token
    /// assert_eq!(values.dims(), [8]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A cache that does not hold that activation, was sliced so that it lacks the axes of batch or positions, or is of a
    /// model of another width.
    pub fn features(&self, cache: &ActivationCache) -> Result<FeatureActivations> {
        let point = self.hook_in()?;
        let x = cache.get(&point)?;
        let &[batch, pos, ..] = x.dims() else { return Err(without_axes(&x)) };
        if !cache.has_batch_dim() || !cache.has_pos_dim() {
            return Err(without_axes(&x));
        }
        let rows = self.encode_sparse(&self.vectors(&x, self.d_in())?)?;
        if rows.len() != batch * pos {
            return Err(without_axes(&x));
        }
        let title = format!("features of {point}");
        let tokens = cache.tokens().filter(|tokens| tokens.shape() == (batch, pos)).cloned();
        let neuronpedia_id = self.neuronpedia_id().map(str::to_string);
        Ok(FeatureActivations { rows, shape: (batch, pos), d_sae: self.d_sae(), tokens, title, neuronpedia_id })
    }
}

impl FeatureActivations {
    /// Prompts and positions.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// How many features the SAE has.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// The tokens; none if the run began with a residual stream.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// What they are features of.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where they are on Neuronpedia, as in "gpt2-small/8-res-jb", if the SAE's files say so.
    pub fn neuronpedia_id(&self) -> Option<&str> {
        self.neuronpedia_id.as_deref()
    }

    /// All that is active at a token, in the order of the features' numbers.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn at(&self, row: usize, pos: usize) -> Result<Vec<ActiveFeature>> {
        let (rows, width) = self.shape;
        if row >= rows || pos >= width {
            return Err(Error::msg(format!(
                "there is no token {pos} in row {row}: there are {rows} rows of {width} tokens"
            )));
        }
        Ok(self.active(row, pos).collect())
    }

    /// The `k` strongest features of each token, strongest first: `[row][pos]`; padding has none.
    pub fn top_per_token(&self, k: usize) -> Vec<Vec<Vec<ActiveFeature>>> {
        let (rows, width) = self.shape;
        let at = |row, pos| if self.is_real(row, pos) { strongest(self.active(row, pos), k) } else { Vec::new() };
        (0..rows).map(|row| (0..width).map(|pos| at(row, pos)).collect()).collect()
    }

    /// The `k` features that are strongest anywhere, strongest first, each where it is strongest.
    pub fn top_features(&self, k: usize) -> Vec<ActiveFeature> {
        let all = (0..self.shape.0).flat_map(|row| (0..self.shape.1).map(move |pos| (row, pos)));
        self.top_features_in(all, k)
    }

    /// As [`top_features`](Self::top_features), of one row.
    pub(crate) fn top_features_of_row(&self, row: usize, k: usize) -> Vec<ActiveFeature> {
        self.top_features_in((0..self.shape.1).map(|pos| (row, pos)), k)
    }

    fn top_features_in(&self, places: impl Iterator<Item = (usize, usize)>, k: usize) -> Vec<ActiveFeature> {
        let mut best: std::collections::BTreeMap<usize, ActiveFeature> = Default::default();
        for (row, pos) in places.filter(|&(row, pos)| self.is_real(row, pos)) {
            for active in self.active(row, pos) {
                let kept = best.entry(active.feature).or_insert(active);
                if active.value > kept.value {
                    *kept = active;
                }
            }
        }
        strongest(best.into_values(), k)
    }

    /// The values of one feature: axes `batch` and `pos`, or `pos` alone for one prompt.
    ///
    /// # Errors
    /// When there is no such feature.
    pub fn of(&self, feature: usize) -> Result<LabelledTensor> {
        if feature >= self.d_sae {
            return Err(Error::msg(format!("there is no feature {feature}: the SAE has {}", self.d_sae)));
        }
        let (rows, width) = self.shape;
        let value = |place| self.rows.row(place).find(|(found, _)| *found == feature).map_or(0.0, |(_, value)| value);
        let values: Vec<f32> = (0..rows * width).map(value).collect();
        let title = format!("feature {feature}");
        match rows {
            1 => {
                let values = Tensor::from_vec(values, width, &Device::Cpu)?;
                LabelledTensor::new(title, &values, [Axis::new("pos", self.texts(0))])
            }
            _ => {
                let values = Tensor::from_vec(values, (rows, width), &Device::Cpu)?;
                LabelledTensor::new(title, &values, [Axis::numbered("batch", rows), Axis::numbered("pos", width)])
            }
        }
    }

    /// All of them with the zeros, `[batch, pos, d_sae]`, f32 on the CPU; large where the SAE is.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let (rows, width) = self.shape;
        let mut values = vec![0f32; rows * width * self.d_sae];
        for place in 0..rows * width {
            for (feature, value) in self.rows.row(place) {
                values[place * self.d_sae + feature] = value;
            }
        }
        Ok(Tensor::from_vec(values, (rows, width, self.d_sae), &Device::Cpu)?)
    }

    /// How many features a token has in the mean; padding does not count.
    pub fn l0(&self) -> f64 {
        let (rows, width) = self.shape;
        let places = (0..rows).flat_map(|row| (0..width).map(move |pos| (row, pos)));
        let real = places.filter(|&(row, pos)| self.is_real(row, pos));
        let (n, active) =
            real.fold((0usize, 0usize), |(n, sum), (row, pos)| (n + 1, sum + self.active(row, pos).count()));
        active as f64 / n.max(1) as f64
    }

    /// The texts of a row's tokens, or their numbers.
    pub(crate) fn texts(&self, row: usize) -> Vec<String> {
        let texts = self.tokens.as_ref().and_then(|tokens| tokens.str_tokens(row).ok());
        texts.unwrap_or_else(|| (0..self.shape.1).map(|pos| pos.to_string()).collect())
    }

    fn active(&self, row: usize, pos: usize) -> impl Iterator<Item = ActiveFeature> + '_ {
        let found = self.rows.row(row * self.shape.1 + pos);
        found.map(move |(feature, value)| ActiveFeature { feature, value, row, pos })
    }

    fn is_real(&self, row: usize, pos: usize) -> bool {
        self.tokens.as_ref().and_then(Tokens::mask).is_none_or(|mask| mask[row][pos])
    }
}

/// The `k` strongest, strongest first; of equal ones the lower number.
fn strongest(active: impl Iterator<Item = ActiveFeature>, k: usize) -> Vec<ActiveFeature> {
    let mut active: Vec<ActiveFeature> = active.collect();
    active.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.feature.cmp(&b.feature)));
    active.truncate(k);
    active
}

fn without_axes(x: &Tensor) -> Error {
    Error::msg(format!(
        "the activation has shape {:?}, and [batch, pos, ..] was expected; take the features of a whole cache, or encode \
         vectors with sae.encode(&cache.get(..)?)",
        x.dims()
    ))
}
