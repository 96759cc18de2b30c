//! Functions of numbers and rows, written without calls or branches in their loops, so that the compiler makes vector
//! instructions of them.

/// How many numbers a loop holds side by side.
const SIDE: usize = 16;

/// e^x, to about a unit in the last place: 2^k times a series for the rest. Exactly 0 below -87.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves a number rounded to an integer in the low bits
    let inside = x.clamp(-87.0, 88.0);
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let r = inside - (shifted - ROUND) * std::f32::consts::LN_2;
    let series = 1.0 + r * (1.0 + r * (1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r / 720.0)))));
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { series * power }
}

#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x.clamp(-10.0, 10.0)) + 1.0)
}

/// The error function, to about 1e-7 (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let size = x.abs().min(10.0);
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let series = t * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4))));
    (1.0 - series * exp(-size * size)).copysign(x)
}

/// Sums side by side, as many as the widest vectors have room for.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; SIDE];
    let (a_parts, b_parts) = (a.chunks_exact(SIDE), b.chunks_exact(SIDE));
    let tail: f32 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for i in 0..SIDE {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// The sum of `f` of each number.
#[inline(always)]
pub(super) fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; SIDE];
    let parts = row.chunks_exact(SIDE);
    let tail: f32 = parts.remainder().iter().map(|&x| f(x)).sum();
    for part in parts {
        for i in 0..SIDE {
            sums[i] += f(part[i]);
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// The largest number; a NaN is passed over.
#[inline(always)]
pub(super) fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut largest = [f32::NEG_INFINITY; SIDE];
    let parts = row.chunks_exact(SIDE);
    let tail = parts.remainder().iter().fold(f32::NEG_INFINITY, |a, &b| larger(a, b));
    for part in parts {
        for i in 0..SIDE {
            largest[i] = larger(largest[i], part[i]);
        }
    }
    largest.into_iter().fold(tail, larger)
}

pub(super) fn log_sum_exp(row: &[f32]) -> f32 {
    let max = max(row);
    sum_of(row, |x| exp(x - max)).ln() + max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_tanh_are_close_to_the_standard_librarys() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-6 * (1.0 + x.abs()), "{x}");
            assert!((tanh(x) - x.tanh()).abs() < 1e-6, "{x}");
        }
        for (x, known) in [(0.0, 0.0), (0.1, 0.112_462_916), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.5, 0.999_593)] {
            assert!((erf(x) - known).abs() < 3e-7 && (erf(-x) + known).abs() < 3e-7, "{x}");
        }
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e30), exp(0.0)], [0.0, 0.0, 1.0]);
        assert!(exp(f32::NAN).is_nan());
    }
}
