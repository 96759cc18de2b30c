//! Means, variances and extremes of an activation over text.

use candle_core::{DType, Device, Tensor};

use super::OverText;
use super::activation::Axes;
use crate::Result;
use crate::analysis::labelled::unknown_axis;
use crate::analysis::{Axis, LabelledTensor};
use crate::hooks::{HookPoint, PointInfo, Selector};

/// What an activation is like over a text: for each of its elements how often it was seen, its mean, variance, extremes,
/// second moment, and how often it was positive. Padding is left out, and so are numbers that are not finite (masked
/// attention scores).
///
/// In f64; batches are joined by the formulas of Chan, Golub and LeVeque (1979), so that large means cost no precision.
#[derive(Clone, Debug)]
pub struct Statistics {
    point: HookPoint,
    axes: Vec<Axis>,
    moments: Moments,
}

impl OverText {
    /// The statistics of one activation, for each of its elements: `[d_model]` of a residual stream, `[head, d_head]` of z.
    /// Of an attention pattern, for each head, over all pairs of query and key.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let stats = model.over("John gave a book to Mary.").statistics(z(1))?;
    /// assert_eq!(stats.std()?.dims(), [model.cfg().n_heads, model.cfg().d_head]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When `at` is not one point, when its activation has nothing for each token, or when the run fails.
    pub fn statistics(&self, at: impl Into<Selector>) -> Result<Statistics> {
        let at = at.into();
        self.one_point(&at)?;
        only(self.collect(&at, None)?)
    }

    /// The statistics of one activation by chosen axes, taken over all others: `["head"]` of z, `["pos", "d_model"]`, or
    /// none at all for one number. The axes of each point are in `model.hook_points()`; "batch" can't be one.
    ///
    /// # Errors
    /// As [`statistics`](Self::statistics), and when there is no such axis.
    pub fn statistics_by<const N: usize>(&self, at: impl Into<Selector>, axes: [&str; N]) -> Result<Statistics> {
        let at = at.into();
        self.one_point(&at)?;
        only(self.collect(&at, Some(&axes))?)
    }

    /// As [`statistics`](Self::statistics), of several activations in one pass over the text.
    ///
    /// # Errors
    /// As there.
    pub fn statistics_of(&self, at: impl Into<Selector>) -> Result<Vec<Statistics>> {
        self.collect(&at.into(), None)
    }

    fn collect(&self, at: &Selector, keep: Option<&[&str]>) -> Result<Vec<Statistics>> {
        let points = self.model.hook_points();
        let chosen = at.resolve(points)?;
        let kept = |info: &PointInfo| Kept::new(Axes::of(info)?, keep);
        let kept = chosen.iter().map(|&i| kept(&points[i])).collect::<Result<Vec<_>>>()?;
        let mut moments: Vec<Option<(Vec<usize>, Moments)>> = vec![None; chosen.len()];
        self.each_run("statistics", &self.options_for(at)?, |batch, run| {
            for ((&i, kept), moments) in chosen.iter().zip(&kept).zip(&mut moments) {
                // A point may fire more than once (experts): all of it counts.
                for (_, activation) in run.cache.iter().filter(|(point, _)| *point == points[i].point) {
                    let (values, counts) = kept.axes.counted(activation, batch)?;
                    let (dims, here) = kept.moments(&values, &counts, self.width(batch.tokens().shape().1))?;
                    match moments {
                        None => *moments = Some((dims, here)),
                        Some((_, before)) => before.add(&here),
                    }
                }
            }
            Ok(())
        })?;
        let results = chosen.iter().zip(kept).zip(moments);
        results
            .map(|((&i, kept), moments)| {
                let point = points[i].point.clone();
                let (dims, moments) = moments.ok_or_else(|| {
                    crate::Error::msg(format!(
                        "nothing went through '{point}' in any batch, so there are no statistics"
                    ))
                })?;
                let name = |&axis: &usize| kept.axes.names()[axis].clone();
                let axes = kept.dims.iter().zip(dims).map(|(axis, len)| Axis::numbered(name(axis), len)).collect();
                Ok(Statistics { point, axes, moments })
            })
            .collect()
    }

    /// How long an axis of positions is made, so that all batches agree.
    fn width(&self, found: usize) -> usize {
        match &self.corpus.source {
            super::corpus::Source::Texts(_) => self.row_length,
            super::corpus::Source::Tokens(_) => found,
        }
    }
}

fn only(mut several: Vec<Statistics>) -> Result<Statistics> {
    several.pop().ok_or_else(|| crate::Error::msg("no activation was selected"))
}

impl Statistics {
    /// The activation that they are of.
    pub fn point(&self) -> &HookPoint {
        &self.point
    }

    /// The axes of each result.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// How many numbers each is of.
    pub fn count(&self) -> Result<LabelledTensor> {
        self.labelled("count", |m, i| m.count[i])
    }

    /// The mean.
    pub fn mean(&self) -> Result<LabelledTensor> {
        self.labelled("mean", |m, i| m.mean[i])
    }

    /// The variance: the mean squared distance to the mean.
    pub fn variance(&self) -> Result<LabelledTensor> {
        self.labelled("variance", |m, i| m.squares[i] / m.count[i])
    }

    /// The standard deviation.
    pub fn std(&self) -> Result<LabelledTensor> {
        self.labelled("standard deviation", |m, i| (m.squares[i] / m.count[i]).sqrt())
    }

    /// The mean of the squares.
    pub fn second_moment(&self) -> Result<LabelledTensor> {
        self.labelled("second moment", |m, i| m.squares[i] / m.count[i] + m.mean[i] * m.mean[i])
    }

    /// The smallest value.
    pub fn min(&self) -> Result<LabelledTensor> {
        self.labelled("minimum", |m, i| m.min[i])
    }

    /// The largest value.
    pub fn max(&self) -> Result<LabelledTensor> {
        self.labelled("maximum", |m, i| m.max[i])
    }

    /// The part of the values that is above zero: how often a neuron is active.
    pub fn fraction_positive(&self) -> Result<LabelledTensor> {
        self.labelled("part above zero", |m, i| m.positive[i] / m.count[i])
    }

    /// One number for each element; NaN where none was seen.
    fn labelled(&self, what: &str, value: impl Fn(&Moments, usize) -> f64) -> Result<LabelledTensor> {
        let of = |i: usize| if self.moments.count[i] > 0.0 { value(&self.moments, i) as f32 } else { f32::NAN };
        let values: Vec<f32> = match what {
            "count" => self.moments.count.iter().map(|&count| count as f32).collect(),
            _ => (0..self.moments.count.len()).map(of).collect(),
        };
        let dims: Vec<usize> = self.axes.iter().map(Axis::len).collect();
        let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?;
        LabelledTensor::new(format!("{what} of {}", self.point), &tensor, self.axes.clone())
    }
}

/// Which axes of an activation a statistic keeps.
struct Kept {
    axes: Axes,
    dims: Vec<usize>,
}

impl Kept {
    fn new(axes: Axes, keep: Option<&[&str]>) -> Result<Self> {
        let dims = match keep {
            None => axes.inner(),
            Some(names) => {
                let find = |name: &&str| match axes.find(name).filter(|_| *name != "batch") {
                    Some(axis) => Ok(axis),
                    None => Err(unknown_axis(name, axes.names().iter().map(String::as_str).filter(|n| *n != "batch"))),
                };
                names.iter().map(find).collect::<Result<Vec<_>>>()?
            }
        };
        Ok(Self { axes, dims })
    }

    /// The moments of one activation over the axes that are not kept, and the lengths of those that are. Axes of positions
    /// are filled up to `width`.
    fn moments(&self, values: &Tensor, counts: &Tensor, width: usize) -> Result<(Vec<usize>, Moments)> {
        let over = (0..values.rank()).filter(|axis| !self.dims.contains(axis));
        let order: Vec<usize> = over.chain(self.dims.iter().copied()).collect();
        let arrange = |tensor: &Tensor| -> Result<(Vec<usize>, Tensor)> {
            let mut tensor = tensor.clone();
            for &axis in
                self.dims.iter().filter(|&&axis| ["pos", "query", "key"].contains(&self.axes.names()[axis].as_str()))
            {
                let missing = width.saturating_sub(tensor.dim(axis)?);
                tensor = tensor.pad_with_zeros(axis, 0, missing)?;
            }
            let dims: Vec<usize> = self.dims.iter().map(|&axis| tensor.dims()[axis]).collect();
            let kept: usize = dims.iter().product();
            Ok((dims, tensor.permute(order.clone())?.contiguous()?.reshape(((), kept))?))
        };
        let (dims, values) = arrange(values)?;
        Ok((dims, Moments::of(&values, &arrange(counts)?.1)?))
    }
}

/// Running moments of several numbers.
#[derive(Clone, Debug)]
struct Moments {
    count: Vec<f64>,
    mean: Vec<f64>,
    /// The sum of the squared distances to the mean.
    squares: Vec<f64>,
    min: Vec<f64>,
    max: Vec<f64>,
    positive: Vec<f64>,
}

impl Moments {
    /// Of the columns of f64 values `[n, k]`, where those count whose mark (u8) is 1.
    fn of(values: &Tensor, marks: &Tensor) -> Result<Self> {
        let fill = |value: f64| Tensor::full(value, values.shape(), &Device::Cpu);
        let counts = marks.to_dtype(DType::F64)?;
        let count = counts.sum(0)?;
        let zeroed = marks.where_cond(values, &fill(0.0)?)?;
        let mean = (zeroed.sum(0)? / count.maximum(1.0)?)?;
        let squares = (zeroed.broadcast_sub(&mean)?.sqr()? * counts)?.sum(0)?;
        let list = |tensor: Tensor| -> Result<Vec<f64>> { Ok(tensor.to_vec1()?) };
        Ok(Self {
            min: list(marks.where_cond(values, &fill(f64::INFINITY)?)?.min(0)?)?,
            max: list(marks.where_cond(values, &fill(f64::NEG_INFINITY)?)?.max(0)?)?,
            positive: list(zeroed.gt(0.0)?.to_dtype(DType::F64)?.sum(0)?)?,
            squares: list(squares)?,
            mean: list(mean)?,
            count: list(count)?,
        })
    }

    /// As if the numbers of both had been seen by one.
    fn add(&mut self, other: &Self) {
        for i in 0..self.count.len().min(other.count.len()) {
            let (a, b) = (self.count[i], other.count[i]);
            if b == 0.0 {
                continue;
            }
            let apart = other.mean[i] - self.mean[i];
            self.count[i] = a + b;
            self.mean[i] += apart * b / (a + b);
            self.squares[i] += other.squares[i] + apart * apart * a * b / (a + b);
            self.min[i] = self.min[i].min(other.min[i]);
            self.max[i] = self.max[i].max(other.max[i]);
            self.positive[i] += other.positive[i];
        }
    }
}
