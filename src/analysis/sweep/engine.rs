//! Many runs that differ from one base run. Each begins at the layer, and at about the position, where it first differs: what
//! lies before is the base's. They go through the model together, each joining the others where it begins.

use candle_core::Tensor;

use crate::analysis::metric::{BoundMetric, Metric, mean};
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, Selector};
use crate::model::{HookedTransformer, Input, KvCache, RunOptions, RunOutput};
use crate::progress::Progress;

use super::check_source;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// Tokens that go through the model together: more gain nothing, since the matrix products are large enough.
const TOKENS_AT_ONCE: usize = 2048;
/// Runs that begin at different positions go together until they are so many tokens: fewer don't make up for reading the
/// weights once more.
const TOKENS_WORTH_A_PASS: usize = 384;
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
    /// Its keys and values; none where a run can't begin behind them.
    keys_values: Option<KvCache>,
    /// The metric of this run, a number for each prompt (or one for all).
    pub(crate) values: Vec<f32>,
    /// The activations that were asked for, besides the residual stream at the start of every layer and behind the last.
    pub(crate) cache: ActivationCache,
}

/// How a run differs from the base.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) hooks: Hooks,
    /// The first position that the hooks touch; 0 if that is not known.
    pub(crate) from: usize,
}

impl From<&Hooks> for Change {
    fn from(hooks: &Hooks) -> Self {
        Self { hooks: hooks.clone(), from: 0 }
    }
}

impl From<&Change> for Change {
    fn from(change: &Change) -> Self {
        change.clone()
    }
}

/// A run that is to be made.
struct Row {
    /// Its place in what was asked for.
    index: usize,
    start: Start,
    /// What is hooked, besides what stands in every run.
    hooks: Hooks,
    /// The last layer that is hooked; none if there are hooks behind all layers.
    last: Option<usize>,
    from: usize,
    /// It can't share a run: what it hooks does not begin with the batch.
    alone: bool,
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
        let mut keys_values = KvCache::new(model.cfg().n_layers);
        let begins_anywhere = standing.is_empty() && keys_values.is_for(model);
        let mut run = model.run_with_past(input, &options, begins_anywhere.then_some(&mut keys_values))?;
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
            keys_values: (begins_anywhere && tokens.mask().is_none()).then_some(keys_values),
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

    /// The metric of a run for each of `changes`, as many numbers each as the base has. `progress` hears how many are done.
    pub(crate) fn run<'a, C>(&self, changes: &'a [C], memory: usize, progress: &Progress) -> Result<Vec<Vec<f32>>>
    where
        Change: From<&'a C>,
    {
        let batches = self.batches(self.rows(changes)?, memory);
        self.each_batch(batches, progress, |rows| {
            let from = first_position(rows);
            let mut options = RunOptions::new();
            // The metric's one position is all that is unembedded, unless a hook works on the logits of the others.
            if let (Some(positions), false) = (self.metric.positions(), self.any_on_logits(rows)?) {
                let positions: Vec<usize> = positions.iter().map(|position| position - from).collect();
                options = options.logits_at(positions.repeat(rows.len()));
            }
            let run = self.run_together(rows, options)?;
            let logits = run.logits.ok_or_else(|| Error::msg("the run gave no logits"))?;
            let prompts = self.tokens.shape().0;
            let of_row = |i: usize| self.metric.values(&logits.with(logits.narrow(0, i * prompts, prompts)?));
            (0..rows.len()).map(of_row).collect()
        })
    }

    /// Selected activations of a run for each of `changes`, in the order of the forward pass; nothing behind `stop` is
    /// computed.
    ///
    /// All must lie at or behind the first place that a run's hooks are on, and have the batch as their first axis.
    pub(crate) fn collect(
        &self,
        changes: &[Hooks],
        keep: &Selector,
        stop: usize,
        memory: usize,
        progress: &Progress,
    ) -> Result<Vec<Vec<(HookPoint, Tensor)>>> {
        let prompts = self.tokens.shape().0;
        let rows = self.rows(changes)?;
        // What is kept has every run in it and every position, so only runs that begin alike go together.
        let mut batches: Vec<Vec<Row>> = Vec::new();
        let at_once = self.rows_together(memory);
        for row in sorted(rows, |row| row.start) {
            match batches.last_mut() {
                Some(batch)
                    if batch[0].start == row.start && batch.len() < at_once && !batch[0].alone && !row.alone =>
                {
                    batch.push(row);
                }
                _ => batches.push(vec![row]),
            }
        }
        self.each_batch(batches, progress, |rows| {
            let options = RunOptions::new().no_logits().cache(keep).stop_at_layer(stop as i64);
            let kept = self.run_together(rows, options)?.cache;
            let of_row = |i: usize| {
                let cut = |(point, tensor): &(HookPoint, Tensor)| {
                    Ok((point.clone(), tensor.narrow(0, i * prompts, prompts)?))
                };
                kept.iter().map(cut).collect::<Result<Vec<_>>>()
            };
            (0..rows.len()).map(of_row).collect()
        })
    }

    /// The runs, with what is known of where each begins and ends to differ.
    fn rows<'a, C>(&self, changes: &'a [C]) -> Result<Vec<Row>>
    where
        Change: From<&'a C>,
    {
        let points = self.model.hook_points();
        let row = |(index, change): (usize, &'a C)| {
            let Change { hooks, from } = Change::from(change);
            let places = hooks.places(points)?;
            let layers = places.iter().map(|&place| points[place].point.layer());
            Ok(Row {
                index,
                start: self.start(&places),
                last: layers.collect::<Option<Vec<_>>>().map(|layers| layers.into_iter().max().unwrap_or(0)),
                from: if self.may_begin_at(from) { from } else { 0 },
                alone: places.iter().any(|&place| !points[place].shape.starts_with("[batch")),
                hooks,
            })
        };
        changes.iter().enumerate().map(row).collect()
    }

    /// Whether a run that differs from this position on can do without those before: the metric must not look there.
    fn may_begin_at(&self, from: usize) -> bool {
        let looked_at = self.metric.positions().is_some_and(|positions| positions.iter().all(|&at| at >= from));
        self.keys_values.is_some() && looked_at
    }

    /// Runs that go through the model together. Of those that begin in a layer, the ones that begin at near positions do.
    fn batches(&self, rows: Vec<Row>, memory: usize) -> Vec<Vec<Row>> {
        let at_once = self.rows_together(memory);
        let (prompts, len) = self.tokens.shape();
        let mut batches: Vec<Vec<Row>> = Vec::new();
        for row in sorted(rows, |row| (row.alone, row.start == Start::Embedding, row.from, row.start)) {
            let joins = batches.last().is_some_and(|batch| {
                let first = &batch[0];
                let tokens = batch.len() * prompts * (len - first.from);
                let alike =
                    !row.alone && !first.alone && (row.start == Start::Embedding) == (first.start == Start::Embedding);
                let near = batch.last().is_some_and(|last| last.from == row.from) || tokens < TOKENS_WORTH_A_PASS;
                alike && near && batch.len() < at_once
            });
            match batches.last_mut() {
                Some(batch) if joins => batch.push(row),
                _ => batches.push(vec![row]),
            }
        }
        batches.into_iter().map(|batch| sorted(batch, |row| row.start)).collect()
    }

    /// Something of each row, in the order in which they were asked for.
    fn each_batch<T>(
        &self,
        batches: Vec<Vec<Row>>,
        progress: &Progress,
        together: impl Fn(&[Row]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let total: usize = batches.iter().map(Vec::len).sum();
        let mut results: Vec<(usize, T)> = Vec::with_capacity(total);
        let meter = progress.start("sweep", "runs");
        for batch in batches {
            results.extend(batch.iter().map(|row| row.index).zip(together(&batch)?));
            meter.at(results.len(), Some(results.len() as f64 / total as f64));
        }
        meter.finish(results.len());
        Ok(sorted(results, |(row, _)| *row).into_iter().map(|(_, result)| result).collect())
    }

    fn any_on_logits(&self, rows: &[Row]) -> Result<bool> {
        let points = self.model.hook_points();
        let mut on_logits = self.standing.any_on_unembedding(points)?;
        for row in rows {
            on_logits |= row.hooks.any_on_unembedding(points)?;
        }
        Ok(on_logits)
    }

    /// Some rows, in the order in which they begin, as one run that each joins at its layer.
    fn run_together(&self, rows: &[Row], options: RunOptions) -> Result<RunOutput> {
        let Start::Layer(mut layer) = rows[0].start else {
            let n = rows.len();
            let options = self.with_hooks(options, rows, 0, 0)?;
            let input = match &self.encoder_tokens {
                None => Input::Tokens(repeated(&self.tokens, n)?),
                Some(encoder) => Input::from((repeated(encoder, n)?, repeated(&self.tokens, n)?)),
            };
            return self.model.run(input, &options);
        };
        let from = first_position(rows);
        let (mut joined, mut stream) = (0, None);
        loop {
            let there = rows.iter().take_while(|row| row.start <= Start::Layer(layer)).count();
            let of_base = self.stream(layer)?;
            let of_base = of_base.narrow(1, from, of_base.dim(1)? - from)?.repeat((there - joined, 1, 1))?;
            let input = Input::Tensor(match stream {
                Some(stream) => Tensor::cat(&[&stream, &of_base], 0)?,
                None => of_base,
            });
            joined = there;
            let mut past = match &self.keys_values {
                Some(all) if from > 0 => Some(all.beginning(from, joined)?),
                _ => None,
            };
            let next = rows.get(joined).map(|row| row.start);
            let options = match next {
                Some(Start::Layer(next)) => RunOptions::new().no_logits().stop_at_layer(next as i64),
                _ => options.clone(),
            };
            let options = self.with_hooks(options, &rows[..joined], layer, from)?.start_at_layer(layer as i64);
            let run = self.model.run_with_past(&input, &options, past.as_mut())?;
            match next {
                Some(Start::Layer(next)) => (layer, stream) = (next, Some(run.resid)),
                _ => return Ok(run),
            }
        }
    }

    /// The options with the hooks of each row that act in this layer or behind it, and the mask of the copies.
    fn with_hooks(&self, options: RunOptions, rows: &[Row], layer: usize, from: usize) -> Result<RunOptions> {
        let points = self.model.hook_points();
        let of_row = |row: &Row| match row.last.is_some_and(|last| last < layer) {
            true => self.standing.clone(),
            false => self.standing.clone().and(&row.hooks),
        };
        let hooks = Hooks::side_by_side(&rows.iter().map(of_row).collect::<Vec<_>>(), points)?;
        let options = options.hooks(&if from > 0 { hooks.behind(from, points)? } else { hooks });
        let attended = self.encoder_tokens.as_ref().unwrap_or(&self.tokens);
        Ok(match attended.mask() {
            Some(mask) => options.attention_mask(vec![mask; rows.len()].concat()),
            None => options,
        })
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

/// Where the first of some runs begins to differ.
fn first_position(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.from).min().unwrap_or(0)
}

/// The same in another order; what is equal keeps its order.
fn sorted<T, K: Ord>(mut all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    all.sort_by_key(key);
    all
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
