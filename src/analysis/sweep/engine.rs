//! Many runs that differ from one base run: each begins at the layer where it first differs, and runs that begin at the same
//! layer go through the model together.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::analysis::metric::{BoundMetric, Metric, mean};
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, Selector};
use crate::model::{HookedTransformer, Input, RunOptions, RunOutput};
use crate::progress::Progress;

use super::check_source;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Tokens that go through the model together: more gain nothing, since the matrix products are large enough.
const TOKENS_AT_ONCE: usize = 2048;
/// Memory for the activations of the runs that go through together, unless the caller says otherwise.
pub(crate) const MEMORY: usize = 1 << 30;

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

    /// Whether activations of another run can be put into this one: of the same model and, if they are copied from place to
    /// place, of prompts of the same length.
    pub(crate) fn check_source(&self, source: &ActivationCache, by_position: bool) -> Result<()> {
        check_source(&self.model, source)?;
        let Some(tokens) = source.tokens().filter(|_| by_position) else { return Ok(()) };
        let ((rows, len), (base_rows, base_len)) = (tokens.shape(), self.tokens.shape());
        if len != base_len {
            return Err(Error::msg(format!(
                "the prompt to change has {base_len} tokens and the source {len}: what is copied goes from place to place, so \
                 give prompts of equal length (compare model.to_str_tokens of both)"
            )));
        }
        if rows != base_rows && rows != 1 {
            return Err(Error::msg(format!(
                "there are {base_rows} prompts to change and {rows} in the source: give one source for each, or one for all"
            )));
        }
        Ok(())
    }

    /// The metric of the run that activations are taken from, the mean over its prompts; none if its tokens are not known.
    pub(crate) fn metric_of_source(&self, source: &ActivationCache, metric: &Metric) -> Result<Option<f32>> {
        let Some(tokens) = source.tokens() else { return Ok(None) };
        let input = match source.encoder_tokens() {
            Some(encoder) => Input::from((encoder, tokens)),
            None => Input::from(tokens),
        };
        let run = self.model.run(input, &RunOptions::new())?;
        let Some(logits) = run.logits else { return Ok(None) };
        // One source for all prompts is judged by the answers of each.
        let values = match tokens.shape().0 == self.tokens.shape().0 {
            true => metric.bind(&self.model, tokens)?.values(&logits)?,
            false => self.metric.values(&logits.with(logits.repeat((self.tokens.shape().0, 1, 1))?))?,
        };
        Ok(Some(mean(&values)))
    }

    /// The metric of a run for each of `rows`, as many numbers each as the base has. `progress` hears how many rows are
    /// done.
    pub(crate) fn run(&self, rows: &[Hooks], memory: usize, progress: &Progress) -> Result<Vec<Vec<f32>>> {
        self.in_batches(rows, memory, progress, |start, each| {
            let mut options = RunOptions::new();
            // The metric's one position is all that is unembedded, unless a hook works on the logits of the others.
            if let (Some(positions), false) = (self.metric.positions(), self.any_on_logits(each)?) {
                options = options.logits_at(positions.repeat(each.len()));
            }
            let run = self.run_together(start, each, options)?;
            let logits = run.logits.ok_or_else(|| Error::msg("the run gave no logits"))?;
            let rows = self.tokens.shape().0;
            (0..each.len()).map(|i| self.metric.values(&logits.with(logits.narrow(0, i * rows, rows)?))).collect()
        })
    }

    /// Selected activations of a run for each of `rows`, in the order of the forward pass; nothing behind `stop` is computed.
    ///
    /// All must lie at or behind the first place that a row's hooks are on, and have the batch as their first axis.
    pub(crate) fn collect(
        &self,
        rows: &[Hooks],
        keep: &Selector,
        stop: usize,
        memory: usize,
        progress: &Progress,
    ) -> Result<Vec<Vec<(HookPoint, Tensor)>>> {
        let batch = self.tokens.shape().0;
        self.in_batches(rows, memory, progress, |start, each| {
            let options = RunOptions::new().no_logits().cache(keep).stop_at_layer(stop as i64);
            let kept = self.run_together(start, each, options)?.cache;
            let of_row = |i: usize| {
                let cut =
                    |(point, tensor): &(HookPoint, Tensor)| Ok((point.clone(), tensor.narrow(0, i * batch, batch)?));
                kept.iter().map(cut).collect::<Result<Vec<_>>>()
            };
            (0..each.len()).map(of_row).collect()
        })
    }

    /// Something of each of `rows`, from runs on several at once that begin at the same place.
    fn in_batches<T>(
        &self,
        rows: &[Hooks],
        memory: usize,
        progress: &Progress,
        together: impl Fn(Start, &[Hooks]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let points = self.model.hook_points();
        let mut groups: BTreeMap<(Start, bool), Vec<usize>> = BTreeMap::new();
        for (row, hooks) in rows.iter().enumerate() {
            let places = hooks.places(points)?;
            // What does not begin with the batch can't be cut into runs.
            let alone = places.iter().any(|&place| !points[place].shape.starts_with("[batch"));
            groups.entry((self.start(&places), alone)).or_default().push(row);
        }
        let at_once = self.rows_together(memory);
        let mut results: Vec<(usize, T)> = Vec::with_capacity(rows.len());
        let meter = progress.start("sweep", "runs");
        for ((start, alone), group) in groups {
            for chunk in group.chunks(if alone { 1 } else { at_once }) {
                let hooks: Vec<Hooks> = chunk.iter().map(|&row| self.standing.clone().and(&rows[row])).collect();
                results.extend(chunk.iter().copied().zip(together(start, &hooks)?));
                meter.at(results.len(), Some(results.len() as f64 / rows.len() as f64));
            }
        }
        meter.finish(results.len());
        results.sort_by_key(|(row, _)| *row);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    fn any_on_logits(&self, each: &[Hooks]) -> Result<bool> {
        let points = self.model.hook_points();
        for hooks in each {
            if hooks.places(points)?.iter().any(|&place| points[place].point.name().starts_with("unembed.")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A few runs that begin at the same place, as one.
    fn run_together(&self, start: Start, each: &[Hooks], options: RunOptions) -> Result<RunOutput> {
        let n = each.len();
        let mut options = options.hooks(&Hooks::side_by_side(each, self.model.hook_points())?);
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
        self.model.run(input, &options)
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

/// The name of a point with its layer left open, `blocks.{}.attn.hook_z`: points that differ in the layer only share it.
pub(crate) fn without_layer(point: &HookPoint) -> String {
    let parts = point.name().split('.').map(|part| if part.parse::<usize>().is_ok() { "{}" } else { part });
    parts.collect::<Vec<_>>().join(".")
}
