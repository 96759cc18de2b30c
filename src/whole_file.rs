//! Files that are written whole or not at all.

use std::path::Path;

use crate::{Error, Result};

/// Has `write` write to a file beside `path`, which takes its place when it is done.
pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    write(&unfinished)?;
    std::fs::rename(&unfinished, path).map_err(|source| Error::io(path, source))
}
