//! Weights as circuits (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").
//!
//! - [`full_ov`], [`full_qk`]: a head's circuits from token to token, through embedding and unembedding.
//! - [`full_ov_copying_scores`]: which heads copy, by the eigenvalues of these.
//! - [`Composition`]: how much of what a head writes a later head reads.
//! - [`singular_vectors`]: the directions that a weight matrix reads and writes, with their tokens.
//!
//! The circuits themselves are `model.ov()` and `model.qk()`, as [`FactoredMatrix`](super::FactoredMatrix).
//!
//! Norms divide by a number that depends on the input, and are left out of every circuit. Their weights, where processing
//! did not fold them away (those behind a branch, as in Gemma 2, never are), are factors in the full circuits.

mod composition;
mod ends;
mod full;
mod singular_vectors;

pub use composition::Composition;
pub(crate) use ends::Ends;
pub use full::{
    Embedded, full_ov, full_ov_copying_scores, full_ov_eigenvalues, full_qk, full_qk_between, ov_copying_scores,
};
pub use singular_vectors::{Circuit, Side, SingularVectors, singular_vectors};

#[cfg(test)]
mod tests;
