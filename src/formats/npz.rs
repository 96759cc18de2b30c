//! numpy's archives of arrays: a zip of `.npy` files, each a short header and the numbers.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::FileBytes;
use super::reader::{Reader, Why};
use super::zip;
use crate::Result;
use crate::hub::FileData;

/// What such a file is called in messages.
const WHAT: &str = "numpy arrays";

/// Every array of a `.npz` file by its name, in the type that it is stored in, on the CPU.
pub(crate) fn read(file: &FileData) -> Result<BTreeMap<String, Tensor>> {
    let bytes = FileBytes::open(file)?;
    let bad = |why: Why| super::truncated(&file.label(), WHAT, why);
    let mut arrays = BTreeMap::new();
    for (name, place) in zip::entries(&bytes).map_err(bad)? {
        let content = &bytes[place];
        let array = array(content).map_err(|why| bad(format!("its array '{name}': {why}")))?;
        let tensor = Tensor::from_raw_buffer(array.numbers, array.dtype, &array.shape, &Device::Cpu)?;
        // Fortran's order is that of the transposed array.
        let tensor = if array.reversed { tensor.t()?.contiguous()? } else { tensor };
        arrays.insert(name.trim_end_matches(".npy").to_string(), tensor);
    }
    Ok(arrays)
}

/// An array's numbers, which have exactly the length that type and shape ask for.
struct Array<'a> {
    dtype: DType,
    shape: Vec<usize>,
    reversed: bool,
    numbers: &'a [u8],
}

fn array(bytes: &[u8]) -> Result<Array<'_>, Why> {
    let mut reader = Reader::new(bytes);
    if reader.take(6)? != b"\x93NUMPY" {
        return Err("it does not begin as a .npy file".to_string());
    }
    let (major, _minor) = (reader.u8()?, reader.u8()?);
    let length = if major == 1 { u64::from(reader.u16()?) } else { u64::from(reader.u32()?) };
    let header = String::from_utf8_lossy(reader.take(length)?).into_owned();
    let dtype = match text(&header, "descr")? {
        "'<f4'" => DType::F32,
        "'<f8'" => DType::F64,
        "'<f2'" => DType::F16,
        other => {
            return Err(format!("its numbers are of type {other}, and floats ('<f4', '<f2' or '<f8') were expected"));
        }
    };
    let mut shape = shape(text(&header, "shape")?)?;
    let reversed = text(&header, "fortran_order")? == "True" && shape.len() > 1;
    if reversed && shape.len() > 2 {
        return Err("it has more than two axes in Fortran's order".to_string());
    }
    let count = shape.iter().try_fold(dtype.size_in_bytes(), |product, &size| product.checked_mul(size));
    let count = count.ok_or_else(|| format!("its shape {shape:?} is larger than memory"))?;
    let numbers = reader.take(count as u64)?;
    if reversed {
        shape.reverse();
    }
    Ok(Array { dtype, shape, reversed, numbers })
}

/// The value of a key in the header, which is a Python dictionary on one line.
fn text<'a>(header: &'a str, key: &str) -> Result<&'a str, Why> {
    let missing = || format!("its header has no '{key}'");
    let (_, rest) = header.split_once(&format!("'{key}':")).ok_or_else(missing)?;
    let rest = rest.trim_start();
    let end = if rest.starts_with('(') { rest.find(')').map(|end| end + 1) } else { rest.find([',', '}']) };
    rest.get(..end.ok_or_else(missing)?).map(str::trim).ok_or_else(missing)
}

fn shape(text: &str) -> Result<Vec<usize>, Why> {
    let inside = text.trim_start_matches('(').trim_end_matches(')');
    let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
    sizes.map(|size| size.parse().map_err(|_| format!("its shape is {text}, and sizes were expected"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let bytes = npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }  \n", &[0.0; 6]);
        let found = array(&bytes).unwrap();
        assert_eq!((found.dtype, found.shape, found.reversed), (DType::F32, vec![3, 2], true));
        let bytes = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", &[0.0; 3]);
        assert_eq!(array(&bytes).unwrap().shape, [3]);
        let bytes = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", &[1.0]);
        assert_eq!(array(&bytes).unwrap().shape, [0usize; 0]);
    }

    #[test]
    fn what_is_no_array_is_a_sentence() {
        let why = |header: &str| array(&npy(header, &[0.0; 6])).map(drop).unwrap_err();
        assert!(why("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }").contains("32 bytes were expected"));
        let huge = why("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }");
        assert!(huge.contains("larger than memory"), "{huge}");
        assert!(why("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }").contains("'<i8'"));
        assert!(why("{'descr': '<f4', 'shape': (6,), }").contains("fortran_order"));
        assert!(why("{'descr': '<f4', 'fortran_order': False, 'shape': (x,), }").contains("sizes were expected"));
        assert!(array(b"PK").is_err() && array(b"").is_err());
    }
}
