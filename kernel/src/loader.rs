//! Telling the system's loader where the shared libraries are: the run paths that the linker writes into a cell are
//! relative, and wrong where the cache and the toolchain lie below one folder.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The environment variable that names the folders.
pub fn variable() -> &'static str {
    if cfg!(windows) {
        "PATH"
    } else if cfg!(target_os = "macos") {
        "DYLD_LIBRARY_PATH"
    } else {
        "LD_LIBRARY_PATH"
    }
}

/// Its value: these folders, then those that it named before.
pub fn value(mut folders: Vec<PathBuf>) -> Result<OsString> {
    if let Some(before) = std::env::var_os(variable()) {
        folders.extend(std::env::split_paths(&before));
    }
    std::env::join_paths(folders).context("a folder's name has the sign that separates folders")
}
