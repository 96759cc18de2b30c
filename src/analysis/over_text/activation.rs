//! The axes of an activation, and which of its numbers count.

use candle_core::{DType, Device, Tensor};

use super::TextBatch;
use crate::hooks::PointInfo;
use crate::{Error, Result};

/// Batch and position as one axis, which the activations of experts have.
const FLAT: &str = "batch * pos";

/// What the axes of a point's activation are called.
#[derive(Clone, Debug)]
pub(in crate::analysis) struct Axes {
    point: String,
    names: Vec<String>,
}

impl Axes {
    /// As the model's list of hook points says.
    pub fn of(info: &PointInfo) -> Result<Self> {
        let inside = info.shape.trim_start_matches('[').trim_end_matches(']');
        let names: Vec<String> = inside.split(", ").map(str::to_string).collect();
        let axes = Self { point: info.point.name().to_string(), names };
        let has = |name: &str| axes.names.iter().any(|axis| axis == name);
        if has(FLAT) || (has("batch") && (has("pos") || has("query"))) {
            return Ok(axes);
        }
        Err(Error::msg(format!(
            "'{}' has the axes {}, without one number or vector for each token of the batch, so it can't be followed over text",
            axes.point, info.shape
        )))
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the axes lie that are neither batch nor positions: heads, neurons and the like.
    pub fn inner(&self) -> Vec<usize> {
        let outer = ["batch", "pos", "query", "key", FLAT, "1"];
        (0..self.names.len()).filter(|&i| !outer.contains(&self.names[i].as_str())).collect()
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|axis| axis == name)
    }

    /// The activation as f64 on the CPU, and which of its numbers count (1 or 0), in the same shape: those of positions
    /// that count, at keys that are not padding, and finite.
    pub fn counted(&self, activation: &Tensor, batch: &TextBatch) -> Result<(Tensor, Tensor)> {
        self.check(activation, batch)?;
        let values = activation.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let finite = values.abs()?.lt(f64::INFINITY)?;
        let mut counts = self.spread(&batch.counted(), "query", activation)?.mul(&finite)?;
        if self.find("key").is_some() && batch.tokens().mask().is_some() {
            counts = (counts * self.spread(&batch.real(), "key", activation)?)?;
        }
        Ok((values, counts))
    }

    /// An activation `[batch, pos, ..]`, `[batch, head, pos, ..]` and so on, as `[batch, pos, ..]`, f32 on the CPU.
    pub fn by_position(&self, activation: &Tensor, batch: &TextBatch) -> Result<Tensor> {
        self.check(activation, batch)?;
        let values = activation.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        if let Some(flat) = self.find(FLAT) {
            let (rows, width) = batch.tokens().shape();
            let mut dims = values.dims().to_vec();
            dims.splice(flat..=flat, [rows, width]);
            return Ok(values.reshape(dims)?);
        }
        let first = [self.find("batch"), self.find("pos").or(self.find("query"))];
        let rest = (0..self.names.len()).filter(|&i| !first.contains(&Some(i)));
        let order: Vec<usize> = first.into_iter().flatten().chain(rest).collect();
        Ok(values.permute(order)?.contiguous()?)
    }

    /// A number for each token as a tensor in the shape of the activation; `query` is where the positions lie if there is
    /// no axis "pos".
    fn spread(&self, marks: &[Vec<bool>], query: &str, activation: &Tensor) -> Result<Tensor> {
        let (rows, width) = (marks.len(), marks.first().map_or(0, Vec::len));
        let mut dims = vec![1; self.names.len()];
        match self.find(FLAT) {
            Some(flat) => dims[flat] = rows * width,
            None => {
                for (axis, length) in [(self.find("batch"), rows), (self.find("pos").or(self.find(query)), width)] {
                    if let Some(axis) = axis {
                        dims[axis] = length;
                    }
                }
            }
        }
        let marks: Vec<u8> = marks.iter().flatten().map(|&mark| u8::from(mark)).collect();
        Ok(Tensor::from_vec(marks, dims, &Device::Cpu)?.broadcast_as(activation.shape())?.contiguous()?)
    }

    fn check(&self, activation: &Tensor, batch: &TextBatch) -> Result<()> {
        let (rows, width) = batch.tokens().shape();
        let length = |name: &str| match name {
            "batch" => Some(rows),
            "pos" | "query" => Some(width),
            FLAT => Some(rows * width),
            _ => None,
        };
        let fits = |(name, found): (&String, &usize)| length(name).is_none_or(|wanted| wanted == *found);
        if activation.rank() == self.names.len() && self.names.iter().zip(activation.dims()).all(fits) {
            return Ok(());
        }
        Err(Error::WrongShape {
            name: self.point.clone(),
            expected: format!("[{}] for {rows} rows of {width} tokens", self.names.join(", ")),
            found: activation.dims().to_vec(),
        })
    }
}
