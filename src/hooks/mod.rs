//! The points of a forward pass where an activation can be read, edited or replaced.
//!
//! - [`HookPoint`]: one point, by TransformerLens' name (`blocks.3.attn.hook_pattern`).
//! - [`points`]: functions that make one (`pattern(3)`, `resid_pre(0)`).
//! - [`Selector`]: which points are meant: a point, a name, several, all, or a predicate.
//! - [`Hooks`]: what to do at them.
//! - [`HookedModule`]: hooks and caches for a network of your own.

mod actions;
mod first_positions;
mod gradients;
mod module;
mod name;
mod point;
pub mod points;
mod selector;
mod side_by_side;
mod tap;

pub use actions::Hooks;
pub use module::{Activations, HookedModule};
pub use name::act_name;
pub use point::{Fires, HookPoint, PointInfo};
pub use selector::{Selector, all, matching};
pub use tap::Tap;
