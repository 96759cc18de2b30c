//! Questions asked of a model: what its weights and activations mean.

pub mod factored_matrix;
mod induction;
mod induction_loss;
pub mod ioi;
mod labelled;
pub(crate) mod linalg;
pub mod over_text;
pub mod probe;

pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use induction::repeated_random_tokens;
pub use induction_loss::{InductionLoss, InductionLossOptions, induction_loss};
pub use ioi::{IoiDataset, IoiOptions, IoiScore};
pub use labelled::{Axis, LabelledTensor};
pub use over_text::{Corpus, OverText};
pub use probe::{Probe, ProbeOptions};
