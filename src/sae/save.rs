//! Writing an SAE to a folder, in SAELens' layout.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::Sae;
use super::load::{CONFIG, SPARSITY, SPARSITY_TENSOR, WEIGHTS};
use crate::whole_file::write_whole;
use crate::{Error, Result};

impl Sae {
    /// Writes it to a folder as SAELens 6 does: `cfg.json`, `sae_weights.safetensors` (f32) and, where the sparsity is
    /// known, `sparsity.safetensors`. [`from_folder`](Self::from_folder) reads it, and so does SAELens
    /// (`SAE.load_from_disk`), but for TopK and gated transcoders, which it does not have.
    ///
    /// # Errors
    /// What the system says when a file can't be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
        let json = self.config().to_json(self.weights().sizes(), self.w_skip().is_some());
        let text = serde_json::to_string_pretty(&json).map_err(|error| Error::msg(error.to_string()))? + "\n";
        let plain = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous();
        let named = self.weights().named();
        let tensors = named.into_iter().map(|(name, tensor)| Ok((name, plain(tensor)?)));
        let tensors: HashMap<&str, Tensor> = tensors.collect::<Result<_>>()?;
        write_whole(&folder.join(WEIGHTS), |path| Ok(candle_core::safetensors::save(&tensors, path)?))?;
        if let Some(sparsity) = self.log_sparsity() {
            let sparsity = HashMap::from([(SPARSITY_TENSOR, plain(sparsity)?)]);
            write_whole(&folder.join(SPARSITY), |path| Ok(candle_core::safetensors::save(&sparsity, path)?))?;
        }
        // Last, for it is what makes a folder an SAE's.
        let config = folder.join(CONFIG);
        std::fs::write(&config, text).map_err(|source| Error::io(config, source))
    }
}
