//! The numbers of a tensor, row by row, on all cores and in the widest vectors that the processor has.

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

/// Fills or changes `numbers`, some rows of `width` of them at a time, on all cores where there is enough to do. `change` gets
/// the number of its first row, and is compiled for each kind of vector instructions.
#[inline(always)]
pub(super) fn change_rows(numbers: &mut [f32], width: usize, change: impl Fn(usize, &mut [f32]) + Sync) {
    let arch = pulp::Arch::new();
    let rows = rows_at_once(width);
    match numbers.len() <= rows * width {
        true => arch.dispatch(|| change(0, numbers)),
        false => numbers
            .par_chunks_mut(rows * width)
            .enumerate()
            .for_each(|(i, part)| arch.dispatch(|| change(i * rows, part))),
    }
}

/// Does units of work by their numbers, on all cores unless there is little to do.
pub(super) fn each_unit(units: usize, is_small: bool, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    match is_small {
        true => (0..units).try_for_each(work),
        false => (0..units).into_par_iter().with_max_len(1).try_for_each(&work),
    }
}
