//! Questions asked of a model: what its weights and activations mean.

pub mod factored_matrix;
pub(crate) mod linalg;

pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
