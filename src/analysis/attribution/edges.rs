//! Attribution patching of edges (EAP): from everything that writes to the residual stream to everything that reads it.

use std::fmt;

use candle_core::{DType, Tensor};

use super::circuit::CircuitGraph;
use super::difference;
use super::stream::{check_stream, reads, written, written_points};
use crate::analysis::labelled::{Axis, LabelledTensor};
use crate::analysis::metric::{Metric, mean};
use crate::analysis::path_patching::{Receiver, Sender};
use crate::analysis::sweep::check_source;
use crate::cache::ActivationCache;
use crate::error::near_misses;
use crate::hooks::{Fires, HookPoint, Hooks, points};
use crate::model::{HookedTransformer, Input, RunOptions};
use crate::{Error, Result};

/// By how much the metric would change, to first order, if one receiver alone saw what one sender wrote in the source run,
/// for each edge of the model.
///
/// In a notebook it shows the strongest edges, and all as a heatmap.
#[derive(Clone)]
pub struct EdgeScores {
    metric: String,
    value: f32,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    matrix: LabelledTensor,
    parallel: bool,
    share: usize,
}

/// One edge and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// What writes.
    pub from: Sender,
    /// What reads.
    pub to: Receiver,
    /// The predicted change of the metric.
    pub score: f32,
}

impl HookedTransformer {
    /// Edge attribution patching (Syed et al. 2023, arXiv 2310.10348): for each edge, (what the sender wrote in the source
    /// run - in the base run) times the gradient at the receiver's input in the base run, added up over positions.
    ///
    /// Senders are the embedding (positions included), each head and each MLP (or its experts); receivers are the queries, keys and values of each
    /// head, each MLP, and the logits. A receiver reads what comes before it: an MLP reads the heads of its own layer where
    /// the block is sequential. Shared key and value heads are one receiver each. A norm behind a branch (Gemma 2) counts
    /// as linear, with the scale of the run. The cost is that of one run forward and backward in which every head has inputs
    /// of its own, and of one product of two matrices for each layer.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
    /// let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
    /// let (_, clean_cache) = model.run_with_cache(clean)?;
    /// let edges = model.edge_attribution(corrupted, &clean_cache, &logit_diff(" John", " Mary"))?;
    /// for edge in edges.top_k(5) {
    ///     println!("{} -> {}: {:.2}", edge.from, edge.to, edge.score);
    /// }
    /// let circuit = edges.circuit(0.5);
    /// assert!(circuit.edges().iter().all(|edge| edge.score.abs() >= 0.5));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A source of another model or with prompts of another length; a metric without a gradient; a model whose stream is
    /// no sum of what heads and MLPs write (norms after the additions, an encoder beside the decoder, state spaces).
    pub fn edge_attribution(
        &self,
        base: impl Into<Input>,
        source: &ActivationCache,
        metric: &Metric,
    ) -> Result<EdgeScores> {
        self.edges(base.into(), source, metric, &[0.0])
    }

    /// As [`edge_attribution`](Self::edge_attribution), with the mean of the gradients of `steps` runs whose embeddings lie
    /// on the straight line from the base's to the source's (EAP-IG, Hanna et al. 2024, arXiv 2403.17806). Steps are the
    /// middles of equal parts of the line; 5 are usual. Costs `steps` runs forward and backward.
    pub fn edge_attribution_ig(
        &self,
        base: impl Into<Input>,
        source: &ActivationCache,
        metric: &Metric,
        steps: usize,
    ) -> Result<EdgeScores> {
        if steps == 0 {
            return Err(Error::msg("integrated gradients need at least one step; 5 are usual"));
        }
        let shares: Vec<f64> = (0..steps).map(|step| (step as f64 + 0.5) / steps as f64).collect();
        self.edges(base.into(), source, metric, &shares)
    }

    fn edges(&self, base: Input, source: &ActivationCache, metric: &Metric, shares: &[f64]) -> Result<EdgeScores> {
        check_stream(self)?;
        check_source(self, source)?;
        let groups = receivers(self);
        let reading: Vec<HookPoint> = groups.iter().map(|(point, _)| point.clone()).collect();

        let mut run = self.run(base.clone(), &RunOptions::new().cache(written_points(self)))?;
        let (Some(tokens), Some(logits)) = (run.tokens.clone(), run.logits.take()) else {
            return Err(Error::msg("a metric is of a whole run on tokens"));
        };
        let values = metric.bind(self, &tokens)?.values(&logits)?;
        let cache = ActivationCache::new(self, run);

        // Each sender's change, a row of the stack.
        let (senders, changes) = changes(self, &cache, source)?;
        let embed = points::resid_pre(0);
        let start = cache.get(&embed)?;
        let towards = difference(&embed, &source.get(&embed)?, &start)?;
        let mut scores: Option<Tensor> = None;
        for &share in shares {
            let (start, towards) = (start.clone(), towards.clone());
            let hooks = match share {
                0.0 => Hooks::new(),
                _ => {
                    Hooks::new().edit(&embed, move |_, _| Ok((&start + (&towards * share)?.to_dtype(start.dtype())?)?))
                }
            };
            let run = self.gradients_with_hooks(base.clone(), metric, reading.clone(), &hooks)?;
            let columns = groups.iter().map(|(point, receivers)| {
                let gradient = run.grad(point)?.to_dtype(DType::F32)?;
                let gradient = if gradient.rank() == 3 { gradient.unsqueeze(2)? } else { gradient };
                let by_receiver = gradient.permute((2, 0, 1, 3))?.contiguous()?.reshape((receivers.len(), ()))?;
                Ok(changes.matmul(&by_receiver.t()?)?)
            });
            let of_step = Tensor::cat(&columns.collect::<Result<Vec<_>>>()?, 1)?;
            scores = Some(match scores {
                Some(sum) => (sum + of_step)?,
                None => of_step,
            });
        }
        let scores = scores.ok_or_else(|| Error::msg("no step was asked for"))?;
        let scores = (scores / (shares.len() * values.len()) as f64)?;

        let receivers: Vec<Receiver> = groups.into_iter().flat_map(|(_, receivers)| receivers).collect();
        let parallel = self.cfg().parallel_attn_mlp;
        let exists = senders
            .iter()
            .flat_map(|&from| receivers.iter().map(move |to| f32::from(u8::from(reads(*to, from, parallel)))));
        let exists = Tensor::from_vec(exists.collect::<Vec<f32>>(), scores.shape(), scores.device())?;
        let axes = [
            Axis::new("sender", senders.iter().map(Sender::to_string)),
            Axis::new("receiver", receivers.iter().map(Receiver::to_string)),
        ];
        Ok(EdgeScores {
            metric: metric.name().to_string(),
            value: mean(&values),
            matrix: LabelledTensor::new(
                format!("Predicted change of the {}", metric.name()),
                &(scores * exists)?,
                axes,
            )?,
            senders,
            receivers,
            parallel,
            share: self.cfg().heads_per_key_value(),
        })
    }
}

impl EdgeScores {
    /// The scores `[sender, receiver]`; 0 where there is no edge.
    pub fn matrix(&self) -> &LabelledTensor {
        &self.matrix
    }

    /// The metric of the base run, the mean over the prompts.
    pub fn base(&self) -> f32 {
        self.value
    }

    /// What the scores are predicted changes of.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// The senders, in the order of the matrix's rows.
    pub fn senders(&self) -> &[Sender] {
        &self.senders
    }

    /// The receivers, in the order of the matrix's columns.
    pub fn receivers(&self) -> &[Receiver] {
        &self.receivers
    }

    /// The edge between two names, as in `("L0H1", "L1H0 Q")`, `("embed", "MLP 0")` or `("1_mlp_out", "logits")`.
    ///
    /// # Errors
    /// A name that does not exist, or a receiver that lies before the sender.
    pub fn edge(&self, from: &str, to: &str) -> Result<Edge> {
        let unknown = |what: &str, name: &str, known: Vec<String>| {
            let near = near_misses(name, known.iter().map(String::as_str));
            let hint = near.first().map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            let example = known.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            Error::msg(format!("there is no {what} '{name}'{hint} (there are {example} and so on)"))
        };
        let sender = self.senders.iter().find(|sender| sender.to_string() == from);
        let sender =
            sender.ok_or_else(|| unknown("sender", from, self.senders.iter().map(Sender::to_string).collect()))?;
        let receiver = self.receivers.iter().find(|receiver| receiver.to_string() == to);
        let receiver = receiver
            .ok_or_else(|| unknown("receiver", to, self.receivers.iter().map(Receiver::to_string).collect()))?;
        let edge = self.all_edges().into_iter().find(|edge| edge.from == *sender && edge.to == *receiver);
        edge.ok_or_else(|| {
            Error::msg(format!("there is no edge from {from} to {to}: the receiver reads before the sender writes"))
        })
    }

    /// Every edge, in the order of the matrix.
    pub fn all_edges(&self) -> Vec<Edge> {
        let scores = self.matrix.values();
        let pairs = self.senders.iter().flat_map(|&from| self.receivers.iter().map(move |&to| (from, to)));
        let exists = |from: Sender, to: Receiver| reads(to, from, self.parallel);
        let edges = pairs.zip(scores).filter(|((from, to), _)| exists(*from, *to));
        edges.map(|((from, to), score)| Edge { from, to, score }).collect()
    }

    /// The `k` edges with the largest scores by magnitude, largest first.
    pub fn top_k(&self, k: usize) -> Vec<Edge> {
        let mut edges = self.all_edges();
        edges.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()));
        edges.truncate(k);
        edges
    }

    /// The edges whose score has at least this magnitude, as far as they lie on a path from the embedding to the logits.
    pub fn circuit(&self, threshold: f32) -> CircuitGraph {
        let strong = self.all_edges().into_iter().filter(|edge| edge.score.abs() >= threshold).collect();
        CircuitGraph::new(&self.metric, strong, self.share)
    }

    /// As [`circuit`](Self::circuit), of the `k` strongest edges.
    pub fn top_circuit(&self, k: usize) -> CircuitGraph {
        CircuitGraph::new(&self.metric, self.top_k(k), self.share)
    }
}

impl fmt::Debug for EdgeScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EdgeScores of the {}: {} senders, {} receivers",
            self.metric,
            self.senders.len(),
            self.receivers.len()
        )
    }
}

/// What reads the stream, by the points where it does, in the order of the layers.
fn receivers(model: &HookedTransformer) -> Vec<(HookPoint, Vec<Receiver>)> {
    let cfg = model.cfg();
    let mut groups = Vec::new();
    for layer in 0..cfg.n_layers {
        groups.push((points::q_input(layer), (0..cfg.n_heads).map(|head| Receiver::Q(layer, head)).collect()));
        let shared = 0..cfg.n_key_value_heads;
        groups.push((points::k_input(layer), shared.clone().map(|head| Receiver::K(layer, head)).collect()));
        groups.push((points::v_input(layer), shared.map(|head| Receiver::V(layer, head)).collect()));
        let mlp_in = points::mlp_in(layer);
        if model.hook_points().iter().any(|info| info.point == mlp_in && !matches!(info.fires, Fires::Never(_))) {
            groups.push((mlp_in, vec![Receiver::Mlp(layer)]));
        }
    }
    groups.push((points::resid_post(cfg.n_layers.saturating_sub(1)), vec![Receiver::Logits]));
    groups
}

/// The senders, and the change of each from base to source, `[sender, batch * pos * d_model]`.
fn changes(
    model: &HookedTransformer,
    base: &ActivationCache,
    source: &ActivationCache,
) -> Result<(Vec<Sender>, Tensor)> {
    // A shape that does not fit is named by its point.
    let embed = points::resid_pre(0);
    difference(&embed, &source.get(&embed)?, &base.get(&embed)?)?;
    let pairs = written(model, base)?.into_iter().zip(written(model, source)?);
    let change = |((sender, base), (_, source)): ((Sender, Tensor), (Sender, Tensor))| {
        Ok((sender, source.broadcast_sub(&base)?.flatten_all()?))
    };
    let (senders, changes): (Vec<Sender>, Vec<Tensor>) =
        pairs.map(change).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok((senders, Tensor::stack(&changes, 0)?))
}
