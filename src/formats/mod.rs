//! Containers of tensors, read without trusting them: GGUF, PyTorch's zip archives with their pickles, and numpy's.
//!
//! Nothing here allocates what a file claims before the file is seen to have it, follows an offset that leads out of
//! the file, or calls anything that a file names.

mod bytes;
pub(crate) mod gguf;
pub(crate) mod npz;
pub(crate) mod pickle;
mod reader;
pub(crate) mod torch;
mod zip;

pub(crate) use bytes::FileBytes;

use crate::hub::FileData;
use crate::{Error, Result};

/// What a file of weights is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    /// A zip archive, as torch.save writes since version 1.6.
    Torch,
    Gguf,
}

/// How to make safetensors of a PyTorch file, for messages.
const CONVERT: &str = "on a machine with PyTorch run: import torch; from safetensors.torch import save_file; \
    weights = torch.load('FILE', map_location='cpu', weights_only=True); \
    save_file({name: w.contiguous().clone() for name, w in weights.items()}, 'model.safetensors')";

impl Format {
    /// Tells by a file's first bytes what it is; its name only matters for messages.
    ///
    /// # Errors
    /// What it is instead of weights, where that can be told.
    pub(crate) fn of(bytes: &[u8], file: &FileData) -> Result<Self> {
        let label = file.label();
        let named =
            |endings: &[&str]| endings.iter().any(|ending| label.trim_end_matches(" (bundled)").ends_with(ending));
        // First, for the length that safetensors begin with may look like anything: 0x0280 like a pickle.
        if begins_as_safetensors(bytes) {
            return Ok(Self::Safetensors);
        }
        if bytes.starts_with(b"GGUF") {
            return Ok(Self::Gguf);
        }
        if bytes.starts_with(b"PK\x03\x04") {
            return Ok(Self::Torch);
        }
        if bytes.starts_with(b"version https://git-lfs") {
            let why =
                "it is a Git LFS pointer, and not the file itself; fetch that with `git lfs pull`, or download it";
            return Err(file.unreadable("weights", why));
        }
        // A pickle of the number that torch.save put in front before version 1.6.
        if bytes.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
            let why = format!("it is in the format that PyTorch had before version 1.6 (2020); {CONVERT}");
            return Err(file.unreadable("weights", why));
        }
        if matches!(bytes, [0x80, 2..=5, ..]) {
            let why = format!("it is a bare pickle and not what torch.save writes; nothing was executed; {CONVERT}");
            return Err(file.unreadable("weights", why));
        }
        let expected = if named(&[".gguf"]) {
            "GGUF"
        } else if named(&[".bin", ".pt", ".pth"]) {
            "a zip archive as torch.save writes it"
        } else {
            return Ok(Self::Safetensors);
        };
        let why = format!(
            "{expected} was expected, and it does not begin as one; it may be truncated or damaged, so download or copy it again"
        );
        Err(file.unreadable("weights", why))
    }

    /// Reads just enough of a file to tell.
    pub(crate) fn of_file(file: &FileData) -> Result<Self> {
        Self::of(&FileBytes::open(file)?, file)
    }
}

/// Whether eight bytes give the length of a JSON object that follows them and fits into the file.
fn begins_as_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    rest.first() == Some(&b'{') && usize::try_from(u64::from_le_bytes(*length)).is_ok_and(|length| length <= rest.len())
}

/// `truncated` as an error about a file.
fn truncated(file: &str, what: &str, why: impl std::fmt::Display) -> Error {
    Error::BadFile {
        what: what.to_string(),
        path: file.into(),
        why: format!("{why}; the file may be truncated or damaged, so download or copy it again"),
    }
}
