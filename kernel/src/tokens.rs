//! `candlescope tokens`: how a text is cut into tokens. The work is done by a small program that was built with the
//! session library, so that this binary need not contain the library too.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::library::Library;
use crate::progress;

/// Builds the session library where needed, and hands the arguments on.
pub fn tokens(text: &str, model: &str) -> Result<bool> {
    let library = Library::locate(&[])?;
    if !library.is_fresh() {
        progress::build(&library)?;
    }
    let program = library.tools();
    let status = Command::new(&program)
        .args(["tokens", "--model", model, "--", text])
        .env(loader_variable(), joined(library.loader_path()?)?)
        .status()
        .with_context(|| format!("{} can't be started", program.display()))?;
    Ok(status.success())
}

/// Where the system looks for shared libraries.
fn loader_variable() -> &'static str {
    if cfg!(windows) {
        "PATH"
    } else if cfg!(target_os = "macos") {
        "DYLD_LIBRARY_PATH"
    } else {
        "LD_LIBRARY_PATH"
    }
}

fn joined(mut folders: Vec<PathBuf>) -> Result<OsString> {
    if let Some(before) = std::env::var_os(loader_variable()) {
        folders.extend(std::env::split_paths(&before));
    }
    std::env::join_paths(folders).context("a folder's name has the sign that separates folders")
}
