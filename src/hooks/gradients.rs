//! Functions on gradients: what TransformerLens calls backward hooks.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Shape, Tensor, Var};

use super::{HookPoint, Hooks, Selector};
use crate::{Error, Result};

impl Hooks {
    /// Calls `function` with the gradient that flows back through each selected point, in the order of the backward pass:
    /// last point first. It has the shape of the activation.
    ///
    /// Nothing happens in a run without a backward pass; [`HookedTransformer::gradients_with_hooks`] makes one, and so does
    /// `backward()` on anything that is computed from the logits.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let hooks = Hooks::new().read_gradient("resid_pre", |gradient, point| {
    ///     println!("{point}: {:.3}", gradient.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt());
    ///     Ok(())
    /// });
    /// model.gradients_with_hooks("John gave a book to", &metric::logit(" Mary"), embed(), &hooks)?;
    /// # Ok(()) }
    /// ```
    ///
    /// [`HookedTransformer::gradients_with_hooks`]: crate::model::HookedTransformer::gradients_with_hooks
    pub fn read_gradient<F>(self, at: impl Into<Selector>, function: F) -> Self
    where
        F: Fn(&Tensor, &HookPoint) -> Result<()> + Send + Sync + 'static,
    {
        self.on_gradient(at, Arc::new(move |gradient, point| function(gradient, point).map(|()| gradient.clone())))
    }

    /// Puts what `function` returns in place of the gradient that flows back through each selected point; all that lies
    /// before the point gets the changed one. It must keep the shape.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// // The attention patterns held fixed: no gradient reaches queries and keys.
    /// let frozen = Hooks::new().edit_gradient("pattern", |gradient, _| Ok(gradient.zeros_like()?));
    /// let run = model.gradients_with_hooks("John gave a book to", &metric::logit(" Mary"), "q", &frozen)?;
    /// assert_eq!(run.grad(q(1))?.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    /// # Ok(()) }
    /// ```
    pub fn edit_gradient<F>(self, at: impl Into<Selector>, function: F) -> Self
    where
        F: Fn(&Tensor, &HookPoint) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.on_gradient(at, Arc::new(function))
    }

    fn on_gradient(self, at: impl Into<Selector>, function: Arc<Function>) -> Self {
        self.edit(at, move |activation, point| {
            if !activation.dtype().is_float() {
                return Err(Error::msg(format!("'{point}' holds integers, and they have no gradient")));
            }
            // The variable makes the gradient flow this far; what it is added to is in one piece in memory.
            let reached =
                (activation + Var::zeros(activation.dims(), activation.dtype(), activation.device())?.as_tensor())?;
            Ok(reached.apply_op1(OnGradient { point: point.clone(), function: function.clone() })?)
        })
    }
}

type Function = dyn Fn(&Tensor, &HookPoint) -> Result<Tensor> + Send + Sync;

/// The identity, with a function on the gradient. Its argument must be contiguous, from the start of its memory on.
struct OnGradient {
    point: HookPoint,
    function: Arc<Function>,
}

impl CustomOp1 for OnGradient {
    fn name(&self) -> &'static str {
        "gradient hook"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        same(storage, layout)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        same(storage, layout)
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        same(storage, layout)
    }

    fn bwd(&self, activation: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let failed = |error: Error| {
            candle_core::Error::Msg(format!("the function on the gradient of '{}' failed: {error}", self.point))
        };
        let changed = (self.function)(gradient, &self.point).map_err(failed)?;
        if changed.dims() != activation.dims() {
            let (found, expected) = (changed.dims(), activation.dims());
            return Err(failed(Error::msg(format!("it gave the shape {found:?} in place of {expected:?}"))));
        }
        Ok(Some(changed.to_device(activation.device())?.to_dtype(activation.dtype())?))
    }
}

fn same<S: BackendStorage>(storage: &S, layout: &Layout) -> candle_core::Result<(S, Shape)> {
    Ok((storage.try_clone(layout)?, layout.shape().clone()))
}
