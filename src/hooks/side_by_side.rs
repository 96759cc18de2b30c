//! Hooks for several copies of a batch in one run, each copy with its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::actions::Action;
use super::{Hooks, PointInfo};
use crate::Result;

/// The actions of some copies, by copy, in order.
type ByCopy = Vec<(usize, Vec<Action>)>;

impl Hooks {
    /// The points that these hooks are on, as indices into `points`.
    pub(crate) fn places(&self, points: &[PointInfo]) -> Result<Vec<usize>> {
        let mut places = Vec::new();
        for (selector, _) in &self.actions {
            places.extend(selector.resolve(points)?);
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Whether any is on the unembedding, and so wants the logits of every position.
    pub(crate) fn any_on_unembedding(&self, points: &[PointInfo]) -> Result<bool> {
        Ok(self.places(points)?.iter().any(|&place| points[place].point.name().starts_with("unembed.")))
    }

    /// Hooks for a run on copies of a batch, one behind the other: copy i gets the hooks `each[i]`.
    ///
    /// Each hook sees the activation of its own copy only. Points whose first axis is not the batch can't be cut, and so
    /// `each` must be one where such a point is hooked.
    pub(crate) fn side_by_side(each: &[Hooks], points: &[PointInfo]) -> Result<Hooks> {
        if let [only] = each {
            return Ok(only.clone());
        }
        let mut by_point: BTreeMap<usize, ByCopy> = BTreeMap::new();
        for (copy, hooks) in each.iter().enumerate() {
            for (selector, action) in &hooks.actions {
                for place in selector.resolve(points)? {
                    let copies = by_point.entry(place).or_default();
                    match copies.last_mut() {
                        Some((last, actions)) if *last == copy => actions.push(action.clone()),
                        _ => copies.push((copy, vec![action.clone()])),
                    }
                }
            }
        }
        let n = each.len();
        let mut together = Hooks::new();
        for (place, copies) in by_point {
            let copies: Arc<ByCopy> = Arc::new(copies);
            together = together.edit(&points[place].point, move |activation, point| {
                let rows = activation.dim(0)? / n;
                let mut parts: Vec<Tensor> = Vec::new();
                let mut done = 0;
                for (copy, actions) in copies.iter() {
                    if *copy > done {
                        parts.push(activation.narrow(0, done * rows, (copy - done) * rows)?);
                    }
                    let mut part = activation.narrow(0, copy * rows, rows)?;
                    for action in actions {
                        part = action.apply(point, part)?;
                    }
                    parts.push(part);
                    done = copy + 1;
                }
                if done < n {
                    parts.push(activation.narrow(0, done * rows, (n - done) * rows)?);
                }
                Ok(Tensor::cat(&parts, 0)?)
            });
        }
        Ok(together)
    }
}
