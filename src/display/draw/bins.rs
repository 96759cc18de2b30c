//! Bins for numbers: how many there are, where their edges lie, how many values are in each.

use crate::display::draw::number::number;

/// How many bins the data may ask for. Edges at round numbers make of these 8 to 60.
const WANTED: (f64, f64) = (13.0, 37.0);
/// Whole numbers that span no more than this have a bin each.
const EACH: f64 = 60.0;
/// From here on f64 has no halves, so that every number is whole.
const ALL_WHOLE: f64 = (1u64 << 52) as f64;

/// A part of the line of numbers, and how many values lie there. Its lower edge is inside, its upper edge is the next
/// one's; the last bin has both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bin {
    pub low: f64,
    pub high: f64,
    pub count: u64,
    /// The values are whole numbers, and `high` is none of them.
    pub whole: bool,
}

impl Bin {
    /// `0.5 to 1`; of whole numbers `3`, or `10 to 14`.
    pub fn name(&self) -> String {
        let last = if self.whole { self.high - 1.0 } else { self.high };
        match self.whole && last <= self.low {
            true => number(self.low),
            false => format!("{} to {}", number(self.low), number(last)),
        }
    }

    /// Neighbours as one.
    pub fn joined(bins: &[Bin]) -> Option<Bin> {
        let (first, last) = (bins.first()?, bins.last()?);
        Some(Bin { high: last.high, count: total(bins), ..*first })
    }
}

/// How many values lie in the bins.
pub(crate) fn total(bins: &[Bin]) -> u64 {
    bins.iter().fold(0, |sum: u64, bin| sum.saturating_add(bin.count))
}

/// The bins of finite values, which are ascending and lie within `range`; in place of an infinite end there is the last
/// value. `n` is how many are wanted; without it the values decide, and edges are round numbers.
pub(crate) fn bins(values: &[f64], range: (f64, f64), n: Option<usize>) -> Vec<Bin> {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return Vec::new() };
    let low = if range.0.is_finite() { range.0 } else { *first };
    let high = if range.1.is_finite() { range.1 } else { *last };
    if n.is_none()
        && let Some(edges) = whole_edges(values, low, high)
    {
        return counted(values, &edges, true);
    }
    if low >= high {
        // All values are the same: one bin around them.
        let half = (low.abs() / 2.0).max(0.5);
        return counted(values, &[(low - half).max(f64::MIN), (low + half).min(f64::MAX)], false);
    }
    if let Some(n) = n {
        return counted(values, &equal_edges(low, high, n), false);
    }
    let n = wanted(values, high - low);
    let is_end = |edge: Option<&f64>, end: f64| !end.is_finite() || edge.is_some_and(|edge| *edge == end);
    let edges = round_edges(low, high, n)
        .filter(|edges| is_end(edges.first(), range.0) && is_end(edges.last(), range.1))
        .unwrap_or_else(|| equal_edges(low, high, n as usize));
    counted(values, &edges, false)
}

/// How many bins Freedman and Diaconis (1981) advise, within bounds.
fn wanted(values: &[f64], span: f64) -> f64 {
    let quantile = |part: f64| values.get((part * (values.len() as f64 - 1.0)) as usize).copied().unwrap_or(0.0);
    let width = 2.0 * (quantile(0.75) - quantile(0.25)) / (values.len() as f64).cbrt();
    let n = span / width;
    if n.is_nan() { WANTED.0 } else { n.clamp(WANTED.0, WANTED.1) }
}

/// Edges at whole numbers, if the values are such: each number has its bin, or every bin has equally many numbers.
fn whole_edges(values: &[f64], low: f64, high: f64) -> Option<Vec<f64>> {
    let is_whole = |value: &f64| value.fract() == 0.0 && value.abs() < ALL_WHOLE;
    if ![low, high].iter().chain(values).all(is_whole) {
        return None;
    }
    // The last number has its place below the last edge, as every other.
    let end = high + 1.0;
    if end - low <= EACH {
        return Some((0..=(end - low) as usize).map(|i| low + i as f64).collect());
    }
    round_edges(low, end, wanted(values, end - low)).filter(|edges| edges.iter().all(is_whole))
}

/// Edges at multiples of 1, 2 or 5 times a power of ten, for about `n` bins. None where f64 can't tell them apart.
fn round_edges(low: f64, high: f64, n: f64) -> Option<Vec<f64>> {
    // Divided first, because the difference of two large numbers may overflow.
    let width = high / n - low / n;
    let power = width.log10().floor();
    let off = |multiple: &f64| (multiple * 10f64.powf(power) / width).ln().abs();
    let multiple = [1.0, 2.0, 5.0, 10.0].into_iter().min_by(|a, b| off(a).total_cmp(&off(b)))?;
    // 7 / 10 is the number that is written 0.7, and 7 * 0.1 is not.
    let (up, down) = (10f64.powf(power.max(0.0)), 10f64.powf((-power).max(0.0)));
    let edge = |k: f64| k * multiple * up / down;
    let first = (low / edge(1.0) + 1e-9).floor();
    let last = (high / edge(1.0) - 1e-9).ceil();
    let edges: Vec<f64> = (0..=(last - first).clamp(0.0, 100.0) as usize).map(|i| edge(first + i as f64)).collect();
    let is_usable = edges.len() > 1 && edges.iter().all(|edge| edge.is_finite()) && edges.is_sorted_by(|a, b| a < b);
    is_usable.then_some(edges)
}

/// Edges of `n` bins of equal widths; fewer where f64 has no numbers between. `low` is below `high`.
fn equal_edges(low: f64, high: f64, n: usize) -> Vec<f64> {
    let n = n.max(1);
    let edge = |i: usize| {
        let part = i as f64 / n as f64;
        (low * (1.0 - part) + high * part).max(low).min(high)
    };
    let mut edges: Vec<f64> = (0..=n).map(edge).collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    edges
}

/// Every value is counted, also one that rounding has put a trifle outside of the first or the last edge.
fn counted(values: &[f64], edges: &[f64], whole: bool) -> Vec<Bin> {
    let mut from = 0;
    let bin = |(i, pair): (usize, &[f64])| {
        let [low, high] = *pair else { return None };
        let is_last = i + 2 == edges.len();
        let to = if is_last { values.len() } else { values.partition_point(|value| *value < high) };
        let count = to.saturating_sub(from) as u64;
        from = to;
        Some(Bin { low, high, count, whole })
    };
    edges.windows(2).enumerate().filter_map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

    /// About a bell: sums of twelve reproducible numbers from 0 to 1, less 6.
    fn bell(n: usize) -> Vec<f64> {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut values: Vec<f64> = (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    #[test]
    fn bins_are_round_and_hold_what_lies_between_their_edges() {
        for n in [10, 1000, 100_000] {
            let values = bell(n);
            let bins = bins(&values, OPEN, None);
            assert!((8..=60).contains(&bins.len()), "{n}: {}", bins.len());
            assert!(bins.iter().any(|bin| bin.low == 0.0), "zero is an edge");
            assert_eq!(total(&bins), n as u64);
            for bin in &bins {
                let inside = values.iter().filter(|v| (bin.low..bin.high).contains(*v)).count();
                assert_eq!(bin.count, inside as u64, "{}", bin.name());
                assert!(number(bin.low).len() <= 5, "{}", bin.low);
            }
        }
        // Edges are the numbers that are written so, and 1 lies in the last bin.
        let values: Vec<f64> = (0..=100).map(|i| f64::from(i) / 100.0).collect();
        let bins = bins(&values, OPEN, None);
        assert_eq!((bins[0].low, bins[bins.len() - 1].high), (0.0, 1.0));
        assert!(bins.iter().all(|bin| values.contains(&bin.low)), "{bins:?}");
    }

    #[test]
    fn whole_numbers_are_not_torn() {
        let few = bins(&[-1.0, 1.0, 1.0, 2.0], OPEN, None);
        let shown: Vec<(String, u64)> = few.iter().map(|bin| (bin.name(), bin.count)).collect();
        assert_eq!(shown, [("-1".into(), 1), ("0".into(), 0), ("1".into(), 2), ("2".into(), 1)]);
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        let many = bins(&many, OPEN, None);
        assert!((8..=60).contains(&many.len()));
        let each = many[0].count;
        assert!(many.iter().all(|bin| bin.count == each && bin.high - bin.low == each as f64), "{many:?}");
        assert_eq!(many[0].name(), format!("0 to {}", each - 1));
    }

    #[test]
    fn ranges_and_numbers_of_bins_are_kept() {
        let values = [0.21, 0.31, 0.51];
        let found = bins(&values, (0.2, 0.6), Some(4));
        assert_eq!(found.iter().map(|bin| bin.count).collect::<Vec<_>>(), [1, 1, 0, 1]);
        let found = bins(&values, (0.1234, f64::INFINITY), None);
        assert_eq!((found[0].low, found[found.len() - 1].high), (0.1234, 0.51));
    }

    #[test]
    fn odd_numbers_have_bins_too() {
        let odd: [&[f64]; 9] = [
            &[f64::MIN, f64::MAX],
            &[f64::MAX],
            &[0.1, 0.1],
            &[0.0, 5e-324],
            &[-5e-324, 1e300],
            &[1e16, 1e16 + 2.0],
            &[0.3, 0.1 + 0.2],
            &[-(2f64.powi(52)) + 1.0, 2f64.powi(52) - 1.0],
            &[-1e308, 0.5, 1e308],
        ];
        for values in odd {
            for n in [None, Some(0), Some(1), Some(100)] {
                let bins = bins(values, OPEN, n);
                assert_eq!(total(&bins), values.len() as u64, "{values:?}");
                assert!(bins.iter().all(|bin| bin.low < bin.high && (bin.high - bin.low) > 0.0), "{bins:?}");
                assert!(bins.windows(2).all(|pair| pair[0].high == pair[1].low), "{bins:?}");
            }
        }
        assert!(bins(&[], OPEN, None).is_empty());
    }
}
