//! Reading numbers out of a tensor of any layout, dtype and device, without copying the rest of it.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use crate::{Error, Result};

/// No look at a tensor reads more numbers than this; beyond it a regular sample is taken.
pub(crate) const BUDGET: usize = 1 << 20;

/// The numbers at the outer product of `picks`: for each dimension the indices wanted, in order. Row-major.
pub(crate) fn gather(tensor: &Tensor, picks: &[Vec<usize>]) -> Result<Vec<f64>> {
    let dims = tensor.dims();
    let fits = picks.len() == dims.len() && picks.iter().zip(dims).all(|(pick, n)| pick.iter().all(|i| i < n));
    if !fits {
        return Err(Error::msg(format!("indices outside of a tensor of shape {dims:?} were asked for")));
    }
    if !tensor.device().is_cpu() {
        return gather_on_device(tensor, picks);
    }
    let offsets = offsets(tensor, picks);
    let (storage, _) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::msg("the tensor says that it is on the CPU, and its storage is not"));
    };
    fn read<T: Copy>(from: &[T], offsets: &[usize], number: impl Fn(T) -> f64) -> Vec<f64> {
        offsets.iter().filter_map(|i| from.get(*i)).map(|v| number(*v)).collect()
    }
    Ok(match storage {
        CpuStorage::U8(v) => read(v, &offsets, f64::from),
        CpuStorage::U32(v) => read(v, &offsets, f64::from),
        CpuStorage::I16(v) => read(v, &offsets, f64::from),
        CpuStorage::I32(v) => read(v, &offsets, f64::from),
        CpuStorage::I64(v) => read(v, &offsets, |x| x as f64),
        CpuStorage::BF16(v) => read(v, &offsets, |x| x.to_f64()),
        CpuStorage::F16(v) => read(v, &offsets, |x| x.to_f64()),
        CpuStorage::F32(v) => read(v, &offsets, f64::from),
        CpuStorage::F64(v) => read(v, &offsets, |x| x),
        CpuStorage::F8E4M3(v) => read(v, &offsets, |x| x.to_f64()),
        _ => return Err(Error::msg(format!("numbers of dtype {} can't be read", tensor.dtype().as_str()))),
    })
}

/// A regular sample of the whole tensor, of at most [`BUDGET`] numbers: all of it if that is enough.
pub(crate) fn sample(tensor: &Tensor) -> Result<Vec<f64>> {
    gather(tensor, &sample_picks(tensor.dims()))
}

/// The sample's indices: the largest dimension is thinned until the product fits.
fn sample_picks(dims: &[usize]) -> Vec<Vec<usize>> {
    let mut counts = dims.to_vec();
    loop {
        let total = counts.iter().fold(1usize, |a, b| a.saturating_mul(*b));
        if total <= BUDGET {
            break;
        }
        let rest = total.div_ceil(BUDGET);
        let Some(largest) = counts.iter_mut().max() else { break };
        *largest = if rest >= *largest { largest.div_ceil(2) } else { (*largest / rest).max(1) };
    }
    dims.iter().zip(counts).map(|(n, count)| spread(*n, count)).collect()
}

/// `count` indices spread evenly over `0..n`.
pub(crate) fn spread(n: usize, count: usize) -> Vec<usize> {
    if count >= n { (0..n).collect() } else { (0..count).map(|i| (2 * i + 1) * n / (2 * count)).collect() }
}

/// Where in the storage each wanted number lies.
fn offsets(tensor: &Tensor, picks: &[Vec<usize>]) -> Vec<usize> {
    let mut offsets = vec![tensor.layout().start_offset()];
    for (pick, stride) in picks.iter().zip(tensor.stride()) {
        offsets = offsets.iter().flat_map(|base| pick.iter().map(move |i| base + i * stride)).collect();
    }
    offsets
}

/// Elsewhere the wanted part is cut out first, so that only it crosses over.
fn gather_on_device(tensor: &Tensor, picks: &[Vec<usize>]) -> Result<Vec<f64>> {
    let mut part = tensor.clone();
    for (dim, pick) in picks.iter().enumerate() {
        if pick.len() != part.dim(dim)? {
            let indices: Vec<u32> = pick.iter().map(|i| *i as u32).collect();
            let indices = Tensor::from_vec(indices, pick.len(), tensor.device())?;
            part = part.contiguous()?.index_select(&indices, dim)?;
        }
    }
    let part = part.force_contiguous()?.to_device(&Device::Cpu)?;
    Ok(part.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_layout_and_dtype_is_read() {
        let base = Tensor::arange(0u32, 24, &Device::Cpu).unwrap().reshape((2, 3, 4)).unwrap();
        for dtype in [DType::U8, DType::U32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64] {
            let turned = base.to_dtype(dtype).unwrap().transpose(0, 2).unwrap().narrow(0, 1, 2).unwrap();
            let got = gather(&turned, &[vec![1, 0], vec![2], vec![0, 1]]).unwrap();
            assert_eq!(got, [10.0, 22.0, 9.0, 21.0], "{dtype:?}");
            let all = sample(&turned).unwrap();
            let expected: Vec<f64> = turned.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(all, expected);
        }
        let broadcast = Tensor::new(&[3f32], &Device::Cpu).unwrap().broadcast_as((5, 1)).unwrap();
        assert_eq!(sample(&broadcast).unwrap(), [3.0; 5]);
        assert_eq!(sample(&Tensor::new(7f32, &Device::Cpu).unwrap()).unwrap(), [7.0]);
        assert!(gather(&base, &[vec![2], vec![0], vec![0]]).is_err());
    }

    #[test]
    fn samples_stay_within_the_budget() {
        for dims in [vec![100_000_000], vec![10_000, 10_000], vec![3, 5, 1000, 7000], vec![1, 1, BUDGET + 1]] {
            let picks = sample_picks(&dims);
            let total: usize = picks.iter().map(Vec::len).product();
            assert!(total <= BUDGET && total > BUDGET / 4, "{dims:?}: {total}");
            assert!(picks.iter().zip(&dims).all(|(p, n)| p.iter().all(|i| i < n)));
        }
        assert_eq!(spread(10, 2), [2, 7]);
    }
}
