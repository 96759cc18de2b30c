//! Questions asked of a model: what its weights and activations mean.

pub mod ablation;
pub mod attribution;
pub mod circuits;
pub mod compare;
mod direct_logit_attribution;
pub mod factored_matrix;
mod gradients;
pub mod heads;
mod induction;
mod induction_loss;
pub mod ioi;
mod labelled;
pub mod lens;
pub(crate) mod linalg;
mod logit_attribution;
pub mod metric;
pub mod over_checkpoints;
pub mod over_text;
pub mod patching;
pub mod path_patching;
pub mod probe;
pub mod steering;
pub mod subspace;
mod sweep;

pub use attribution::{Agreement, Attribution, CircuitGraph, Edge, EdgeScores, agreement};
pub use circuits::{
    Circuit, Composition, Embedded, Side, SingularVectors, full_ov, full_ov_copying_scores, full_ov_eigenvalues,
    full_qk, full_qk_between, ov_copying_scores, singular_vectors,
};
pub use compare::{Alignment, Comparison, ManyComparisons};
pub use direct_logit_attribution::{DirectLogitAttribution, direct_logit_attribution};
pub use factored_matrix::{Eigenvalues, FactoredMatrix, Svd};
pub use gradients::Gradients;
pub use heads::{
    DetectOptions, HeadAttention, HeadKind, HeadPattern, HeadScore, HeadSummary, Measure, ScoredHead, ValueNorm,
    copying_scores, detect_head, detect_head_with, head_norms, head_summary, head_summary_on, induction_scores,
    prefix_matching_scores, value_weighted_pattern,
};
pub use induction::repeated_random_tokens;
pub use induction_loss::{InductionLoss, InductionLossOptions, induction_loss};
pub use ioi::{IoiDataset, IoiOptions, IoiScore};
pub(crate) use labelled::unravel;
pub use labelled::{Axis, LabelledTensor};
pub use lens::{LensReading, LensToken, TunedLens};
pub use logit_attribution::InsteadOf;
pub use metric::Metric;
pub use over_checkpoints::{OverCheckpoints, OverTraining};
pub use over_text::{Corpus, OverText};
pub use probe::{Probe, ProbeOptions};
pub use steering::{
    Contrast, Sentiment, SteeredTexts, Steering, SteeringResult, SteeringSweep, SteeringVector, WeakestPushes,
};
pub use subspace::{InterchangePairs, LearnOptions, LearnedSubspace, Subspace, TokenPositions};
pub use sweep::{Sweep, SweepResult};
