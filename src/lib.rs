//! candlescope

pub mod display;
mod error;

pub use error::{Error, Result};
