//! A microscope for transformer language models.
//!
//! Load a model, look at every activation inside of it, change any of them, and see the result as a picture in the
//! next line of a notebook. candlescope is to Rust and candle what TransformerLens is to Python and PyTorch.
//!
//! ```
//! use candlescope::prelude::*;
//!
//! # fn main() -> candlescope::Result<()> {
//! let model = HookedTransformer::from_pretrained("tiny")?;
//! let (logits, cache) = model.run_with_cache("After John and Mary went to the store, Mary gave a bottle of milk to")?;
//! println!("John leads Mary by {:.2}", logits.logit_diff(" John", " Mary")?);
//! println!("attention of layer 0: {:?}", cache.pattern(0)?.dims());
//!
//! // What if the first layer's attention said nothing?
//! let hooks = Hooks::new().edit(attn_out(0), |out, _| Ok((out * 0.0)?));
//! let ablated = model.run_with_hooks("After John and Mary went to the store, Mary gave a bottle of milk to", &hooks)?;
//! println!("without it by {:.2}", ablated.logit_diff(" John", " Mary")?);
//! # Ok(()) }
//! ```
//!
//! - [`model`]: the model and how it is run.
//! - [`hooks`]: the points of a forward pass, and what can be done at them.
//! - [`cache`]: what a run left behind.
//! - [`tokens`]: text to token ids and back, and the traps on the way.
//! - [`analysis`]: questions put to a model.
//! - [`sae`]: sparse autoencoders: the features that activations are made of.
//! - [`neuronpedia`]: what features are said to mean, and where their pages are.
//! - [`training`]: new models, and further training of others.
//! - [`display`]: how values look in a notebook and in a terminal.
//! - [`interrupt`]: stopping long work without losing anything.

pub mod analysis;
pub mod cache;
pub mod display;
mod error;
mod families;
mod formats;
pub mod hooks;
pub mod hub;
pub mod interrupt;
mod memory;
pub mod model;
pub mod neuronpedia;
mod normal;
mod ops;
pub mod prelude;
mod progress;
pub mod sae;
pub mod tokens;
pub mod training;
pub mod weights;
mod whole_file;

pub use candle_core;
pub use candle_nn;
pub use error::{Error, Result};
pub use memory::keep_memory;
pub use progress::{Meter, Progress, Step};
