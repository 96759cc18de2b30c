//! GGUF files as a [`TensorFile`] with Hugging Face's names and layouts.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::{TensorFile, TensorMeta};
use crate::formats::gguf::Gguf;
use crate::hub::FileData;
use crate::weights::gguf_config::architecture;
use crate::weights::gguf_names::{Layout, Names};
use crate::{Error, Result};

/// The parts of one model; mostly there is only one.
pub(super) struct GgufTensors {
    parts: Vec<Gguf>,
    /// By Hugging Face's name: the part, the name there, and the layout.
    tensors: BTreeMap<String, (usize, String, Layout)>,
}

impl GgufTensors {
    pub(super) fn open(files: &[FileData]) -> Result<Self> {
        let parts = files.iter().map(Gguf::open).collect::<Result<Vec<_>>>()?;
        let first = parts.first().ok_or_else(|| Error::msg("no GGUF file was given"))?;
        let arch = architecture(first)?;
        let heads = first.size(&format!("{arch}.attention.head_count"))?.unwrap_or(1);
        let key_value_heads = first.size(&format!("{arch}.attention.head_count_kv"))?.unwrap_or(heads);
        let names = Names { arch, heads, key_value_heads };
        let mut tensors = BTreeMap::new();
        for (index, part) in parts.iter().enumerate() {
            for name in part.tensors().keys() {
                let Some((translated, layout)) = names.translate(name) else { continue };
                if tensors.insert(translated.clone(), (index, name.clone(), layout)).is_some() {
                    return Err(Error::msg(format!(
                        "{}: the tensor '{name}' is in this file and once more",
                        part.label()
                    )));
                }
            }
        }
        if let Some(expected) = first.size("split.count")?
            && expected > 1
            && expected != parts.len()
        {
            return Err(Error::msg(format!(
                "{} is one of {expected} parts of a model, and {} were found; put all of them into one folder",
                first.label(),
                parts.len()
            )));
        }
        Ok(Self { parts, tensors })
    }
}

impl TensorFile for GgufTensors {
    fn label(&self) -> &str {
        self.parts.first().map_or("", Gguf::label)
    }

    fn tensors(&self) -> Vec<TensorMeta> {
        let meta = |(name, (part, own, layout)): (&String, &(usize, String, Layout))| {
            let entry = self.parts[*part].tensors().get(own)?;
            Some(TensorMeta {
                name: name.clone(),
                dtype: format!("{:?}", entry.dtype),
                is_float: true,
                shape: layout.shape(entry.shape.clone()),
            })
        };
        self.tensors.iter().filter_map(meta).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let missing = || Error::msg(format!("{}: there is no tensor '{name}'", self.label()));
        let (part, own, layout) = self.tensors.get(name).ok_or_else(missing)?;
        layout.undo(self.parts[*part].load(own, device)?)
    }
}
