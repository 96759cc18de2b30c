//! Vectors of the residual stream, one per component, with their labels.

use std::ops::Deref;

use candle_core::{D, Tensor};

use super::norm::{Reader, f32};
use super::{ActivationCache, StreamPlace};
use crate::error::near_misses;
use crate::model::HookedTransformer;
use crate::{Error, Result};

/// Vectors of the residual stream, one per component, with their labels: `[component, batch, pos, d_model]`, in f32.
///
/// Without the batch or position axis if the cache had none. A stack knows the place of the stream that it is for: what
/// its parts add up to, and which norm reads there.
#[derive(Clone, Debug)]
pub struct Stack {
    tensor: Tensor,
    labels: Vec<String>,
    place: Place,
    normalized: bool,
}

/// The place of the stream that a stack is for, with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) at: StreamPlace,
    pub(crate) model: HookedTransformer,
    pub(crate) reader: Reader,
    /// The stream there, which the components add up to with the remainder; none if they are no parts of it.
    pub(crate) total: Option<Tensor>,
    /// Why there is no total.
    pub(crate) no_total: String,
    /// The axes between that of the components and d_model: `batch`, `pos`.
    pub(crate) axes: Vec<&'static str>,
}

impl Stack {
    pub(super) fn new(parts: Vec<(String, Tensor)>, place: Place) -> Result<Self> {
        let (labels, parts): (Vec<String>, Vec<Tensor>) = parts.into_iter().unzip();
        let parts = parts.iter().map(f32).collect::<Result<Vec<_>>>()?;
        Self::from_tensor(labels, Tensor::stack(&parts, 0)?, place)
    }

    pub(super) fn from_tensor(labels: Vec<String>, tensor: Tensor, place: Place) -> Result<Self> {
        Ok(Self { tensor, labels, place, normalized: false })
    }

    /// What each component is: `embed`, `0_attn_out`, `3_pre`, `L2H5`.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The stacked vectors, `[component, batch, pos, d_model]`.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The place of the stream that it is for.
    pub fn place(&self) -> StreamPlace {
        self.place.at
    }

    /// The component of this label, `[batch, pos, d_model]`.
    ///
    /// # Errors
    /// When there is none.
    pub fn component(&self, label: &str) -> Result<Tensor> {
        match self.labels.iter().position(|known| known == label) {
            Some(index) => Ok(self.tensor.get(index)?),
            None => {
                let near = near_misses(label, self.labels.iter().map(String::as_str));
                let hint = near.first().map_or(String::new(), |near| format!("; did you mean '{near}'?"));
                Err(Error::msg(format!("there is no component '{label}' among the {}{hint}", self.labels.len())))
            }
        }
    }

    /// The components whose label is wanted, in their order.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let layer_1 = cache.stack_head_results(None)?.keep(|label| label.starts_with("L1H"))?;
    /// assert_eq!(layer_1.labels().len(), model.cfg().n_heads);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When none is.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let places: Vec<usize> = (0..self.labels.len()).filter(|&i| wanted(&self.labels[i])).collect();
        if places.is_empty() {
            return Err(Error::msg(format!("none of the {} components would stay", self.labels.len())));
        }
        let labels = places.iter().map(|&i| self.labels[i].clone()).collect();
        let tensor = super::Slice::from(places).apply(&self.tensor, 0)?;
        Ok(Self { tensor, labels, ..self.clone() })
    }

    /// Without what MLPs wrote (TransformerLens' mode "attn").
    pub fn without_mlps(&self) -> Result<Self> {
        self.keep(|label| !label.ends_with("_mlp_out"))
    }

    /// Without what attentions wrote (TransformerLens' mode "mlp").
    pub fn without_attention(&self) -> Result<Self> {
        self.keep(|label| !label.ends_with("_attn_out"))
    }

    /// Without the embeddings.
    pub fn without_embeds(&self) -> Result<Self> {
        self.keep(|label| !label.ends_with("embed"))
    }

    /// With a last component `remainder`: the stream at the stack's place less all components, so that they add up to it.
    ///
    /// # Errors
    /// When the components are no parts of the stream, or the stream was not cached.
    pub fn with_remainder(&self) -> Result<Self> {
        let total = self.place.total()?;
        let total = if self.normalized { self.place.reader.apply(total)? } else { total.clone() };
        let remainder = (total - self.tensor.sum(0)?)?.unsqueeze(0)?;
        let labels = self.labels.iter().cloned().chain(["remainder".to_string()]).collect();
        Ok(Self { tensor: Tensor::cat(&[&self.tensor, &remainder], 0)?, labels, ..self.clone() })
    }

    /// The stack as the norm that reads at its place passes it on, with the norm's scale held at what it was in the run
    /// (`ln1` of the layer, `ln2` for [`StreamPlace::Mid`], `ln_final` at the end), so that the parts still add up: the
    /// mean is taken off (LayerNorm), the rest divided by the cached scale, and multiplied by the norm's w where that was
    /// not folded away. (The norm's b, where it was not folded away, belongs to no part.)
    ///
    /// This is what an attribution wants. A lens, which asks what the model would say if a component were all there is,
    /// wants [`apply_ln_anew`](Self::apply_ln_anew).
    ///
    /// # Errors
    /// When the scale was not cached, or was applied already.
    pub fn apply_ln(&self) -> Result<Self> {
        self.check_not_normalized()?;
        Ok(Self { tensor: self.place.reader.apply(&self.tensor)?, normalized: true, ..self.clone() })
    }

    /// Each component through the norm that reads at the stack's place, in full and by itself: with a scale computed
    /// anew from the component. TransformerLens does this in `accumulated_resid(apply_ln=True)` at the last layer. The
    /// results do not add up; [`apply_ln`](Self::apply_ln) holds the scale.
    ///
    /// # Errors
    /// When a norm was applied already.
    pub fn apply_ln_anew(&self) -> Result<Self> {
        self.check_not_normalized()?;
        let tensor = self.place.model.through_norm(self.place.at, &self.tensor)?;
        let place = Place { total: None, no_total: NOT_A_SUM.to_string(), ..self.place.clone() };
        Ok(Self { tensor: f32(&tensor)?, labels: self.labels.clone(), place, normalized: true })
    }

    /// The component of each vector along directions: `[component, batch, pos]` for one direction `[d_model]`, and
    /// `[component, batch, pos, n]` for several, `[n, d_model]`.
    ///
    /// # Errors
    /// Directions of another width.
    pub fn onto(&self, directions: &Tensor) -> Result<Tensor> {
        let d_model = self.tensor.dim(D::Minus1)?;
        let columns = columns(directions, d_model)?.to_device(self.tensor.device())?.to_dtype(self.tensor.dtype())?;
        let mut dims = self.tensor.dims().to_vec();
        let projected = self.tensor.contiguous()?.reshape(((), d_model))?.matmul(&columns)?;
        dims.pop();
        if directions.rank() == 2 {
            dims.push(columns.dim(1)?);
        }
        Ok(projected.reshape(dims)?)
    }

    pub(crate) fn place_known(&self) -> &Place {
        &self.place
    }

    pub(crate) fn is_normalized(&self) -> bool {
        self.normalized
    }

    fn check_not_normalized(&self) -> Result<()> {
        match self.normalized {
            true => Err(Error::msg("the stack went through a norm already; apply_ln once")),
            false => Ok(()),
        }
    }
}

const NOT_A_SUM: &str = "the components of this stack are no parts that add up, so there is no remainder";

impl Place {
    pub(super) fn total(&self) -> Result<&Tensor> {
        self.total.as_ref().ok_or_else(|| Error::msg(&self.no_total))
    }

    /// The same place, for vectors that are not parts of the stream.
    pub(super) fn of_no_parts(self) -> Self {
        Self { total: None, no_total: NOT_A_SUM.to_string(), ..self }
    }
}

/// Directions `[d_model]` or `[n, d_model]` as columns, `[d_model, n]`.
pub(super) fn columns(directions: &Tensor, d_model: usize) -> Result<Tensor> {
    match directions.dims() {
        &[width] if width == d_model => Ok(directions.unsqueeze(1)?),
        &[_, width] if width == d_model => Ok(directions.t()?.contiguous()?),
        found => Err(Error::WrongShape {
            name: "directions".to_string(),
            expected: format!("[d_model = {d_model}] or [n, {d_model}]"),
            found: found.to_vec(),
        }),
    }
}

impl Deref for Stack {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl ActivationCache {
    /// What is known of a place of the stream.
    pub(super) fn place(&self, at: StreamPlace) -> Result<Place> {
        let at = self.model.check_place(at)?;
        if let StreamPlace::Mid(layer) = at {
            self.model.check_mid(layer)?;
        }
        let (total, no_total) = match self.get(self.model.stream_point(at)) {
            Ok(total) => (Some(f32(&total)?), String::new()),
            Err(error) => (None, format!("the remainder needs the residual stream itself: {error}")),
        };
        let axes = [("batch", self.has_batch_dim), ("pos", self.has_pos_dim)];
        let axes = axes.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect();
        Ok(Place { at, model: self.model.clone(), reader: self.reader(at), total, no_total, axes })
    }

    /// As [`Stack::apply_ln`], with the scales of this cache.
    pub fn apply_ln_to_stack(&self, stack: &Stack) -> Result<Stack> {
        stack.check_not_normalized()?;
        let reader = self.reader(stack.place.at);
        let place = Place { reader, ..stack.place.clone() };
        Stack { place, ..stack.clone() }.apply_ln()
    }
}
