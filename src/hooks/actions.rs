//! What is to be done at hook points.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use super::{HookPoint, Selector};
use crate::{Error, Result};

/// Functions that read, edit or replace activations while a model runs.
///
/// Hooks of one point act in the order in which they were added, and each sees what the one before left. A `Hooks` owns
/// everything, and is cheap to clone.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// // Head 0 of layer 0 sees nothing: its values are zero.
/// let hooks = Hooks::new().edit(v(0), |v, _| {
///     let [batch, pos, _, d_head] = v.dims()[..] else { unreachable!() };
///     let zero = Tensor::zeros((batch, pos, 1, d_head), v.dtype(), v.device())?;
///     Ok(v.slice_assign(&[0..batch, 0..pos, 0..1, 0..d_head], &zero)?)
/// });
/// let logits = model.run_with_hooks("John gave a book to Mary.", &hooks)?;
/// # assert_eq!(logits.dims().len(), 3);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Hooks {
    pub(super) actions: Vec<(Selector, Action)>,
}

type Function = dyn Fn(&Tensor, &HookPoint) -> Result<Option<Tensor>> + Send + Sync;

#[derive(Clone)]
pub(super) struct Action(Arc<Function>);

impl Hooks {
    /// No hooks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `function` with each selected activation and its point; the activation stays as it is.
    pub fn read<F>(self, at: impl Into<Selector>, function: F) -> Self
    where
        F: Fn(&Tensor, &HookPoint) -> Result<()> + Send + Sync + 'static,
    {
        self.push(at, move |activation, point| function(activation, point).map(|()| None))
    }

    /// Puts what `function` returns in place of each selected activation. It must keep the shape.
    pub fn edit<F>(self, at: impl Into<Selector>, function: F) -> Self
    where
        F: Fn(&Tensor, &HookPoint) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.push(at, move |activation, point| function(activation, point).map(Some))
    }

    /// Puts `value` in place of each selected activation. It must have the same shape.
    pub fn replace(self, at: impl Into<Selector>, value: Tensor) -> Self {
        self.push(at, move |_, _| Ok(Some(value.clone())))
    }

    /// These hooks, then `other`'s.
    pub fn and(mut self, other: &Hooks) -> Self {
        self.actions.extend(other.actions.iter().cloned());
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    fn push<F>(mut self, at: impl Into<Selector>, function: F) -> Self
    where
        F: Fn(&Tensor, &HookPoint) -> Result<Option<Tensor>> + Send + Sync + 'static,
    {
        self.actions.push((at.into(), Action(Arc::new(function))));
        self
    }
}

impl Action {
    /// The activation after this action, checked.
    pub(super) fn apply(&self, point: &HookPoint, activation: Tensor) -> Result<Tensor> {
        let failed = |source| Error::HookFailed { name: point.name().to_string(), source: Box::new(source) };
        match (self.0)(&activation, point).map_err(failed)? {
            None => Ok(activation),
            Some(new) if new.dims() != activation.dims() => Err(Error::HookShape {
                name: point.name().to_string(),
                expected: activation.dims().to_vec(),
                found: new.dims().to_vec(),
            }),
            // A constant made on another device or in another type is still the value that was meant.
            Some(new) => Ok(new.to_device(activation.device())?.to_dtype(activation.dtype())?),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks on ")?;
        f.debug_list().entries(self.actions.iter().map(|(selector, _)| selector)).finish()
    }
}
