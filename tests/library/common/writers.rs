//! Writes the formats that candlescope reads, by their specifications and by hand.

use std::collections::BTreeMap;
use std::path::Path;

use candlescope::candle_core::quantized::gguf_file::{self, Value};
use candlescope::candle_core::quantized::{GgmlDType, QTensor};
use candlescope::candle_core::safetensors;
use candlescope::prelude::*;

pub type Tensors = BTreeMap<String, Tensor>;

/// Every tensor of a safetensors file.
pub fn read(path: &Path) -> Tensors {
    safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

/// Writes the tensors into `parts` files with an index, as Hugging Face does.
pub fn sharded(folder: &Path, tensors: &Tensors, parts: usize, whole: &str, write: impl Fn(&Path, &Tensors)) {
    let (stem, ending) = whole.rsplit_once('.').unwrap();
    let mut map = serde_json::Map::new();
    for part in 0..parts {
        let file = format!("{stem}-{:05}-of-{parts:05}.{ending}", part + 1);
        let mine: Tensors =
            tensors.iter().skip(part).step_by(parts).map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        map.extend(mine.keys().map(|name| (name.clone(), file.clone().into())));
        write(&folder.join(file), &mine);
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    std::fs::write(folder.join(format!("{whole}.index.json")), index.to_string()).unwrap();
}

pub fn write_safetensors(path: &Path, tensors: &Tensors) {
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    safetensors::save(&tensors, path).unwrap();
}

/// What torch.save writes for `OrderedDict` of float32 tensors. Every tensor has a storage of its own; matrices are
/// stored transposed and viewed with strides, so that reading has to gather them.
pub fn write_torch(path: &Path, tensors: &Tensors) {
    let mut pickle = Pickle::new();
    pickle.global("collections", "OrderedDict").raw(b")R(");
    let mut entries = Vec::new();
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        let dims = tensor.dims().to_vec();
        let (stored, strides) = match dims[..] {
            [rows, _] => (tensor.t().unwrap().contiguous().unwrap(), vec![1, rows]),
            _ => (tensor.clone(), vec![1; dims.len()]),
        };
        pickle.text(name);
        pickle.tensor("FloatStorage", &key.to_string(), tensor.elem_count(), 0, &dims, &strides);
        let values = stored.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        entries.push((format!("archive/data/{key}"), values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    pickle.raw(b"u.");
    entries.insert(0, ("archive/data.pkl".to_string(), pickle.0));
    entries.push(("archive/version".to_string(), b"3\n".to_vec()));
    std::fs::write(path, zip(&entries)).unwrap();
}

/// A pickle in the making.
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub fn int(&mut self, int: usize) -> &mut Self {
        self.raw(&[0x8a, 8]).raw(&(int as u64).to_le_bytes())
    }

    pub fn ints(&mut self, ints: &[usize]) -> &mut Self {
        self.raw(b"(");
        for int in ints {
            self.int(*int);
        }
        self.raw(b"t")
    }

    /// The call of `_rebuild_tensor_v2` that torch.save writes.
    pub fn tensor(
        &mut self,
        kind: &str,
        key: &str,
        count: usize,
        offset: usize,
        dims: &[usize],
        strides: &[usize],
    ) -> &mut Self {
        self.global("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage").global("torch", kind);
        self.text(key).text("cpu").int(count).raw(b"tQ").int(offset).ints(dims).ints(strides);
        self.raw(&[0x89]).global("collections", "OrderedDict").raw(b")RtR")
    }
}

/// A zip archive of stored entries.
pub fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let offset = file.len() as u32;
        let mut common = Vec::new();
        common.extend([0u8; 8]); // Flags, method, time, date.
        common.extend([0u8; 4]); // The checksum, which is not looked at.
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        file.extend(b"PK\x03\x04\x14\x00");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(content);
        directory.extend(b"PK\x01\x02\x14\x00\x14\x00");
        directory.extend(&common);
        directory.extend([0u8; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size, count) = (file.len() as u32, directory.len() as u32, entries.len() as u16);
    file.extend(directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// Writes a GGUF file. Norms stay float32, as llama.cpp leaves them.
pub fn write_gguf(path: &Path, metadata: &[(impl AsRef<str>, Value)], tensors: &[(String, Tensor)], dtype: GgmlDType) {
    let quantised: Vec<(String, QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let dtype = if tensor.rank() > 1 { dtype } else { GgmlDType::F32 };
            (name.clone(), QTensor::quantize(tensor, dtype).unwrap())
        })
        .collect();
    let tensors: Vec<(&str, &QTensor)> = quantised.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_ref(), value)).collect();
    let mut file = std::fs::File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}
