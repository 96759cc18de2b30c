//! Safetensors files as a [`TensorFile`]. Each tensor is read when it is asked for, and only into its own memory: a mapped file
//! would be in memory beside the tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{TensorFile, TensorMeta};
use crate::hub::FileData;
use crate::{Error, Result, interrupt};

pub(super) struct Safetensors {
    label: String,
    content: Content,
    /// Where the tensors' bytes begin.
    first: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

enum Content {
    OnDisk(Mutex<File>),
    Bytes(&'static [u8]),
}

/// What is read at once.
const PIECE: usize = 1 << 20;
/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

impl Safetensors {
    pub(super) fn open(file: &FileData) -> Result<Self> {
        let damaged = |why: String| {
            file.unreadable(
                "safetensors",
                format!("{why}; the file may be truncated or damaged, so download or copy it again"),
            )
        };
        let (content, len) = match file {
            FileData::Bytes { data, .. } => (Content::Bytes(data), data.len() as u64),
            FileData::Path(path) => {
                let opened = File::open(path).map_err(|error| Error::io(path, error))?;
                let len = opened.metadata().map_err(|error| Error::io(path, error))?.len();
                (Content::OnDisk(Mutex::new(opened)), len)
            }
        };
        let mut safetensors = Self { label: file.label(), content, first: 0, tensors: BTreeMap::new() };
        let mut size = [0; 8];
        safetensors.read(0, &mut size).map_err(|error| damaged(format!("it has no header ({error})")))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER || size > len.saturating_sub(8) {
            return Err(damaged(format!("a header of {size} bytes is expected in a file of {len}")));
        }
        let mut header = vec![0; size as usize];
        safetensors.read(8, &mut header).map_err(|error| damaged(error.to_string()))?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(format!("its header can't be read ({error})")))?;
        safetensors.first = 8 + size;
        let expected = safetensors.first + header.data_len() as u64;
        if expected != len {
            return Err(damaged(format!("the header describes {expected} bytes, and the file has {len}")));
        }
        safetensors.tensors = header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(safetensors)
    }

    /// Fills `bytes` from this place of the file on.
    fn read(&self, from: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        match &self.content {
            Content::OnDisk(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(from))?;
                file.read_exact(bytes)
            }
            Content::Bytes(data) => {
                let end = (from as usize).checked_add(bytes.len()).filter(|end| *end <= data.len());
                let end = end.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
                bytes.copy_from_slice(&data[from as usize..end]);
                Ok(())
            }
        }
    }

    /// The numbers of a tensor, each made from its bytes.
    fn numbers<T, const SIZE: usize>(
        &self,
        name: &str,
        info: &TensorInfo,
        number: fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>> {
        let (from, to) = info.data_offsets;
        let mut numbers = Vec::with_capacity((to - from) / SIZE);
        let mut piece = vec![0; PIECE.min(to - from)];
        for start in (from..to).step_by(PIECE) {
            interrupt::check()?;
            let piece = &mut piece[..PIECE.min(to - start)];
            self.read(self.first + start as u64, piece)
                .map_err(|error| Error::msg(format!("{}: the tensor '{name}' can't be read: {error}", self.label)))?;
            numbers.extend(piece.as_chunks::<SIZE>().0.iter().map(|bytes| number(*bytes)));
        }
        Ok(numbers)
    }
}

impl TensorFile for Safetensors {
    fn label(&self) -> &str {
        &self.label
    }

    fn tensors(&self) -> Vec<TensorMeta> {
        let floats = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];
        let meta = |(name, info): (&String, &TensorInfo)| TensorMeta {
            name: name.clone(),
            dtype: format!("{:?}", info.dtype),
            is_float: floats.contains(&info.dtype),
            shape: info.shape.clone(),
        };
        self.tensors.iter().map(meta).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let info = self.tensors.get(name);
        let info = info.ok_or_else(|| Error::msg(format!("{}: there is no tensor '{name}'", self.label)))?;
        let shape = &info.shape[..];
        Ok(match info.dtype {
            Dtype::F32 => Tensor::from_vec(self.numbers(name, info, f32::from_le_bytes)?, shape, device),
            Dtype::BF16 => Tensor::from_vec(self.numbers(name, info, bf16::from_le_bytes)?, shape, device),
            Dtype::F16 => Tensor::from_vec(self.numbers(name, info, f16::from_le_bytes)?, shape, device),
            Dtype::F64 => Tensor::from_vec(self.numbers(name, info, f64::from_le_bytes)?, shape, device),
            other => {
                let dtype = DType::try_from(other);
                let dtype =
                    dtype.map_err(|error| Error::msg(format!("{}: the tensor '{name}': {error}", self.label)))?;
                let bytes = self.numbers(name, info, |[byte]: [u8; 1]| byte)?;
                Tensor::from_raw_buffer(&bytes, dtype, shape, device)
            }
        }?)
    }
}
