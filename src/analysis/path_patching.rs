//! Path patching: what one part of a model does to another, by the direct path between them.
//!
//! Wang et al. 2022 (arXiv 2211.00593), Goldowsky-Dill et al. 2023 (arXiv 2304.05969).

use std::fmt;

use candle_core::Tensor;

use super::labelled::Axis;
use super::metric::Metric;
use super::sweep::{Base, MEMORY, Region, SweepResult};
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, Selector, points};
use crate::model::{HookedTransformer, Input};
use crate::progress::Progress;
use crate::{Error, Result};

/// A part of a model that writes to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sender {
    /// The token embedding.
    Embed,
    /// The position embedding, where positions are vectors.
    PosEmbed,
    /// One attention head: layer, head.
    Head(usize, usize),
    /// A whole attention layer.
    Attn(usize),
    /// An MLP, or a layer of experts.
    Mlp(usize),
}

/// A part of a model that reads the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Receiver {
    /// The queries of a head: layer, head.
    Q(usize, usize),
    /// The keys of a head: layer, key head (fewer than heads where these share).
    K(usize, usize),
    /// The values of a head: layer, value head.
    V(usize, usize),
    /// The input of an MLP, or of a layer of experts.
    Mlp(usize),
    /// The last norm and the unembedding.
    Logits,
}

/// Path patching, to be run: from which senders, into which receivers.
///
/// For each sender: its output is that of the source run; all attention heads (and, with [`freeze_mlps`](Self::freeze_mlps), all MLPs)
/// are held at what they are in the base run; what then arrives at the receivers is put in there, in a run in which
/// everything else is as in the base. So only the path from the sender to the receivers carries the change, directly or
/// through MLPs.
///
/// Each sender costs two partial forward passes (one if the logits are the receiver), several of which go together.
///
/// ```
/// use candlescope::analysis::path_patching::Receiver;
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
/// let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
/// let (_, corrupted_cache) = model.run_with_cache(corrupted)?;
/// let metric = logit_diff(" John", " Mary");
/// // Which heads speak to the logits directly? Each in turn says what it says in the corrupted run.
/// let to_logits = model.path_patch(clean).from(&corrupted_cache).into([Receiver::Logits]).measure(&metric).heads()?;
/// // And which are heard by the queries of layer 2's heads?
/// let queries = (0..model.cfg().n_heads).map(|head| Receiver::Q(2, head));
/// let to_queries = model.path_patch(clean).from(&corrupted_cache).into(queries).measure(&metric).heads()?;
/// assert_eq!(to_logits.values().dims(), to_queries.values().dims());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PathPatch {
    model: HookedTransformer,
    input: Input,
    source: Option<ActivationCache>,
    receivers: Vec<Receiver>,
    metric: Option<Metric>,
    freeze_mlps: bool,
    memory: usize,
    progress: Progress,
}

impl HookedTransformer {
    /// Path patching of a run on `input`, which is the base. See [`PathPatch`].
    pub fn path_patch(&self, input: impl Into<Input>) -> PathPatch {
        PathPatch {
            model: self.clone(),
            input: input.into(),
            source: None,
            receivers: Vec::new(),
            metric: None,
            freeze_mlps: false,
            memory: MEMORY,
            progress: Progress::default(),
        }
    }
}

impl PathPatch {
    /// The run that the senders' outputs are taken from. Its prompts must be as long as the base's.
    pub fn from(mut self, source: &ActivationCache) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// What receives the change, all of them at once. The logits can't be mixed with others.
    pub fn into(mut self, receivers: impl IntoIterator<Item = Receiver>) -> Self {
        self.receivers = receivers.into_iter().collect();
        self
    }

    /// Holds the MLPs too, so that only the residual stream itself carries the change.
    pub fn freeze_mlps(mut self) -> Self {
        self.freeze_mlps = true;
        self
    }

    /// What each run is judged by.
    pub fn measure(mut self, metric: impl Into<Metric>) -> Self {
        self.metric = Some(metric.into());
        self
    }

    /// About how much memory the runs that go together may take, in bytes; 1 GiB unless said otherwise.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Who is told how far it is: whoever looks, unless said otherwise.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// From every head: `[layer, head]`.
    ///
    /// # Errors
    /// Those of [`senders`](Self::senders).
    pub fn heads(&self) -> Result<SweepResult> {
        let cfg = self.model.cfg();
        let (n_layers, n_heads) = (cfg.n_layers, cfg.n_heads);
        let senders = (0..n_layers).flat_map(|layer| (0..n_heads).map(move |head| Sender::Head(layer, head)));
        self.run(senders.collect(), vec![Axis::numbered("layer", n_layers), Axis::numbered("head", n_heads)])
    }

    /// From these senders: `[sender]`.
    ///
    /// # Errors
    /// When source, receivers or metric are left unsaid; when the source does not fit the base; when there is no such sender
    /// or receiver in the model.
    pub fn senders(&self, senders: impl IntoIterator<Item = Sender>) -> Result<SweepResult> {
        let senders: Vec<Sender> = senders.into_iter().collect();
        let axis = Axis::new("sender", senders.iter().map(Sender::to_string));
        self.run(senders, vec![axis])
    }

    fn run(&self, senders: Vec<Sender>, axes: Vec<Axis>) -> Result<SweepResult> {
        let missing = |what: &str, how: &str| Error::msg(format!("path patching has no {what}: say {how}"));
        let source = self.source.as_ref().ok_or_else(|| missing("source", ".from(&cache)"))?;
        let metric =
            self.metric.as_ref().ok_or_else(|| missing("metric", ".measure(logit_diff(\" Mary\", \" John\"))"))?;
        if self.receivers.is_empty() {
            return Err(missing("receiver", ".into([Receiver::Logits]) or .into([Receiver::Q(9, 6)])"));
        }
        if senders.is_empty() {
            return Err(missing("sender", ".heads() or .senders([Sender::Mlp(0)])"));
        }
        self.check()?;
        let mut keep = vec![Selector::from("z")];
        if senders.contains(&Sender::Embed) {
            keep.push(points::embed().into());
        }
        if senders.contains(&Sender::PosEmbed) {
            keep.push(points::pos_embed().into());
        }
        if senders.iter().any(|sender| matches!(sender, Sender::Attn(_))) {
            keep.push("attn_out".into());
        }
        if self.freeze_mlps || senders.iter().any(|sender| matches!(sender, Sender::Mlp(_))) {
            keep.push("mlp_out".into());
        }
        let base = Base::new(&self.model, &self.input, &Hooks::new(), metric, keep)?;
        base.check_source(source, true)?;

        // A sender that comes after all receivers has no path to them.
        let reached: Vec<bool> =
            senders.iter().map(|sender| self.receivers.iter().any(|r| self.hears(r, sender))).collect();
        let rows: Vec<Hooks> = senders
            .iter()
            .zip(&reached)
            .filter(|(_, reached)| **reached)
            .map(|(sender, _)| self.send(*sender, source, &base))
            .collect::<Result<_>>()?;
        let measured = match self.receivers[..] {
            [Receiver::Logits] => base.run(&rows, self.memory, &self.progress)?,
            _ => {
                let received = self.receive(&rows, &base)?;
                base.run(&received, self.memory, &self.progress)?
            }
        };
        let mut measured = measured.into_iter();
        let measured = reached.iter().map(|reached| if *reached { measured.next() } else { Some(base.values.clone()) });
        let measured = measured.collect();
        SweepResult::new(metric, axes, measured, &base.values, base.metric_of_source(source, metric)?)
    }

    /// Whether the receivers are in the model and can be receivers together.
    fn check(&self) -> Result<()> {
        let cfg = self.model.cfg();
        if self.model.has_encoder() || cfg.post_norm {
            return Err(Error::msg(
                "path patching needs one residual stream that layers only add to; this model has two, or norms behind the additions",
            ));
        }
        if self.receivers.len() > 1 && self.receivers.contains(&Receiver::Logits) {
            return Err(Error::msg(
                "the logits are a receiver by themselves: ask for them and for the others one after the other",
            ));
        }
        for receiver in &self.receivers {
            let (layer, head, heads) = match *receiver {
                Receiver::Q(layer, head) => (layer, head, cfg.n_heads),
                Receiver::K(layer, head) | Receiver::V(layer, head) => (layer, head, cfg.n_key_value_heads),
                Receiver::Mlp(layer) => (layer, 0, 1),
                Receiver::Logits => (0, 0, 1),
            };
            if layer >= cfg.n_layers || head >= heads {
                return Err(Error::msg(format!(
                    "there is no receiver {receiver}: the model has {} layers with {} heads ({} for keys and values)",
                    cfg.n_layers, cfg.n_heads, cfg.n_key_value_heads
                )));
            }
        }
        Ok(())
    }

    /// Whether a receiver comes after a sender.
    fn hears(&self, receiver: &Receiver, sender: &Sender) -> bool {
        let of_mlp_in = |layer: usize| if self.model.cfg().parallel_attn_mlp { 2 * layer } else { 2 * layer + 1 };
        let reads = match *receiver {
            Receiver::Q(layer, _) | Receiver::K(layer, _) | Receiver::V(layer, _) => 2 * layer,
            Receiver::Mlp(layer) => of_mlp_in(layer),
            Receiver::Logits => usize::MAX,
        };
        let writes = match *sender {
            Sender::Embed | Sender::PosEmbed => 0,
            Sender::Head(layer, _) | Sender::Attn(layer) => 2 * layer + 1,
            Sender::Mlp(layer) => 2 * layer + 2,
        };
        writes <= reads
    }

    /// The sender says what it says in the source, and what comes after it is held.
    fn send(&self, sender: Sender, source: &ActivationCache, base: &Base) -> Result<Hooks> {
        let cfg = self.model.cfg();
        let in_layers = |layer: usize| match layer < cfg.n_layers {
            true => Ok(layer),
            false => Err(Error::msg(format!("there is no sender {sender}: the model has {} layers", cfg.n_layers))),
        };
        let mut hooks = Hooks::new();
        // What the sender says, and the first layers whose attention and MLP are held.
        let (held_attn, held_mlp) = match sender {
            Sender::Embed => {
                hooks = hooks.replace(points::embed(), source.get(points::embed())?);
                (0, 0)
            }
            Sender::PosEmbed => {
                hooks = hooks.replace(points::pos_embed(), source.get(points::pos_embed())?);
                (0, 0)
            }
            Sender::Head(layer, head) => {
                let z = points::z(in_layers(layer)?);
                let region = Region(vec![(2, vec![head])]);
                if head >= cfg.n_heads {
                    return Err(Error::msg(format!(
                        "there is no sender {sender}: the layers have {} heads",
                        cfg.n_heads
                    )));
                }
                let said = region.put(&base.cache.get(&z)?, &region.of(&source.get(&z)?)?)?;
                hooks = hooks.replace(z, said);
                (layer + 1, layer)
            }
            Sender::Attn(layer) => {
                let out = points::attn_out(in_layers(layer)?);
                hooks = hooks.replace(&out, source.get(&out)?);
                (layer + 1, layer)
            }
            Sender::Mlp(layer) => {
                let out = points::mlp_out(in_layers(layer)?);
                hooks = hooks.replace(&out, source.get(&out)?);
                (layer + 1, layer + 1)
            }
        };
        let hold = |hooks: Hooks, point: HookPoint| -> Result<Hooks> {
            match base.cache.contains(point.name()) {
                true => Ok(hooks.replace(&point, base.cache.get(&point)?)),
                false => Ok(hooks),
            }
        };
        for layer in held_attn..cfg.n_layers {
            hooks = hold(hooks, points::z(layer))?;
        }
        for layer in if self.freeze_mlps { held_mlp..cfg.n_layers } else { 0..0 } {
            hooks = hold(hooks, points::mlp_out(layer))?;
        }
        Ok(hooks)
    }

    /// For each row of senders' hooks, hooks that put what arrives at the receivers in there.
    fn receive(&self, rows: &[Hooks], base: &Base) -> Result<Vec<Hooks>> {
        let arrives: Vec<HookPoint> = self.receivers.iter().map(|receiver| self.stream_of(receiver)).collect();
        let last = arrives.iter().filter_map(HookPoint::layer).max().unwrap_or(0);
        // Streams that come before a sender are those of the base, and change nothing.
        let stop = (last + 1).min(self.model.cfg().n_layers);
        let streams = base.collect(rows, &Selector::from(arrives.clone()), stop, self.memory, &self.progress)?;
        let of_row = |streams: &Vec<(HookPoint, Tensor)>| -> Result<Hooks> {
            let mut hooks = Hooks::new();
            for (receiver, point) in self.receivers.iter().zip(&arrives) {
                if let Some((_, stream)) = streams.iter().find(|(kept, _)| kept == point) {
                    hooks = put_in(hooks, receiver, stream.clone());
                }
            }
            Ok(hooks)
        };
        streams.iter().map(of_row).collect()
    }

    /// The stream that a receiver reads.
    fn stream_of(&self, receiver: &Receiver) -> HookPoint {
        match *receiver {
            Receiver::Q(layer, _) | Receiver::K(layer, _) | Receiver::V(layer, _) => points::resid_pre(layer),
            Receiver::Mlp(layer) if self.model.cfg().parallel_attn_mlp => points::resid_pre(layer),
            Receiver::Mlp(layer) => points::resid_mid(layer),
            Receiver::Logits => points::resid_post(self.model.cfg().n_layers.saturating_sub(1)),
        }
    }
}

/// Puts a residual stream `[batch, pos, d_model]` in where a receiver reads, before its norm.
fn put_in(hooks: Hooks, receiver: &Receiver, stream: Tensor) -> Hooks {
    let (point, head) = match *receiver {
        Receiver::Q(layer, head) => (points::q_input(layer), head),
        Receiver::K(layer, head) => (points::k_input(layer), head),
        Receiver::V(layer, head) => (points::v_input(layer), head),
        Receiver::Mlp(layer) => return hooks.replace(points::mlp_in(layer), stream),
        Receiver::Logits => return hooks,
    };
    let region = Region(vec![(2, vec![head])]);
    hooks.edit(point, move |inputs, _| region.put(inputs, &stream.unsqueeze(2)?))
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("embed"),
            Self::PosEmbed => f.write_str("pos_embed"),
            Self::Head(layer, head) => write!(f, "L{layer}H{head}"),
            Self::Attn(layer) => write!(f, "{layer}_attn_out"),
            Self::Mlp(layer) => write!(f, "{layer}_mlp_out"),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Q(layer, head) => write!(f, "L{layer}H{head} Q"),
            Self::K(layer, head) => write!(f, "L{layer}H{head} K"),
            Self::V(layer, head) => write!(f, "L{layer}H{head} V"),
            Self::Mlp(layer) => write!(f, "MLP {layer}"),
            Self::Logits => f.write_str("logits"),
        }
    }
}
