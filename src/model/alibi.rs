//! ALiBi (Press et al. 2021, arXiv 2108.12409): each head's scores fall with the distance, at a slope of its own.

use candle_core::{DType, Device, Tensor};

use super::config::AlibiStyle;
use crate::Result;

/// What is added to the scores, `[1, head, 1, key]`: the slope times the key's place. The query's place would add the same
/// number to all keys, which a softmax takes off again.
pub(super) fn bias(slopes: &[f64], style: AlibiStyle, keys: usize, scale: f64, device: &Device) -> Result<Tensor> {
    let first = if style == AlibiStyle::Mpt { 1.0 - keys as f32 } else { 0.0 };
    let places: Vec<f32> = (0..keys).map(|key| first + key as f32).collect();
    let places = Tensor::from_vec(places, (1, 1, 1, keys), device)?;
    let slopes_of_heads: Vec<f32> = slopes.iter().map(|slope| *slope as f32).collect();
    let slopes = Tensor::from_vec(slopes_of_heads, (1, slopes.len(), 1, 1), device)?;
    if style != AlibiStyle::Falcon {
        return Ok(slopes.broadcast_mul(&places)?);
    }
    let rounded = |t: &Tensor| t.to_dtype(DType::BF16)?.to_dtype(DType::F32);
    Ok((rounded(&rounded(&slopes)?.broadcast_mul(&rounded(&places)?)?)? / scale)?)
}

/// The slope of each head. For a power of two, 2^(-bias_max · h / n_heads) for h from 1 to n_heads; for any other count,
/// those of the next power of two: first every second one, then the rest, as many as there are heads.
pub(super) fn slopes(n_heads: usize, bias_max: f64) -> Vec<f64> {
    let all = n_heads.next_power_of_two();
    let slope = |h: usize| (-bias_max * h as f64 / all as f64).exp2();
    if all == n_heads {
        return (1..=all).map(slope).collect();
    }
    (2..=all).step_by(2).chain((1..=all).step_by(2)).map(slope).take(n_heads).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::{AlibiStyle, bias, slopes};

    #[test]
    fn the_papers_slopes() {
        assert_eq!(slopes(8, 8.0), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
        // Six heads: those of four, then the odd ones of eight.
        assert_eq!(slopes(6, 8.0), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    }

    #[test]
    fn slopes_of_other_counts_as_blooms_and_mpts_code_have_them() {
        // Twelve: those of eight, then the odd ones of sixteen.
        let twelve = slopes(12, 8.0);
        let odd = [1.0, 3.0, 5.0, 7.0].map(|h: f64| (-h / 2.0).exp2());
        assert_eq!(twelve[..8], slopes(8, 8.0));
        assert_eq!(twelve[8..], odd);
        assert_eq!(slopes(1, 8.0), [1.0 / 256.0]);
        assert_eq!(slopes(3, 8.0), [1.0 / 16.0, 1.0 / 256.0, 0.25]);
    }

    #[test]
    fn each_style_counts_from_its_own_place() {
        let row = |style, slope, scale| -> Vec<f32> {
            let bias = bias(&[slope], style, 4, scale, &Device::Cpu).unwrap();
            bias.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(row(AlibiStyle::Bloom, 0.5, 4.0), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(row(AlibiStyle::Mpt, 0.5, 4.0), [-1.5, -1.0, -0.5, 0.0]);
        // A bfloat16 has eight binary digits: 0.70703125 for the root of one half, and 2.125 for its triple.
        assert_eq!(row(AlibiStyle::Falcon, 0.5f64.sqrt(), 4.0), [0.0, 0.70703125 / 4.0, 1.4140625 / 4.0, 2.125 / 4.0]);
    }
}
