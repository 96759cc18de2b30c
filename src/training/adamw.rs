//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101). candle-nn has it too, but can't give its moments away, and without
//! them training can't go on where it was stopped.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::TrainOptions;
use crate::{Error, Result};

/// The running means of each variable's gradient and of its square.
pub(crate) struct AdamW {
    pub(super) first: Vec<Tensor>,
    pub(super) second: Vec<Tensor>,
}

impl AdamW {
    pub(crate) fn new(vars: &[(String, Var)]) -> Result<Self> {
        let zeros =
            || vars.iter().map(|(_, var)| Ok(var.as_tensor().zeros_like()?.detach())).collect::<Result<Vec<_>>>();
        Ok(Self { first: zeros()?, second: zeros()? })
    }

    /// One step, the `step`th counted from 0. A variable without a gradient stays as it is.
    pub(crate) fn step(
        &mut self,
        vars: &[(String, Var)],
        gradients: &GradStore,
        step: usize,
        options: &TrainOptions,
    ) -> Result<()> {
        let (beta1, beta2) = options.betas;
        let corrected = |beta: f64| 1.0 - beta.powf((step + 1) as f64);
        let rate = options.rate_at(step);
        let shorten = shortening(vars, gradients, options.longest_gradient)?;
        for (i, (name, var)) in vars.iter().enumerate() {
            let Some(gradient) = gradients.get(var) else { continue };
            let gradient = if shorten < 1.0 { (gradient * shorten)? } else { gradient.clone() };
            let first = ((&self.first[i] * beta1)? + (&gradient * (1.0 - beta1))?)?;
            let second = ((&self.second[i] * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let root = ((&second / corrected(beta2))?.sqrt()? + options.eps)?;
            let change = (first.div(&root)? * (rate / corrected(beta1)))?;
            let is_matrix = name.rsplit('.').next().is_some_and(|name| name.starts_with("W_"));
            let kept = if is_matrix { 1.0 - rate * options.weight_decay } else { 1.0 };
            var.set(&((var.as_tensor().detach() * kept)? - change)?)?;
            (self.first[i], self.second[i]) = (first.detach(), second.detach());
        }
        Ok(())
    }
}

/// What the gradient, taken over all variables, has to be multiplied by to be no longer than `longest`.
fn shortening(vars: &[(String, Var)], gradients: &GradStore, longest: f64) -> Result<f64> {
    let squares = vars.iter().filter_map(|(_, var)| gradients.get(var)).map(|gradient| gradient.sqr()?.sum_all());
    let squares = squares.collect::<candle_core::Result<Vec<_>>>()?;
    if squares.is_empty() {
        return Ok(1.0);
    }
    let sum = Tensor::stack(&squares, 0)?.to_dtype(candle_core::DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    match sum.is_finite() {
        true => Ok((longest / sum.sqrt()).min(1.0)),
        false => Err(Error::msg(
            "the gradient is not a number, so no step is taken; a lower rate, a longer warm-up or other hooks may help",
        )),
    }
}
