//! Attribution patching of activations, and integrated gradients.

use std::fmt;

use candle_core::{DType, Tensor};

use super::difference;
use crate::analysis::labelled::{Axis, LabelledTensor, unknown_axis};
use crate::analysis::metric::{Metric, mean};
use crate::analysis::sweep::{axes_of, check_source, find_axis, position_labels, short_label, without_layer};
use crate::cache::ActivationCache;
use crate::hooks::{Activations, HookPoint, Hooks, PointInfo, Selector};
use crate::model::{HookedTransformer, Input, RunOptions};
use crate::tokens::Tokens;
use crate::{Error, Progress, Result};

/// By how much each number of each activation would change the metric if it were patched, to first order: (source - base)
/// times the gradient.
///
/// [`by`](Self::by) adds them up over heads, positions and so on, with the axes of a [`Sweep`](crate::analysis::Sweep) and
/// comparable with its [`change`](crate::analysis::SweepResult::change).
#[derive(Clone)]
pub struct Attribution {
    metric: String,
    value: f32,
    /// How many prompts the metric is the mean over; 1 if it gives one number for all.
    prompts: usize,
    effects: Activations,
    model: HookedTransformer,
    tokens: Option<Tokens>,
}

impl HookedTransformer {
    /// Attribution patching of every activation that `source` holds: what would be the metric's change if the runs on
    /// `base` had the source's activation there (Nanda 2023). `base` is customarily the corrupted prompt, `source` the
    /// cache of the clean one; both must have the same number of tokens.
    ///
    /// One run forward and backward, with all of those activations and gradients in memory; cache only some of the source
    /// ([`run_with_cache_of`](Self::run_with_cache_of)) to need less.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
    /// let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
    /// let (_, clean_cache) = model.run_with_cache(clean)?;
    /// let metric = logit_diff(" John", " Mary");
    /// let predicted = model.attribution_patch(corrupted, &clean_cache, &metric)?;
    /// let heads = predicted.by("z", ["layer", "head"])?;
    /// let by_pos = predicted.by("resid_pre", ["layer", "pos"])?;
    /// let neurons = predicted.by("post", ["layer", "neuron"])?;
    /// # let _ = (by_pos, neurons);
    /// let truth = patching::head_out_all_pos(&model, corrupted, &clean_cache, &metric)?.change()?;
    /// assert!(agreement(&heads, &truth)?.pearson > 0.8);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A source of another model or with prompts of another length; a metric without a gradient.
    pub fn attribution_patch(
        &self,
        base: impl Into<Input>,
        source: &ActivationCache,
        metric: &Metric,
    ) -> Result<Attribution> {
        check_source(self, source)?;
        let floats = source.iter().filter(|(_, activation)| activation.dtype().is_float());
        let at: Vec<Selector> = floats.map(|(point, _)| point.into()).collect();
        if at.is_empty() {
            return Err(Error::msg("the source holds no activations; cache some of its run"));
        }
        let run = self.gradients(base, metric, at)?;
        let effect = |(point, base): &(HookPoint, Tensor)| -> Result<(HookPoint, Tensor)> {
            let gradient = run.grad(point)?.to_dtype(DType::F32)?;
            Ok((point.clone(), (difference(point, &source.get(point)?, base)? * gradient)?))
        };
        Ok(Attribution {
            metric: metric.name().to_string(),
            value: run.value(),
            prompts: run.values().len(),
            effects: Activations::new(run.activations().iter().map(effect).collect::<Result<_>>()?),
            model: self.clone(),
            tokens: run.activations().tokens().cloned(),
        })
    }

    /// As [`attribution_patch`](Self::attribution_patch) at the selected points, with the mean of the gradients at `steps`
    /// places on the straight line from the base's activation to the source's, instead of the gradient in the base run
    /// (Sundararajan et al. 2017, arXiv 1703.01365; for attribution patching, Hanna et al. 2024, arXiv 2403.17806).
    ///
    /// Each point walks its line by itself, with the rest of the model as in the base run, so that the effects of one point
    /// add up to what patching all of it does, up to the steps' error. Costs `steps` runs forward and backward for each
    /// point.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
    /// let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
    /// let (_, clean_cache) = model.run_with_cache(clean)?;
    /// let metric = logit_diff(" John", " Mary");
    /// let predicted = model.integrated_gradients(corrupted, &clean_cache, &metric, attn_out(2), 8)?;
    /// assert_eq!(predicted.by("attn_out", ["layer", "pos"])?.dims(), [1, 17]);
    /// # Ok(()) }
    /// ```
    pub fn integrated_gradients(
        &self,
        base: impl Into<Input>,
        source: &ActivationCache,
        metric: &Metric,
        at: impl Into<Selector>,
        steps: usize,
    ) -> Result<Attribution> {
        check_source(self, source)?;
        if steps == 0 {
            return Err(Error::msg("integrated gradients need at least one step; 5 to 20 are usual"));
        }
        let (base, at) = (base.into(), at.into());
        let run = self.run(base.clone(), &RunOptions::new().cache(at))?;
        let (mut effects, mut value, mut prompts) = (Vec::new(), 0.0, 1);
        let meter = Progress::default().start("integrated gradients", "runs");
        let runs = steps * run.cache.len();
        for (place, (point, activation)) in run.cache.iter().enumerate() {
            let change = difference(point, &source.get(point)?, activation)?;
            let mut gradients = change.zeros_like()?;
            for step in 0..steps {
                let done = place * steps + step;
                meter.at(done, Some(done as f64 / runs as f64));
                // The middle of each part of the line.
                let share = (step as f64 + 0.5) / steps as f64;
                let (here, change) = (activation.clone(), change.clone());
                let hooks =
                    Hooks::new().edit(point, move |_, _| Ok((&here + (&change * share)?.to_dtype(here.dtype())?)?));
                let run = self.gradients_with_hooks(base.clone(), metric, point, &hooks)?;
                gradients = (gradients + run.grad(point)?.to_dtype(DType::F32)?)?;
                prompts = run.values().len();
            }
            effects.push((point.clone(), ((change * gradients)? / steps as f64)?));
        }
        meter.finish(runs);
        if let (Some(tokens), Some(logits)) = (&run.tokens, &run.logits) {
            value = mean(&metric.bind(self, tokens)?.values(logits)?);
        }
        Ok(Attribution {
            metric: metric.name().to_string(),
            value,
            prompts,
            effects: Activations::new(effects),
            model: self.clone(),
            tokens: run.tokens,
        })
    }
}

impl Attribution {
    /// The metric of the base run, the mean over the prompts.
    pub fn base(&self) -> f32 {
        self.value
    }

    /// The effect of each number of one activation, in its shape, on the metric of its prompt.
    ///
    /// # Errors
    /// When the source did not hold the activation.
    pub fn get(&self, at: impl Into<Selector>) -> Result<Tensor> {
        self.effects.get(at)
    }

    /// The predicted change of the metric (the mean over the prompts) if an activation were patched at each place of some
    /// axes: `"layer"`, and axes of the activation as in its shape, `"pos"`, `"head"`, `"dest"`, `"src"`, `"neuron"`; with
    /// `"prompt"` for each prompt by itself. What is not named is patched as a whole. Several kinds of activations make
    /// a first axis `activation`, as in a sweep; NaN stands where there is no such place (a key head beyond the last).
    ///
    /// # Errors
    /// When the source did not hold such an activation, or it has no such axis.
    pub fn by<S: AsRef<str>>(
        &self,
        at: impl Into<Selector>,
        axes: impl IntoIterator<Item = S>,
    ) -> Result<LabelledTensor> {
        let axes: Vec<String> = axes.into_iter().map(|axis| axis.as_ref().to_string()).collect();
        if let Some(i) = (1..axes.len()).find(|&i| axes[..i].contains(&axes[i])) {
            return Err(Error::msg(format!("the axis '{}' is named twice", axes[i])));
        }
        let kinds = self.kinds(&at.into())?;
        let inner: Vec<&str> = axes.iter().map(String::as_str).filter(|axis| *axis != "layer").collect();
        let mut layers: Vec<Option<usize>> =
            kinds.iter().flat_map(|kind| &kind.1).map(|info| info.point.layer()).collect();
        layers.sort_unstable();
        layers.dedup();
        let parts = kinds.iter().map(|(_, points)| {
            points.iter().map(|info| Ok((info.point.layer(), self.summed(info, &inner)?))).collect::<Result<Vec<_>>>()
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;

        // As long as the longest of each axis.
        let mut dims = vec![0; inner.len()];
        for (_, part) in parts.iter().flatten() {
            dims.iter_mut().zip(part.dims()).for_each(|(longest, dim)| *longest = (*longest).max(*dim));
        }
        let layer_axis = axes.iter().position(|axis| axis == "layer");
        let of_kind = |parts: &Vec<(Option<usize>, Tensor)>| -> Result<Tensor> {
            let of_layer = |layer: &Option<usize>| match parts.iter().find(|(of, _)| of == layer) {
                Some((_, part)) => padded(part, &dims),
                None => Ok((Tensor::ones(&dims[..], DType::F32, self.model.device())? * f64::NAN)?),
            };
            match layer_axis {
                Some(axis) => Ok(Tensor::stack(&layers.iter().map(of_layer).collect::<Result<Vec<_>>>()?, axis)?),
                None => match parts.as_slice() {
                    [(_, part)] => padded(part, &dims),
                    // Patched all at once, an earlier layer's change reaches the metric through no later one.
                    _ => Err(Error::msg(
                        "the activation is in several layers, and one run predicts patches of one layer at a time: add the \
                         axis \"layer\", or name one layer's activation",
                    )),
                },
            }
        };
        let of_kinds = parts.iter().map(of_kind).collect::<Result<Vec<_>>>()?;
        let mut labels = Vec::new();
        for axis in &axes {
            labels.push(if axis == "layer" {
                if layers.contains(&None) {
                    return Err(Error::msg("the activation lies outside of the layers, so there is no axis 'layer'"));
                }
                Axis::new("layer", layers.iter().flatten().map(usize::to_string))
            } else {
                let place = inner.iter().position(|name| name == axis).unwrap_or_default();
                self.axis(axis, dims[place])?
            });
        }
        let title = format!("Predicted change of the {}", self.metric);
        match &of_kinds[..] {
            [one] => LabelledTensor::new(title, one, labels),
            several => {
                labels.insert(0, Axis::new("activation", kinds.iter().map(|(name, _)| short_label(name))));
                LabelledTensor::new(title, &Tensor::stack(several, 0)?, labels)
            }
        }
    }

    /// The points that are held and meant, those that differ in the layer only put together.
    fn kinds(&self, at: &Selector) -> Result<Vec<(String, Vec<PointInfo>)>> {
        let points = self.model.hook_points();
        let mut kinds: Vec<(String, Vec<PointInfo>)> = Vec::new();
        for place in at.resolve_in_order(points)? {
            let info = &points[place];
            if !self.effects.contains(info.point.name()) {
                continue;
            }
            let name = without_layer(&info.point);
            match kinds.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(info.clone()),
                None => kinds.push((name, vec![info.clone()])),
            }
        }
        if kinds.is_empty() {
            return Err(Error::msg(format!(
                "'{at:?}' is not among the {} activations that were patched: cache it in the source's run",
                self.effects.len()
            )));
        }
        Ok(kinds)
    }

    /// The effects at a point added up over all axes but the wanted ones, which are in this order.
    fn summed(&self, info: &PointInfo, wanted: &[&str]) -> Result<Tensor> {
        let mut effect = self.effects.by_name(info.point.name())?;
        let mut axes = axes_of(info);
        if axes.first() == Some(&"batch * pos") {
            let batch = self.tokens.as_ref().map_or(1, |tokens| tokens.shape().0);
            let dims = [&[batch, effect.dim(0)? / batch.max(1)], &effect.dims()[1..]].concat();
            effect = effect.reshape(dims)?;
            axes.splice(0..1, ["batch", "pos"]);
        }
        let find = |name: &&str| {
            let (found, known) = match *name {
                "prompt" => (axes.iter().position(|axis| *axis == "batch"), ""),
                _ => (find_axis(&axes, name).filter(|_| *name != "batch"), *name),
            };
            let others = axes.iter().copied().filter(|axis| *axis != "batch");
            found.filter(|&axis| axis < effect.rank()).ok_or_else(|| {
                unknown_axis(
                    if known.is_empty() { "prompt" } else { known },
                    ["layer", "prompt"].into_iter().chain(others),
                )
            })
        };
        let kept = wanted.iter().map(find).collect::<Result<Vec<usize>>>()?;
        let rest: Vec<usize> = (0..effect.rank()).filter(|axis| !kept.contains(axis)).collect();
        let rest_len: usize = rest.iter().map(|&axis| effect.dims()[axis]).product();
        let order = [&kept[..], &rest[..]].concat();
        if let Some(&twice) = kept.iter().enumerate().find(|(i, axis)| kept[..*i].contains(axis)).map(|(_, axis)| axis)
        {
            return Err(Error::msg(format!("two of the axes {wanted:?} are the same one, '{}'", axes[twice])));
        }
        let effect = effect.permute(order)?.contiguous()?;
        let summed = effect.reshape([&effect.dims()[..kept.len()], &[rest_len]].concat())?.sum(kept.len())?;
        Ok(if wanted.contains(&"prompt") { summed } else { (summed / self.prompts as f64)? })
    }

    fn axis(&self, name: &str, len: usize) -> Result<Axis> {
        let is_position = ["pos", "query", "key", "dest", "src"].contains(&name);
        // Where two texts are read, a position may be of either.
        let tokens = self.tokens.as_ref().filter(|_| is_position && !self.model.has_encoder());
        match tokens {
            Some(tokens) if tokens.shape().1 == len => Ok(Axis::new(name, position_labels(tokens)?)),
            _ => Ok(Axis::numbered(name, len)),
        }
    }
}

impl fmt::Debug for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (points, metric) = (self.effects.len(), &self.metric);
        write!(f, "Attribution of the {metric} ({} in the base run) to {points} activations", self.value)
    }
}

/// A tensor with NaN behind the end of each axis, up to these lengths.
fn padded(part: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let mut part = part.clone();
    for (axis, &len) in dims.iter().enumerate() {
        let missing = len - part.dim(axis)?;
        if missing > 0 {
            let mut shape = part.dims().to_vec();
            shape[axis] = missing;
            let nan = (Tensor::ones(shape, part.dtype(), part.device())? * f64::NAN)?;
            part = Tensor::cat(&[part, nan], axis)?;
        }
    }
    Ok(part)
}
