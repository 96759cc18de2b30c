//! Sweeps: the same question asked of every place in a model, one intervention at a time.
//!
//! All causal work goes through one engine. Each run of a sweep begins at the layer where it first differs from the base run,
//! and runs that begin at the same layer go through the model together; memory is bounded ([`Sweep::memory`]).

mod engine;
mod operation;
mod region;
mod result;
mod source;

use std::sync::Arc;

use candle_core::Tensor;

use super::labelled::{Axis, unknown_axis, unravel};
use super::metric::Metric;
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, PointInfo, Selector};
use crate::model::{HookedTransformer, Input};
use crate::progress::Progress;
use crate::tokens::Tokens;
use crate::{Error, Result};
use operation::Operation;

use engine::Change;
pub(crate) use engine::{Base, MEMORY, without_layer};
pub(crate) use region::{Region, axes_of, find_axis};
pub use result::SweepResult;
pub(crate) use source::{check_source, fitted};

/// A sweep to be run: where to intervene, what to put there, and what to measure.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
/// let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
/// let (_, clean_cache) = model.run_with_cache(clean)?;
/// // Each head's output in turn is that of the clean run.
/// let heads = model.sweep(corrupted).at("z").by(["layer", "head"]).patch_from(&clean_cache)
///     .measure(logit_diff(" John", " Mary")).run()?;
/// assert_eq!(heads.values().dims(), [model.cfg().n_layers, model.cfg().n_heads]);
/// // What is the loss without each MLP?
/// let without = model.sweep(clean).at("mlp_out").by(["layer"]).zero().measure(metric::loss()).run()?;
/// # let _ = without; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sweep {
    model: HookedTransformer,
    input: Input,
    at: Vec<Selector>,
    by: Option<Vec<String>>,
    only: Vec<(String, Vec<usize>)>,
    operation: Option<Operation>,
    metric: Option<Metric>,
    standing: Hooks,
    memory: usize,
    progress: Progress,
}

impl HookedTransformer {
    /// A sweep over runs on `input`, each with one change. See [`Sweep`].
    pub fn sweep(&self, input: impl Into<Input>) -> Sweep {
        Sweep {
            model: self.clone(),
            input: input.into(),
            at: Vec::new(),
            by: None,
            only: Vec::new(),
            operation: None,
            metric: None,
            standing: Hooks::new(),
            memory: MEMORY,
            progress: Progress::default(),
        }
    }
}

impl Sweep {
    /// The activation to change: a name (`"z"`, for every layer), a point (`z(3)`), or another [`Selector`]. Called again, it
    /// adds another kind, and the result has an axis `activation`.
    pub fn at(mut self, activation: impl Into<Selector>) -> Self {
        self.at.push(activation.into());
        self
    }

    /// The axes to go along, one intervention for each place: `"layer"`, and axes of the activation, as in its shape: `"pos"`,
    /// `"head"`, `"query"` (or `"dest"`), `"key"` (or `"src"`), `"neuron"`, `"d_model"`. What is not named is changed as a whole, all
    /// layers at once included. Unsaid, it is by layer and head where there are heads, else by layer and position.
    pub fn by<S: Into<String>>(mut self, axes: impl IntoIterator<Item = S>) -> Self {
        self.by = Some(axes.into_iter().map(Into::into).collect());
        self
    }

    /// One intervention for everything at once: all places that are selected, in all layers. The result is one number.
    pub fn together(mut self) -> Self {
        self.by = Some(Vec::new());
        self
    }

    /// Only these places of an axis: `.only("layer", 3..6)`, `.only("head", [1, 4])`, `.only("neuron", [17])`. One by one where the
    /// sweep goes along that axis, else together.
    pub fn only(mut self, axis: impl Into<String>, places: impl IntoIterator<Item = usize>) -> Self {
        let mut places: Vec<usize> = places.into_iter().collect();
        places.sort_unstable();
        places.dedup();
        self.only.push((axis.into(), places));
        self
    }

    /// Puts in what another run had there: activation patching (Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022,
    /// arXiv 2202.05262). The prompts must have the same number of tokens.
    pub fn patch_from(self, source: &ActivationCache) -> Self {
        self.operation(Operation::Patch(source.clone()))
    }

    /// Puts in zeros: zero ablation.
    pub fn zero(self) -> Self {
        self.operation(Operation::Zero)
    }

    /// Puts in the mean over the prompts and positions of a run on some reference texts: mean ablation.
    pub fn mean_of(self, reference: &ActivationCache) -> Self {
        self.operation(Operation::Mean { of: reference.clone(), keep_positions: false })
    }

    /// Puts in the mean over the prompts of a run, position by position (Wang et al. 2022, arXiv 2211.00593).
    pub fn mean_by_position_of(self, reference: &ActivationCache) -> Self {
        self.operation(Operation::Mean { of: reference.clone(), keep_positions: true })
    }

    /// Puts in what another prompt of a batch had there: resample ablation (Chan et al. 2022, causal scrubbing). Prompt i of
    /// the sweep gets the activation of a prompt other than i of `reference`, drawn by `seed`.
    pub fn resample(self, reference: &ActivationCache, seed: u64) -> Self {
        self.operation(Operation::Resample { of: reference.clone(), seed })
    }

    /// Adds a vector, `[width]` of the activation's last axis, times each of some strengths: steering. The result has an axis
    /// `strength`.
    pub fn add(self, direction: &Tensor, strengths: impl IntoIterator<Item = f64>) -> Self {
        let strengths: Vec<f64> = strengths.into_iter().collect();
        self.operation(Operation::Add { direction: direction.clone(), strengths })
    }

    /// Takes out the part along one direction `[width]` or several `[n, width]`: directional ablation (Arditi et al. 2024,
    /// arXiv 2406.11717).
    pub fn project_out(self, directions: &Tensor) -> Self {
        self.operation(Operation::ProjectOut(directions.clone()))
    }

    /// Along one direction `[width]` or several `[n, width]` puts in what another run had there, and leaves the rest: an
    /// interchange on a subspace (Geiger et al. 2023, arXiv 2303.02536).
    pub fn interchange(self, directions: &Tensor, source: &ActivationCache) -> Self {
        self.operation(Operation::Interchange { directions: directions.clone(), of: source.clone() })
    }

    /// Puts in what a function makes of the part, `[batch, ..]` with length 1 on each axis that the sweep goes along.
    pub fn edit<F>(self, function: F) -> Self
    where
        F: Fn(&Tensor, &HookPoint) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.operation(Operation::Edit(Arc::new(function)))
    }

    /// What each run is judged by.
    pub fn measure(mut self, metric: impl Into<Metric>) -> Self {
        self.metric = Some(metric.into());
        self
    }

    /// Hooks that are active in every run, the base run too.
    pub fn hooks(mut self, hooks: &Hooks) -> Self {
        self.standing = hooks.clone();
        self
    }

    /// About how much memory the activations of runs that go through the model together may take, in bytes; 1 GiB unless
    /// said otherwise.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Who is told how far it is: whoever looks, unless said otherwise.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// When something is left unsaid or does not fit: no activation, no intervention or no metric; an axis that the activation
    /// lacks; a source of another model or with prompts of another length; an answer that is not one token.
    pub fn run(&self) -> Result<SweepResult> {
        let missing = |what: &str, how: &str| Error::msg(format!("the sweep has no {what}: {how}"));
        let operation = self.operation.as_ref().ok_or_else(|| {
            missing("intervention", "say what to put in, as in .patch_from(&cache), .zero() or .mean_of(&cache)")
        })?;
        let operation = &operation.clone().ready()?;
        let metric =
            self.metric.as_ref().ok_or_else(|| missing("metric", "say .measure(logit_diff(\" Mary\", \" John\"))"))?;
        let kinds = self.kinds()?;
        let keep = kinds.iter().flat_map(|kind| &kind.points).map(|(_, info)| Selector::from(&info.point)).collect();
        let base = Base::new(&self.model, &self.input, &self.standing, metric, keep)?;
        if let Some(source) = operation.source() {
            base.check_source(source, operation.copies_by_position())?;
        }
        let plan = Plan::new(self.by.as_deref(), &self.only, kinds, operation, &base)?;
        let sites = plan.sites(&base)?;
        let rows: Vec<Change> = sites.iter().flatten().cloned().collect();
        if rows.is_empty() {
            return Err(missing("place to intervene at", "none of the layers and places that were asked for exist"));
        }
        let mut measured = base.run(&rows, self.memory, &self.progress)?.into_iter();
        let measured = sites.iter().map(|site| site.as_ref().and_then(|_| measured.next())).collect();
        let source = match operation {
            Operation::Patch(source) | Operation::Interchange { of: source, .. } => {
                base.metric_of_source(source, metric)?
            }
            _ => None,
        };
        SweepResult::new(metric, plan.axes, measured, &base.values, source)
    }

    fn operation(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// The activations to change, those that differ in the layer only put together.
    fn kinds(&self) -> Result<Vec<Kind>> {
        let points = self.model.hook_points();
        let mut kinds: Vec<Kind> = Vec::new();
        for selector in &self.at {
            let from = kinds.len();
            for place in selector.resolve(points)? {
                let info = &points[place];
                let layer = info.point.layer();
                let chosen = |(axis, layers): &(String, Vec<usize>)| {
                    axis != "layer" || layer.is_none_or(|layer| layers.contains(&layer))
                };
                let wanted = self.only.iter().all(chosen);
                if !wanted {
                    continue;
                }
                let name = without_layer(&info.point);
                match kinds[from..].iter_mut().find(|kind| kind.name == name) {
                    Some(kind) => kind.points.push((layer, info.clone())),
                    None => kinds.push(Kind { name, points: vec![(layer, info.clone())] }),
                }
            }
        }
        if kinds.is_empty() {
            return Err(Error::msg(match self.at.is_empty() {
                true => "the sweep has no activation: say where to intervene, as in .at(\"resid_pre\")".to_string(),
                false => format!(
                    "the sweep has no layer left: the model has {}, counted from 0, and .only(\"layer\", ..) leaves none of those \
                     that the activation is in",
                    self.model.cfg().n_layers
                ),
            }));
        }
        Ok(kinds)
    }
}

/// One kind of activation, in some layers.
struct Kind {
    /// The points' name, with the layer left open.
    name: String,
    points: Vec<(Option<usize>, PointInfo)>,
}

impl Kind {
    /// The name without its module: `z`, `resid_pre`, `ln1.scale`.
    fn label(&self) -> String {
        short_label(&self.name)
    }
}

/// A name with the layer left open, without its module: `z`, `resid_pre`, `ln1.scale`.
pub(crate) fn short_label(name: &str) -> String {
    let tail = name.rsplit("{}.").next().unwrap_or(name);
    tail.trim_start_matches("attn.").trim_start_matches("mlp.").replace("hook_", "")
}

/// What a sweep goes along, and what it does there.
struct Plan<'a> {
    kinds: Vec<Kind>,
    /// The places that were chosen of an axis.
    only: Vec<(&'a str, &'a [usize])>,
    /// The axes that were asked for, by their names in the request.
    by: Vec<String>,
    layers: Vec<usize>,
    strengths: usize,
    operation: &'a Operation,
    /// The axes of the result.
    axes: Vec<Axis>,
}

impl<'a> Plan<'a> {
    fn new(
        by: Option<&[String]>,
        only: &'a [(String, Vec<usize>)],
        kinds: Vec<Kind>,
        operation: &'a Operation,
        base: &Base,
    ) -> Result<Self> {
        let by = by.map_or_else(|| usual_axes(&kinds), <[String]>::to_vec);
        let only: Vec<(&str, &[usize])> =
            only.iter().map(|(axis, places)| (&**axis, &**places)).filter(|(axis, _)| *axis != "layer").collect();
        for (axis, places) in &only {
            let len = axis_of(axis, &kinds, base)?.len();
            if places.is_empty() || places.iter().any(|&place| place >= len) {
                return Err(Error::msg(format!(
                    "only {places:?} of the axis '{axis}' were asked for, which has {len} places, counted from 0"
                )));
            }
        }
        let mut layers: Vec<usize> =
            kinds.iter().flat_map(|kind| kind.points.iter().filter_map(|(layer, _)| *layer)).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut axes = Vec::new();
        if kinds.len() > 1 {
            axes.push(Axis::new("activation", kinds.iter().map(Kind::label)));
        }
        for (i, name) in by.iter().enumerate() {
            if by[..i].contains(name) {
                return Err(Error::msg(format!("the axis '{name}' is named twice")));
            }
            axes.push(match &**name {
                "layer" if layers.is_empty() => {
                    return Err(Error::msg("the activation lies outside of the layers, so there is no axis 'layer'"));
                }
                "layer" => Axis::new("layer", layers.iter().map(usize::to_string)),
                _ => {
                    let whole = axis_of(name, &kinds, base)?;
                    match only.iter().find(|(axis, _)| axis == name) {
                        Some((_, places)) => Axis::new(&**name, places.iter().map(|&place| &whole.labels()[place])),
                        None => whole,
                    }
                }
            });
        }
        let strengths = match operation {
            Operation::Add { strengths, .. } => {
                axes.push(Axis::new("strength", strengths.iter().map(f64::to_string)));
                strengths.len()
            }
            _ => 1,
        };
        Ok(Self { kinds, only, by, layers, strengths, operation, axes })
    }

    /// What is changed for every place of the result, in row-major order; none where there is no such place.
    fn sites(&self, base: &Base) -> Result<Vec<Option<Change>>> {
        let sizes: Vec<usize> = self.axes.iter().map(Axis::len).collect();
        let total: usize = sizes.iter().product();
        let prepared: Vec<Vec<Prepared>> = self
            .kinds
            .iter()
            .map(|kind| kind.points.iter().map(|(_, info)| self.prepare(info, base)).collect::<Result<_>>())
            .collect::<Result<_>>()?;
        (0..total).map(|site| self.change_at(&unravel(site, &sizes), &prepared)).collect()
    }

    fn change_at(&self, index: &[usize], prepared: &[Vec<Prepared>]) -> Result<Option<Change>> {
        let (kind, index) = if self.kinds.len() > 1 { (index[0], &index[1..]) } else { (0, index) };
        let strength = if self.strengths > 1 || index.len() > self.by.len() { index[self.by.len()] } else { 0 };
        let wanted = |name: &str| self.by.iter().position(|axis| axis == name).map(|i| index[i]);
        let layer = wanted("layer").map(|i| self.layers[i]);
        let (mut hooks, mut from) = (Hooks::new(), usize::MAX);
        for ((of_layer, _), prepared) in self.kinds[kind].points.iter().zip(&prepared[kind]) {
            if layer.is_some() && *of_layer != layer {
                continue;
            }
            let along = self.by.iter().zip(index).filter(|(name, _)| *name != "layer").map(|(name, &i)| {
                let chosen = self.only.iter().find(|(axis, _)| axis == name);
                (&**name, vec![chosen.map_or(i, |(_, places)| places[i])])
            });
            let rest = self.only.iter().filter(|(axis, _)| !self.by.iter().any(|name| name == axis));
            let mut region = Vec::new();
            for (name, places) in along.chain(rest.map(|(axis, places)| (*axis, places.to_vec()))) {
                match find_axis(&prepared.axes, name) {
                    Some(axis) if places.iter().all(|&place| place < prepared.base.dims()[axis]) => {
                        region.push((axis, places))
                    }
                    _ => return Ok(None),
                }
            }
            let positions = find_axis(&prepared.axes, "pos");
            let chosen = region.iter().find(|(axis, _)| Some(*axis) == positions);
            from = from.min(chosen.and_then(|(_, places)| places.first().copied()).unwrap_or(0));
            hooks = prepared.hook(hooks, Region(region), self.operation, strength)?;
        }
        Ok((!hooks.is_empty()).then_some(Change { hooks, from }))
    }

    fn prepare(&self, info: &PointInfo, base: &Base) -> Result<Prepared> {
        let activation = base.cache.get(&info.point)?;
        let axes = axes_of(info);
        let source = match self.operation {
            Operation::Interchange { of, .. } => Some(of.get(&info.point)?),
            _ => None,
        };
        Ok(Prepared {
            replacement: self.operation.replacement(&info.point, &activation, &axes)?,
            point: info.point.clone(),
            base: activation,
            axes,
            source,
        })
    }
}

/// A point, with what is the same for all places of its activation.
struct Prepared {
    point: HookPoint,
    axes: Vec<&'static str>,
    base: Tensor,
    replacement: Option<Tensor>,
    source: Option<Tensor>,
}

impl Prepared {
    /// `hooks` and one that changes a region of this point's activation.
    fn hook(&self, hooks: Hooks, region: Region, operation: &Operation, strength: usize) -> Result<Hooks> {
        if let Some(replacement) = &self.replacement {
            let part = region.of(replacement)?;
            return Ok(hooks
                .edit(&self.point, move |activation, _| region.put(activation, &part.to_dtype(activation.dtype())?)));
        }
        let source = self.source.as_ref().map(|source| region.of(source)).transpose()?;
        let operation = operation.clone();
        Ok(hooks.edit(&self.point, move |activation, point| {
            let part = region.of(activation)?;
            let changed = operation.apply(point, &part, source.as_ref(), strength)?;
            if changed.dims() != part.dims() {
                return Err(Error::msg(format!(
                    "the intervention made {:?} of a part of shape {:?}; it must keep the shape",
                    changed.dims(),
                    part.dims()
                )));
            }
            region.put(activation, &changed)
        }))
    }
}

/// By layer and head where there are heads, else by layer and position.
fn usual_axes(kinds: &[Kind]) -> Vec<String> {
    let every = |name: &str| {
        kinds.iter().flat_map(|kind| &kind.points).all(|(_, info)| find_axis(&axes_of(info), name).is_some())
    };
    let in_layers = kinds.iter().any(|kind| kind.points.iter().any(|(layer, _)| layer.is_some()));
    let inner = ["head", "pos"].into_iter().find(|name| every(name));
    in_layers.then_some("layer").into_iter().chain(inner).map(String::from).collect()
}

/// An axis of the result that is one of the activations': as long as the longest.
fn axis_of(name: &str, kinds: &[Kind], base: &Base) -> Result<Axis> {
    let mut len = 0;
    for (_, info) in kinds.iter().flat_map(|kind| &kind.points) {
        let axes = axes_of(info);
        let known = axes.iter().copied().filter(|axis| *axis != "batch");
        let axis = find_axis(&axes, name)
            .filter(|_| name != "batch")
            .ok_or_else(|| unknown_axis(name, std::iter::once("layer").chain(known)))?;
        len = len.max(base.cache.get(&info.point)?.dim(axis)?);
    }
    let is_position = ["pos", "query", "key", "dest", "src"].contains(&name);
    // What an encoder reads are other tokens.
    let of_encoder = |name: &str| name.starts_with("encoder_") || name.contains(".cross_attn.");
    let is_own = !kinds.iter().flat_map(|kind| &kind.points).any(|(_, info)| of_encoder(info.point.name()));
    match is_position && is_own && len == base.tokens().shape().1 {
        true => Ok(Axis::new(name, position_labels(base.tokens())?)),
        false => Ok(Axis::numbered(name, len)),
    }
}

/// Each position with its token, where all prompts have the same there.
pub(crate) fn position_labels(tokens: &Tokens) -> Result<Vec<String>> {
    let rows = tokens.ids();
    let first = tokens.str_tokens(0)?;
    let label = |(pos, token): (usize, &String)| {
        if rows.iter().all(|row| row[pos] == rows[0][pos]) { format!("{token} {pos}") } else { pos.to_string() }
    };
    Ok(first.iter().enumerate().map(label).collect())
}
