//! Tensors by the names that they have in a file.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};

use crate::error::near_misses;
use crate::hub::FileData;
use crate::{Error, Result};

/// The tensors of a model's files, read as they are asked for, checked, and cast to one type.
#[derive(Clone)]
pub struct WeightSource {
    files: Arc<Files>,
    names: Arc<Vec<String>>,
    origin: String,
    prefix: String,
    dtype: DType,
    device: Device,
}

enum Files {
    Mapped(MmapedSafetensors),
    Bytes(SliceSafetensors<'static>),
}

/// A linear layer: y = x w + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub w: Tensor,
    /// `[out]`.
    pub b: Option<Tensor>,
}

impl Linear {
    /// Layers that were fused into this one. Its outputs are `groups` runs of the same make, one after another, and each
    /// run holds an equal share of every layer, in order; `widths` are the layers' own outputs.
    pub(crate) fn split<const N: usize>(&self, groups: usize, widths: [usize; N]) -> Result<[Linear; N]> {
        let (d_in, d_out) = self.w.dims2()?;
        let fits =
            groups > 0 && widths.iter().all(|width| width % groups == 0) && widths.iter().sum::<usize>() == d_out;
        if !fits {
            return Err(Error::msg(format!("{d_out} fused outputs are not {groups} equal runs of {widths:?}")));
        }
        let w = self.w.reshape((d_in, groups, d_out / groups))?;
        let b = self.b.as_ref().map(|b| b.reshape((groups, d_out / groups))).transpose()?;
        let mut start = 0;
        let mut next = |width: usize| -> Result<Linear> {
            let share = width / groups;
            let w = w.narrow(2, start, share)?.reshape((d_in, width))?;
            let b = b.as_ref().map(|b| b.narrow(1, start, share)?.reshape(width)).transpose()?;
            start += share;
            Ok(Linear { w, b })
        };
        let mut parts = Vec::with_capacity(N);
        for width in widths {
            parts.push(next(width)?);
        }
        parts.try_into().map_err(|_| Error::msg("as many parts as widths"))
    }
}

impl WeightSource {
    /// Opens a model's safetensors files; paths are memory-mapped.
    pub fn open(files: &[FileData], origin: &str, dtype: DType, device: &Device) -> Result<Self> {
        let paths: Vec<PathBuf> = files
            .iter()
            .filter_map(|file| match file {
                FileData::Path(path) => Some(path.clone()),
                FileData::Bytes { .. } => None,
            })
            .collect();
        let (files, names) = match files {
            [FileData::Bytes { data, .. }] => {
                let opened = SliceSafetensors::new(data).map_err(|e| not_safetensors(origin, e))?;
                let names = opened.tensors().into_iter().map(|(name, _)| name).collect();
                (Files::Bytes(opened), names)
            }
            _ => {
                // SAFETY: the map is only read. As with every memory-mapped file, another process that truncates it
                // while the model loads would crash this one; the mapping ends when loading does.
                let opened = unsafe { MmapedSafetensors::multi(&paths) }.map_err(|e| not_safetensors(origin, e))?;
                let names = opened.tensors().into_iter().map(|(name, _)| name).collect();
                (Files::Mapped(opened), names)
            }
        };
        let (files, names) = (Arc::new(files), Arc::new(names));
        Ok(Self { files, names, origin: origin.to_string(), prefix: String::new(), dtype, device: device.clone() })
    }

    /// The same source with `prefix` in front of every name that is asked for (behind the prefix that it has), unless
    /// the file goes without it, as checkpoints saved from the bare model do.
    pub fn with_optional_prefix(&self, prefix: &str) -> Self {
        let longer = format!("{}{prefix}", self.prefix);
        let prefix = if self.names.iter().any(|name| name.starts_with(&longer)) { longer } else { self.prefix.clone() };
        Self { prefix, ..self.clone() }
    }

    /// Where the tensors come from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        let name = self.full_name(name);
        self.names.contains(&name)
    }

    /// The tensor of this name, which must have this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.full_name(name);
        if !self.names.contains(&name) {
            let near = near_misses(&name, self.names.iter().map(String::as_str));
            return Err(Error::MissingTensor { name, origin: self.origin.clone(), near });
        }
        let tensor = match &*self.files {
            Files::Mapped(files) => files.load(&name, &self.device),
            Files::Bytes(files) => files.load(&name, &self.device),
        };
        let tensor = tensor.map_err(|e| Error::msg(format!("{}: the tensor '{name}': {e}", self.origin)))?;
        if tensor.dims() != shape {
            let expected = format!("{shape:?} (by the sizes in config.json)");
            return Err(Error::WrongShape { name, expected, found: tensor.dims().to_vec() });
        }
        Ok(tensor.to_dtype(self.dtype)?)
    }

    /// The tensor of this name if there is one; it must have this shape.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        if self.has(name) { self.tensor(name, shape).map(Some) } else { Ok(None) }
    }

    /// `name.weight`, stored `[out, in]` as torch's `Linear` does, and `name.bias` if there is one.
    pub fn linear(&self, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
        let w = self.tensor(&format!("{name}.weight"), &[d_out, d_in])?.t()?;
        Ok(Linear { w, b: self.optional(&format!("{name}.bias"), &[d_out])? })
    }

    /// `name.weight`, stored `[in, out]` as GPT-2's `Conv1D` does, and `name.bias`.
    pub fn conv1d(&self, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
        let w = self.tensor(&format!("{name}.weight"), &[d_in, d_out])?;
        Ok(Linear { w, b: self.optional(&format!("{name}.bias"), &[d_out])? })
    }

    /// `name.weight` and `name.bias`, where they are.
    pub fn norm(&self, name: &str, width: usize) -> Result<super::NormWeights> {
        let w = self.tensor(&format!("{name}.weight"), &[width])?;
        Ok(super::NormWeights { w: Some(w), b: self.optional(&format!("{name}.bias"), &[width])? })
    }

    fn full_name(&self, name: &str) -> String {
        // The head stands outside of the prefixed module in every family.
        if name.starts_with("lm_head") || name.starts_with("embed_out") {
            name.to_string()
        } else {
            format!("{}{name}", self.prefix)
        }
    }
}

fn not_safetensors(origin: &str, error: candle_core::Error) -> Error {
    Error::msg(format!(
        "the weights of {origin} can't be read as safetensors: {error}; the file may be truncated, so download or copy it again"
    ))
}
