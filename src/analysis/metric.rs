//! What a run is judged by: one number for each prompt.

use std::fmt;
use std::sync::Arc;

use candle_core::{D, DType, Tensor};
use candle_nn::ops::{log_softmax, softmax};

use super::lens::log_probs;
use crate::hooks::Hooks;
use crate::model::{HookedTransformer, Input, Logits, RunOptions, at_positions, next_token_loss};
use crate::tokens::{TokenChoice, TokenRef, Tokens};
use crate::{Error, Result};

/// A measure of a run: a number for each prompt, from the logits.
///
/// Made by [`logit_diff`], [`logit`], [`prob`], [`log_prob`], [`loss`], [`kl_divergence`], or from any closure
/// ([`Metric::new`], [`Metric::from_fn`]). All but the last can be differentiated, as attribution patching needs.
/// Where nothing else is said ([`Metric::at`]), the logits of each prompt's last token are judged, padding aside.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let prompt = "After John and Mary went to the store, Mary gave a bottle of milk to";
/// let by_name = model.measure(prompt, &logit_diff(" John", " Mary"))?;
/// let john_leads = Metric::from_fn("John leads", |logits| logits.logit_diff(" John", " Mary"));
/// assert!((by_name - model.measure(prompt, &john_leads)?).abs() < 1e-4);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Metric {
    name: String,
    place: Place,
    bind: Arc<Bind>,
}

/// From the model, the prompts and the position in each that is judged to the function of the logits: tokens are looked up
/// once, and errors come early.
type Bind = dyn Fn(&HookedTransformer, &Tokens, &[usize]) -> Result<Arc<Measure>> + Send + Sync;
type Measure = dyn Fn(&Logits) -> Result<Tensor> + Send + Sync;

/// Which logits a metric looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Those of each prompt's last token.
    End,
    /// Those of one position, the same in every prompt; negative from the end.
    At(i64),
    /// All.
    Everywhere,
}

/// The logit of the right answer minus that of the wrong one (Wang et al. 2022, arXiv 2211.00593).
///
/// Each is one token, by its text (mind the leading space) or id, or a list with one for each prompt.
pub fn logit_diff(right: impl Into<TokenChoice>, wrong: impl Into<TokenChoice>) -> Metric {
    let (right, wrong) = (right.into(), wrong.into());
    let name = match (&right, &wrong) {
        (TokenChoice::One(_), TokenChoice::One(_)) => {
            format!("logit difference of {} and {}", named(&right), named(&wrong))
        }
        _ => "logit difference".to_string(),
    };
    Metric::at_end(name, move |model, tokens, _| {
        let (right, wrong) = (ids_of(&right, model, tokens)?, ids_of(&wrong, model, tokens)?);
        Ok(Arc::new(move |logits: &Logits| Ok((pick(logits, &right)? - pick(logits, &wrong)?)?)))
    })
}

/// The logit of the answer.
pub fn logit(answer: impl Into<TokenChoice>) -> Metric {
    of_answer("logit", answer.into(), |logits| Ok(logits.clone()))
}

/// The probability of the answer, 0 to 1.
pub fn prob(answer: impl Into<TokenChoice>) -> Metric {
    of_answer("probability", answer.into(), |logits| Ok(softmax(logits, D::Minus1)?))
}

/// The log probability of the answer, in nats.
pub fn log_prob(answer: impl Into<TokenChoice>) -> Metric {
    of_answer("log probability", answer.into(), |logits| Ok(log_softmax(logits, D::Minus1)?))
}

/// The probability that the next token is one of these, 0 to 1.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let a_name = model.measure("John and Mary went to the store. Then", &metric::prob_any([" John", " Mary"]))?;
/// # assert!((0.0..=1.0).contains(&a_name)); Ok(()) }
/// ```
pub fn prob_any<T: Into<TokenRef>>(tokens: impl IntoIterator<Item = T>) -> Metric {
    let tokens: Vec<TokenRef> = tokens.into_iter().map(Into::into).collect();
    Metric::at_end(format!("probability of {}", listed(&tokens)), move |model, _, _| {
        let ids = several(&tokens, model)?;
        Ok(Arc::new(move |logits: &Logits| Ok(log_sum(logits, &ids)?.exp()?)))
    })
}

/// ln P(the next token is one of the first) - ln P(it is one of the second), in nats: above 0 where the first are
/// likelier.
pub fn log_odds<A: Into<TokenRef>, B: Into<TokenRef>>(
    right: impl IntoIterator<Item = A>,
    wrong: impl IntoIterator<Item = B>,
) -> Metric {
    let right: Vec<TokenRef> = right.into_iter().map(Into::into).collect();
    let wrong: Vec<TokenRef> = wrong.into_iter().map(Into::into).collect();
    Metric::at_end(format!("log odds of {} and {}", listed(&right), listed(&wrong)), move |model, _, _| {
        let (right, wrong) = (several(&right, model)?, several(&wrong, model)?);
        Ok(Arc::new(move |logits: &Logits| Ok((log_sum(logits, &right)? - log_sum(logits, &wrong)?)?)))
    })
}

/// The mean loss of the next token over each prompt, in nats; padding aside.
pub fn loss() -> Metric {
    let bind = |_: &HookedTransformer, tokens: &Tokens, _: &[usize]| -> Result<Arc<Measure>> {
        let tokens = tokens.clone();
        let pairs: Vec<f32> = predicted(&tokens).into_iter().map(|pairs| pairs.max(1) as f32).collect();
        Ok(Arc::new(move |logits: &Logits| {
            let (per_token, _) = next_token_loss(logits, &tokens, tokens.mask())?;
            Ok((per_token.sum(1)? / Tensor::new(&pairs[..], logits.device())?)?)
        }))
    };
    Metric { name: "loss".to_string(), place: Place::Everywhere, bind: Arc::new(bind) }
}

/// How far the prediction is from that of another run on as many prompts, KL(other ‖ this) in nats: 0 where they agree.
///
/// `other` are the logits `[batch, pos, d_vocab]` of prompts of the same length, as the clean run's.
pub fn kl_divergence(other: &Logits) -> Metric {
    let other = other.clone();
    Metric::at_end("KL divergence", move |_, tokens, positions| {
        let (batch, pos, _) = other.dims3()?;
        let (rows, columns) = tokens.shape();
        if (batch, pos) != (rows, columns) {
            return Err(Error::msg(format!(
                "the KL divergence compares logits of {batch} prompts of {pos} tokens with a run on {rows} of {columns}; \
                 both must be the same"
            )));
        }
        let theirs = log_probs(&at_positions(&other, positions)?)?;
        Ok(Arc::new(move |logits: &Logits| {
            let theirs = theirs.to_device(logits.device())?;
            let ours = log_probs(logits)?;
            Ok((theirs.exp()? * (&theirs - ours)?)?.sum(D::Minus1)?.squeeze(1)?)
        }))
    })
}

impl Metric {
    /// A metric from logits `[batch, pos, d_vocab]` to one number for each prompt, `[batch]`, or a single one, `[]`.
    ///
    /// Made of tensor operations it can be differentiated.
    pub fn new<F>(name: impl Into<String>, function: F) -> Self
    where
        F: Fn(&Logits) -> Result<Tensor> + Send + Sync + 'static,
    {
        let function: Arc<Measure> = Arc::new(function);
        let bind = move |_: &HookedTransformer, _: &Tokens, _: &[usize]| Ok(function.clone());
        Self { name: name.into(), place: Place::Everywhere, bind: Arc::new(bind) }
    }

    /// A metric from logits `[batch, pos, d_vocab]` to one number. It has no gradient.
    pub fn from_fn<F>(name: impl Into<String>, function: F) -> Self
    where
        F: Fn(&Logits) -> Result<f32> + Send + Sync + 'static,
    {
        Self::new(name, move |logits| Ok(Tensor::new(function(logits)?, logits.device())?))
    }

    /// The same metric on the logits of one position instead of the last, negative from the end.
    ///
    /// A metric that looks at all positions ([`loss`], closures) stays as it is.
    pub fn at(mut self, pos: i64) -> Self {
        if self.place != Place::Everywhere {
            self.place = Place::At(pos);
        }
        self
    }

    /// What it measures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same metric under another name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The metric of a model's runs on these prompts.
    pub(crate) fn bind(&self, model: &HookedTransformer, tokens: &Tokens) -> Result<BoundMetric> {
        let (_, columns) = tokens.shape();
        let positions = match self.place {
            Place::Everywhere => None,
            Place::End => Some(tokens.last_positions()),
            Place::At(pos) => {
                let absolute = if pos < 0 { pos + columns as i64 } else { pos };
                if absolute < 0 || absolute >= columns as i64 {
                    return Err(Error::msg(format!(
                        "the metric '{}' is of position {pos}, and the prompts have {columns} tokens",
                        self.name
                    )));
                }
                Some(vec![absolute as usize; tokens.shape().0])
            }
        };
        let measure = (self.bind)(model, tokens, positions.as_deref().unwrap_or_default())?;
        Ok(BoundMetric { name: self.name.clone(), positions, measure })
    }

    fn at_end<F>(name: impl Into<String>, bind: F) -> Self
    where
        F: Fn(&HookedTransformer, &Tokens, &[usize]) -> Result<Arc<Measure>> + Send + Sync + 'static,
    {
        Self { name: name.into(), place: Place::End, bind: Arc::new(bind) }
    }
}

impl From<&Metric> for Metric {
    fn from(metric: &Metric) -> Self {
        metric.clone()
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metric({})", self.name)
    }
}

/// A metric with its tokens looked up, for the runs of one model on one batch of prompts.
#[derive(Clone)]
pub(crate) struct BoundMetric {
    name: String,
    positions: Option<Vec<usize>>,
    measure: Arc<Measure>,
}

impl BoundMetric {
    /// The one position of each prompt whose logits it needs; none if it needs all.
    pub(crate) fn positions(&self) -> Option<&[usize]> {
        self.positions.as_deref()
    }

    /// A number for each prompt, `[batch]`, or one for all, `[]`, from the logits of the run: at all positions, or, where
    /// it needs one, of that one alone, `[batch, 1, d_vocab]`.
    pub(crate) fn of(&self, logits: &Logits) -> Result<Tensor> {
        let one = self.positions.as_ref().filter(|_| logits.dims().get(1) != Some(&1));
        let values = match one {
            Some(positions) => (self.measure)(&logits.with(at_positions(logits, positions)?))?,
            None => (self.measure)(logits)?,
        };
        let batch = logits.dim(0)?;
        match values.dims() {
            [] => Ok(values),
            &[n] if n == batch => Ok(values),
            found => Err(Error::msg(format!(
                "the metric '{}' gave a tensor of shape {found:?}; it should give one number for each of the {batch} \
                 prompts, or a single one",
                self.name
            ))),
        }
    }

    /// The numbers of [`of`](Self::of); a single one stands for all prompts.
    pub(crate) fn values(&self, logits: &Logits) -> Result<Vec<f32>> {
        let values = self.of(logits)?.to_dtype(DType::F32)?;
        match values.rank() {
            0 => Ok(vec![values.to_scalar()?]),
            _ => Ok(values.to_vec1()?),
        }
    }
}

/// The mean over the prompts, of which there is at least one.
pub(crate) fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

/// A metric that is a function of one token's entry in the logits of a prompt.
fn of_answer(what: &str, answer: TokenChoice, of_logits: fn(&Tensor) -> Result<Tensor>) -> Metric {
    let name = format!("{what} of {}", named(&answer));
    Metric::at_end(name, move |model, tokens, _| {
        let ids = ids_of(&answer, model, tokens)?;
        Ok(Arc::new(move |logits: &Logits| pick(&of_logits(&logits.to_dtype(DType::F32)?)?, &ids)))
    })
}

/// How many next tokens each prompt predicts: pairs of neighbours of which neither is padding.
fn predicted(tokens: &Tokens) -> Vec<usize> {
    let (rows, columns) = tokens.shape();
    match tokens.mask() {
        None => vec![columns.saturating_sub(1); rows],
        Some(mask) => mask.iter().map(|row| row.windows(2).filter(|pair| pair[0] && pair[1]).count()).collect(),
    }
}

/// The entry of each row's token: `[batch, 1, d_vocab]` to `[batch]`.
fn pick(logits: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let ids = Tensor::new(ids, logits.device())?.unsqueeze(1)?;
    Ok(logits.squeeze(1)?.to_dtype(DType::F32)?.contiguous()?.gather(&ids, 1)?.squeeze(1)?)
}

impl HookedTransformer {
    /// A metric of one run, the mean over the prompts.
    pub fn measure(&self, input: impl Into<Input>, metric: &Metric) -> Result<f32> {
        self.measure_with_hooks(input, metric, &Hooks::new())
    }

    /// A metric of one run with hooks active, the mean over the prompts.
    pub fn measure_with_hooks(&self, input: impl Into<Input>, metric: &Metric, hooks: &Hooks) -> Result<f32> {
        let values = self.values_of(input, metric, hooks)?;
        Ok(mean(&values))
    }

    /// A metric of one run, a number for each prompt (or one, if the metric gives one for all).
    pub fn measure_each(&self, input: impl Into<Input>, metric: &Metric) -> Result<Vec<f32>> {
        self.values_of(input, metric, &Hooks::new())
    }

    fn values_of(&self, input: impl Into<Input>, metric: &Metric, hooks: &Hooks) -> Result<Vec<f32>> {
        let run = self.run(input, &RunOptions::new().hooks(hooks))?;
        let (Some(tokens), Some(logits)) = (run.tokens, run.logits) else {
            return Err(Error::msg("a metric is of a whole run on tokens"));
        };
        metric.bind(self, &tokens)?.values(&logits)
    }
}

/// One id for each prompt.
pub(crate) fn ids_of(answers: &TokenChoice, model: &HookedTransformer, tokens: &Tokens) -> Result<Vec<u32>> {
    let prompts = tokens.shape().0;
    let ids = match answers {
        TokenChoice::One(answer) => vec![model.token_id(answer)?; prompts],
        TokenChoice::PerRow(answers) => answers.iter().map(|answer| model.token_id(answer)).collect::<Result<_>>()?,
        TokenChoice::PerPosition(_) => {
            return Err(Error::msg(
                "a metric is of one position of each prompt: give one answer for all, or one for each",
            ));
        }
    };
    if ids.len() != prompts {
        return Err(Error::msg(format!(
            "there are {} answers for {prompts} prompts: give one for each, or one for all",
            ids.len()
        )));
    }
    Ok(ids)
}

/// The ids of several tokens, each once.
fn several(tokens: &[TokenRef], model: &HookedTransformer) -> Result<Vec<u32>> {
    let mut ids = tokens.iter().map(|token| model.token_id(token)).collect::<Result<Vec<u32>>>()?;
    ids.sort_unstable();
    ids.dedup();
    match ids.is_empty() {
        true => Err(Error::msg("no token was named; give at least one")),
        false => Ok(ids),
    }
}

/// The log of the summed probabilities of these tokens: `[batch, 1, d_vocab]` to `[batch]`.
fn log_sum(logits: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let all = log_probs(&logits.squeeze(1)?)?;
    let chosen = all.index_select(&Tensor::new(ids, logits.device())?, 1)?;
    Ok(chosen.log_sum_exp(1)?)
}

/// The first few tokens, for the name of a metric.
fn listed(tokens: &[TokenRef]) -> String {
    let named: Vec<String> = tokens.iter().take(3).map(|token| named(&TokenChoice::One(token.clone()))).collect();
    let more = if tokens.len() > 3 { format!(" or {} others", tokens.len() - 3) } else { String::new() };
    named.join(", ") + &more
}

/// The answer, for the name of a metric.
fn named(answers: &TokenChoice) -> String {
    match answers {
        TokenChoice::One(TokenRef::Text(text)) => format!("'{text}'"),
        TokenChoice::One(TokenRef::Id(id)) => format!("#{id}"),
        _ => "the answer".to_string(),
    }
}
