//! Distributed alignment search: the subspace that carries a variable is learned (Geiger et al. 2023, arXiv 2303.02536).

use candle_core::{D, DType, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Subspace, TokenPositions, interchange, normals};
use crate::analysis::metric::{Metric, ids_of, log_prob};
use crate::hooks::Selector;
use crate::model::{HookedTransformer, Input, RunOptions};
use crate::tokens::{TokenChoice, Tokens};
use crate::{Error, Progress, Result};

/// Base prompts, source prompts, and what the model should answer to each base prompt when the variable that the subspace is
/// to carry has the source's value.
#[derive(Clone, Debug)]
pub struct InterchangePairs {
    base: Input,
    source: Input,
    answers: TokenChoice,
}

/// How a subspace is learned.
#[derive(Clone, Debug)]
pub struct LearnOptions {
    steps: usize,
    learning_rate: f64,
    batch: usize,
    seed: u64,
    metric: Option<Metric>,
    progress: Progress,
}

/// A subspace that was learned. In a notebook it shows the curve of the loss.
#[derive(Clone, Debug)]
pub struct LearnedSubspace {
    subspace: Subspace,
    losses: Vec<f32>,
    accuracy: f32,
    objective: String,
}

impl InterchangePairs {
    /// As many prompts on both sides, all of the same length, and an answer for each (one token, by its text or id).
    pub fn new(base: impl Into<Input>, source: impl Into<Input>, answers: impl Into<TokenChoice>) -> Self {
        Self { base: base.into(), source: source.into(), answers: answers.into() }
    }
}

impl Default for LearnOptions {
    fn default() -> Self {
        Self { steps: 100, learning_rate: 0.02, batch: 32, seed: 0, metric: None, progress: Progress::default() }
    }
}

impl LearnOptions {
    /// 100 steps of Adam with a learning rate of 0.02 on 32 pairs each, from seed 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many steps.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Adam's learning rate, on a matrix whose entries start normally distributed.
    pub fn learning_rate(mut self, rate: f64) -> Self {
        self.learning_rate = rate;
        self
    }

    /// How many pairs a step sees.
    pub fn batch(mut self, pairs: usize) -> Self {
        self.batch = pairs;
        self
    }

    /// From where the random start and the order of the pairs come.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes this metric as large as it gets, instead of the answers' log probability. Every step sees all pairs.
    pub fn maximize(mut self, metric: &Metric) -> Self {
        self.metric = Some(metric.clone());
        self
    }

    /// Tells how many steps are done.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }
}

impl LearnedSubspace {
    /// The subspace.
    pub fn subspace(&self) -> &Subspace {
        &self.subspace
    }

    /// The loss at each step: the mean cross entropy of the answers in nats, or minus the metric.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The interchange accuracy on the pairs that it was learned from, 0 to 1. How good it is, others must tell
    /// ([`HookedTransformer::interchange_accuracy`]).
    pub fn accuracy(&self) -> f32 {
        self.accuracy
    }

    /// What the loss is.
    pub fn objective(&self) -> &str {
        &self.objective
    }
}

impl HookedTransformer {
    /// Learns the `k` dimensions of an activation in which an interchange makes the model give the answers of the pairs
    /// (distributed alignment search, Geiger et al. 2023, arXiv 2303.02536). `at` is one point, and `positions` where in the
    /// prompts.
    ///
    /// A matrix `[width, k]` is made orthonormal by Gram and Schmidt in every step, and Adam changes the matrix. Each step is
    /// one run forward and backward on its pairs; the sources run once. The same seed gives the same subspace.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let base = ["After John and Mary went to the store, Mary gave a bottle of milk to",
    ///             "After Tom and Anna went to the store, Tom gave a bottle of milk to"];
    /// let source = ["After Paul and Kate went to the store, Kate gave a bottle of milk to",
    ///               "After Max and Lucy went to the store, Max gave a bottle of milk to"];
    /// let pairs = InterchangePairs::new(base, source, [" Paul", " Lucy"]);
    /// let learned = model.learn_subspace(&pairs, resid_pre(2), -1, 4, &LearnOptions::new().steps(5))?;
    /// assert_eq!(learned.losses().len(), 5);
    /// let accuracy = model.interchange_accuracy(&pairs, resid_pre(2), -1, learned.subspace())?;
    /// assert_eq!(accuracy, learned.accuracy());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Prompts of unequal length or number; a selection of several points; more dimensions than the activation has.
    pub fn learn_subspace(
        &self,
        pairs: &InterchangePairs,
        at: impl Into<Selector>,
        positions: impl Into<TokenPositions>,
        k: usize,
        options: &LearnOptions,
    ) -> Result<LearnedSubspace> {
        let pairs = Prepared::new(self, pairs, at.into(), positions.into())?;
        if options.steps == 0 || options.batch == 0 {
            return Err(Error::msg("learning needs at least one step, and a pair in each"));
        }
        let width = pairs.source.dims().last().copied().unwrap_or(0);
        let start = normals(width, k, options.seed)?.to_device(self.device())?;
        let matrix = Var::from_tensor(&start)?;
        let settings = ParamsAdamW { lr: options.learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut adam = AdamW::new(vec![matrix.clone()], settings)?;
        let mut order = StdRng::seed_from_u64(options.seed);
        let (mut rows, mut losses) = (Vec::new(), Vec::with_capacity(options.steps));
        let size = if options.metric.is_some() { pairs.len() } else { options.batch.min(pairs.len()) };
        let meter = options.progress.start("learning a subspace", "steps");
        for step in 0..options.steps {
            meter.at(step, Some(step as f64 / options.steps as f64));
            if rows.len() < size {
                rows = (0..pairs.len()).collect::<Vec<usize>>();
                if options.metric.is_none() {
                    rows.shuffle(&mut order);
                }
            }
            let of_step: Vec<usize> = rows.drain(..size).collect();
            let basis = orthonormal(matrix.as_tensor())?;
            let loss = pairs.loss(self, &of_step, &basis, options.metric.as_ref())?;
            let found = loss.to_dtype(DType::F32)?.to_scalar::<f32>()?;
            if !found.is_finite() {
                return Err(Error::msg(format!(
                    "the loss is {found} at step {}: use a smaller learning rate, or look at the metric",
                    losses.len()
                )));
            }
            losses.push(found);
            adam.step(&loss.backward()?)?;
        }
        meter.finish(options.steps);
        let basis = orthonormal(&matrix.as_tensor().detach())?.to_device(&candle_core::Device::Cpu)?;
        let subspace = Subspace { basis };
        Ok(LearnedSubspace {
            accuracy: pairs.accuracy(self, &subspace)?,
            subspace,
            losses,
            objective: match &options.metric {
                Some(metric) => format!("minus the {}", metric.name()),
                None => "cross entropy of the answers".to_string(),
            },
        })
    }

    /// The share of the pairs, 0 to 1, for which an interchange on the subspace makes the answer the likeliest next token.
    ///
    /// # Errors
    /// As [`learn_subspace`](Self::learn_subspace).
    pub fn interchange_accuracy(
        &self,
        pairs: &InterchangePairs,
        at: impl Into<Selector>,
        positions: impl Into<TokenPositions>,
        subspace: &Subspace,
    ) -> Result<f32> {
        Prepared::new(self, pairs, at.into(), positions.into())?.accuracy(self, subspace)
    }
}

/// How many pairs go through the model together where nothing is learned.
const TOGETHER: usize = 64;

/// Pairs whose sources have run.
struct Prepared {
    base: Tokens,
    /// The source's activation, `[pairs, pos, ..]`.
    source: Tensor,
    answers: Vec<u32>,
    at: Selector,
    positions: TokenPositions,
}

impl Prepared {
    fn new(
        model: &HookedTransformer,
        pairs: &InterchangePairs,
        at: Selector,
        positions: TokenPositions,
    ) -> Result<Self> {
        if model.has_encoder() {
            return Err(Error::msg(
                "pairs for an encoder-decoder are not there yet: make hooks with Subspace::interchange",
            ));
        }
        let run = model.run(pairs.source.clone(), &RunOptions::new().cache(at.clone()).no_logits())?;
        let base = model.run(pairs.base.clone(), &RunOptions::new().no_logits().stop_at_layer(0))?.tokens;
        let (Some(base), Some(source)) = (base, run.tokens) else {
            return Err(Error::msg("pairs are made of texts or token ids"));
        };
        if base.shape() != source.shape() {
            let ((rows, len), (source_rows, source_len)) = (base.shape(), source.shape());
            return Err(Error::msg(format!(
                "there are {rows} base prompts of {len} tokens and {source_rows} sources of {source_len}: an interchange goes \
                 from place to place, so give as many of the same length"
            )));
        }
        let [(_, activation)] = &run.cache[..] else {
            return Err(Error::msg(format!("'{at:?}' selects {} points; a subspace is of one", run.cache.len())));
        };
        if !activation.dtype().is_float() || activation.dim(0)? != base.shape().0 {
            return Err(Error::msg(format!(
                "'{at:?}' has shape {:?} ({:?}); a subspace is of floats with a row for each prompt",
                activation.dims(),
                activation.dtype()
            )));
        }
        Ok(Self { answers: ids_of(&pairs.answers, model, &base)?, source: activation.clone(), base, at, positions })
    }

    fn len(&self) -> usize {
        self.base.shape().0
    }

    /// The loss of an interchange with this basis on some of the pairs, a scalar.
    fn loss(
        &self,
        model: &HookedTransformer,
        rows: &[usize],
        basis: &Tensor,
        metric: Option<&Metric>,
    ) -> Result<Tensor> {
        let answers: Vec<u32> = rows.iter().map(|&row| self.answers[row]).collect();
        let metric = metric.cloned().unwrap_or_else(|| log_prob(answers));
        let tokens = self.tokens(rows)?;
        let metric = metric.bind(model, &tokens)?;
        let mut options = self.options(rows, basis)?;
        if let Some(positions) = metric.positions() {
            options = options.logits_at(positions);
        }
        let logits = model.run(&tokens, &options)?.logits.ok_or_else(|| Error::msg("the run gave no logits"))?;
        Ok(metric.of(&logits)?.mean_all()?.neg()?)
    }

    fn accuracy(&self, model: &HookedTransformer, subspace: &Subspace) -> Result<f32> {
        let rows: Vec<usize> = (0..self.len()).collect();
        let mut right = 0;
        for rows in rows.chunks(TOGETHER) {
            let tokens = self.tokens(rows)?;
            let options = self.options(rows, subspace.basis())?.logits_at(tokens.last_positions());
            let logits = model.run(&tokens, &options)?.logits.ok_or_else(|| Error::msg("the run gave no logits"))?;
            let likeliest: Vec<u32> = logits.tensor().squeeze(1)?.argmax(D::Minus1)?.to_vec1()?;
            right += likeliest.iter().zip(rows).filter(|(found, row)| **found == self.answers[**row]).count();
        }
        Ok(right as f32 / self.len() as f32)
    }

    fn tokens(&self, rows: &[usize]) -> Result<Tokens> {
        Tokens::from_ids(rows.iter().map(|&row| self.base.ids()[row].clone()).collect())
    }

    fn options(&self, rows: &[usize], basis: &Tensor) -> Result<RunOptions> {
        let ids: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let source = self.source.contiguous()?.index_select(&Tensor::new(ids, self.source.device())?, 0)?;
        let positions = self.positions.of_rows(rows);
        let options = RunOptions::new().hooks(&interchange(self.at.clone(), basis.clone(), source, positions));
        Ok(match self.base.mask() {
            Some(mask) => options.attention_mask(rows.iter().map(|&row| mask[row].clone()).collect()),
            None => options,
        })
    }
}

/// Orthonormal columns that span the same space as those of a matrix `[width, k]`, by Gram and Schmidt; gradients flow
/// through.
fn orthonormal(matrix: &Tensor) -> Result<Tensor> {
    let mut done: Option<Tensor> = None;
    for column in 0..matrix.dim(1)? {
        let mut rest = matrix.narrow(1, column, 1)?;
        if let Some(done) = &done {
            // Twice, so that rounding leaves nothing.
            for _ in 0..2 {
                rest = (&rest - done.matmul(&done.t()?.matmul(&rest)?)?)?;
            }
        }
        let unit = rest.broadcast_div(&rest.sqr()?.sum_all()?.sqrt()?)?;
        done = Some(match done {
            Some(done) => Tensor::cat(&[done, unit], 1)?,
            None => unit,
        });
    }
    done.ok_or_else(|| Error::msg("a subspace needs at least one dimension"))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn gram_schmidt_is_orthonormal_and_differentiable() -> Result<()> {
        let start = normals(6, 3, 1)?.to_dtype(DType::F64)?;
        let weight = normals(6, 3, 2)?.to_dtype(DType::F64)?;
        let q = orthonormal(&start)?;
        let off = (q.t()?.contiguous()?.matmul(&q)? - Tensor::eye(3, DType::F64, &Device::Cpu)?)?;
        assert!(off.abs()?.sum_all()?.to_scalar::<f64>()? < 1e-12);
        // The span is that of the columns: nothing is left of them outside.
        let left = (&start - q.matmul(&q.t()?.matmul(&start)?)?)?;
        assert!(left.abs()?.sum_all()?.to_scalar::<f64>()? < 1e-12);

        let value = |m: &Tensor| -> Result<Tensor> { Ok((orthonormal(m)? * &weight)?.sum_all()?) };
        let var = Var::from_tensor(&start)?;
        let grads = value(var.as_tensor())?.backward()?;
        let gradient = grads.get(var.as_tensor()).ok_or_else(|| Error::msg("no gradient"))?;
        let direction = normals(6, 3, 3)?.to_dtype(DType::F64)?;
        let found = (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
        let moved = |step: f64| -> Result<f64> { Ok(value(&(&start + (&direction * step)?)?)?.to_scalar()?) };
        let slope = (moved(1e-6)? - moved(-1e-6)?) / 2e-6;
        assert!((found - slope).abs() < 1e-7, "{found} and {slope}");
        Ok(())
    }
}
