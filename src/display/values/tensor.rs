//! How candle's tensors show themselves.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::display::draw::gather::{self, gather};
use crate::display::draw::number::{count, number};
use crate::display::escape;
use crate::display::page::html;
use crate::display::{BarChart, Bundle, Facets, Heatmap, LineChart, Show};

/// A header with shape, dtype, device and statistics, some of the numbers, and a picture: bars or a line for a vector, a
/// heatmap for a matrix, small multiples beyond. Large tensors are sampled, and the header says so.
impl Show for Tensor {
    fn bundle(&self) -> Bundle {
        let facts = match Facts::of(self) {
            Ok(facts) => facts,
            Err(error) => return Err::<f32, _>(error).bundle(),
        };
        let head = facts.sentence(self);
        let numbers = elided(self).unwrap_or_else(|error| error.to_string());
        let text = if numbers.is_empty() { head.clone() } else { format!("{head}\n{numbers}") };
        let picture = picture(self);
        let mut body = format!("<div>{}</div>", escape::html(&head));
        if !numbers.is_empty() {
            let pre = html::pre(&numbers);
            body.push_str(&if picture.is_some() { html::details("Numbers", &pre) } else { pre });
        }
        let header = html::frame(&body);
        match picture {
            Some(Ok(view)) => {
                let html = view.html.map(|html| format!("{header}{html}"));
                let reduced = view.text.lines().filter(|l| l.contains(" drawn as ") || l.contains("are drawn"));
                let text = std::iter::once(text.as_str()).chain(reduced).collect::<Vec<_>>().join("\n");
                Bundle { text, html, ..view }
            }
            Some(Err(error)) => Bundle { html: Some(header), ..Bundle::text(format!("{text}\n({error})")) },
            None => Bundle { html: Some(header), ..Bundle::text(text) },
        }
    }
}

/// The bundle of the view that fits the tensor's shape; None for numbers and empty tensors.
fn picture(tensor: &Tensor) -> Option<Result<Bundle>> {
    if tensor.elem_count() == 0 {
        return None;
    }
    // Leading dimensions of size 1 (a batch of one) add nothing to see.
    let mut tensor = tensor.clone();
    while tensor.rank() > 2 && tensor.dims().first() == Some(&1) {
        tensor = match tensor.squeeze(0) {
            Ok(smaller) => smaller,
            Err(error) => return Some(Err(error.into())),
        };
    }
    Some(match *tensor.dims() {
        [] => return None,
        [n] if n <= 40 => bars(&tensor, n).map(|view| view.bundle()),
        [_] => LineChart::from_tensor(&tensor).map(|view| view.x_title("index").bundle()),
        [_, _] => Heatmap::from_tensor(&tensor).map(|view| view.bundle()),
        _ => Facets::from_tensor(&tensor).map(|view| view.bundle()),
    })
}

fn bars(tensor: &Tensor, n: usize) -> Result<BarChart> {
    BarChart::new((0..n).map(|i| i.to_string()), gather::sample(tensor)?)
}

struct Facts {
    read: usize,
    min: f64,
    mean: f64,
    max: f64,
    nan: usize,
    infinite: usize,
}

impl Facts {
    fn of(tensor: &Tensor) -> Result<Facts> {
        let values = gather::sample(tensor)?;
        let mut facts =
            Facts { read: values.len(), min: f64::INFINITY, mean: 0.0, max: f64::NEG_INFINITY, nan: 0, infinite: 0 };
        let (mut sum, mut n) = (0.0, 0usize);
        for value in values {
            if value.is_nan() {
                facts.nan += 1;
            } else if value.is_infinite() {
                facts.infinite += 1;
            } else {
                facts.min = facts.min.min(value);
                facts.max = facts.max.max(value);
                sum += value;
                n += 1;
            }
        }
        facts.mean = if n > 0 { sum / n as f64 } else { f64::NAN };
        Ok(facts)
    }

    fn sentence(&self, tensor: &Tensor) -> String {
        let shape = tensor.dims().iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let device = match tensor.device().location() {
            candle_core::DeviceLocation::Cpu => "cpu".to_string(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        };
        let mut parts = vec![format!("Tensor [{shape}]"), tensor.dtype().as_str().to_string(), device];
        if tensor.elem_count() == 0 {
            parts.push("empty".to_string());
        }
        if self.min <= self.max && tensor.rank() > 0 {
            let mean = number(self.mean);
            parts.push(format!("min {}, mean {mean}, max {}", number(self.min), number(self.max)));
        }
        if self.nan > 0 {
            parts.push(format!("{} NaN", count(self.nan)));
        }
        if self.infinite > 0 {
            parts.push(format!("{} infinite", count(self.infinite)));
        }
        if self.read < tensor.elem_count() {
            let (read, all) = (count(self.read), count(tensor.elem_count()));
            parts.push(format!("estimated from a regular sample of {read} of {all} values"));
        }
        parts.join(", ")
    }
}

/// The numbers at the corners, as text: three of each end of a dimension that is longer than eight.
fn elided(tensor: &Tensor) -> Result<String> {
    if tensor.elem_count() == 0 {
        return Ok(String::new());
    }
    let dims = tensor.dims();
    let last = dims.len().saturating_sub(2);
    // Of the leading dimensions the first two and the last index: a screenful.
    let picks: Vec<Vec<usize>> =
        dims.iter().enumerate().map(|(i, n)| if i < last { ends(*n, 3, 1) } else { ends(*n, 8, 3) }).collect();
    let values = gather(tensor, &picks)?;
    let decimal = !matches!(tensor.dtype(), DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64);
    let texts: Vec<String> = if decimal { decimals(&values) } else { values.iter().map(|v| format!("{v}")).collect() };
    let width = texts.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    let texts: Vec<String> = texts.iter().map(|t| format!("{t:>width$}")).collect();
    let mut lines = Vec::new();
    let mut rest = texts.as_slice();
    write(&picks, dims, &mut rest, String::new(), &mut lines);
    const LINES: usize = 40;
    if lines.len() > LINES {
        lines.truncate(LINES);
        lines.push("..".to_string());
    }
    Ok(lines.join("\n"))
}

/// All indices, or the first and last `keep` when there are more than `all`.
fn ends(n: usize, all: usize, keep: usize) -> Vec<usize> {
    if n <= all { (0..n).collect() } else { (0..keep).chain(n - keep..n).collect() }
}

/// Numbers with as many decimals as their sizes ask for, the same for all.
fn decimals(values: &[f64]) -> Vec<String> {
    let finite = || values.iter().map(|v| v.abs()).filter(|v| v.is_finite() && *v > 0.0);
    let (least, most) = finite().fold((f64::INFINITY, 0f64), |(l, m), v| (l.min(v), m.max(v)));
    if most >= 1e5 || (most > 0.0 && (most < 1e-3 || least < most * 1e-6)) {
        return values.iter().map(|v| if v.is_finite() { format!("{v:.3e}") } else { number(*v) }).collect();
    }
    values.iter().map(|v| if v.is_finite() { format!("{v:.4}") } else { number(*v) }).collect()
}

fn write(picks: &[Vec<usize>], dims: &[usize], rest: &mut &[String], before: String, lines: &mut Vec<String>) {
    match (picks, dims) {
        ([pick, inner @ ..], [n, inner_dims @ ..]) if !inner.is_empty() => {
            for (i, index) in pick.iter().enumerate() {
                if i > 0 && pick[i - 1] + 1 < *index {
                    lines.push(format!("{} .. {} more", " ".repeat(before.len()), n - pick.len()));
                }
                let open = if i == 0 { format!("{before}[") } else { " ".repeat(before.len() + 1) };
                write(inner, inner_dims, rest, open, lines);
            }
            if let Some(line) = lines.last_mut() {
                line.push(']');
            }
        }
        ([pick], _) => {
            let (row, later) = rest.split_at(pick.len().min(rest.len()));
            *rest = later;
            let mut cells = row.to_vec();
            if let Some(gap) = (1..pick.len()).find(|i| pick[i - 1] + 1 < pick[*i]) {
                cells.insert(gap, "..".to_string());
            }
            lines.push(format!("{before}[{}]", cells.join(" ")));
        }
        _ => lines.extend(rest.first().map(|t| t.trim().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use std::time::Instant;

    fn zeros(dims: &[usize]) -> Tensor {
        Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn small_tensors_show_their_numbers() {
        let tensor = Tensor::new(&[[1f32, -2.5], [0.25, 1000.0]], &Device::Cpu).unwrap();
        let text = tensor.bundle().text;
        assert_eq!(
            text,
            "Tensor [2, 2], f32, cpu, min -2.5, mean 249.7, max 1000\n[[   1.0000   -2.5000]\n [   0.2500 1000.0000]]"
        );
        assert_eq!(Tensor::new(3.5f32, &Device::Cpu).unwrap().bundle().text, "Tensor [], f32, cpu\n3.5000");
        let ids = Tensor::arange(0u32, 100, &Device::Cpu).unwrap().bundle().text;
        assert_eq!(ids.lines().nth(1), Some("[ 0  1  2 .. 97 98 99]"));
    }

    #[test]
    fn every_shape_has_a_look() {
        let shapes: [&[usize]; 12] = [
            &[],
            &[0],
            &[1],
            &[3],
            &[5000],
            &[0, 4],
            &[1, 1],
            &[300, 700],
            &[3, 4, 5],
            &[2, 0, 5],
            &[2, 12, 9, 9],
            &[2, 2, 2, 2, 2],
        ];
        for shape in shapes {
            let bundle = zeros(shape).bundle();
            assert!(bundle.text.lines().count() <= 44, "{shape:?}: {}", bundle.text);
            assert_eq!(bundle.png.is_some(), !shape.is_empty() && !shape.contains(&0), "{shape:?}");
            assert!(bundle.html.unwrap().contains("Tensor ["));
        }
    }

    #[test]
    fn half_precision_integers_and_odd_numbers() {
        for dtype in [DType::F16, DType::BF16, DType::U8, DType::I64, DType::F64] {
            let bundle = zeros(&[2, 2]).to_dtype(dtype).unwrap().bundle();
            assert!(bundle.text.contains(dtype.as_str()) && bundle.png.is_some());
        }
        let odd = Tensor::new(&[f32::NAN, f32::INFINITY, 1.0], &Device::Cpu).unwrap().bundle().text;
        assert!(odd.contains("1 NaN, 1 infinite") && odd.contains("NaN    inf 1.0000"), "{odd}");
    }

    #[test]
    fn a_huge_tensor_is_quick_and_honest() {
        let tensor = zeros(&[1000, 10_000]);
        let start = Instant::now();
        let bundle = tensor.bundle();
        assert!(start.elapsed().as_secs_f64() < 5.0, "{:?} in a debug build", start.elapsed());
        assert!(bundle.text.contains("of 10,000,000 values"), "{}", bundle.text);
        assert!(bundle.text.contains("mean of a block"), "{}", bundle.text);
    }
}
