//! candlescope

mod error;
pub mod hub;
pub mod tokens;

pub use error::{Error, Result};
