//! Ctrl-C while a cell runs.

use anyhow::{Context, Result};

use crate::interrupt::Interrupter;

/// From now on Ctrl-C asks the running cell to stop, and ends no more than that cell. At the prompt the editor reads it as a
/// key, and nothing arrives here; between cells nothing listens, and the next cell begins without it.
pub fn listen(cell: Interrupter) -> Result<()> {
    ctrlc::set_handler(move || {
        if let Err(error) = cell.interrupt() {
            eprintln!("the cell could not be interrupted: {error:#}");
        }
    })
    .context("candlescope can't listen for Ctrl-C")
}
