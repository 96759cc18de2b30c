//! Questions asked of a model: what its weights and activations mean.

pub mod ablation;
pub mod factored_matrix;
mod induction;
mod labelled;
pub(crate) mod linalg;
pub mod metric;
pub mod patching;
pub mod path_patching;
mod sweep;

pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use induction::repeated_random_tokens;
pub(crate) use labelled::unravel;
pub use labelled::{Axis, LabelledTensor};
pub use metric::{Answers, Metric};
pub use sweep::{Sweep, SweepResult};
