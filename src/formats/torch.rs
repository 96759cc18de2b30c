//! What `torch.save` writes: a zip archive with a pickle that describes tensors, and one entry for each storage.
//!
//! Tensors are views of storages, with an offset and strides, and several may share one. The pickle is read as data
//! (see [`pickle`](super::pickle)); every view is checked against the bytes that its storage really has.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::pickle::{Pickle, Ref, Value};
use super::{FileBytes, reader::Why, truncated, zip};
use crate::hub::FileData;
use crate::{Error, Result};

/// What the file is called in messages.
const WHAT: &str = "PyTorch weights";
/// A description of tensors is small; a larger one is not read.
const LARGEST_PICKLE: usize = 64 << 20;
/// Under which key a checkpoint may hold the weights beside other things.
const NESTED: &[&str] = &["state_dict", "model_state_dict", "model", "module"];

/// A checkpoint's tensors.
pub(crate) struct TorchFile {
    bytes: FileBytes,
    label: String,
    tensors: BTreeMap<String, View>,
}

/// A tensor: a view of a storage.
pub(crate) struct View {
    /// Torch's name of the storage's type, such as `HalfStorage`.
    pub(crate) kind: String,
    /// What candle calls that, where it has it.
    pub(crate) dtype: Option<DType>,
    pub(crate) shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    strides: Vec<usize>,
    /// The first element.
    offset: usize,
    /// The storage's bytes in the file.
    storage: Range<usize>,
}

impl TorchFile {
    /// Reads the description of the tensors.
    ///
    /// # Errors
    /// A damaged archive; a pickle that wants anything but tensors, dicts and numbers; a tensor that its storage is
    /// too small for.
    pub(crate) fn open(file: &FileData) -> Result<Self> {
        let label = file.label();
        let bytes = FileBytes::open(file)?;
        let entries = zip::entries(&bytes).map_err(|why| truncated(&label, WHAT, why))?;
        let bad = |why: Why| file.unreadable(WHAT, why);
        let pickles: Vec<&String> =
            entries.keys().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).collect();
        let [pickle] = pickles[..] else {
            return Err(bad(format!("it has {} entries 'data.pkl', and torch.save writes one", pickles.len())));
        };
        let root = pickle.trim_end_matches("data.pkl");
        if let Some(order) = entries.get(&format!("{root}byteorder"))
            && &bytes[order.clone()] != b"little"
        {
            return Err(
                bad("it was written on a big-endian machine; load and save it with PyTorch on this one".into()),
            );
        }
        let description = entries[pickle].clone();
        if description.len() > LARGEST_PICKLE {
            return Err(bad(format!("its pickle has {} bytes; weights are described in far fewer", description.len())));
        }
        let pickle = Pickle::read(&bytes[description], is_known).map_err(bad)?;
        let tensors = Tensors { pickle: &pickle, entries: &entries, root }.collect().map_err(bad)?;
        Ok(Self { bytes, label, tensors })
    }

    /// The file's name, for messages.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn tensors(&self) -> &BTreeMap<String, View> {
        &self.tensors
    }

    /// Copies a tensor out of the file.
    pub(crate) fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let failed = |why: &str| Error::msg(format!("{}: the tensor '{name}' {why}", self.label));
        let view = self.tensors.get(name).ok_or_else(|| failed("is not there"))?;
        let dtype = view.dtype.ok_or_else(|| failed(&format!("is of type {}, which can't be read", view.kind)))?;
        let size = dtype.size_in_bytes();
        let storage = &self.bytes[view.storage.clone()];
        let count: usize = view.shape.iter().product();
        if view.is_contiguous() {
            let data = &storage[view.offset * size..(view.offset + count) * size];
            return Ok(Tensor::from_raw_buffer(data, dtype, &view.shape, device)?);
        }
        let mut data = Vec::with_capacity(count * size);
        let mut index = vec![0; view.shape.len()];
        for _ in 0..count {
            let at = view.offset + index.iter().zip(&view.strides).map(|(index, stride)| index * stride).sum::<usize>();
            data.extend_from_slice(&storage[at * size..(at + 1) * size]);
            for (index, length) in index.iter_mut().zip(&view.shape).rev() {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
            }
        }
        Ok(Tensor::from_raw_buffer(&data, dtype, &view.shape, device)?)
    }
}

impl View {
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(length, stride)| {
            let fits = *length == 1 || *stride == expected;
            expected *= length;
            fits
        })
    }
}

/// The names that a pickle of weights may import.
fn is_known(module: &str, name: &str) -> bool {
    match module {
        "collections" => name == "OrderedDict",
        "torch._utils" => matches!(
            name,
            "_rebuild_tensor"
                | "_rebuild_tensor_v2"
                | "_rebuild_tensor_v3"
                | "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
        ),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch" => {
            matches!(name, "Tensor" | "Size" | "device") || name.ends_with("Storage") || dtype_of(name).is_some()
        }
        "torch.storage" => matches!(name, "UntypedStorage" | "TypedStorage"),
        "torch.nn.parameter" => name == "Parameter",
        _ => false,
    }
}

/// Torch's dtypes, by the names that a pickle has for them: `torch.float16`.
fn dtype_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "float32" => "FloatStorage",
        "float64" => "DoubleStorage",
        "float16" => "HalfStorage",
        "bfloat16" => "BFloat16Storage",
        "uint8" => "ByteStorage",
        "int8" => "CharStorage",
        "int16" => "ShortStorage",
        "int32" => "IntStorage",
        "int64" => "LongStorage",
        "bool" => "BoolStorage",
        "float8_e4m3fn" | "float8_e5m2" => "Float8Storage",
        _ => return None,
    })
}

/// A storage type's element: its size in bytes, and candle's type if the weights may have it.
fn element(kind: &str) -> Option<(usize, Option<DType>)> {
    Some(match kind {
        "FloatStorage" => (4, Some(DType::F32)),
        "DoubleStorage" => (8, Some(DType::F64)),
        "HalfStorage" => (2, Some(DType::F16)),
        "BFloat16Storage" => (2, Some(DType::BF16)),
        "ByteStorage" | "CharStorage" | "BoolStorage" | "Float8Storage" | "UntypedStorage" => (1, None),
        "ShortStorage" => (2, None),
        "IntStorage" => (4, None),
        "LongStorage" | "ComplexFloatStorage" => (8, None),
        _ => return None,
    })
}

/// Makes sense of a pickle's values.
struct Tensors<'a> {
    pickle: &'a Pickle,
    entries: &'a BTreeMap<String, Range<usize>>,
    root: &'a str,
}

impl Tensors<'_> {
    /// The tensors of the dict that the pickle is, or of the one in it that holds the weights.
    fn collect(&self) -> Result<BTreeMap<String, View>, Why> {
        let Value::Dict(outer) = self.pickle.root() else {
            return Err("its pickle holds no dict of tensors".to_string());
        };
        let found = self.of_dict(outer)?;
        if !found.is_empty() {
            return Ok(found);
        }
        for key in NESTED {
            for (at, value) in outer {
                if let (Value::Text(name), Value::Dict(inner)) = (self.pickle.value(*at), self.pickle.value(*value))
                    && name == key
                {
                    let found = self.of_dict(inner)?;
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
            }
        }
        let keys: Vec<&str> = outer.iter().filter_map(|(key, _)| self.text(*key)).take(8).collect();
        Err(format!("it holds no tensors; its keys are: {}", keys.join(", ")))
    }

    fn of_dict(&self, dict: &[(Ref, Ref)]) -> Result<BTreeMap<String, View>, Why> {
        let mut tensors = BTreeMap::new();
        for (key, value) in dict {
            if let (Some(name), Value::Call(..)) = (self.text(*key), self.pickle.value(*value))
                && let Some(view) = self.view(*value, 0).map_err(|why| format!("the tensor '{name}': {why}"))?
            {
                tensors.insert(name.to_string(), view);
            }
        }
        Ok(tensors)
    }

    /// The tensor that a call would make; `None` for what is no tensor (a size, a device).
    fn view(&self, at: Ref, depth: usize) -> Result<Option<View>, Why> {
        let (Value::Call(function, arguments), true) = (self.pickle.value(at), depth < 4) else {
            return Err("it is no tensor".to_string());
        };
        let (Value::Global(_, name), Value::Tuple(arguments)) =
            (self.pickle.value(*function), self.pickle.value(*arguments))
        else {
            return Err("it is no tensor".to_string());
        };
        let argument = |index: usize| arguments.get(index).copied().ok_or("it lacks an argument");
        match name.as_str() {
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" => {
                let dtype = if name.ends_with("v3") { Some(argument(6)?) } else { None };
                self.rebuilt(argument(0)?, argument(1)?, argument(2)?, argument(3)?, dtype).map(Some)
            }
            // A parameter wraps the call that makes its tensor.
            "_rebuild_parameter" | "_rebuild_parameter_with_state" => self.view(argument(0)?, depth + 1),
            // So does a subclass; its call comes in two parts.
            "_rebuild_from_type_v2" => match (self.pickle.value(argument(0)?), self.pickle.value(argument(2)?)) {
                (Value::Global(_, inner), Value::Tuple(inner_arguments)) if inner.starts_with("_rebuild_tensor") => {
                    let part = |index: usize| inner_arguments.get(index).copied().ok_or("it lacks an argument");
                    let dtype = if inner.ends_with("v3") { Some(part(6)?) } else { None };
                    self.rebuilt(part(0)?, part(1)?, part(2)?, part(3)?, dtype).map(Some)
                }
                _ => Err("it is made in a way that is not known".to_string()),
            },
            _ => Ok(None),
        }
    }

    fn rebuilt(&self, storage: Ref, offset: Ref, shape: Ref, strides: Ref, dtype: Option<Ref>) -> Result<View, Why> {
        let (mut kind, entry) = self.storage(storage)?;
        if let Some(dtype) = dtype {
            kind = match self.pickle.value(dtype) {
                Value::Global(_, name) => dtype_of(name).ok_or_else(|| format!("the type {name} is not known"))?,
                _ => return Err("its type is no type".to_string()),
            }
            .to_string();
        }
        let (size, dtype) = element(&kind).ok_or_else(|| format!("the storage type {kind} is not known"))?;
        let (offset, shape, strides) = (self.number(offset)?, self.numbers(shape)?, self.numbers(strides)?);
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err(format!("{} dimensions with {} strides", shape.len(), strides.len()));
        }
        let has = entry.len() / size;
        let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
        let last = if shape.contains(&0) {
            Some(offset)
        } else {
            let reach = |reach: usize, (length, stride): (&usize, &usize)| {
                reach.checked_add((length - 1).checked_mul(*stride)?)
            };
            shape.iter().zip(&strides).try_fold(offset, reach).and_then(|last| last.checked_add(1))
        };
        match (count, last) {
            (Some(count), Some(last)) if last <= has && count <= has => {}
            _ => {
                return Err(format!(
                    "shape {shape:?} with strides {strides:?} from element {offset} does not fit its storage of {has} elements"
                ));
            }
        }
        Ok(View { kind, dtype, shape, strides, offset, storage: entry })
    }

    /// A storage's type and its bytes: `('storage', type, key, device, number of elements)`.
    fn storage(&self, at: Ref) -> Result<(String, Range<usize>), Why> {
        let Value::Persistent(description) = self.pickle.value(at) else {
            return Err("its storage is no storage".to_string());
        };
        let Value::Tuple(parts) = self.pickle.value(*description) else {
            return Err("its storage has no description".to_string());
        };
        let [_, kind, key, _, count] = parts[..] else {
            return Err("its storage has no description of five parts".to_string());
        };
        let Value::Global(_, kind) = self.pickle.value(kind) else {
            return Err("its storage has no type".to_string());
        };
        let key = self.text(key).ok_or("its storage has no key")?;
        let entry = self.entries.get(&format!("{}data/{key}", self.root));
        let entry = entry.ok_or_else(|| format!("its storage '{key}' is not in the file"))?;
        let (count, size) = (self.number(count)?, element(kind).map_or(1, |(size, _)| size));
        if count.checked_mul(size).is_none_or(|bytes| bytes > entry.len()) {
            return Err(format!("its storage '{key}' claims {count} elements and has {} bytes", entry.len()));
        }
        Ok((kind.clone(), entry.clone()))
    }

    fn text(&self, at: Ref) -> Option<&str> {
        match self.pickle.value(at) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self, at: Ref) -> Result<usize, Why> {
        match self.pickle.value(at) {
            Value::Int(int) => usize::try_from(*int).map_err(|_| format!("{int} is no size")),
            _ => Err("a number was expected".to_string()),
        }
    }

    /// A tuple of numbers, or a `torch.Size` of one.
    fn numbers(&self, at: Ref) -> Result<Vec<usize>, Why> {
        match self.pickle.value(at) {
            Value::Tuple(items) | Value::List(items) if items.len() <= 8 => {
                items.iter().map(|item| self.number(*item)).collect()
            }
            _ => Err("a tuple of at most 8 numbers was expected".to_string()),
        }
    }
}
