//! Hook points for a network of one's own.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{HookPoint, Hooks, PointInfo, Selector, Tap, all};
use crate::error::near_misses;
use crate::{Error, Result};

/// A network that lets its activations through a [`Tap`], and so gets hooks and caches.
///
/// ```
/// use candlescope::prelude::*;
///
/// struct SquareThenAdd {
///     hook_square: HookPoint,
///     offset: f64,
/// }
///
/// impl HookedModule for SquareThenAdd {
///     type Input = Tensor;
///     type Output = Tensor;
///
///     fn hook_points(&self) -> Vec<HookPoint> {
///         vec![self.hook_square.clone()]
///     }
///
///     fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
///         let square = tap.pass(&self.hook_square, x.sqr()?)?;
///         Ok((square + self.offset)?)
///     }
/// }
///
/// # fn main() -> candlescope::Result<()> {
/// // On its own:
/// let net = SquareThenAdd { hook_square: HookPoint::new("hook_square"), offset: 3.0 };
/// let x = Tensor::new(5f32, &Device::Cpu)?;
/// let (out, cache) = net.run_with_cache(&x)?;
/// assert_eq!(out.to_scalar::<f32>()?, 28.0);
/// assert_eq!(cache.get("hook_square")?.to_scalar::<f32>()?, 25.0);
/// let zero = Hooks::new().replace("hook_square", x.zeros_like()?);
/// assert_eq!(net.run_with_hooks(&x, &zero)?.to_scalar::<f32>()?, 3.0);
///
/// // As a part of another: its points get the name under which it is used.
/// struct TwoLayers {
///     first: SquareThenAdd,
///     second: SquareThenAdd,
/// }
///
/// impl HookedModule for TwoLayers {
///     type Input = Tensor;
///     type Output = Tensor;
///
///     fn hook_points(&self) -> Vec<HookPoint> {
///         [self.first.hook_points_in("first"), self.second.hook_points_in("second")].concat()
///     }
///
///     fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
///         let x = self.first.forward_in("first", x, tap)?;
///         self.second.forward_in("second", &x, tap)
///     }
/// }
///
/// let layer = |offset| SquareThenAdd { hook_square: HookPoint::new("hook_square"), offset };
/// let net = TwoLayers { first: layer(3.0), second: layer(-4.0) };
/// let (out, cache) = net.run_with_cache(&x)?;
/// assert_eq!(out.to_scalar::<f32>()?, 780.0);
/// assert_eq!(cache.get("second.hook_square")?.to_scalar::<f32>()?, 784.0);
/// # Ok(()) }
/// ```
pub trait HookedModule {
    /// What it takes.
    type Input;
    /// What it gives.
    type Output;

    /// All of its points, in the order in which they fire; those of a sub-module are
    /// [`hook_points_in(name)`](Self::hook_points_in).
    fn hook_points(&self) -> Vec<HookPoint>;

    /// The forward pass; each activation that has a point goes through `tap.pass(&point, activation)`, and a sub-module
    /// runs with [`forward_in(name, ..)`](Self::forward_in).
    fn forward(&self, input: &Self::Input, tap: &mut Tap) -> Result<Self::Output>;

    /// Its points as a part of another module, that calls it `name`: `name.hook_square`.
    fn hook_points_in(&self, name: &str) -> Vec<HookPoint> {
        let module = format!("{name}.");
        self.hook_points().iter().map(|point| point.within(&module)).collect()
    }

    /// The forward pass as a part of another module, that calls it `name`.
    fn forward_in(&self, name: &str, input: &Self::Input, tap: &mut Tap) -> Result<Self::Output> {
        tap.within(name, |tap| self.forward(input, tap))
    }

    /// A forward pass with hooks active.
    fn run_with_hooks(&self, input: &Self::Input, hooks: &Hooks) -> Result<Self::Output> {
        self.forward(input, &mut Tap::for_module(&self.hook_points(), hooks, None)?)
    }

    /// A forward pass that keeps every activation.
    fn run_with_cache(&self, input: &Self::Input) -> Result<(Self::Output, Activations)> {
        self.run_with_hooks_and_cache(input, &Hooks::new(), all())
    }

    /// A forward pass with hooks active that keeps the selected activations, as the hooks left them.
    fn run_with_hooks_and_cache(
        &self,
        input: &Self::Input,
        hooks: &Hooks,
        keep: impl Into<Selector>,
    ) -> Result<(Self::Output, Activations)> {
        let mut tap = Tap::for_module(&self.hook_points(), hooks, Some(&keep.into()))?;
        let output = self.forward(input, &mut tap)?;
        Ok((output, Activations::new(tap.into_kept())))
    }
}

/// Activations by name, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    entries: Vec<(HookPoint, Tensor)>,
    index: HashMap<String, usize>,
}

impl Activations {
    /// Of a point that fired more than once, the last value is kept, at its first place.
    pub(crate) fn new(kept: Vec<(HookPoint, Tensor)>) -> Self {
        let mut activations = Self::default();
        for (point, activation) in kept {
            match activations.index.get(point.name()) {
                Some(&i) => activations.entries[i].1 = activation,
                None => {
                    activations.index.insert(point.name().to_string(), activations.entries.len());
                    activations.entries.push((point, activation));
                }
            }
        }
        activations
    }

    /// The one activation that `at` selects: a point, a full name, or a short name with its layer.
    pub fn get(&self, at: impl Into<Selector>) -> Result<Tensor> {
        let at = at.into();
        let points: Vec<PointInfo> = self.entries.iter().map(|(point, _)| PointInfo::always(point, "")).collect();
        match at.resolve(&points) {
            Ok(found) => match found[..] {
                [one] => Ok(self.entries[one].1.clone()),
                _ => Err(Error::msg(format!(
                    "'{at:?}' names {} activations of this cache; give the layer too, as in (\"pattern\", 0)",
                    found.len()
                ))),
            },
            Err(Error::UnknownHook { name, near }) => Err(Error::NotCached { name, near, held: self.len() }),
            Err(other) => Err(other),
        }
    }

    /// The activation of this full name.
    pub fn by_name(&self, name: &str) -> Result<Tensor> {
        match self.index.get(name) {
            Some(&i) => Ok(self.entries[i].1.clone()),
            None => Err(Error::NotCached {
                name: name.to_string(),
                near: near_misses(name, self.entries.iter().map(|(point, _)| point.name())),
                held: self.len(),
            }),
        }
    }

    /// Whether it holds the activation of this full name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// Points and activations, in the order in which they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, (HookPoint, Tensor)> {
        self.entries.iter()
    }

    /// How many activations there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The same activations, each changed by `change`.
    pub(crate) fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let change = |(point, activation): &(HookPoint, Tensor)| Ok((point.clone(), change(activation)?));
        Ok(Self { entries: self.entries.iter().map(change).collect::<Result<_>>()?, index: self.index.clone() })
    }
}

impl<'a> IntoIterator for &'a Activations {
    type Item = &'a (HookPoint, Tensor);
    type IntoIter = std::slice::Iter<'a, (HookPoint, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
