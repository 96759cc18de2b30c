//! How well predicted changes agree with true ones.

use crate::analysis::LabelledTensor;
use crate::{Error, Result};

/// How well predicted changes (attribution patching) agree with true ones (activation patching), place by place. In a
/// notebook it shows the places as points, with the diagonal on which both are the same.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Pearson's correlation: 1 where the predictions are a line through the truth. NaN if either has one value only.
    pub pearson: f64,
    /// Spearman's correlation, that of the ranks; 1 where the order is the same.
    pub spearman: f64,
    /// In which share of the places the sign is the same, 0 to 1; places where both are 0 count as the same.
    pub same_sign: f64,
    /// The largest difference, in units of the metric.
    pub max_error: f64,
    /// The mean difference, without its sign.
    pub mean_error: f64,
    predicted: Vec<f64>,
    truth: Vec<f64>,
    labels: Vec<String>,
    title: String,
}

/// Compares predicted changes with true ones, which must have the same axes. Places where either is NaN are left out. For
/// signs and ranks, changes that are less than a hundred-thousandth of the largest are rounding, and count as 0.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// # let model = HookedTransformer::from_pretrained("tiny")?;
/// # let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
/// # let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
/// # let (_, clean_cache) = model.run_with_cache(clean)?;
/// # let metric = logit_diff(" John", " Mary");
/// let predicted = model.attribution_patch(corrupted, &clean_cache, &metric)?.by("mlp_out", ["layer", "pos"])?;
/// let truth = patching::mlp_out(&model, corrupted, &clean_cache, &metric)?.change()?;
/// let agreement = agreement(&predicted, &truth)?;
/// println!("{:.2}, and {:.0} % of the ten largest", agreement.spearman, 100.0 * agreement.top_overlap(10));
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the axes differ, or no places are left.
pub fn agreement(predicted: &LabelledTensor, truth: &LabelledTensor) -> Result<Agreement> {
    let shape = |t: &LabelledTensor| -> Vec<String> {
        t.axes().iter().map(|axis| format!("{} ({})", axis.name(), axis.len())).collect()
    };
    let (of_predicted, of_truth) = (shape(predicted), shape(truth));
    if of_predicted != of_truth {
        return Err(Error::msg(format!(
            "the predicted changes have the axes {}, and the true ones {}: both must be by the same axes, in the same order",
            of_predicted.join(", "),
            of_truth.join(", ")
        )));
    }
    let pairs = predicted.values().into_iter().zip(truth.values()).enumerate();
    let (mut x, mut y, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (predicted_value, true_value)) in pairs.filter(|(_, (p, t))| p.is_finite() && t.is_finite()) {
        x.push(f64::from(predicted_value));
        y.push(f64::from(true_value));
        let named = truth.axes().iter().zip(truth.labels_of(place));
        labels.push(named.map(|(axis, label)| format!("{} {label}", axis.name())).collect::<Vec<_>>().join(", "));
    }
    if x.is_empty() {
        return Err(Error::msg("no place has both a predicted and a true change that is a finite number"));
    }
    let errors = || x.iter().zip(&y).map(|(x, y)| (x - y).abs());
    let (clear_x, clear_y) = (without_rounding(&x), without_rounding(&y));
    let same = clear_x.iter().zip(&clear_y).filter(|(x, y)| x.partial_cmp(&&0.0) == y.partial_cmp(&&0.0)).count();
    Ok(Agreement {
        pearson: pearson(&x, &y),
        spearman: pearson(&ranks(&clear_x), &ranks(&clear_y)),
        same_sign: same as f64 / x.len() as f64,
        max_error: errors().fold(0.0, f64::max),
        mean_error: errors().sum::<f64>() / x.len() as f64,
        predicted: x,
        truth: y,
        labels,
        title: truth.title().to_string(),
    })
}

impl Agreement {
    /// Which share of the `k` places with the largest true changes are among the `k` with the largest predicted ones, by
    /// magnitude, 0 to 1.
    pub fn top_overlap(&self, k: usize) -> f64 {
        let k = k.min(self.truth.len());
        let top = |values: &[f64]| {
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
            order.truncate(k);
            order
        };
        let (of_predicted, of_truth) = (top(&self.predicted), top(&self.truth));
        of_truth.iter().filter(|place| of_predicted.contains(place)).count() as f64 / k.max(1) as f64
    }

    /// The predicted changes.
    pub fn predicted(&self) -> &[f64] {
        &self.predicted
    }

    /// The true changes, of the same places.
    pub fn truth(&self) -> &[f64] {
        &self.truth
    }

    /// Which place each is, as in `layer 1, head 3`.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What the true changes are of.
    pub fn title(&self) -> &str {
        &self.title
    }
}

fn without_rounding(values: &[f64]) -> Vec<f64> {
    let least = 1e-5 * values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    values.iter().map(|&value| if value.abs() < least { 0.0 } else { value }).collect()
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mean_x, y - mean_y)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// The rank of each value; equal ones share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|&&i| values[i] == values[order[start]]).count().max(1);
        for &i in &order[start..start + tied] {
            ranks[i] = start as f64 + (tied - 1) as f64 / 2.0;
        }
        start += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::analysis::Axis;

    fn of(values: &[f32]) -> LabelledTensor {
        let tensor = Tensor::new(values, &Device::Cpu).unwrap();
        LabelledTensor::new("change", &tensor, [Axis::numbered("layer", values.len())]).unwrap()
    }

    #[test]
    fn correlations_are_those_of_the_formulas() {
        // By hand: means 2.5 and 3; sums of products 6, of squares 5 and 8. Ranks of the truth: 0, 1.5, 1.5, 3.
        let found = agreement(&of(&[1., 2., 3., 4.]), &of(&[1., 3., 3., 5.])).unwrap();
        assert!((found.pearson - 6.0 / (5.0f64 * 8.0).sqrt()).abs() < 1e-12, "{}", found.pearson);
        assert!((found.spearman - 4.5 / (5.0f64 * 4.5).sqrt()).abs() < 1e-12, "{}", found.spearman);
        assert_eq!((found.same_sign, found.max_error, found.mean_error), (1.0, 1.0, 0.5));
        assert_eq!(found.labels()[3], "layer 3");
        assert_eq!(found.top_overlap(1), 1.0);
    }

    #[test]
    fn signs_and_the_largest_are_compared_and_nan_is_left_out() {
        let found = agreement(&of(&[-5., 2., f32::NAN, 1., 0.]), &of(&[5., 2., 3., -1., 0.])).unwrap();
        assert_eq!(found.truth().len(), 4);
        assert_eq!(found.same_sign, 0.5);
        assert_eq!(found.top_overlap(2), 1.0);
        let rounded = agreement(&of(&[0., 0., 0., 9.]), &of(&[1e-6, -1e-6, 2e-6, 9.])).unwrap();
        assert_eq!((rounded.same_sign, rounded.spearman), (1.0, 1.0));
        assert_eq!(agreement(&of(&[1., 0., 2.]), &of(&[0., 1., 2.])).unwrap().top_overlap(2), 0.5);
        let error = agreement(&of(&[1.]), &of(&[1., 2.])).unwrap_err().to_string();
        assert!(error.contains("layer (1)") && error.contains("layer (2)"), "{error}");
        assert!(agreement(&of(&[f32::NAN]), &of(&[1.])).is_err());
    }
}
