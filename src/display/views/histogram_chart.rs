//! How often values of each size are there.

use candle_core::Tensor;

use crate::Result;
use crate::display::draw::bins::{Bin, bins, total};
use crate::display::draw::color::Rgb;
use crate::display::draw::gather::sample;
use crate::display::draw::number::{count, number};
use crate::display::draw::plot::{self, Axis};
use crate::display::draw::scene::{SMALL, Scene};
use crate::display::draw::text::{bar, columns};
use crate::display::escape;
use crate::display::page::html;
use crate::display::view::{View, show_view};

/// How many bins can be asked for: more would be narrower than a pixel.
const MOST_BINS: usize = 560;
/// How many bins say what they are under the pointer.
const HOVERED: usize = 1000;
/// Lines of text, and the width of their bars.
const LINES: usize = 24;
const BAR: usize = 40;

/// Counts of values as bars: blue above zero, red below.
///
/// The values choose the bins: about as many as Freedman and Diaconis advise, at most 60, with edges at round numbers;
/// few whole numbers have a bin each. A bin has its lower edge inside, and the last one also its upper edge. How many
/// values are NaN or infinite is said below the picture; percentages are of all others.
///
/// ```
/// use candlescope::display::{HistogramChart, Show};
/// let chart = HistogramChart::new([1, 1, 2, 5]).title("letters").x_title("length");
/// assert!(chart.bundle().text.contains("1  2"));
/// ```
#[derive(Clone, Debug)]
pub struct HistogramChart {
    counted: Counted,
    nan: usize,
    infinite: usize,
    /// Of how many values those that were read are all, or a sample.
    all: usize,
    range: (f64, f64),
    bins: Option<usize>,
    title: String,
    x_title: String,
    y_title: String,
    log_y: bool,
}

#[derive(Clone, Debug)]
enum Counted {
    /// Finite and ascending.
    Values(Vec<f64>),
    /// Bins from the lowest, and how many others have ends that are not finite.
    Bins(Vec<Bin>, usize),
}

/// What of the values has a place.
#[derive(Default)]
struct Shown {
    bins: Vec<Bin>,
    /// Values outside of the range.
    below: u64,
    above: u64,
}

impl HistogramChart {
    /// Counts numbers.
    pub fn new<T: Into<f64>>(values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<f64> = values.into_iter().map(Into::into).collect();
        let all = values.len();
        let nan = values.iter().filter(|value| value.is_nan()).count();
        let mut finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        finite.sort_unstable_by(f64::total_cmp);
        let infinite = all - nan - finite.len();
        Self { nan, infinite, all, ..Self::of(Counted::Values(finite)) }
    }

    /// Counts the values of a tensor of any shape; of a very large one an even sample, and the picture says so.
    ///
    /// # Errors
    /// When the tensor can't be read.
    pub fn from_tensor(values: &Tensor) -> Result<Self> {
        Ok(Self { all: values.elem_count(), ..Self::new(sample(values)?) })
    }

    /// From counts: each bin's lower edge, upper edge and count.
    pub fn from_bins(bins: impl IntoIterator<Item = (f64, f64, u64)>) -> Self {
        let is_placed = |bin: &(f64, f64, u64)| bin.0.is_finite() && bin.1.is_finite();
        let (placed, lost): (Vec<_>, Vec<_>) = bins.into_iter().partition(is_placed);
        let bin =
            |(low, high, count): (f64, f64, u64)| Bin { low: low.min(high), high: low.max(high), count, whole: false };
        let mut placed: Vec<Bin> = placed.into_iter().map(bin).collect();
        placed.sort_by(|a, b| a.low.total_cmp(&b.low));
        Self::of(Counted::Bins(placed, lost.len()))
    }

    fn of(counted: Counted) -> Self {
        Self {
            counted,
            nan: 0,
            infinite: 0,
            all: 0,
            range: (f64::NEG_INFINITY, f64::INFINITY),
            bins: None,
            title: String::new(),
            x_title: String::new(),
            y_title: "count".to_string(),
            log_y: false,
        }
    }

    /// Only values from `low` to `high` have bars; how many lie outside is said below. An infinite end is open.
    pub fn range(mut self, low: f64, high: f64) -> Self {
        let (low, high) = if low > high { (high, low) } else { (low, high) };
        let or_open = |end: f64, open: f64| if end.is_finite() { end } else { open };
        self.range = (or_open(low, f64::NEG_INFINITY), or_open(high, f64::INFINITY));
        self
    }

    /// How many bins of equal widths there are, 1 to 560. [Counts](Self::from_bins) keep theirs.
    pub fn bins(mut self, n: usize) -> Self {
        self.bins = Some(n.clamp(1, MOST_BINS));
        self
    }

    /// A title above the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// What the values are.
    pub fn x_title(mut self, title: impl Into<String>) -> Self {
        self.x_title = title.into();
        self
    }

    /// What is counted; `count` if nothing else is said.
    pub fn y_title(mut self, title: impl Into<String>) -> Self {
        self.y_title = title.into();
        self
    }

    /// A logarithmic axis for the counts, so that rare values are seen beside frequent ones.
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }

    pub(crate) fn view(&self) -> View {
        let shown = self.shown();
        let notes = self.notes(&shown);
        View {
            text: self.text(&shown, &notes),
            scene: Some(self.scene(&shown, &notes)),
            alt: format!("Histogram {}", self.title),
            above: String::new(),
            below: self.listing(&shown),
        }
    }

    fn shown(&self) -> Shown {
        let (low, high) = self.range;
        match &self.counted {
            Counted::Values(values) => {
                let from = values.partition_point(|value| *value < low);
                let to = values.partition_point(|value| *value <= high);
                let inside = values.get(from..to).unwrap_or_default();
                Shown {
                    bins: bins(inside, self.range, self.bins),
                    below: from as u64,
                    above: (values.len() - to) as u64,
                }
            }
            Counted::Bins(all, _) => {
                let mut shown = Shown::default();
                for bin in all {
                    if bin.low < low {
                        shown.below = shown.below.saturating_add(bin.count);
                    } else if bin.high > high {
                        shown.above = shown.above.saturating_add(bin.count);
                    } else {
                        shown.bins.push(*bin);
                    }
                }
                shown
            }
        }
    }

    fn notes(&self, shown: &Shown) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.counted {
            Counted::Values(values) => {
                let read = values.len() + self.nan + self.infinite;
                if read < self.all {
                    notes.push(format!("{} of {} values are counted, evenly chosen", count(read), count(self.all)));
                }
            }
            Counted::Bins(_, 0) => {}
            Counted::Bins(_, lost) => {
                notes.push(format!("{} bins are not drawn: an end is NaN or infinite", count(*lost)))
            }
        }
        let lost = [(self.nan, "NaN"), (self.infinite, "infinite")];
        let parts: Vec<String> =
            lost.iter().filter(|part| part.0 > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        if !parts.is_empty() {
            let values = values(self.nan + self.infinite, "is", "are");
            notes.push(format!("{values} not counted: {}", parts.join(", ")));
        }
        let outside = [(shown.below, "below", self.range.0), (shown.above, "above", self.range.1)];
        let parts: Vec<String> = outside
            .iter()
            .filter(|part| part.0 > 0)
            .map(|(n, side, end)| format!("{} {side} {}", count(*n as usize), number(*end)))
            .collect();
        if !parts.is_empty() {
            let values = values(shown.below.saturating_add(shown.above) as usize, "lies", "lie");
            notes.push(format!("{values} outside of the range: {}", parts.join(", ")));
        }
        if shown.bins.is_empty() {
            notes.push("there is nothing to draw: no values".to_string());
        }
        notes
    }

    fn y_axis(&self, bins: &[Bin]) -> Axis {
        let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0) as f64;
        match self.log_y {
            // Below 1, so that a single value has a bar.
            true => Axis { low: 0.7, high: most.max(10.0) * 1.3, log: true },
            // High enough for ticks at whole numbers.
            false => Axis { low: 0.0, high: (most * 1.05).max(3.1), log: false },
        }
    }

    fn scene(&self, shown: &Shown, notes: &[String]) -> Scene {
        let x = Axis::fit(shown.bins.iter().flat_map(|bin| [bin.low, bin.high]), false);
        let y = self.y_axis(&shown.bins);
        let mut scene = Scene::default();
        let mut below = plot::axes(&mut scene, &x, &y, (&self.title, &self.x_title, &self.y_title));
        for bin in &shown.bins {
            let (Some(left), Some(right)) = (x.place(bin.low), x.place(bin.high)) else { continue };
            let (left, width) = (left * plot::WIDTH, (right - left) * plot::WIDTH);
            if bin.count > 0 {
                let gap = (width / 8.0).min(1.0);
                let height = height(bin, &y) * plot::HEIGHT;
                // Halved, because the sum of two large numbers may overflow.
                let is_negative = bin.low / 2.0 + bin.high / 2.0 < 0.0;
                let fill = if is_negative { Rgb(205, 70, 60) } else { Rgb(60, 130, 190) };
                scene.rect(left + gap / 2.0, plot::HEIGHT - height, (width - gap).max(0.5), height, fill);
            }
            if shown.bins.len() <= HOVERED {
                let title = format!("{}: {} ({})", bin.name(), count(bin.count as usize), shown.share(bin));
                scene.hot(left, 0.0, width, plot::HEIGHT, title);
            }
        }
        for note in notes {
            below += scene.paragraph(0.0, below, note, SMALL, plot::WIDTH, Rgb::FAINT);
        }
        scene.finish()
    }

    fn listing(&self, shown: &Shown) -> String {
        const ROWS: usize = 200;
        let row = |bin: &Bin| {
            html::cell(&bin.name(), false)
                + &html::cell(&count(bin.count as usize), true)
                + &html::cell(&shown.share(bin), true)
        };
        let rows: Vec<String> = shown.bins.iter().take(ROWS).map(row).collect();
        let or = |title: &str, plain: &str| if title.is_empty() { plain.to_string() } else { title.to_string() };
        let head = [or(&self.x_title, "bin"), or(&self.y_title, "count"), "part".to_string()];
        let n = shown.bins.len();
        let what = if n > ROWS { format!("The first {ROWS} of {} bins", count(n)) } else { "Bins".to_string() };
        html::details(&what, &html::table(&head, &rows))
    }

    fn text(&self, shown: &Shown, notes: &[String]) -> String {
        let mut lines = Vec::new();
        if !self.title.is_empty() {
            lines.push(escape::terminal(&self.title));
        }
        let each = shown.bins.len().div_ceil(LINES).max(1);
        let joined: Vec<Bin> = shown.bins.chunks(each).filter_map(Bin::joined).collect();
        let y = self.y_axis(&joined);
        let row = |bin: &Bin| vec![bin.name(), count(bin.count as usize), bar(height(bin, &y), BAR)];
        let rows: Vec<Vec<String>> = joined.iter().map(row).collect();
        lines.extend(columns(&rows, &[false, true, false]));
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }
}

show_view!(HistogramChart);

impl Shown {
    /// A bin's part of all counted values, also of those outside of the range.
    fn share(&self, bin: &Bin) -> String {
        let all = total(&self.bins).saturating_add(self.below).saturating_add(self.above).max(1);
        let tenths = (1000.0 * bin.count as f64 / all as f64).round();
        if tenths == 0.0 && bin.count > 0 { "< 0.1 %".to_string() } else { format!("{} %", number(tenths / 10.0)) }
    }
}

/// How much of the axis a bar takes, 0 to 1. A value that is there is seen, be it a thin line.
fn height(bin: &Bin, y: &Axis) -> f64 {
    if bin.count == 0 { 0.0 } else { y.place(bin.count as f64).unwrap_or(0.0).max(1.0 / plot::HEIGHT) }
}

/// `1 value is`, `3 values are`.
fn values(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 value {one}") } else { format!("{} values {many}", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Show;
    use candle_core::{DType, Device};

    const BLUE: [u8; 3] = [60, 130, 190];
    const RED: [u8; 3] = [205, 70, 60];

    /// The colour in the middle of each bin's column, at a part of the height of the frame.
    fn colors(chart: &HistogramChart, height: f64) -> Vec<[u8; 3]> {
        let scene = chart.view().scene.unwrap();
        let picture = image::load_from_memory(&chart.bundle().png.unwrap()).unwrap().to_rgb8();
        let pixel = |x: f64, y: f64| picture.get_pixel((x * 2.0) as u32, (y * 2.0) as u32).0;
        scene.hots.iter().map(|hot| pixel(hot.x + hot.w * 0.4, hot.y + hot.h * (1.0 - height))).collect()
    }

    #[test]
    fn bars_show_counts() {
        let chart = HistogramChart::new([-1, -1, 2]);
        let bundle = chart.bundle();
        let lines: Vec<&str> = bundle.text.lines().collect();
        assert!(lines[0].starts_with("-1  2  ████") && lines[3].starts_with("2   1  ████"), "{}", bundle.text);
        assert_eq!((lines[1], lines.len()), ("0   0", 4));
        assert!(lines[0].matches('█').count() > lines[3].matches('█').count());
        assert!(bundle.html.unwrap().contains("title=\"-1: 2 (66.7 %)\""));
        let at = colors(&chart, 0.02);
        assert_eq!((at[0], at[3]), (RED, BLUE));
        assert!(!at[1..3].contains(&BLUE) && !at[1..3].contains(&RED));
        // 3.1 is the height: two values reach above its half, one does not.
        let at = colors(&chart, 0.55);
        assert!(at[0] == RED && at[3] != BLUE);
    }

    #[test]
    fn what_is_not_counted_is_said() {
        let chart = HistogramChart::new([f64::NAN, f64::INFINITY, 0.1, 0.5, 0.9, 9.0, f64::NAN]);
        let text = chart.bundle().text;
        assert!(text.contains("3 values are not counted: 2 NaN, 1 infinite") && !text.contains("range"), "{text}");
        let chart = chart.range(1.0, 0.4).bins(2);
        let bundle = chart.bundle();
        assert!(bundle.text.contains("2 values lie outside of the range: 1 below 0.4, 1 above 1"), "{}", bundle.text);
        assert!(bundle.html.unwrap().contains("title=\"0.4 to 0.7: 1 (25 %)\""), "of all that are counted");
        let zeros = Tensor::zeros(3_000_000, DType::U8, &Device::Cpu).unwrap();
        let text = HistogramChart::from_tensor(&zeros).unwrap().bundle().text;
        assert!(text.contains("of 3,000,000 values are counted, evenly chosen"), "{text}");
        let whole = HistogramChart::from_tensor(&zeros.narrow(0, 0, 1000).unwrap()).unwrap().bundle().text;
        assert!(whole.starts_with("0  1,000  ████") && whole.lines().count() == 1, "{whole}");
    }

    #[test]
    fn counts_have_a_logarithmic_axis() {
        let bins = [(2.0, 4.0, 100_000), (0.0, 1.0, 1), (1.0, 2.0, 0), (f64::NAN, 5.0, 7)];
        let chart = HistogramChart::from_bins(bins).log_y();
        let text = chart.bundle().text;
        assert!(text.starts_with("0 to 1        1  █") && text.contains("1 bins are not drawn"), "{text}");
        let at = colors(&chart, 0.01);
        assert!(at[0] == BLUE && at[1] != BLUE && at[2] == BLUE);
        assert_eq!(colors(&chart, 0.2)[0], [255; 3]);
        assert_eq!(colors(&chart, 0.8)[2], BLUE);
        let text = chart.range(0.0, 3.0).bundle().text;
        assert!(text.contains("100,000 values lie outside of the range: 100,000 above 3"), "{text}");
    }

    #[test]
    fn many_bins_are_joined_in_text() {
        let chart = HistogramChart::new((0..10_000).map(f64::from)).bins(500);
        let text = chart.bundle().text;
        assert_eq!(text.lines().count(), 24, "{text}");
        let counts = text.lines().map(|line| line.split_whitespace().rev().nth(1).unwrap().replace(',', ""));
        assert_eq!(counts.map(|n| n.parse::<usize>().unwrap()).sum::<usize>(), 10_000);
        assert_eq!(chart.view().scene.unwrap().hots.len(), 500);
    }

    #[test]
    fn nothing_is_an_empty_frame_and_odd_values_are_drawn() {
        let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
        for chart in [
            HistogramChart::new(Vec::<f32>::new()),
            HistogramChart::from_tensor(&empty).unwrap().log_y(),
            HistogramChart::from_bins([]).range(0.0, 1.0),
            HistogramChart::new([1.0]).range(2.0, 3.0),
        ] {
            let bundle = chart.bundle();
            assert!(bundle.text.contains("nothing to draw: no values") && bundle.png.is_some());
        }
        for values in [vec![f64::MIN, f64::MAX], vec![5e-324], vec![1e300; 3]] {
            let n = values.len() as u64;
            let chart = HistogramChart::new(values).range(f64::NAN, f64::INFINITY);
            for chart in [chart.clone(), chart.clone().bins(0), chart.bins(usize::MAX)] {
                assert_eq!(total(&chart.shown().bins), n);
                assert!(chart.log_y().svg().is_some());
            }
        }
        let full = HistogramChart::from_bins([(f64::MIN, f64::MAX, u64::MAX), (0.0, 0.0, u64::MAX)]);
        assert!(full.bundle().png.is_some());
    }
}
