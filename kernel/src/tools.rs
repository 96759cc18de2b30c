//! `candlescope tokens` and `candlescope models`: commands that need the library. The work is done by a small program that
//! was built with the session library, so that this binary need not contain the library too.

use std::process::Command;

use anyhow::{Context, Result};

use crate::library::Library;
use crate::loader;
use crate::progress;

/// How a text is cut into tokens.
pub fn tokens(text: &str, model: &str) -> Result<bool> {
    run(&["tokens", "--model", model, "--", text])
}

/// The models with a short name.
pub fn models(filter: &str) -> Result<bool> {
    run(&["models", "--", filter])
}

/// Builds the session library where needed, and hands the arguments on.
fn run(arguments: &[&str]) -> Result<bool> {
    let library = Library::locate(&[])?;
    if !library.is_fresh() {
        progress::build(&library)?;
    }
    let program = library.tools();
    let status = Command::new(&program)
        .args(arguments)
        .env(loader::variable(), loader::value(library.loader_path(&library.template())?)?)
        .status()
        .with_context(|| format!("{} can't be started", program.display()))?;
    Ok(status.success())
}
