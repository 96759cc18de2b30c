//! The same probe at every layer.

use candle_core::{Device, Tensor};

use super::{Probe, ProbeOptions, ProbePosition, ProbeTarget, features};
use crate::analysis::{Axis, LabelledTensor};
use crate::hooks::{HookPoint, Selector};
use crate::model::HookedTransformer;
use crate::tokens::TokenInput;
use crate::{Error, Result};

/// A probe at each of several points, such as the residual stream of every layer. In a notebook it is a line over the layers,
/// with that of the control.
#[derive(Clone, Debug)]
pub struct LayerProbes {
    probes: Vec<(HookPoint, Probe)>,
}

/// Trains a probe at each selected point on the activation of each text at a position: where in the model is something known?
/// One pass over the texts; then a fit and its controls for each point.
///
/// ```
/// use candlescope::analysis::probe::{ProbePosition, probe_layers};
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// // Which of two names was it that came first?
/// let names = ["Mary", "John", "Anna", "Tom", "Paul", "Lily"];
/// let pairs = names.iter().flat_map(|a| names.iter().filter(move |b| *b != a).map(move |b| (a, b)));
/// let (texts, first_is_mary): (Vec<String>, Vec<bool>) =
///     pairs.map(|(a, b)| (format!("When {a} and {b} went to the park"), *a == "Mary")).unzip();
/// let probes = probe_layers(&model, texts, &first_is_mary, "resid_post", ProbePosition::Last, &ProbeOptions::new())?;
/// println!("best at {}", probes.best()?.0);
/// # assert_eq!(probes.probes().len(), model.cfg().n_layers);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of [`features`] and of [`Probe::fit`].
pub fn probe_layers(
    model: &HookedTransformer,
    texts: impl Into<TokenInput>,
    labels: impl Into<ProbeTarget>,
    at: impl Into<Selector>,
    position: impl Into<ProbePosition>,
    options: &ProbeOptions,
) -> Result<LayerProbes> {
    let (texts, labels) = (texts.into(), labels.into());
    labels.check(match &texts {
        TokenInput::Text(texts) => texts.rows().len(),
        TokenInput::Tokens(tokens) => tokens.shape().0,
    })?;
    let features = features(model, texts, at, position)?;
    let meter = options.progress.start("probing", "points");
    let mut probes = Vec::with_capacity(features.len());
    for (i, (point, x)) in features.iter().enumerate() {
        probes.push((point.clone(), Probe::fit(x, &labels, options)?));
        meter.at(i + 1, Some((i + 1) as f64 / features.len() as f64));
    }
    meter.finish(features.len());
    Ok(LayerProbes { probes })
}

impl LayerProbes {
    /// Each point and its probe, in the order of the forward pass.
    pub fn probes(&self) -> &[(HookPoint, Probe)] {
        &self.probes
    }

    /// The probe at a point.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&self, point: &HookPoint) -> Result<&Probe> {
        match self.probes.iter().find(|(other, _)| other == point) {
            Some((_, probe)) => Ok(probe),
            None => Err(Error::msg(format!("there is no probe at '{point}' among these {}", self.probes.len()))),
        }
    }

    /// The point whose probe does best on held-out rows; the earliest of equals.
    ///
    /// # Errors
    /// When there is no probe.
    pub fn best(&self) -> Result<(&HookPoint, &Probe)> {
        let better = |a: &&(HookPoint, Probe), b: &&(HookPoint, Probe)| a.1.score().total_cmp(&b.1.score());
        // The last of equals is the maximum, so from behind.
        let best = self.probes.iter().rev().max_by(better);
        best.map(|(point, probe)| (point, probe)).ok_or_else(|| Error::msg("there is no probe"))
    }

    /// The scores, `[score, point]`: held out, on shuffled labels (NaN without a control), and of the best guess that ignores the
    /// features.
    pub fn scores(&self) -> Result<LabelledTensor> {
        let probes = || self.probes.iter().map(|(_, probe)| probe);
        let held_out = probes().map(Probe::score);
        let control = probes().map(|probe| probe.control().unwrap_or(f64::NAN));
        let values: Vec<f32> = held_out.chain(control).chain(probes().map(Probe::baseline)).map(|x| x as f32).collect();
        let axes = [
            Axis::new("score", ["held out", "shuffled labels", "best guess"]),
            Axis::new("point", self.probes.iter().map(|(point, _)| point.name())),
        ];
        let values = Tensor::from_vec(values, (3, self.probes.len()), &Device::Cpu)?;
        LabelledTensor::new("probes", &values, axes)
    }
}
