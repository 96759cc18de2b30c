//! Which heads attend as a pattern says.

use candle_core::{D, DType, Device, Tensor};

use super::attention::Row;
use super::{HeadAttention, HeadPattern};
use crate::analysis::LabelledTensor;
use crate::model::{HookedTransformer, Input};
use crate::{Error, Result};

/// How a head's attention A is compared with a pattern P, both `[query, key]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Σ A∘P / Σ A: the share of its attention that lies on the pattern, in 0 to 1 where P is of zeros and ones. 0 where
    /// everything is excluded.
    #[default]
    Mul,
    /// 1 - Σ|A - P| / pos: 1 where attention is just what the pattern says, down to -1.
    Abs,
}

/// How [`detect_head_with`] scores. `DetectOptions::new()` leaves nothing out and measures with [`Measure::Mul`].
#[derive(Clone, Debug, Default)]
pub struct DetectOptions {
    measure: Measure,
    exclude_bos: bool,
    exclude_current_token: bool,
    heads: Option<Vec<(usize, usize)>>,
}

impl DetectOptions {
    /// All attention of all heads, by [`Measure::Mul`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures by this.
    pub fn measure(mut self, measure: Measure) -> Self {
        self.measure = measure;
        self
    }

    /// Leaves out attention to the first token, on which heads rest that find nothing.
    pub fn exclude_bos(mut self) -> Self {
        self.exclude_bos = true;
        self
    }

    /// Leaves out the attention of tokens to themselves.
    pub fn exclude_current_token(mut self) -> Self {
        self.exclude_current_token = true;
        self
    }

    /// Scores these heads only, as (layer, head); the others get NaN.
    pub fn heads(mut self, heads: impl Into<Vec<(usize, usize)>>) -> Self {
        self.heads = Some(heads.into());
        self
    }
}

/// How well each head attends as a pattern says, `[layer, head]` (TransformerLens' `detect_head`): the share of its attention
/// that lies on the pattern. Several texts are averaged.
///
/// Runs the model once and keeps its patterns.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let scores = detect_head(&model, "Mary gave a book to John, and John gave a book to Mary.", HeadPattern::Induction)?;
/// let (labels, best) = &scores.top_k(1)[0];
/// println!("layer {} head {}: {best:.2} of its attention", labels[0], labels[1]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the model has no attention, a row has less than two tokens, or an own pattern has another size or looks ahead.
pub fn detect_head(
    model: &HookedTransformer,
    input: impl Into<Input>,
    pattern: impl Into<HeadPattern>,
) -> Result<LabelledTensor> {
    detect_head_with(model, input, pattern, &DetectOptions::new())
}

/// As [`detect_head`], with another measure, without BOS or the current token, or for some heads.
///
/// TransformerLens rounds [`Measure::Abs`] to three decimals, and gives -1 to heads that are not asked for; here nothing is
/// rounded, and these are NaN.
///
/// # Errors
/// Those of [`detect_head`], and a head that is not there.
pub fn detect_head_with(
    model: &HookedTransformer,
    input: impl Into<Input>,
    pattern: impl Into<HeadPattern>,
    options: &DetectOptions,
) -> Result<LabelledTensor> {
    HeadAttention::run(model, input)?.detect(pattern, options)
}

impl HeadAttention {
    /// What [`detect_head_with`] gives, on attention that is already there.
    ///
    /// # Errors
    /// An own pattern of another size or that looks ahead, or a head that is not there.
    pub fn detect(&self, pattern: impl Into<HeadPattern>, options: &DetectOptions) -> Result<LabelledTensor> {
        let pattern = pattern.into();
        let asked = self.asked(options.heads.as_deref())?;
        let scores = self.mean_of(format!("{} heads", pattern.name()), |row| {
            let expected = self.pattern_over(&pattern, row)?;
            score(row, &expected, options)
        })?;
        match asked {
            None => Ok(scores),
            Some(asked) => scores.map(|scores| Ok(asked.where_cond(scores, &scores.affine(0.0, f64::NAN)?)?)),
        }
    }

    /// 1 for the heads that are asked for, `[layer, head]`; none for all.
    fn asked(&self, heads: Option<&[(usize, usize)]>) -> Result<Option<Tensor>> {
        let Some(heads) = heads else { return Ok(None) };
        let n_heads = self.n_heads();
        let mut asked = vec![0u8; self.layers().len() * n_heads];
        for &(layer, head) in heads {
            let place = self.layers().iter().position(|&l| l == layer).filter(|_| head < n_heads);
            let Some(place) = place else {
                return Err(Error::msg(format!(
                    "there is no head {head} in layer {layer}: layers {:?} have {n_heads} heads each, counted from 0",
                    self.layers()
                )));
            };
            asked[place * n_heads + head] = 1;
        }
        Ok(Some(Tensor::from_vec(asked, (self.layers().len(), n_heads), &Device::Cpu)?))
    }
}

/// The score of each head on one row, `[layer, head]`.
fn score(row: &Row, expected: &Tensor, options: &DetectOptions) -> Result<Tensor> {
    let kept = kept(row.n, options)?;
    let sum = |t: Tensor| t.sum(D::Minus1)?.sum(D::Minus1);
    row.per_head(|attention| {
        Ok(match options.measure {
            Measure::Mul => {
                let attention = attention.broadcast_mul(&kept)?;
                let all = sum(attention.clone())?;
                let nothing = all.eq(0f32)?.to_dtype(DType::F32)?;
                (sum(attention.broadcast_mul(expected)?)? / (all + nothing)?)?
            }
            Measure::Abs => {
                let off = attention.broadcast_sub(expected)?.abs()?.broadcast_mul(&kept)?;
                sum(off)?.affine(-1.0 / row.n as f64, 1.0)?
            }
        })
    })
}

/// 0 at the pairs that are left out, 1 elsewhere, `[query, key]`.
fn kept(n: usize, options: &DetectOptions) -> Result<Tensor> {
    let left_out =
        |query: usize, key: usize| options.exclude_bos && key == 0 || options.exclude_current_token && key == query;
    let values = (0..n * n).map(|i| if left_out(i / n, i % n) { 0f32 } else { 1. }).collect();
    Ok(Tensor::from_vec(values, (n, n), &Device::Cpu)?)
}
