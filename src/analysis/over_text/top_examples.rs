//! Where in a text the units of an activation (neurons, heads, ..) are most active.

use std::ops::{Range, RangeFull};

use candle_core::{D, Tensor};

use super::activation::Axes;
use super::example::keep_best;
use super::{Example, Histogram, OverText};
use crate::hooks::{HookPoint, PointInfo, Selector};
use crate::tokens::Tokenizer;
use crate::{Error, Result};

/// Which units: one (`3`), several (`[3, 5]`), some in order (`0..10`), or all (`..`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Units {
    /// All of them.
    All,
    /// These.
    These(Vec<usize>),
}

impl From<usize> for Units {
    fn from(unit: usize) -> Self {
        Self::These(vec![unit])
    }
}

impl From<Vec<usize>> for Units {
    fn from(units: Vec<usize>) -> Self {
        Self::These(units)
    }
}

impl<const N: usize> From<[usize; N]> for Units {
    fn from(units: [usize; N]) -> Self {
        Self::These(units.into())
    }
}

impl From<Range<usize>> for Units {
    fn from(units: Range<usize>) -> Self {
        Self::These(units.collect())
    }
}

impl From<RangeFull> for Units {
    fn from(_: RangeFull) -> Self {
        Self::All
    }
}

/// The places where each unit of an activation is most active, and how its values are spread.
///
/// The looks: one unit shows its examples as coloured tokens over a histogram; several are a table.
#[derive(Clone, Debug)]
pub struct TopExamples {
    point: HookPoint,
    units: Vec<UnitExamples>,
}

/// The places where one unit is most active.
#[derive(Clone, Debug)]
pub struct UnitExamples {
    unit: usize,
    name: String,
    examples: Vec<Example>,
    histogram: Histogram,
    sum: f64,
    positive: u64,
}

impl TopExamples {
    /// The activation that they are of.
    pub fn point(&self) -> &HookPoint {
        &self.point
    }

    /// The units that were asked for.
    pub fn units(&self) -> &[UnitExamples] {
        &self.units
    }

    /// One of them, by its number in the layer.
    ///
    /// # Errors
    /// When it was not among those that were asked for.
    pub fn unit(&self, unit: usize) -> Result<&UnitExamples> {
        self.units
            .iter()
            .find(|examples| examples.unit == unit)
            .ok_or_else(|| Error::msg(format!("unit {unit} is not among the {} that were looked at", self.units.len())))
    }
}

impl UnitExamples {
    /// Its number in the layer.
    pub fn unit(&self) -> usize {
        self.unit
    }

    /// What it is: "neuron 3 of blocks.0.mlp.hook_post".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The places, strongest first; each is in a row of its own.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// How often values of each size were seen.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }

    /// The mean value.
    pub fn mean(&self) -> f64 {
        self.sum / self.histogram.total().max(1) as f64
    }

    /// The part of the values that is above zero.
    pub fn fraction_positive(&self) -> f64 {
        self.positive as f64 / self.histogram.total().max(1) as f64
    }

    /// Takes in the values of one row; only counted positions can be an example, and padding is cut off already.
    fn add(&mut self, row: &Row, values: &[f32], k: usize, over: &OverText) {
        let mut strongest: Option<usize> = None;
        for (pos, &value) in values.iter().enumerate().filter(|(pos, value)| row.counted[*pos] && value.is_finite()) {
            self.histogram.add(value);
            self.sum += f64::from(value);
            self.positive += u64::from(value > 0.0);
            if strongest.is_none_or(|best| value > values[best]) {
                strongest = Some(pos);
            }
        }
        if let Some(pos) = strongest {
            let make = || Example::new((row.number, pos), row.ids, values, over.context, row.tokenizer);
            keep_best(&mut self.examples, k, values[pos], Example::value, make);
        }
    }
}

/// One row of a batch, without its padding.
struct Row<'a> {
    number: usize,
    ids: &'a [u32],
    counted: &'a [bool],
    tokenizer: Option<&'a Tokenizer>,
}

impl OverText {
    /// The `k` places where each unit of an activation is most active, at most one in a row (so that one passage does not
    /// fill the list): max-activating examples. A unit is an element of the last axis (a neuron of `post`, a dimension of a
    /// residual stream), or a head: of z, result, q, k and v, whose value is then the length of its vector.
    ///
    /// Use [`skip_bos`](Self::skip_bos) where the first token is stronger than all others.
    ///
    /// Memory: `k` short passages and a histogram for each unit.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let text = model.over(["John gave a book to Mary.", "Mary went home."]).one_row_each().skip_bos();
    /// let top = text.top_examples(post(1), .., 2)?;
    /// let neuron = top.unit(7)?;
    /// assert!(neuron.examples()[0].value() >= neuron.examples()[1].value());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When `at` is not one point, when there is no such unit, when an activation has no units of this kind (an attention
    /// pattern has a number for each query and key: see [`top_examples_by`](Self::top_examples_by)), or when the run fails.
    pub fn top_examples(&self, at: impl Into<Selector>, units: impl Into<Units>, k: usize) -> Result<TopExamples> {
        let at = at.into();
        let info = self.one_point(&at)?;
        let axes = Axes::of(&info)?;
        let inner = axes.inner();
        if axes.find("key").is_some() || inner.len() > 2 {
            return Err(Error::msg(format!(
                "'{}' has the axes {}, so it does not say what the value of a unit at a token is; give a function to \
                 top_examples_by(..)",
                info.point, info.shape
            )));
        }
        let kind = match inner.first().map(|&axis| axes.names()[axis].as_str()) {
            Some(name) if name.ends_with("head") => name.replace("kv_head", "key-value head"),
            Some("d_mlp") => "neuron".to_string(),
            Some("d_model") => "dimension".to_string(),
            Some("d_vocab") => "logit".to_string(),
            _ => "unit".to_string(),
        };
        let is_vector = inner.len() == 2;
        self.top(&info, (&kind, None), units.into(), k, move |activation| {
            Ok(if is_vector { activation.sqr()?.sum(D::Minus1)?.sqrt()? } else { activation.clone() })
        })
    }

    /// As [`top_examples`](Self::top_examples), of values that a function makes out of the activation (`[batch, pos, ..]`,
    /// `[batch, query, head, key]` for a pattern; f32, on the CPU): one for each token `[batch, pos]`, or for each token and
    /// unit `[batch, pos, unit]`.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let text = model.over("John gave a book to Mary.");
    /// // The tokens from which each head looks hardest at one that is not the first.
    /// let top = text.top_examples_by(pattern(1), .., 3, |pattern| {
    ///     let keys = pattern.dim(3)?;
    ///     Ok(pattern.narrow(3, 1, keys - 1)?.max(3)?)
    /// })?;
    /// assert_eq!(top.units().len(), model.cfg().n_heads);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there, what the function returns, and another shape.
    pub fn top_examples_by(
        &self,
        at: impl Into<Selector>,
        units: impl Into<Units>,
        k: usize,
        value: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<TopExamples> {
        let info = self.one_point(&at.into())?;
        self.top(&info, ("unit", None), units.into(), k, value)
    }

    /// As [`top_examples_by`](Self::top_examples_by), of units that are part of many more: the function gives the values of
    /// these alone, and `numbers` says which they are; `kind` is what one is called.
    pub(crate) fn top_examples_named(
        &self,
        at: impl Into<Selector>,
        kind: &str,
        numbers: &[usize],
        k: usize,
        value: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<TopExamples> {
        let info = self.one_point(&at.into())?;
        self.top(&info, (kind, Some(numbers)), Units::All, k, value)
    }

    fn top(
        &self,
        info: &PointInfo,
        (kind, numbers): (&str, Option<&[usize]>),
        units: Units,
        k: usize,
        value: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<TopExamples> {
        let axes = Axes::of(info)?;
        let point = info.point.clone();
        if k == 0 {
            return Err(Error::msg("no examples were asked for: k must be at least 1"));
        }
        let mut top: Vec<UnitExamples> = Vec::new();
        self.each_run("top examples", &self.options_for(&Selector::from(&point))?, |batch, run| {
            let (rows, width) = batch.tokens().shape();
            for (_, activation) in &run.cache {
                let values = value(&axes.by_position(activation, batch)?)?;
                let values = match *values.dims() {
                    [b, p] if (b, p) == (rows, width) => values.unsqueeze(2)?,
                    [b, p, ..] if (b, p) == (rows, width) => values.flatten_from(2)?,
                    ref found => {
                        let expected = format!("[{rows}, {width}] or [{rows}, {width}, unit]");
                        return Err(Error::WrongShape {
                            name: format!("values of {point}"),
                            expected,
                            found: found.to_vec(),
                        });
                    }
                };
                let chosen = chosen(&units, values.dim(2)?, &point)?;
                let indices: Vec<u32> = chosen.iter().map(|&unit| unit as u32).collect();
                let values = values.index_select(&Tensor::new(indices, values.device())?, 2)?;
                if top.is_empty() {
                    let number =
                        |place: usize| numbers.and_then(|numbers| numbers.get(place)).copied().unwrap_or(place);
                    let fresh = |&place: &usize| UnitExamples {
                        unit: number(place),
                        name: format!("{kind} {} of {point}", number(place)),
                        examples: Vec::new(),
                        histogram: Histogram::default(),
                        sum: 0.0,
                        positive: 0,
                    };
                    top = chosen.iter().map(fresh).collect();
                }
                let (counted, real) = (batch.counted(), batch.real());
                let tokenizer = batch.tokens().tokenizer();
                for (row, ids) in batch.tokens().ids().iter().enumerate() {
                    let length = real[row].iter().filter(|real| **real).count();
                    let from = real[row].iter().position(|real| *real).unwrap_or(0);
                    let places = from..from + length;
                    let by_unit: Vec<Vec<f32>> =
                        values.get(row)?.narrow(0, from, length)?.t()?.contiguous()?.to_vec2()?;
                    let number = batch.first_row() + row;
                    let row = Row { number, ids: &ids[places.clone()], counted: &counted[row][places], tokenizer };
                    for (examples, values) in top.iter_mut().zip(&by_unit) {
                        examples.add(&row, values, k, self);
                    }
                }
            }
            Ok(())
        })?;
        if top.is_empty() {
            return Err(Error::msg(format!("nothing went through '{point}' in any batch, so there are no examples")));
        }
        Ok(TopExamples { point, units: top })
    }
}

/// The units that are meant, each once.
fn chosen(units: &Units, n: usize, point: &HookPoint) -> Result<Vec<usize>> {
    let wanted = match units {
        Units::All => return Ok((0..n).collect()),
        Units::These(wanted) => wanted,
    };
    if let Some(wrong) = wanted.iter().find(|&&unit| unit >= n) {
        return Err(Error::msg(format!("there is no unit {wrong}: '{point}' has {n}, counted from 0")));
    }
    let mut seen = Vec::new();
    seen.extend(wanted.iter().enumerate().filter(|(i, unit)| !wanted[..*i].contains(unit)).map(|(_, &unit)| unit));
    match seen.is_empty() {
        true => Err(Error::msg("no unit was asked for; .. stands for all of them")),
        false => Ok(seen),
    }
}
