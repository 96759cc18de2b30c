//! Many runs that differ from one base run: each begins at the layer where it first differs, and runs that begin at the same
//! layer go through the model together.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::analysis::metric::{BoundMetric, Metric};
use crate::cache::ActivationCache;
use crate::hooks::{Fires, HookPoint, Hooks, Selector};
use crate::model::{HookedTransformer, Input, Logits, RunOptions};
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Tokens that go through the model together: more gain nothing, since the matrix products are large enough.
const TOKENS_AT_ONCE: usize = 2048;
/// Memory for the activations of the runs that go through together, unless the caller says otherwise.
pub(super) const MEMORY: usize = 1 << 30;

/// The run that all others are changes of.
#[derive(Clone)]
pub(crate) struct Base {
    model: HookedTransformer,
    standing: Hooks,
    tokens: Tokens,
    encoder_tokens: Option<Tokens>,
    metric: BoundMetric,
    /// Whether the kept stream at the start of a layer is what entered it; a standing hook there would work twice.
    streams_are_whole: bool,
    /// The metric of this run, a number for each prompt (or one for all).
    pub(crate) values: Vec<f32>,
    /// The activations that were asked for, besides the residual stream at the start of every layer and behind the last.
    pub(crate) cache: ActivationCache,
}

/// Where a run first differs from the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    /// At the embedding: all of it is run.
    Embedding,
    /// In a layer, counted from 0; the number of layers means behind the last.
    Layer(usize),
}

impl Base {
    /// Runs the base with the hooks that stand in every run, and keeps what is asked for.
    pub(crate) fn new(
        model: &HookedTransformer,
        input: &Input,
        standing: &Hooks,
        metric: &Metric,
        keep: Vec<Selector>,
    ) -> Result<Self> {
        let mut kept = keep;
        if !model.has_encoder() {
            kept.push("resid_pre".into());
            kept.push(("resid_post", -1).into());
        }
        let options = RunOptions::new().hooks(standing).cache(kept);
        let mut run = model.run(input, &options)?;
        let (Some(tokens), Some(logits)) = (run.tokens.clone(), run.logits.take()) else {
            return Err(Error::msg(
                "a sweep changes whole runs on tokens: give it a text or token ids, not a residual stream",
            ));
        };
        let metric = metric.bind(model, &tokens)?;
        let points = model.hook_points();
        let hooked = standing.places(points)?;
        Ok(Self {
            streams_are_whole: !hooked.iter().any(|&place| points[place].point.is("resid_pre")),
            model: model.clone(),
            standing: standing.clone(),
            values: metric.values(&logits)?,
            metric,
            tokens,
            encoder_tokens: run.encoder_tokens.clone(),
            cache: ActivationCache::new(model, run),
        })
    }

    /// The prompts that are run.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The metric of another run of the same model on as many prompts of the same length.
    pub(crate) fn metric_of(&self, logits: &Logits) -> Result<Vec<f32>> {
        self.metric.values(logits)
    }

    /// The metric of a run for each of `rows`, as many numbers each as the base has. `done` hears how many rows are done.
    pub(crate) fn run(
        &self,
        rows: &[Hooks],
        memory: usize,
        done: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let points = self.model.hook_points();
        let mut groups: BTreeMap<(Start, bool), Vec<usize>> = BTreeMap::new();
        for (row, hooks) in rows.iter().enumerate() {
            let places = hooks.places(points)?;
            // What does not begin with the batch can't be cut into runs.
            let alone = places.iter().any(|&place| !points[place].shape.starts_with("[batch"));
            groups.entry((self.start(&places), alone)).or_default().push(row);
        }
        let together = self.rows_together(memory);
        let mut values = vec![Vec::new(); rows.len()];
        let mut finished = 0;
        for ((start, alone), group) in groups {
            for chunk in group.chunks(if alone { 1 } else { together }) {
                let hooks: Vec<Hooks> = chunk.iter().map(|&row| self.standing.clone().and(&rows[row])).collect();
                for (&row, of_row) in chunk.iter().zip(self.run_together(start, &hooks)?) {
                    values[row] = of_row;
                }
                finished += chunk.len();
                done(finished)?;
            }
        }
        Ok(values)
    }

    /// The metric of each of a few runs that begin at the same place.
    fn run_together(&self, start: Start, each: &[Hooks]) -> Result<Vec<Vec<f32>>> {
        let n = each.len();
        let points = self.model.hook_points();
        let hooks = Hooks::side_by_side(each, points)?;
        let mut options = RunOptions::new().hooks(&hooks);
        // The metric's one position is all that is unembedded, unless a hook works on the logits of the others.
        let on_logits = hooks.places(points)?.iter().any(|&place| points[place].point.name().starts_with("unembed."));
        if let (Some(positions), false) = (self.metric.positions(), on_logits) {
            options = options.logits_at(positions.repeat(n));
        }
        let attended = self.encoder_tokens.as_ref().unwrap_or(&self.tokens);
        if let Some(mask) = attended.mask() {
            options = options.attention_mask(vec![mask; n].concat());
        }
        let input = match (start, &self.encoder_tokens) {
            (Start::Layer(layer), None) => {
                options = options.start_at_layer(layer as i64);
                let stream = self.stream(layer)?;
                Input::Tensor(stream.repeat((n, 1, 1))?)
            }
            (_, None) => Input::Tokens(repeated(&self.tokens, n)?),
            (_, Some(encoder)) => Input::from((repeated(encoder, n)?, repeated(&self.tokens, n)?)),
        };
        let run = self.model.run(input, &options)?;
        let logits = run.logits.ok_or_else(|| Error::msg("the run gave no logits"))?;
        let rows = self.tokens.shape().0;
        (0..n).map(|i| self.metric.values(&logits.with(logits.narrow(0, i * rows, rows)?))).collect()
    }

    /// The residual stream that enters a layer, `[batch, pos, d_model]`.
    fn stream(&self, layer: usize) -> Result<Tensor> {
        match layer == self.model.cfg().n_layers {
            true => self.cache.get(("resid_post", -1)),
            false => self.cache.get(("resid_pre", layer)),
        }
    }

    /// Where a run with hooks at these points first differs.
    fn start(&self, places: &[usize]) -> Start {
        let points = self.model.hook_points();
        let n_layers = self.model.cfg().n_layers;
        // Points come in the order in which they fire.
        let first_of_blocks = points.iter().position(|info| info.point.layer().is_some()).unwrap_or(0);
        match places.first() {
            // The same as the base: nothing but the end has to be run.
            None if self.model.has_encoder() => Start::Embedding,
            None => Start::Layer(n_layers),
            Some(_) if self.model.has_encoder() || !self.streams_are_whole => Start::Embedding,
            Some(&first) => match points[first].point.layer() {
                Some(layer) => Start::Layer(layer),
                None if first < first_of_blocks => Start::Embedding,
                None => Start::Layer(n_layers),
            },
        }
    }

    /// How many runs go through the model together.
    fn rows_together(&self, memory: usize) -> usize {
        let cfg = self.model.cfg();
        let (batch, pos) = self.tokens.shape();
        let logits = if self.metric.positions().is_some() { 1 } else { pos };
        // What is alive at once in a block, and the logits with their softmax.
        let of_block = 8 * cfg.d_model + 4 * cfg.d_mlp + 3 * cfg.n_heads * pos;
        let bytes = 4 * batch * (pos * of_block + 3 * logits * cfg.d_vocab);
        let by_memory = memory / bytes.max(1);
        by_memory.min(TOKENS_AT_ONCE.div_ceil(batch * pos)).max(1)
    }
}

/// Copies of a batch, one behind the other.
fn repeated(tokens: &Tokens, n: usize) -> Result<Tokens> {
    Tokens::from_ids(vec![tokens.ids(); n].concat())
}

/// Whether a point fires in a model, where it may be asked for.
pub(super) fn can_fire(fires: &Fires) -> bool {
    !matches!(fires, Fires::Never(_))
}

/// The name of a point with its layer left open, `blocks.{}.attn.hook_z`: points that differ in the layer only share it.
pub(crate) fn without_layer(point: &HookPoint) -> String {
    let parts = point.name().split('.').map(|part| if part.parse::<usize>().is_ok() { "{}" } else { part });
    parts.collect::<Vec<_>>().join(".")
}
