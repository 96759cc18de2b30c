//! Parts of the residual stream that are not multiplied out: neurons are too many for that.

use candle_core::{D, Tensor};

use super::norm::{HeldNorm, f32};
use super::stack::{Place, columns};
use super::{Stack, StreamPlace};
use crate::{Error, Result};

/// Parts of the residual stream, of which neurons are kept as activations and rows of W_out.
///
/// Questions about directions and tokens are answered without ever building `[neurons, batch, pos, d_model]`; for small
/// cases [`stack`](Self::stack) builds it.
#[derive(Clone, Debug)]
pub struct Decomposition {
    parts: Vec<Part>,
    place: Place,
    norm: Norm,
}

/// Whether the norm that reads at the place is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Norm {
    /// It is not.
    Not,
    /// It is, by every question.
    Asked,
    /// It is in the numbers already.
    Done,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    /// `[component, .., d_model]`.
    Dense {
        labels: Vec<String>,
        tensor: Tensor,
    },
    Neurons(Neurons),
}

/// Neurons of one layer: what each writes is its activation times its row of W_out, behind the norm that follows.
#[derive(Clone, Debug)]
pub(super) struct Neurons {
    pub(super) layer: usize,
    pub(super) neurons: Vec<usize>,
    /// With all factors that are the same for the whole vector, `[.., neuron]`.
    pub(super) acts: Tensor,
    /// `[neuron, d_model]`.
    pub(super) w_out: Tensor,
    /// The norm between the MLP and the stream. Its scale is in the activations.
    pub(super) behind: Option<HeldNorm>,
}

impl Part {
    /// Vectors with their labels; none if there are none.
    pub(super) fn dense(parts: Vec<(String, Tensor)>) -> Result<Option<Self>> {
        if parts.is_empty() {
            return Ok(None);
        }
        let (labels, parts): (Vec<String>, Vec<Tensor>) = parts.into_iter().unzip();
        let parts = parts.iter().map(f32).collect::<Result<Vec<_>>>()?;
        Ok(Some(Self::Dense { labels, tensor: Tensor::stack(&parts, 0)? }))
    }

    fn labels(&self) -> Vec<String> {
        match self {
            Self::Dense { labels, .. } => labels.clone(),
            Self::Neurons(part) => part.neurons.iter().map(|neuron| format!("L{}N{neuron}", part.layer)).collect(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Dense { labels, .. } => labels.len(),
            Self::Neurons(part) => part.neurons.len(),
        }
    }

    /// All vectors, `[component, .., d_model]`.
    fn stack(&self) -> Result<Tensor> {
        match self {
            Self::Dense { tensor, .. } => Ok(tensor.clone()),
            Self::Neurons(part) => {
                let results = part.results()?;
                // The neurons' axis to the front.
                let axis = results.rank() - 2;
                let order: Vec<usize> = std::iter::once(axis).chain(0..axis).chain([axis + 1]).collect();
                Ok(results.permute(order)?.contiguous()?)
            }
        }
    }

    /// The sum over the components, `[.., d_model]`.
    fn sum(&self) -> Result<Tensor> {
        match self {
            Self::Dense { tensor, .. } => Ok(tensor.sum(0)?),
            Self::Neurons(part) => {
                let rows = part.rows()?;
                let mut dims = part.acts.dims().to_vec();
                let width = dims.pop().unwrap_or(0);
                dims.push(rows.dim(1)?);
                Ok(part.acts.contiguous()?.reshape(((), width))?.matmul(&rows)?.reshape(dims)?)
            }
        }
    }

    /// The product of every vector with a direction that may differ from position to position, `[component, ..]`; the
    /// direction is `[d_model]`, or `[.., d_model]` with axes of size 1 where it is the same.
    fn dot(&self, direction: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense { tensor, .. } if direction.rank() == 1 => {
                let mut dims = tensor.dims().to_vec();
                let width = dims.pop().unwrap_or(0);
                Ok(tensor.contiguous()?.reshape(((), width))?.matmul(&direction.unsqueeze(1)?)?.reshape(dims)?)
            }
            Self::Dense { tensor, .. } => Ok(tensor.broadcast_mul(direction)?.sum(D::Minus1)?),
            Self::Neurons(part) => {
                let direction = match &part.behind {
                    Some(norm) => norm.pull_back(direction)?,
                    None => direction.clone(),
                };
                let mut dims = direction.dims().to_vec();
                let width = dims.pop().unwrap_or(0);
                dims.push(part.w_out.dim(0)?);
                let written = direction.contiguous()?.reshape(((), width))?.matmul(&part.w_out.t()?)?.reshape(dims)?;
                let products = part.acts.broadcast_mul(&written)?;
                let axis = products.rank() - 1;
                let order: Vec<usize> = std::iter::once(axis).chain(0..axis).collect();
                Ok(products.permute(order)?.contiguous()?)
            }
        }
    }
}

impl Neurons {
    /// W_out's rows as the norm behind them leaves them, but for its scale, `[neuron, d_model]`.
    fn rows(&self) -> Result<Tensor> {
        self.behind.as_ref().map_or_else(|| Ok(self.w_out.clone()), |norm| norm.apply_unscaled(&self.w_out))
    }

    /// What each neuron writes, `[.., neuron, d_model]`.
    pub(super) fn results(&self) -> Result<Tensor> {
        Ok(self.acts.unsqueeze(D::Minus1)?.broadcast_mul(&self.rows()?)?)
    }

    /// The same along directions, columns `[d_model, n]`: `[.., neuron, n]`.
    pub(super) fn results_onto(&self, columns: &Tensor) -> Result<Tensor> {
        Ok(self.acts.unsqueeze(D::Minus1)?.broadcast_mul(&self.rows()?.matmul(columns)?)?)
    }
}

impl Decomposition {
    pub(super) fn new(parts: Vec<Part>, place: Place) -> Self {
        Self { parts, place, norm: Norm::Not }
    }

    /// What each component is: `L0H0`, `L1N27`, `embed`, `bias`, `remainder`.
    pub fn labels(&self) -> Vec<String> {
        self.parts.iter().flat_map(Part::labels).collect()
    }

    /// How many components there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of the stream that it is for.
    pub fn place(&self) -> StreamPlace {
        self.place.at
    }

    /// As [`Stack::apply_ln`]: the parts as the norm that reads at their place passes them on, with its scale held.
    ///
    /// # Errors
    /// When the scale was not cached, or was applied already.
    pub fn apply_ln(&self) -> Result<Self> {
        if self.norm != Norm::Not {
            return Err(Error::msg("the parts went through a norm already; apply_ln once"));
        }
        self.place.reader.norm()?;
        Ok(Self { norm: Norm::Asked, ..self.clone() })
    }

    /// As [`Stack::with_remainder`]: with a last component `remainder`, so that all add up to the stream.
    ///
    /// # Errors
    /// When the stream was not cached.
    pub fn with_remainder(&self) -> Result<Self> {
        let mut rest = self.place.total()?.clone();
        if self.norm == Norm::Done {
            rest = self.place.reader.apply(&rest)?;
        }
        for part in &self.parts {
            rest = (rest - part.sum()?)?;
        }
        let mut parts = self.parts.clone();
        parts.extend(Part::dense(vec![("remainder".to_string(), rest)])?);
        Ok(Self { parts, ..self.clone() })
    }

    /// As [`Stack::onto`]: the component of each part along directions, `[component, batch, pos]` for one direction
    /// `[d_model]`, and `[component, batch, pos, n]` for several, `[n, d_model]`.
    ///
    /// # Errors
    /// Directions of another width.
    pub fn onto(&self, directions: &Tensor) -> Result<Tensor> {
        let d_model = self.place.model.cfg().d_model;
        let columns = f32(&columns(directions, d_model)?.to_device(self.place.model.device())?)?;
        let along = |column: usize| self.dot(&columns.narrow(1, column, 1)?.squeeze(1)?.contiguous()?);
        if directions.rank() == 1 {
            return along(0);
        }
        let all = (0..columns.dim(1)?).map(along).collect::<Result<Vec<_>>>()?;
        if all.is_empty() {
            return Err(Error::msg("no direction was given; give at least one"));
        }
        Ok(Tensor::stack(&all, D::Minus1)?)
    }

    /// All vectors, `[component, batch, pos, d_model]`. With neurons this is large: for GPT-2 small 36,864 neurons take
    /// 113 MB per token. Slice the cache by position first.
    ///
    /// # Errors
    /// Too little memory.
    pub fn stack(&self) -> Result<Stack> {
        let parts = self.parts.iter().map(Part::stack).collect::<Result<Vec<_>>>()?;
        if parts.is_empty() {
            return Err(Error::msg("there is nothing to stack"));
        }
        let stack = Stack::from_tensor(self.labels(), Tensor::cat(&parts, 0)?, self.place.clone())?;
        match self.norm {
            Norm::Not => Ok(stack),
            Norm::Asked => stack.apply_ln(),
            Norm::Done => Err(Error::msg("the stack that this was made of is it already")),
        }
    }

    /// The product of every part with a direction, `[component, batch, pos]`, behind the norm if that was asked for. The
    /// direction, in f32, is `[d_model]`, or has the parts' other axes too, with size 1 where it does not differ.
    pub(crate) fn dot(&self, direction: &Tensor) -> Result<Tensor> {
        let norm = if self.norm == Norm::Asked { self.place.reader.norm()? } else { None };
        let direction = match norm {
            Some(norm) => norm.pull_back(direction)?,
            None => direction.clone(),
        };
        let products = self.parts.iter().map(|part| part.dot(&direction)).collect::<Result<Vec<_>>>()?;
        let products = Tensor::cat(&products, 0)?;
        match norm {
            // Without the axis of d_model, the scale has none either.
            Some(norm) => Ok(norm.divide(&products.unsqueeze(D::Minus1)?)?.squeeze(D::Minus1)?),
            None => Ok(products),
        }
    }

    /// The same parts as the last norm passes them on, with the scale of `reader`.
    pub(crate) fn at_the_end(&self, reader: super::Reader) -> Result<Self> {
        match (self.norm, self.place.at) {
            (Norm::Not, _) => {
                Ok(Self { place: Place { reader, ..self.place.clone() }, norm: Norm::Asked, parts: self.parts.clone() })
            }
            (_, StreamPlace::End) => Ok(self.clone()),
            (_, place) => Err(Error::msg(format!(
                "these parts went through the norm that reads at {place:?}, and logits are read through the last norm: give \
                 them without apply_ln"
            ))),
        }
    }

    /// The sizes of these axes.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let dims = match self.parts.first() {
            Some(Part::Dense { tensor, .. }) => tensor.dims().get(1..tensor.rank() - 1),
            Some(Part::Neurons(part)) => part.acts.dims().get(..part.acts.rank() - 1),
            None => None,
        };
        dims.unwrap_or_default().to_vec()
    }

    /// The axes between that of the components and d_model.
    pub(crate) fn axes(&self) -> &[&'static str] {
        &self.place.axes
    }
}

impl From<&Stack> for Decomposition {
    fn from(stack: &Stack) -> Self {
        let part = Part::Dense { labels: stack.labels().to_vec(), tensor: stack.tensor().clone() };
        let norm = if stack.is_normalized() { Norm::Done } else { Norm::Not };
        Self { parts: vec![part], place: stack.place_known().clone(), norm }
    }
}

impl From<Stack> for Decomposition {
    fn from(stack: Stack) -> Self {
        Self::from(&stack)
    }
}

impl From<&Decomposition> for Decomposition {
    fn from(decomposition: &Decomposition) -> Self {
        decomposition.clone()
    }
}
