//! Questions asked of a model: what its weights and activations mean.

mod direct_logit_attribution;
pub mod factored_matrix;
mod induction;
mod labelled;
pub mod lens;
pub(crate) mod linalg;
mod logit_attribution;

pub use direct_logit_attribution::{DirectLogitAttribution, direct_logit_attribution};
pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use induction::repeated_random_tokens;
pub use labelled::{Axis, LabelledTensor};
pub use lens::{LensReading, LensToken, TunedLens};
pub use logit_attribution::InsteadOf;
