//! Where hooks meet a forward pass: every activation goes through [`Tap::pass`].

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::actions::Action;
use super::{HookPoint, Hooks, PointInfo, Selector};
use crate::Result;

/// The hooks of one run, sorted by point, and the activations that the run was asked to keep.
#[derive(Default)]
pub struct Tap {
    wanted: HashMap<Arc<str>, Wanted>,
    kept: Vec<(HookPoint, Tensor)>,
}

#[derive(Default)]
struct Wanted {
    actions: Vec<Action>,
    keep: bool,
}

impl Tap {
    /// A tap that neither changes nor keeps anything.
    pub fn closed() -> Self {
        Self::default()
    }

    /// Sorts `hooks` and what to `keep` by the points of a model; unknown names and points that can't fire are errors.
    pub fn new(points: &[PointInfo], hooks: &Hooks, keep: Option<&Selector>) -> Result<Self> {
        let mut tap = Self::default();
        for (selector, action) in &hooks.actions {
            for index in selector.resolve(points)? {
                tap.at(&points[index].point).actions.push(action.clone());
            }
        }
        if let Some(selector) = keep {
            for index in selector.resolve(points)? {
                tap.at(&points[index].point).keep = true;
            }
        }
        Ok(tap)
    }

    /// Whether a hook or a cache asked for this point.
    pub fn wants(&self, point: &HookPoint) -> bool {
        self.wanted.contains_key(point.name())
    }

    /// Lets an activation through: runs the point's hooks, keeps the result if asked to, and gives it back.
    pub fn pass(&mut self, point: &HookPoint, mut activation: Tensor) -> Result<Tensor> {
        let Some(wanted) = self.wanted.get(point.name()) else { return Ok(activation) };
        for action in &wanted.actions {
            activation = action.apply(point, activation)?;
        }
        if wanted.keep {
            self.kept.push((point.clone(), activation.clone()));
        }
        Ok(activation)
    }

    /// The kept activations, in the order in which they went through.
    pub fn into_kept(self) -> Vec<(HookPoint, Tensor)> {
        self.kept
    }

    fn at(&mut self, point: &HookPoint) -> &mut Wanted {
        self.wanted.entry(point.shared_name()).or_default()
    }
}
