//! Questions asked of a model: what its weights and activations mean.

pub mod attribution;
pub mod factored_matrix;
mod gradients;
mod induction;
mod labelled;
pub(crate) mod linalg;
pub mod metric;
pub mod patching;
pub mod subspace;
mod sweep;

pub use attribution::{Agreement, Attribution, Circuit, Edge, EdgeScores, Receiver, Sender, agreement};
pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use gradients::Gradients;
pub use induction::repeated_random_tokens;
pub(crate) use labelled::unravel;
pub use labelled::{Axis, LabelledTensor};
pub use metric::{Answers, Metric};
pub use subspace::{InterchangePairs, LearnOptions, LearnedSubspace, Subspace, TokenPositions};
pub use sweep::{Sweep, SweepResult};
