//! Numbers on named axes: what most analyses give.

use std::ops::{Deref, Range};

use candle_core::{DType, Device, Tensor};

use crate::error::near_misses;
use crate::{Error, Result};

/// One axis of a [`LabelledTensor`]: its name (`layer`, `head`, `pos`), and a label for each place along it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    name: String,
    labels: Vec<String>,
}

impl Axis {
    /// An axis whose places have these labels.
    pub fn new<S: Into<String>>(name: impl Into<String>, labels: impl IntoIterator<Item = S>) -> Self {
        Self { name: name.into(), labels: labels.into_iter().map(Into::into).collect() }
    }

    /// An axis whose places are numbered from 0.
    pub fn numbered(name: impl Into<String>, len: usize) -> Self {
        Self::new(name, (0..len).map(|i| i.to_string()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A label for each place along it.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How many places it has.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A tensor whose axes have names and labels. Use it as the tensor that it is (f32, on the CPU); in a notebook it shows
/// itself as bars (one axis), as a heatmap (two) or as several heatmaps (more).
///
/// ```
/// use candlescope::analysis::{Axis, LabelledTensor};
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let effect = Tensor::new(&[[0.1f32, 0.9], [0.0, -0.3]], &Device::Cpu)?;
/// let effect = LabelledTensor::new("effect", &effect, [Axis::numbered("layer", 2), Axis::new("pos", ["The", " cat"])])?;
/// assert_eq!(effect.top_k(1)[0], (vec!["0".to_string(), " cat".to_string()], 0.9));
/// assert_eq!(effect.at("layer", -1)?.dims(), [2]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LabelledTensor {
    title: String,
    tensor: Tensor,
    axes: Vec<Axis>,
}

impl LabelledTensor {
    /// From values and an axis for each dimension.
    ///
    /// # Errors
    /// When the axes do not have the lengths of the tensor's dimensions.
    pub fn new(title: impl Into<String>, tensor: &Tensor, axes: impl IntoIterator<Item = Axis>) -> Result<Self> {
        let axes: Vec<Axis> = axes.into_iter().collect();
        let lengths: Vec<usize> = axes.iter().map(Axis::len).collect();
        if lengths != tensor.dims() {
            let named: Vec<String> = axes.iter().map(|axis| format!("{} ({})", axis.name, axis.len())).collect();
            return Err(Error::msg(format!(
                "the tensor has shape {:?}, and the axes are {}: there must be one for each dimension, of its length",
                tensor.dims(),
                named.join(", ")
            )));
        }
        let tensor = tensor.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        Ok(Self { title: title.into(), tensor, axes })
    }

    /// What the numbers are.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The same numbers under another title.
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// The numbers.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The axes, one for each dimension.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The axis of this name, and which dimension it is.
    ///
    /// # Errors
    /// When there is none; the error lists those that there are.
    pub fn axis(&self, name: &str) -> Result<(usize, &Axis)> {
        match self.axes.iter().position(|axis| axis.name == name) {
            Some(dim) => Ok((dim, &self.axes[dim])),
            None => Err(unknown_axis(name, self.axes.iter().map(Axis::name))),
        }
    }

    /// What is at one place of an axis, without that axis; a negative place counts from the end.
    ///
    /// # Errors
    /// When there is no such axis or place.
    pub fn at(&self, axis: &str, place: i64) -> Result<Self> {
        let (dim, found) = self.axis(axis)?;
        let place = index_of(found, place)?;
        let title = format!("{}, {axis} {}", self.title, found.labels[place]);
        let axes = self.axes.iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, axis)| axis.clone()).collect();
        Ok(Self { title, tensor: self.tensor.narrow(dim, place, 1)?.squeeze(dim)?.contiguous()?, axes })
    }

    /// A part of an axis, from the first place to before the last.
    ///
    /// # Errors
    /// When there is no such axis or place.
    pub fn narrow(&self, axis: &str, places: Range<usize>) -> Result<Self> {
        let (dim, found) = self.axis(axis)?;
        if places.start >= places.end || places.end > found.len() {
            return Err(Error::msg(format!(
                "{places:?} is no part of the axis '{axis}', which has {} places",
                found.len()
            )));
        }
        let mut axes = self.axes.clone();
        axes[dim].labels = found.labels[places.clone()].to_vec();
        let tensor = self.tensor.narrow(dim, places.start, places.len())?.contiguous()?;
        Ok(Self { title: self.title.clone(), tensor, axes })
    }

    /// The mean over an axis, without that axis.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn mean_over(&self, axis: &str) -> Result<Self> {
        let (dim, _) = self.axis(axis)?;
        let axes = self.axes.iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, axis)| axis.clone()).collect();
        Ok(Self { title: format!("{}, mean over {axis}", self.title), tensor: self.tensor.mean(dim)?, axes })
    }

    /// The numbers, each changed by `change`, under the same axes.
    pub fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Self::new(self.title.clone(), &change(&self.tensor)?, self.axes.clone())
    }

    /// The `k` numbers of largest magnitude, largest first, each with its labels.
    pub fn top_k(&self, k: usize) -> Vec<(Vec<String>, f32)> {
        let values = self.values();
        let mut order: Vec<usize> = (0..values.len()).filter(|&i| values[i].is_finite()).collect();
        order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
        order.into_iter().take(k).map(|i| (self.labels_of(i), values[i])).collect()
    }

    /// The largest number and its place, an index for each axis (`[layer, head]`, say); none where no number is finite.
    pub fn largest(&self) -> Option<(Vec<usize>, f32)> {
        let values = self.values();
        let at =
            (0..values.len()).filter(|&i| values[i].is_finite()).max_by(|&a, &b| values[a].total_cmp(&values[b]))?;
        Some((unravel(at, self.tensor.dims()), values[at]))
    }

    /// The numbers in row-major order.
    pub fn values(&self) -> Vec<f32> {
        // The constructor made it f32 and contiguous on the CPU, which can always be read.
        self.tensor.flatten_all().and_then(|flat| flat.to_vec1()).unwrap_or_default()
    }

    /// The labels of the number at a row-major place.
    pub(crate) fn labels_of(&self, place: usize) -> Vec<String> {
        let index = unravel(place, self.tensor.dims());
        self.axes.iter().zip(index).map(|(axis, i)| axis.labels[i].clone()).collect()
    }
}

impl Deref for LabelledTensor {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

/// The n-th index of a shape, row-major.
pub(crate) fn unravel(mut n: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (i, size) in dims.iter().enumerate().rev() {
        index[i] = n % size.max(&1);
        n /= size.max(&1);
    }
    index
}

/// The error for an axis that is not there.
pub(crate) fn unknown_axis<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.collect();
    let hint = match near_misses(name, known.iter().copied()).first() {
        Some(near) => format!("; did you mean '{near}'?"),
        None => String::new(),
    };
    Error::msg(format!("there is no axis '{name}' here, only {}{hint}", known.join(", ")))
}

fn index_of(axis: &Axis, place: i64) -> Result<usize> {
    let absolute = if place < 0 { place + axis.len() as i64 } else { place };
    if (0..axis.len() as i64).contains(&absolute) {
        Ok(absolute as usize)
    } else {
        Err(Error::msg(format!("there is no {} {place}: the axis has {} places", axis.name, axis.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> LabelledTensor {
        let values = Tensor::new(&[[1f32, -5., 0.], [2., 3., f32::NAN]], &Device::Cpu).unwrap();
        LabelledTensor::new("effect", &values, [Axis::numbered("layer", 2), Axis::new("pos", ["a", "b", "c"])]).unwrap()
    }

    #[test]
    fn places_are_found_by_axis_and_label() {
        assert_eq!(grid().at("pos", -2).unwrap().values(), [-5., 3.]);
        assert_eq!(grid().at("layer", 1).unwrap().title(), "effect, layer 1");
        assert_eq!(grid().narrow("pos", 1..2).unwrap().axes()[1].labels(), ["b"]);
        assert_eq!(grid().narrow("pos", 0..2).unwrap().mean_over("layer").unwrap().values(), [1.5, -1.]);
        let top: Vec<(String, f32)> = grid().top_k(2).into_iter().map(|(labels, v)| (labels.join(""), v)).collect();
        assert_eq!(top, [("0b".to_string(), -5.), ("1b".to_string(), 3.)]);
        assert_eq!(grid().largest(), Some((vec![1, 1], 3.)));
    }

    #[test]
    fn what_is_not_there_is_a_sentence() {
        let error = |result: Result<LabelledTensor>| result.unwrap_err().to_string();
        assert!(error(grid().at("layr", 0)).contains("only layer, pos; did you mean 'layer'?"));
        assert!(error(grid().at("pos", 3)).contains("no pos 3: the axis has 3"));
        assert!(error(grid().narrow("pos", 2..9)).contains("2..9"));
        assert!(error(LabelledTensor::new("x", grid().tensor(), [Axis::numbered("pos", 2)])).contains("[2, 3]"));
    }
}
