//! How often values of each size were seen, when their range is not known beforehand.

/// The most bins.
const BINS: usize = 64;
/// Exponent of the narrowest bins: those of values that are zero, or next to it.
const FINEST: i32 = -30;

/// Counts of values in bins of one width, a power of two that grows with the range: at most 64 bins. Zero is always the edge
/// of a bin, and each bin has its lower edge inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// The width of a bin is 2 to this power.
    exponent: i32,
    /// The first bin is this many widths from zero.
    first: i64,
    counts: Vec<u64>,
}

impl Histogram {
    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bin's lower edge, upper edge and count, from the lowest.
    pub fn bins(&self) -> Vec<(f64, f64, u64)> {
        let edge = |bin: usize| (self.first + bin as i64) as f64 * self.width();
        self.counts.iter().enumerate().map(|(bin, &count)| (edge(bin), edge(bin + 1), count)).collect()
    }

    /// Counts a value; one that is not finite is left out.
    pub(crate) fn add(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        if self.counts.is_empty() {
            // So fine that the range of most data fills many bins, once these are joined.
            self.exponent = if value == 0.0 { FINEST } else { (value.abs().log2().floor() as i32 - 10).max(FINEST) };
            self.first = self.bin(value);
            self.counts.push(0);
        }
        while !self.make_room(self.bin(value)) {
            self.join_pairs();
        }
        let place = (self.bin(value) - self.first) as usize;
        self.counts[place] += 1;
    }

    fn width(&self) -> f64 {
        f64::powi(2.0, self.exponent)
    }

    fn bin(&self, value: f32) -> i64 {
        (f64::from(value) / self.width()).floor() as i64
    }

    /// Adds empty bins up to this one; false if there would be too many.
    fn make_room(&mut self, bin: i64) -> bool {
        let last = self.first + self.counts.len() as i64 - 1;
        let (from, to) = (self.first.min(bin), last.max(bin));
        if to.saturating_sub(from) >= BINS as i64 {
            return false;
        }
        self.counts.splice(0..0, (from..self.first).map(|_| 0));
        self.counts.extend((last..to).map(|_| 0));
        self.first = from;
        true
    }

    /// Doubles the width.
    fn join_pairs(&mut self) {
        let first = self.first.div_euclid(2);
        let mut joined = vec![0; self.counts.len() / 2 + 1];
        for (count, bin) in self.counts.iter().zip(self.first..) {
            joined[(bin.div_euclid(2) - first) as usize] += count;
        }
        let last = self.first + self.counts.len() as i64 - 1;
        joined.truncate((last.div_euclid(2) - first + 1) as usize);
        (self.exponent, self.first, self.counts) = (self.exponent + 1, first, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bins are those that a count with the final width gives, whatever came first.
    #[test]
    fn bins_are_those_of_their_width_from_the_beginning() {
        let values: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 1000) as f32 / 100.0 - 3.0).collect();
        for order in [values.clone(), values.iter().rev().copied().collect()] {
            let mut histogram = Histogram::default();
            order.iter().for_each(|&value| histogram.add(value));
            let bins = histogram.bins();
            assert!((20..=64).contains(&bins.len()), "{}", bins.len());
            assert_eq!(histogram.total(), 5000);
            for (low, high, count) in bins {
                let inside = |v: &&f32| (low..high).contains(&f64::from(**v));
                assert_eq!(values.iter().filter(inside).count() as u64, count, "{low} to {high}");
            }
        }
    }

    #[test]
    fn odd_values_are_counted_or_left_out() {
        let mut histogram = Histogram::default();
        [0.0, -0.0, 1e-38, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN].iter().for_each(|&value| histogram.add(value));
        assert_eq!(histogram.total(), 5);
        assert!(histogram.bins().len() <= 64);
        assert!(histogram.bins().iter().any(|bin| bin.0 == 0.0), "zero is an edge");
        assert_eq!(Histogram::default().bins(), []);
    }
}
