//! Neuronpedia: what the features of sparse autoencoders are said to mean, and where their pages are.
//!
//! - [`SourceId`] and [`FeatureId`] name a layer's features as Neuronpedia does, and give the links. No network.
//! - [`Neuronpedia`] asks the public API: the dashboard of a feature ([`FeatureInfo`]), features by meaning
//!   ([`Neuronpedia::search`]), the features in a text ([`Neuronpedia::top_features_for_text`]). Answers are kept on disk.
//! - [`Export`] reads files of the downloadable exports; [`Neuronpedia::labels`] fetches those of a source.
//! - [`Labels`] are what the features of a source are said to mean, wherever that comes from.
//! - [`FeatureTable`] is a sentence with its strongest features and their meanings.
//!
//! ```
//! use candlescope::prelude::*;
//! # fn main() -> candlescope::Result<()> {
//! let source = SourceId::at("google/gemma-2-2b", 20, "gemmascope-res-16k")?;
//! assert_eq!(source.feature(1).url(), "https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/1");
//! # Ok(()) }
//! ```

mod cache;
mod client;
mod download;
mod export;
mod feature;
mod http;
mod id;
mod json;
mod labels;
mod names;
mod search;
mod table;

pub use client::Neuronpedia;
pub use export::Export;
pub use feature::{FeatureExample, FeatureHistogram, FeatureInfo, LogitToken};
pub use id::{FeatureId, SourceId};
pub use labels::{Label, Labels};
pub use names::{model_id, source_sets};
pub use search::{FoundFeature, FoundFeatures};
pub use table::FeatureTable;
