//! Features of many tokens without the zeros, and the batches of a text that they are of.

use candle_core::{Device, Tensor};

use super::Sae;
use super::forward::as_rows;
use crate::analysis::OverText;
use crate::hooks::{HookPoint, Selector};
use crate::{Error, Result, interrupt};

/// At most so many numbers are encoded at once.
const AT_ONCE: usize = 1 << 24;

/// The features that are not zero, row by row.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRows {
    ends: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
}

impl SparseRows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The features of a row, ascending, and their values.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let end = self.ends.get(row).copied().unwrap_or(0);
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]).min(end);
        let features = self.features[start..end].iter().map(|&feature| feature as usize);
        features.zip(self.values[start..end].iter().copied())
    }

    fn push(&mut self, row: &[f32]) {
        for (feature, &value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            self.features.push(feature as u32);
            self.values.push(value);
        }
        self.ends.push(self.features.len());
    }
}

/// The tokens of a batch that count.
pub(super) struct Counted {
    /// `[n, d_in]`, in the type of the weights.
    pub inputs: Tensor,
    /// What is to be reconstructed, `[n, d_out]`.
    pub targets: Tensor,
}

impl Sae {
    /// The features of rows `[n, d_in]`, some at a time.
    pub(super) fn encode_sparse(&self, rows: &Tensor) -> Result<SparseRows> {
        let mut sparse = SparseRows::default();
        let (n, step) = (rows.dim(0)?, (AT_ONCE / self.d_sae()).max(1));
        for start in (0..n).step_by(step) {
            interrupt::check()?;
            let features = self.encode_rows(&rows.narrow(0, start, step.min(n - start))?)?;
            let features = features.detach().to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
            for row in features.to_vec2::<f32>()? {
                sparse.push(&row);
            }
        }
        Ok(sparse)
    }

    /// The vectors of an activation that the SAE is about, as rows `[batch * pos, width]`.
    pub(super) fn vectors(&self, activation: &Tensor, width: usize) -> Result<Tensor> {
        let x = match self.head() {
            Some(head) => {
                if activation.rank() != 4 || activation.dims()[2] <= head {
                    return Err(Error::msg(format!(
                        "{self:?} is of head {head}, and the activation has shape {:?}, which has no such head",
                        activation.dims()
                    )));
                }
                activation.narrow(2, head, 1)?.squeeze(2)?
            }
            None => activation.clone(),
        };
        Ok(as_rows(&x, width)?.0)
    }

    /// Calls a function with the tokens that count of each batch of a text.
    pub(super) fn each_batch(&self, text: &OverText, mut function: impl FnMut(Counted) -> Result<()>) -> Result<()> {
        let (point_in, point_out) = (self.hook_in()?, self.hook_out()?);
        let keep = Selector::from([&point_in, &point_out]);
        text.for_each(keep, |batch, cache| {
            let counted = batch.counted_places();
            if counted.is_empty() {
                return Ok(());
            }
            let rows = |point: &HookPoint, width: usize| -> Result<Tensor> {
                let rows = self.vectors(&cache.get(point)?.detach(), width)?;
                let places = Tensor::new(counted.as_slice(), rows.device())?;
                self.like_weights(&rows.index_select(&places, 0)?)
            };
            let inputs = rows(&point_in, self.d_in())?;
            let targets = if point_in == point_out { inputs.clone() } else { rows(&point_out, self.d_out())? };
            function(Counted { inputs, targets })
        })
    }
}
