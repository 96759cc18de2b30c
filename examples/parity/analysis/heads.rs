//! Entries about what attention heads look at.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

pub fn ours(_context: &Context, _entry: &str) -> Result<Option<Tensor>> {
    Ok(None)
}
