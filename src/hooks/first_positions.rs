//! Hooks that see the beginning of a text only, and hooks of a whole text in a run on its end.

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

    /// The same hooks for a run on what comes behind the first `n` positions, which they leave alone: they find every
    /// position where it is in the whole text, with zeros at the first `n`.
    ///
    /// # Errors
    /// A hook on an activation that has no positions.
    pub(crate) fn behind(&self, n: usize, points: &[PointInfo]) -> Result<Hooks> {
        let mut hooks = Hooks::new();
        for (selector, action) in &self.actions {
            for place in selector.resolve(points)? {
                let (info, action) = (&points[place], action.clone());
                let mut axes = info.shape.trim_matches(['[', ']']).split(", ");
                let axis = axes.position(|axis| axis == "pos" || axis == "query");
                let axis = axis.ok_or_else(|| Error::msg(format!("'{}' has no positions", info.point)))?;
                hooks = hooks.edit(&info.point, move |x, point| {
                    let before = x.narrow(axis, 0, 1)?.zeros_like()?.repeat(repeats(x.rank(), axis, n))?;
                    let whole = action.apply(point, Tensor::cat(&[&before, x], axis)?)?;
                    Ok(whole.narrow(axis, n, x.dim(axis)?)?)
                });
            }
        }
        Ok(hooks)
    }
}

/// How often a tensor is repeated along each axis: `n` times along one.
fn repeats(rank: usize, axis: usize, n: usize) -> Vec<usize> {
    (0..rank).map(|i| if i == axis { n } else { 1 }).collect()
}
