//! Entries about weights: circuits, composition scores, singular vectors.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

pub fn ours(_context: &Context, _entry: &str) -> Result<Option<Tensor>> {
    Ok(None)
}
