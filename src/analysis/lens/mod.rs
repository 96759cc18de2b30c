//! Lenses: what a model would say if it stopped early.
//!
//! [`ActivationCache::logit_lens`](crate::cache::ActivationCache::logit_lens) reads the residual stream of every layer
//! through the model's own last norm and unembedding (nostalgebraist 2020, "interpreting GPT: the logit lens"). A
//! [`TunedLens`] first translates each layer's stream by an affine map that was learned for it (Belrose et al. 2023, arXiv
//! 2303.08112). Both give a [`LensReading`].

mod reading;
mod tuned;

pub(super) use reading::log_probs;
pub use reading::{LensReading, LensToken};
pub use tuned::TunedLens;
