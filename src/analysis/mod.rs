//! Questions asked of a model: what its weights and activations mean.

pub mod circuits;
pub mod factored_matrix;
pub mod heads;
mod induction;
mod labelled;
pub(crate) mod linalg;

pub use circuits::{
    Circuit, Composition, Embedded, Side, SingularVectors, full_ov, full_ov_copying_scores, full_ov_eigenvalues,
    full_qk, full_qk_between, ov_copying_scores, singular_vectors,
};
pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use heads::{
    DetectOptions, HeadAttention, HeadKind, HeadPattern, HeadScore, HeadSummary, Measure, ScoredHead, ValueNorm,
    copying_scores, detect_head, detect_head_with, head_norms, head_summary, head_summary_on, induction_scores,
    prefix_matching_scores, value_weighted_pattern,
};
pub use induction::repeated_random_tokens;
pub use labelled::{Axis, LabelledTensor};
