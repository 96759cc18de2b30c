//! PyTorch's checkpoints as a [`TensorFile`].

use candle_core::{Device, Tensor};

use super::{TensorFile, TensorMeta};
use crate::Result;
use crate::formats::torch::TorchFile;

impl TensorFile for TorchFile {
    fn label(&self) -> &str {
        TorchFile::label(self)
    }

    fn tensors(&self) -> Vec<TensorMeta> {
        let meta = |(name, view): (&String, &crate::formats::torch::View)| TensorMeta {
            name: name.clone(),
            dtype: view.kind.clone(),
            is_float: view.dtype.is_some(),
            shape: view.shape.clone(),
        };
        TorchFile::tensors(self).iter().map(meta).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        TorchFile::load(self, name, device)
    }
}
