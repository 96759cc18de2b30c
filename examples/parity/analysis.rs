//! Compares what candlescope's analyses give with what TransformerLens' give, entry by entry.
//!
//! A folder holds, beside the model, analysis.safetensors: prompts (`clean_tokens`, `corrupted_tokens`,
//! `repeated_tokens`), the two `answer_tokens`, and results on processed weights. Each topic below knows some of the
//! entries; one that no topic knows fails the folder.

mod cache;
mod circuits;
mod heads;
mod patching;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use candlescope::prelude::*;
use candlescope::{Error, Result};

use super::{Report, error};

/// What all entries of a folder are computed on.
pub struct Context {
    pub model: HookedTransformer,
    pub clean: Tokens,
    pub corrupted: Tokens,
    pub repeated: Tokens,
    /// The right answer's token, and the wrong one's.
    pub answers: (u32, u32),
    pub clean_cache: ActivationCache,
}

/// Our value of an entry; none if the topic does not know it.
type Topic = fn(&Context, &str) -> Result<Option<Tensor>>;

const TOPICS: [Topic; 5] = [cache::ours, circuits::ours, heads::ours, patching::ours, text::ours];

pub fn compare(folder: &Path) -> Result<Report> {
    let path = folder.join("analysis.safetensors");
    let reference: BTreeMap<String, Tensor> = candlescope::candle_core::safetensors::load(&path, &Device::Cpu)
        .map_err(|e| Error::msg(format!("{}: {e}", path.display())))?
        .into_iter()
        .collect();
    let context = Context::new(folder, &reference)?;
    let mut report = Report::default();
    for (entry, expected) in reference.iter().filter(|(entry, _)| !entry.ends_with("_tokens")) {
        let ours = TOPICS.iter().find_map(|topic| topic(&context, entry).transpose()).transpose()?;
        match ours {
            Some(ours) => report.add(entry, error_of(entry, &ours, expected)?),
            None => {
                report.add(entry, f32::INFINITY);
                report.unknown.push(entry.clone());
            }
        }
    }
    Ok(report)
}

impl Context {
    fn new(folder: &Path, reference: &BTreeMap<String, Tensor>) -> Result<Self> {
        let model = HookedTransformer::from_pretrained(&folder.to_string_lossy())?;
        let rows = |name: &str| -> Result<Vec<Vec<u32>>> {
            let tensor = reference.get(name).ok_or_else(|| Error::msg(format!("there is no '{name}'")))?;
            let tensor = if tensor.rank() == 1 { tensor.unsqueeze(0)? } else { tensor.clone() };
            Ok(tensor.to_dtype(DType::U32)?.to_vec2()?)
        };
        let answers = match rows("answer_tokens")?.concat()[..] {
            [right, wrong] => (right, wrong),
            _ => return Err(Error::msg("'answer_tokens' should be two")),
        };
        let clean = Tokens::from_ids(rows("clean_tokens")?)?;
        Ok(Self {
            clean_cache: model.run_with_cache(&clean)?.1,
            corrupted: Tokens::from_ids(rows("corrupted_tokens")?)?,
            repeated: Tokens::from_ids(rows("repeated_tokens")?)?,
            model,
            clean,
            answers,
        })
    }
}

/// The error of an entry. Eigenvalues have no order and singular vectors no sign, so these are matched first.
fn error_of(entry: &str, ours: &Tensor, expected: &Tensor) -> Result<f32> {
    if ours.dims() != expected.dims() {
        return Ok(f32::INFINITY);
    }
    if entry.ends_with("eigenvalues") {
        let m = expected.dim(D::Minus2)?;
        let points = |tensor: &Tensor| -> Result<Vec<Vec<Vec<f32>>>> { Ok(tensor.reshape(((), m, 2))?.to_vec3()?) };
        return worst_match(&points(ours)?, &points(expected)?, |a, b| (a[0] - b[0]).hypot(a[1] - b[1]));
    }
    if entry.starts_with("svd.") {
        // [token, 1, vector]: each vector is one column.
        let vectors = |tensor: &Tensor| -> Result<Vec<Vec<Vec<f32>>>> { Ok(vec![tensor.squeeze(1)?.t()?.to_vec2()?]) };
        return worst_match(&vectors(ours)?, &vectors(expected)?, |a, b| {
            let off = |sign: f32| a.iter().zip(b).map(|(a, b)| (a - sign * b).abs()).fold(0f32, f32::max);
            off(1.0).min(off(-1.0))
        });
    }
    if entry.starts_with("detect.") && entry.ends_with(".abs") {
        return Ok((error(ours, expected)? - heads::ROUNDING).max(0.0));
    }
    error(ours, expected)
}

/// The largest distance between items of a group when each of ours goes with the nearest expected one that is left,
/// relative to the largest number expected.
fn worst_match(ours: &[Vec<Vec<f32>>], expected: &[Vec<Vec<f32>>], distance: fn(&[f32], &[f32]) -> f32) -> Result<f32> {
    let size = expected.iter().flatten().flatten().fold(1f32, |size, x| size.max(x.abs()));
    let mut worst = 0f32;
    for (ours, expected) in ours.iter().zip(expected) {
        let mut left: Vec<&Vec<f32>> = expected.iter().collect();
        for item in ours {
            let distances: Vec<f32> = left.iter().map(|other| distance(item, other)).collect();
            let nearest = (0..left.len()).min_by(|&a, &b| distances[a].total_cmp(&distances[b]));
            let nearest = nearest.ok_or_else(|| Error::msg("there are more values than expected"))?;
            worst = if distances[nearest].is_nan() { f32::INFINITY } else { worst.max(distances[nearest]) };
            left.swap_remove(nearest);
        }
    }
    Ok(worst / size)
}
