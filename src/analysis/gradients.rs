//! Gradients of a metric at hook points.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Tensor, Var};

use super::metric::{Metric, mean};
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, Hooks, Selector};
use crate::model::{HookedTransformer, Input, Logits, RunOptions, RunOutput};
use crate::{Error, Result};

/// A run, and the gradient of a metric at the selected points of it.
///
/// The gradient at a point says how much the metric would rise for each unit that is added to the activation there, with
/// all that comes later computed anew. Activations and gradients have the same names and shapes.
#[derive(Clone)]
pub struct Gradients {
    metric: String,
    values: Vec<f32>,
    logits: Logits,
    activations: ActivationCache,
    grads: ActivationCache,
}

impl Gradients {
    /// The metric of each prompt; one number for all if the metric gave one.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The metric, the mean over the prompts.
    pub fn value(&self) -> f32 {
        mean(&self.values)
    }

    /// What was differentiated.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// The gradient at one point, in the shape of its activation.
    ///
    /// # Errors
    /// When the point was not selected.
    pub fn grad(&self, at: impl Into<Selector>) -> Result<Tensor> {
        self.grads.get(at)
    }

    /// The activation at one point.
    ///
    /// # Errors
    /// When the point was not selected.
    pub fn activation(&self, at: impl Into<Selector>) -> Result<Tensor> {
        self.activations.get(at)
    }

    /// All gradients, under the names of the activations.
    pub fn grads(&self) -> &ActivationCache {
        &self.grads
    }

    /// The activations of the selected points.
    pub fn activations(&self) -> &ActivationCache {
        &self.activations
    }

    /// The logits of the run, `[batch, pos, d_vocab]`.
    pub fn logits(&self) -> &Logits {
        &self.logits
    }
}

impl fmt::Debug for Gradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gradients of the {} ({}) at {} points", self.metric, self.value(), self.grads.len())
    }
}

impl HookedTransformer {
    /// The gradient of a metric at the selected points: one forward and one backward pass.
    ///
    /// What is differentiated is the sum over the prompts, so that each row has its own prompt's gradient. Points that
    /// fire on request (`q_input`, `k_input`, `v_input`, `mlp_in`, `result`) are there when they are named. The backward
    /// pass takes about twice the time of the forward pass; candle keeps the activations behind the earliest point, and a
    /// gradient of each weight that is met, until it is done.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let prompt = "After John and Mary went to the store, Mary gave a bottle of milk to";
    /// let run = model.gradients(prompt, &logit_diff(" John", " Mary"), "resid_pre")?;
    /// println!("John leads by {:.2}", run.value());
    /// assert_eq!(run.grad(resid_pre(1))?.dims(), run.activation(resid_pre(1))?.dims());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A metric that is not made of tensor operations ([`Metric::from_fn`]); a named point that holds integers (the
    /// choice of experts), or that several activations go through (a norm, where queries, keys and values have inputs of
    /// their own). [`all`](crate::hooks::all) leaves those out.
    pub fn gradients(&self, input: impl Into<Input>, metric: &Metric, at: impl Into<Selector>) -> Result<Gradients> {
        self.gradients_with_hooks(input, metric, at, &Hooks::new())
    }

    /// As [`gradients`](Self::gradients), with hooks active: activations are as the hooks leave them, and gradients are
    /// those behind the hooks.
    pub fn gradients_with_hooks(
        &self,
        input: impl Into<Input>,
        metric: &Metric,
        at: impl Into<Selector>,
        hooks: &Hooks,
    ) -> Result<Gradients> {
        let at = at.into();
        let passed = Passed::default();
        // candle keeps the gradients of variables only: a zero is added that is one.
        let with_variables = passed.clone();
        let hooks = hooks.clone().edit(&at, move |activation, point| with_variables.add_variable(activation, point));
        let mut run = self.run(input, &RunOptions::new().hooks(&hooks))?;
        let (Some(tokens), Some(logits)) = (&run.tokens, run.logits.take()) else {
            return Err(Error::msg("a metric is of a whole run on tokens"));
        };
        let passed = passed.fit(&at, self)?;

        let values = metric.bind(self, tokens)?.of(&logits)?;
        if !values.track_op() {
            return Err(Error::msg(format!(
                "the metric '{}' has no gradient here: make it of tensor operations on the logits (Metric::new), that \
                 the selected points have a part in",
                metric.name()
            )));
        }
        let found = values.sum_all()?.backward()?;
        // What has no part in the metric has no entry.
        let gradient = |variable: &Var| match found.get(variable.as_tensor()) {
            Some(gradient) => Ok(gradient.detach()),
            None => variable.zeros_like(),
        };
        let grads = passed.iter().map(|passed| Ok((passed.point.clone(), gradient(&passed.variable)?)));
        let grads = grads.collect::<Result<Vec<_>>>()?;
        let activations = passed.iter().map(|passed| (passed.point.clone(), passed.activation.clone())).collect();
        let values = values.detach().to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
        let with = |cache: Vec<(HookPoint, Tensor)>| {
            ActivationCache::new(self, RunOutput { cache, resid: run.resid.detach(), ..run.clone() })
        };
        Ok(Gradients {
            metric: metric.name().to_string(),
            values,
            logits: logits.with(logits.detach()),
            activations: with(activations),
            grads: with(grads),
        })
    }
}

/// What went through the selected points of one run.
#[derive(Clone, Default)]
struct Passed(Arc<Mutex<Vec<At>>>);

/// A point, with its activation and the variable that was added to it, if it is one of floats.
type At = (HookPoint, Option<(Tensor, Var)>);

/// An activation, and the variable that was added to it.
struct Variable {
    point: HookPoint,
    activation: Tensor,
    variable: Var,
}

impl Passed {
    fn add_variable(&self, activation: &Tensor, point: &HookPoint) -> Result<Tensor> {
        let (activation, variable) = if activation.dtype().is_float() {
            let variable = Var::zeros(activation.dims(), activation.dtype(), activation.device())?;
            let activation = (activation + variable.as_tensor())?;
            (activation.clone(), Some((activation.detach(), variable)))
        } else {
            (activation.clone(), None)
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((point.clone(), variable));
        Ok(activation)
    }

    /// The points that can have a gradient: those that floats went through once. Another one that was named is an error.
    fn fit(&self, at: &Selector, model: &HookedTransformer) -> Result<Vec<Variable>> {
        let passed = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let times = |point: &HookPoint| passed.iter().filter(|(other, _)| other == point).count();
        let mut fit = Vec::new();
        for (point, variable) in &passed {
            let problem = match (variable, times(point)) {
                (Some((activation, variable)), 1) => {
                    let (activation, variable) = (activation.clone(), variable.clone());
                    fit.push(Variable { point: point.clone(), activation, variable });
                    continue;
                }
                (None, _) => "it holds integers".to_string(),
                (_, n) => format!("{n} activations go through it in this run, each with a gradient of its own"),
            };
            if at.names(point, model.hook_points()) {
                return Err(Error::msg(format!("'{point}' has no gradient: {problem}; leave it out")));
            }
        }
        if fit.is_empty() {
            return Err(Error::msg(format!("'{at:?}' selects no point with a gradient that fires in this run")));
        }
        Ok(fit)
    }
}
