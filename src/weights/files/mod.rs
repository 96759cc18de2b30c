//! Tensors in files, whatever the files' format.

mod gguf;
mod safetensors;
mod torch;

use candle_core::{Device, Tensor};

use crate::Result;
use crate::formats::Format;
use crate::formats::torch::TorchFile;
use crate::hub::FileData;

/// What a file says of a tensor.
pub(super) struct TensorMeta {
    pub(super) name: String,
    /// The file's own name for the type.
    pub(super) dtype: String,
    /// Whether these are floating-point numbers that candle reads, or quantised ones that it turns into such.
    pub(super) is_float: bool,
    pub(super) shape: Vec<usize>,
}

/// A file with tensors, under the names and in the layout that Hugging Face's code has for them.
pub(super) trait TensorFile: Send + Sync {
    /// The file's name, for messages.
    fn label(&self) -> &str;
    /// Every tensor.
    fn tensors(&self) -> Vec<TensorMeta>;
    /// One tensor, in the file's type.
    fn load(&self, name: &str, device: &Device) -> Result<Tensor>;
}

/// Opens the files of one model.
pub(super) fn open(files: &[FileData]) -> Result<Vec<Box<dyn TensorFile>>> {
    if let Some(first) = files.first()
        && Format::of_file(first)? == Format::Gguf
    {
        // Only the first part of a split file says what model it is.
        return Ok(vec![Box::new(gguf::GgufTensors::open(files)?)]);
    }
    files
        .iter()
        .map(|file| -> Result<Box<dyn TensorFile>> {
            Ok(match Format::of_file(file)? {
                Format::Safetensors => Box::new(safetensors::Safetensors::open(file)?),
                Format::Torch => Box::new(TorchFile::open(file)?),
                Format::Gguf => Box::new(gguf::GgufTensors::open(std::slice::from_ref(file))?),
            })
        })
        .collect()
}
