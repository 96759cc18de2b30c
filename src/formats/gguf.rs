//! The GGUF container: a model's metadata and the table of its tensors.
//!
//! The file stays mapped. Arrays of metadata (a vocabulary has hundreds of thousands of entries) are noted where they
//! lie and read when they are asked for. Every count and length is checked against the bytes that are there.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Tensor};

use super::reader::{Reader, Why};
use super::{FileBytes, truncated};
use crate::hub::FileData;
use crate::{Error, Result};

/// A GGUF file.
pub(crate) struct Gguf {
    bytes: FileBytes,
    label: String,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Entry>,
}

/// A tensor in the file.
pub(crate) struct Entry {
    pub(crate) dtype: GgmlDType,
    /// As torch orders dimensions: rows first.
    pub(crate) shape: Vec<usize>,
    data: Range<usize>,
}

/// A value of the metadata.
enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    /// The kind of the items, their number, and where they begin.
    Array(u32, u64, usize),
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl Gguf {
    /// Reads the metadata and the table of tensors.
    ///
    /// # Errors
    /// A file that is truncated, or whose counts, lengths, dimensions or offsets lie; a type of tensor that is not
    /// supported.
    pub(crate) fn open(file: &FileData) -> Result<Self> {
        let label = file.label();
        let bytes = FileBytes::open(file)?;
        let (metadata, tensors) = contents(&bytes).map_err(|why| truncated(&label, "GGUF", why))?;
        let unsupported = tensors.iter().find_map(|(name, raw)| raw.dtype.is_none().then_some((name, raw.kind)));
        if let Some((name, kind)) = unsupported {
            return Err(file.unreadable(
                "GGUF",
                format!(
                    "its tensor '{name}' is of type {}; known: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, \
                     Q3_K, Q4_K, Q5_K, Q6_K; use a file that is quantised in one of these ways (Q4_K_M, say)",
                    kind_name(kind)
                ),
            ));
        }
        let tensors = tensors
            .into_iter()
            .filter_map(|(name, raw)| Some((name, Entry { dtype: raw.dtype?, shape: raw.shape, data: raw.data })));
        let tensors = tensors.collect();
        Ok(Self { bytes, label, metadata, tensors })
    }

    /// The file's name, for messages.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.tensors
    }

    /// A tensor as float32.
    pub(crate) fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let failed = |why: String| Error::msg(format!("{}: the tensor '{name}': {why}", self.label));
        let entry = self.tensors.get(name).ok_or_else(|| failed("it is not there".to_string()))?;
        // A copy is aligned as candle needs it, which the file need not be.
        let data = self.bytes[entry.data.clone()].to_vec();
        let quantised = qtensor_from_ggml(entry.dtype, &data, entry.shape.clone(), &Device::Cpu);
        let tensor = quantised.and_then(|quantised| quantised.dequantize(&Device::Cpu)?.to_device(device));
        tensor.map_err(|error| failed(error.to_string()))
    }

    /// An error about a key of the metadata.
    pub(crate) fn error(&self, key: &str, why: &str) -> Error {
        Error::BadConfig { origin: self.label.clone(), why: format!("'{key}' {why}") }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(key, "is not a text")),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.error(key, "is not true or false")),
        }
    }

    /// A whole number. One that stands in an array, once for each layer, must be the same for all of them.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        let wrong = || self.error(key, "is not a whole number");
        let int = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Value::Int(int)) => *int,
            Some(Value::Array(..)) => {
                let sizes = self.ints(key)?;
                match sizes.first() {
                    Some(first) if sizes.iter().all(|size| size == first) => *first,
                    _ => {
                        return Err(
                            self.error(key, "differs between the layers, which candlescope does not support yet")
                        );
                    }
                }
            }
            Some(_) => return Err(wrong()),
        };
        usize::try_from(int).map(Some).map_err(|_| wrong())
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(Value::Int(int)) => Ok(Some(*int as f64)),
            Some(_) => Err(self.error(key, "is not a number")),
        }
    }

    /// An array of texts; empty if there is none.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.array(key, |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    /// An array of whole numbers; empty if there is none.
    pub(crate) fn ints(&self, key: &str) -> Result<Vec<i128>> {
        self.array(key, |value| match value {
            Value::Int(int) => Some(int),
            _ => None,
        })
    }

    /// An array of numbers; empty if there is none.
    pub(crate) fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        self.array(key, |value| match value {
            Value::Float(number) => Some(number),
            Value::Int(int) => Some(int as f64),
            _ => None,
        })
    }

    fn array<T>(&self, key: &str, item: impl Fn(Value) -> Option<T>) -> Result<Vec<T>> {
        let (kind, count, at) = match self.metadata.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(kind, count, at)) => (*kind, *count, *at),
            Some(_) => return Err(self.error(key, "is not an array")),
        };
        let mut reader = Reader::at(&self.bytes, at as u64).map_err(|why| self.error(key, &why))?;
        let mut items = Vec::new();
        for _ in 0..count {
            let value = value(&mut reader, kind, 0).map_err(|why| self.error(key, &why))?;
            items.push(item(value).ok_or_else(|| self.error(key, "has items of another kind than expected"))?);
        }
        Ok(items)
    }
}

/// A tensor of the table, whose type may be unknown.
struct Raw {
    kind: u32,
    dtype: Option<GgmlDType>,
    shape: Vec<usize>,
    data: Range<usize>,
}

type Contents = (BTreeMap<String, Value>, BTreeMap<String, Raw>);

fn contents(bytes: &[u8]) -> Result<Contents, Why> {
    let mut reader = Reader::new(bytes);
    reader.take(4)?;
    match reader.u32()? {
        2 | 3 => {}
        1 => {
            return Err(
                "it is of GGUF version 1, which was in use for a few weeks of 2023; 2 and 3 are read".to_string()
            );
        }
        version if version.swap_bytes() <= 3 => {
            return Err("it is a big-endian file; use the little-endian one".to_string());
        }
        version => return Err(format!("its version is {version}; 2 and 3 are read")),
    }
    let (tensor_count, metadata_count) = (reader.u64()?, reader.u64()?);
    // The least that each entry takes.
    let least = u128::from(metadata_count) * 13 + u128::from(tensor_count) * 24;
    if least > reader.left() as u128 {
        return Err(format!(
            "it claims {tensor_count} tensors and {metadata_count} entries of metadata, and has {} bytes",
            bytes.len()
        ));
    }
    let mut metadata = BTreeMap::new();
    for _ in 0..metadata_count {
        let key = text(&mut reader)?;
        let kind = reader.u32()?;
        let value = value(&mut reader, kind, 0).map_err(|why| format!("its metadata '{key}': {why}"))?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("its metadata has '{key}' twice"));
        }
    }
    let mut table = BTreeMap::new();
    for _ in 0..tensor_count {
        let name = text(&mut reader)?;
        let raw = table_entry(&mut reader).map_err(|why| format!("its tensor '{name}': {why}"))?;
        if table.insert(name.clone(), raw).is_some() {
            return Err(format!("it has two tensors '{name}'"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Int(int)) if (1..=1 << 20).contains(int) && int.count_ones() == 1 => *int as u64,
        Some(_) => return Err("its general.alignment is no power of two".to_string()),
    };
    let start = (reader.position() as u64).next_multiple_of(alignment);
    let tensors = place(bytes.len(), start, alignment, table)?;
    Ok((metadata, tensors))
}

/// Kind, shape, and offset in the data.
fn table_entry(reader: &mut Reader) -> Result<(u32, Vec<usize>, u64), Why> {
    let dims = reader.u32()?;
    if dims > 4 {
        return Err(format!("it has {dims} dimensions, and at most 4 were expected"));
    }
    let mut shape = Vec::new();
    for _ in 0..dims {
        let length = reader.u64()?;
        shape.push(usize::try_from(length).map_err(|_| format!("its dimension {length} is too large"))?);
    }
    shape.reverse();
    Ok((reader.u32()?, shape, reader.u64()?))
}

/// Finds each tensor's bytes, which must be in the file and must not overlap.
fn place(
    length: usize,
    start: u64,
    alignment: u64,
    table: BTreeMap<String, (u32, Vec<usize>, u64)>,
) -> Result<BTreeMap<String, Raw>, Why> {
    let mut placed = BTreeMap::new();
    for (name, (kind, shape, offset)) in table {
        let Some(dtype) = dtype(kind) else {
            placed.insert(name, Raw { kind, dtype: None, shape, data: 0..0 });
            continue;
        };
        let bad = |why: String| format!("its tensor '{name}' of shape {shape:?}: {why}");
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(dtype.block_size()) {
            return Err(bad(format!("rows of {row} are not made of blocks of {}", dtype.block_size())));
        }
        let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
        let size = count.and_then(|count| (count / dtype.block_size()).checked_mul(dtype.type_size()));
        let begin = start.checked_add(offset).and_then(|begin| usize::try_from(begin).ok());
        let range = begin.zip(size).and_then(|(begin, size)| Some(begin..begin.checked_add(size)?));
        let data = range
            .filter(|range| range.end <= length)
            .ok_or_else(|| bad(format!("at offset {offset} it does not fit into the file's {length} bytes")))?;
        if !offset.is_multiple_of(alignment) {
            return Err(bad(format!("offset {offset} is no multiple of {alignment}")));
        }
        placed.insert(name, Raw { kind, dtype: Some(dtype), shape, data });
    }
    let mut order: Vec<(&String, &Range<usize>)> =
        placed.iter().filter(|(_, raw)| !raw.data.is_empty()).map(|(name, raw)| (name, &raw.data)).collect();
    order.sort_by_key(|(_, data)| data.start);
    if let Some(pair) = order.windows(2).find(|pair| pair[0].1.end > pair[1].1.start) {
        return Err(format!("its tensors '{}' and '{}' overlap", pair[0].0, pair[1].0));
    }
    Ok(placed)
}

fn text(reader: &mut Reader) -> Result<String, Why> {
    let length = reader.u64()?;
    let bytes = reader.take(length)?;
    let text = std::str::from_utf8(bytes).map_err(|error| format!("a text is no UTF-8: {error}"))?;
    // Some writers count a C string's end.
    Ok(text.trim_end_matches('\0').to_string())
}

fn value(reader: &mut Reader, kind: u32, depth: usize) -> Result<Value, Why> {
    Ok(match kind {
        0 => Value::Int(reader.u8()?.into()),
        1 => Value::Int((reader.u8()? as i8).into()),
        2 => Value::Int(reader.u16()?.into()),
        3 => Value::Int((reader.u16()? as i16).into()),
        4 => Value::Int(reader.u32()?.into()),
        5 => Value::Int((reader.u32()? as i32).into()),
        6 => Value::Float(f32::from_bits(reader.u32()?).into()),
        7 => Value::Bool(reader.u8()? != 0),
        TEXT => Value::Text(text(reader)?),
        ARRAY => {
            let (kind, count) = (reader.u32()?, reader.u64()?);
            let at = reader.position();
            skip(reader, kind, count, depth)?;
            Value::Array(kind, count, at)
        }
        10 => Value::Int(reader.u64()?.into()),
        11 => Value::Int((reader.u64()? as i64).into()),
        12 => Value::Float(f64::from_bits(reader.u64()?)),
        other => return Err(format!("kind {other} of values is not known")),
    })
}

/// Passes over an array's items.
fn skip(reader: &mut Reader, kind: u32, count: u64, depth: usize) -> Result<(), Why> {
    let width = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        TEXT => {
            for _ in 0..count {
                let length = reader.u64()?;
                reader.take(length)?;
            }
            return Ok(());
        }
        ARRAY if depth < 4 => {
            for _ in 0..count {
                value(reader, ARRAY, depth + 1)?;
            }
            return Ok(());
        }
        other => return Err(format!("arrays of kind {other} are not known, or nested too deeply")),
    };
    let size = count.checked_mul(width).ok_or_else(|| format!("an array claims {count} items"))?;
    reader.take(size).map(drop).map_err(|why| format!("an array of {count} items: {why}"))
}

fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// What GGML calls its other types.
fn kind_name(kind: u32) -> String {
    let known = [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
    ];
    let name = known.iter().find(|(number, _)| *number == kind).map(|(_, name)| name.to_string());
    name.unwrap_or_else(|| format!("number {kind}"))
}
