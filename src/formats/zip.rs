//! The directory of a zip archive: where each stored entry lies in the file.
//!
//! PyTorch, and numpy's savez, store their entries without compression, so that they can be mapped. A compressed entry is therefore
//! refused, and with it every archive that would grow when it is unpacked.

use std::collections::BTreeMap;
use std::ops::Range;

use super::reader::{Reader, Why};

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// Every entry's name and the bytes of the file that are its content.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, Why> {
    let (count, offset) = directory(bytes)?;
    let mut reader = Reader::at(bytes, offset)?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, content) = entry(bytes, &mut reader)?;
        if entries.insert(name.clone(), content).is_some() {
            return Err(format!("the zip archive has two entries '{name}'"));
        }
    }
    Ok(entries)
}

/// The number of entries and where their list begins.
fn directory(bytes: &[u8]) -> Result<(u64, u64), Why> {
    // The last record has 22 bytes and a comment of at most 65535.
    let tail = bytes.len().saturating_sub(22 + 65535);
    let found = bytes[tail..].windows(4).rposition(|window| window == END);
    let end = tail + found.ok_or("it has no zip directory at its end")?;
    let mut reader = Reader::at(bytes, end as u64)?;
    reader.take(10)?;
    let (count, _size, offset) = (reader.u16()?, reader.u32()?, reader.u32()?);
    // Beyond 4 GiB or 65535 entries the numbers stand in a record of their own, which a locator before `end` points to.
    if let Some(before) = end.checked_sub(20)
        && bytes[before..].starts_with(LOCATOR_64)
    {
        let mut locator = Reader::at(bytes, before as u64 + 8)?;
        let mut record = Reader::at(bytes, locator.u64()?)?;
        expect(&mut record, END_64)?;
        record.take(28)?;
        let (count, _size, offset) = (record.u64()?, record.u64()?, record.u64()?);
        return Ok((count, offset));
    }
    Ok((u64::from(count), u64::from(offset)))
}

/// The next entry of the directory.
fn entry(bytes: &[u8], reader: &mut Reader) -> Result<(String, Range<usize>), Why> {
    expect(reader, ENTRY)?;
    reader.take(4)?;
    let (flags, method) = (reader.u16()?, reader.u16()?);
    reader.take(8)?;
    let (packed, size) = (reader.u32()?, reader.u32()?);
    let (name_length, extra_length, comment_length) = (reader.u16()?, reader.u16()?, reader.u16()?);
    reader.take(8)?;
    let offset = reader.u32()?;
    let name = String::from_utf8_lossy(reader.take(name_length.into())?).into_owned();
    let extra = reader.take(extra_length.into())?;
    reader.take(comment_length.into())?;

    let [size, packed, offset] = wide(extra, [size, packed, offset])?;
    if method != 0 || flags & 1 != 0 || packed != size {
        return Err(format!(
            "its entry '{name}' is compressed or encrypted ({packed} bytes claim to be {size}); torch.save and numpy.savez store entries as they are"
        ));
    }
    // The name and the extra field stand once more before the content, and the latter may differ.
    let mut local = Reader::at(bytes, offset)?;
    expect(&mut local, LOCAL)?;
    local.take(22)?;
    let (name_length, extra_length) = (local.u16()?, local.u16()?);
    local.take(u64::from(name_length) + u64::from(extra_length))?;
    let start = local.position();
    let content = local.take(size).map_err(|why| format!("its entry '{name}' claims {size} bytes: {why}"))?;
    Ok((name, start..start + content.len()))
}

/// Fields of 32 bits whose true value does not fit and stands in the extra field instead.
fn wide(extra: &[u8], fields: [u32; 3]) -> Result<[u64; 3], Why> {
    let mut wide = fields.map(u64::from);
    let mut reader = Reader::new(extra);
    while reader.left() >= 4 {
        let (id, length) = (reader.u16()?, reader.u16()?);
        let mut content = Reader::new(reader.take(length.into())?);
        if id == 1 {
            for field in wide.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
                *field = content.u64()?;
            }
        }
    }
    Ok(wide)
}

fn expect(reader: &mut Reader, signature: &[u8]) -> Result<(), Why> {
    if reader.take(4)? == signature { Ok(()) } else { Err("its zip directory is damaged".to_string()) }
}
