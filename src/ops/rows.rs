//! The numbers of a tensor, row by row.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};
use rayon::prelude::*;

/// What one thread takes at a time, in numbers.
const SHARE: usize = 1 << 14;

/// The numbers of a contiguous tensor.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("this operation needs a contiguous tensor"),
    }
}

/// Calls `f` with the numbers of a tensor.
pub(super) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => candle_core::bail!("this operation is for the CPU alone"),
    }
}

/// How many rows of this width one thread takes at a time.
pub(super) fn rows_at_once(width: usize) -> usize {
    (SHARE / width.max(1)).max(1)
}

/// Fills `out`, some rows of `width` numbers at a time, on all cores where there is enough to do. `fill` gets the number of
/// its first row.
pub(super) fn fill_rows(out: &mut [f32], width: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = rows_at_once(width);
    match out.len() <= rows * width {
        true => fill(0, out),
        false => out.par_chunks_mut(rows * width).enumerate().for_each(|(i, part)| fill(i * rows, part)),
    }
}
