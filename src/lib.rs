//! candlescope

mod error;

pub mod analysis;
pub mod model {
    pub mod activations;
}

pub use analysis::FactoredMatrix;
pub use error::{Error, Result};
