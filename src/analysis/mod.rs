//! Questions asked of a model: what its weights and activations mean.

pub mod factored_matrix;
mod induction;
mod labelled;
pub(crate) mod linalg;

pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use induction::repeated_random_tokens;
pub use labelled::{Axis, LabelledTensor};
