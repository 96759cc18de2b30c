//! Attention heads by what they look at.
//!
//! - [`HeadAttention`]: the attention of all heads over some rows of tokens, and every score that it gives.
//! - [`HeadPattern`]: which keys a kind of head looks at; [`detect_head`] finds the heads that do.
//! - [`induction_scores`], [`prefix_matching_scores`], [`copying_scores`]: on repeated or random tokens.
//! - [`head_summary`]: all of these for all heads, with what each head is most likely called.
//! - [`value_weighted_pattern`], [`head_norms`]: attention by how much it moves.

mod attention;
mod detect;
mod pattern;
mod random;
mod summary;
mod values;

pub use attention::HeadAttention;
pub(crate) use attention::head_axes;
pub use detect::{DetectOptions, Measure, detect_head, detect_head_with};
pub use pattern::HeadPattern;
pub use random::{copying_scores, induction_scores, prefix_matching_scores};
pub use summary::{HeadKind, HeadScore, HeadSummary, ScoredHead, head_summary, head_summary_on};
pub use values::{ValueNorm, head_norms, value_weighted_pattern};

#[cfg(test)]
mod tests;
