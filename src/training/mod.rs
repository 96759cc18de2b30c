//! Training: new models from random weights, and further training of models that were loaded, hooks included.
//!
//! What is trained is a [`HookedTransformer`](crate::model::HookedTransformer) like any other, so that every activation can
//! be read and changed while it learns: [`Trainer::model`] is the model as it is after the last step.
//!
//! ```
//! use candlescope::prelude::*;
//! # fn main() -> candlescope::Result<()> {
//! let model = HookedTransformer::from_pretrained_no_processing("tiny")?;
//! let text = "Anna gave a very heavy umbrella to Robert.";
//! let tuned = model.fine_tune(text, &TrainOptions::new().steps(4).rate(1e-3).progress(&Progress::quiet()))?;
//! assert!(tuned.loss(text)? < model.loss(text)?);
//! # Ok(()) }
//! ```

pub(crate) mod adamw;
mod curve;
mod fine_tune;
mod options;
mod random;
mod state;
mod trainer;
mod variables;

pub use curve::TrainingCurve;
pub use options::TrainOptions;
pub use trainer::Trainer;
