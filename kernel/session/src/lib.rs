//! The one library that notebook cells link: everything of candlescope, under its name.
//!
//! It is a shared library, so that candle's counters, thread pools and caches exist once in a notebook; linked into each
//! cell anew, two tensors could have one id.

pub use candlescope::*;

pub mod cell;
pub mod tools;
