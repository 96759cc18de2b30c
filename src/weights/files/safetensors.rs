//! Safetensors files as a [`TensorFile`]; those on disk are memory-mapped.

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};

use super::{TensorFile, TensorMeta};
use crate::hub::FileData;
use crate::{Error, Result};

pub(super) struct Safetensors {
    label: String,
    content: Content,
}

enum Content {
    Mapped(MmapedSafetensors),
    Bytes(SliceSafetensors<'static>),
}

impl Safetensors {
    pub(super) fn open(file: &FileData) -> Result<Self> {
        let content = match file {
            FileData::Bytes { data, .. } => SliceSafetensors::new(data).map(Content::Bytes),
            // SAFETY: the map is only read. As with every memory-mapped file, another process that truncates it
            // while the model loads would crash this one; the mapping ends when loading does.
            FileData::Path(path) => unsafe { MmapedSafetensors::new(path) }.map(Content::Mapped),
        };
        let content = content.map_err(|error| {
            let why = format!("{error}; the file may be truncated or damaged, so download or copy it again");
            file.unreadable("safetensors", why)
        })?;
        Ok(Self { label: file.label(), content })
    }
}

impl TensorFile for Safetensors {
    fn label(&self) -> &str {
        &self.label
    }

    fn tensors(&self) -> Vec<TensorMeta> {
        let tensors = match &self.content {
            Content::Mapped(file) => file.tensors(),
            Content::Bytes(file) => file.tensors(),
        };
        let floats = [DType::F32, DType::F16, DType::BF16, DType::F64];
        tensors
            .into_iter()
            .map(|(name, view)| TensorMeta {
                name,
                dtype: format!("{:?}", view.dtype()),
                is_float: DType::try_from(view.dtype()).is_ok_and(|dtype| floats.contains(&dtype)),
                shape: view.shape().to_vec(),
            })
            .collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let tensor = match &self.content {
            Content::Mapped(file) => file.load(name, device),
            Content::Bytes(file) => file.load(name, device),
        };
        tensor.map_err(|error| Error::msg(format!("{}: the tensor '{name}': {error}", self.label)))
    }
}
