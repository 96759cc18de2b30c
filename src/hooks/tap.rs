//! Where hooks meet a forward pass: every activation goes through [`Tap::pass`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use candle_core::Tensor;

use super::actions::Action;
use super::{HookPoint, Hooks, PointInfo, Selector};
use crate::{Error, Result, interrupt};

/// The hooks of one run, sorted by point, and the activations that the run was asked to keep.
#[derive(Default)]
pub struct Tap {
    wanted: HashMap<Arc<str>, Wanted>,
    kept: Vec<(HookPoint, Tensor)>,
    /// The names that may go through, where a module listed them.
    listed: Option<HashSet<Arc<str>>>,
    /// The modules that the pass is inside of, as in `layer1.mlp.`; empty outside of all.
    within: String,
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

    /// As [`new`](Self::new), for a module that lists its points: one that is listed twice is an error, and so is an
    /// activation at a point that is not.
    pub(super) fn for_module(points: &[HookPoint], hooks: &Hooks, keep: Option<&Selector>) -> Result<Self> {
        let mut listed = HashSet::new();
        if let Some(twice) = points.iter().find(|point| !listed.insert(point.shared_name())) {
            return Err(Error::msg(format!(
                "hook_points() lists '{twice}' twice; give each sub-module a name of its own, as in \
                 self.first.hook_points_in(\"first\")"
            )));
        }
        let points: Vec<PointInfo> = points.iter().map(|point| PointInfo::always(point, "")).collect();
        Ok(Self { listed: Some(listed), ..Self::new(&points, hooks, keep)? })
    }

    /// Runs a part of the pass inside of a sub-module: its points get `name.` in front.
    pub fn within<T>(&mut self, name: &str, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outside = self.within.len();
        self.within.push_str(name);
        self.within.push('.');
        let result = part(self);
        self.within.truncate(outside);
        result
    }

    /// Whether a hook or a cache asked for this point.
    pub fn wants(&self, point: &HookPoint) -> bool {
        match self.within.is_empty() {
            true => self.wanted.contains_key(point.name()),
            false => self.wanted.contains_key(point.within(&self.within).name()),
        }
    }

    /// Lets an activation through: runs the point's hooks, keeps the result if asked to, and gives it back.
    pub fn pass(&mut self, point: &HookPoint, activation: Tensor) -> Result<Tensor> {
        match self.within.is_empty() {
            true => self.pass_full(point, activation),
            false => self.pass_full(&point.within(&self.within), activation),
        }
    }

    /// As [`pass`](Self::pass), for a point with its full name.
    fn pass_full(&mut self, point: &HookPoint, mut activation: Tensor) -> Result<Tensor> {
        interrupt::check()?;
        if self.listed.as_ref().is_some_and(|listed| !listed.contains(point.name())) {
            return Err(Error::msg(format!(
                "an activation goes through the hook point '{point}', which hook_points() does not list; list it, or run \
                 the sub-module that it belongs to with forward_in(name, ..)"
            )));
        }
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
