//! Hooks that see the beginning of a text only.

use candle_core::Tensor;

use super::{Hooks, PointInfo};
use crate::{Error, Result};

impl Hooks {
    /// The same hooks on the first `n` positions; what comes behind them stays as it is.
    ///
    /// # Errors
    /// A hook on an activation that has not the positions as its second axis.
    pub(crate) fn at_first_positions(&self, n: usize, points: &[PointInfo]) -> Result<Hooks> {
        if let Some(info) = self
            .places(points)?
            .into_iter()
            .map(|place| &points[place])
            .find(|info| !info.shape.starts_with("[batch, pos"))
        {
            return Err(Error::msg(format!(
                "'{}' has shape {}, whose second axis is not the position: without a key-value cache, hooks of the prompt \
                 can't be kept off what is added to it; use the cache, or another activation",
                info.point, info.shape
            )));
        }
        let mut hooks = Hooks::new();
        for (selector, action) in &self.actions {
            let action = action.clone();
            hooks = hooks.edit(selector, move |x, point| {
                let len = x.dim(1)?;
                if len <= n {
                    return action.apply(point, x.clone());
                }
                let first = action.apply(point, x.narrow(1, 0, n)?)?;
                Ok(Tensor::cat(&[&first, &x.narrow(1, n, len - n)?], 1)?)
            });
        }
        Ok(hooks)
    }
}
