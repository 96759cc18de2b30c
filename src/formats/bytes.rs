//! [`FileBytes`]: the content of a file, memory-mapped where it is on disk.

use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::Mmap;

use crate::hub::FileData;
use crate::{Error, Result};

/// The content of a file. Cheap to clone.
#[derive(Clone)]
pub(crate) enum FileBytes {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
}

impl FileBytes {
    /// Maps a file on disk, or takes the bytes of one that is part of the program.
    pub(crate) fn open(file: &FileData) -> Result<Self> {
        match file {
            FileData::Bytes { data, .. } => Ok(Self::Static(data)),
            FileData::Path(path) => {
                let opened = File::open(path).map_err(|error| Error::io(path, error))?;
                // SAFETY: the map is only read. As with every memory-mapped file, another process that truncates it
                // while the model loads would crash this one; the mapping ends when loading does.
                let map = unsafe { Mmap::map(&opened) }.map_err(|error| Error::io(path, error))?;
                Ok(Self::Mapped(Arc::new(map)))
            }
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}
