//! Direct logit attribution: how much each part of the residual stream adds to a token's logit.

use candle_core::{D, Tensor};

use super::{ActivationCache, Stack};
use crate::hooks::points;
use crate::{Error, Result};

impl ActivationCache {
    /// The stack as the last norm would pass it on, with the norm's scale held at what it was in the run, so that
    /// the parts still add up: the mean is taken off (LayerNorm) and the rest divided by `ln_final.hook_scale`.
    ///
    /// The norm's own weights are not applied: load the model with folded norms (the default).
    pub fn apply_ln_to_stack(&self, stack: &Stack) -> Result<Tensor> {
        let centred = if self.model.final_norm_centers() {
            stack.broadcast_sub(&stack.mean_keepdim(D::Minus1)?)?
        } else {
            stack.tensor().clone()
        };
        let scale = self.get(points::ln_final_scale())?.to_dtype(centred.dtype())?;
        Ok(centred.broadcast_div(&scale.unsqueeze(0)?)?)
    }

    /// What each component of a stack adds to the logit of `token`, or to its lead over `instead_of`, at every
    /// position: `[component, batch, pos]` (Elhage et al. 2021; b_U is not included).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let (mary, john) = (model.to_single_token(" Mary")?, model.to_single_token(" John")?);
    /// let attrs = cache.logit_attrs(&cache.decompose_resid(None)?, mary, Some(john))?;
    /// assert_eq!(attrs.dims().len(), 3);
    /// # Ok(()) }
    /// ```
    pub fn logit_attrs(&self, stack: &Stack, token: u32, instead_of: Option<u32>) -> Result<Tensor> {
        if !self.model.norms_folded() {
            return Err(Error::msg(
                "logit attribution needs folded norms: load the model with HookedTransformer::from_pretrained, which folds them",
            ));
        }
        let mut direction = self.model.residual_direction(token)?;
        if let Some(other) = instead_of {
            direction = (direction - self.model.residual_direction(other)?)?;
        }
        Ok(self.apply_ln_to_stack(stack)?.broadcast_mul(&direction)?.sum(D::Minus1)?)
    }
}
