//! What single neurons write to the residual stream.

use candle_core::{D, Tensor};

use super::decomposition::{Decomposition, Neurons, Part};
use super::norm::f32;
use super::stack::columns;
use super::{ActivationCache, Slice, StreamPlace};
use crate::model::Branch;
use crate::{Error, Result};

impl ActivationCache {
    /// What neurons of a layer write to the residual stream, activation times row of W_out: `[batch, pos, neuron, d_model]`.
    /// One neuron (a number) keeps its axis. b_out belongs to no neuron.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let written = cache.get_neuron_results(1, [3, 14, 15])?;
    /// assert_eq!(written.dims()[2..], [3, model.cfg().d_model]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A layer without an MLP, or with experts in its place; a neuron that it does not have; an activation that was not
    /// cached.
    pub fn get_neuron_results(&self, layer: usize, neurons: impl Into<Slice>) -> Result<Tensor> {
        self.neurons(layer, &neurons.into())?.results()
    }

    /// The same along directions, without building what it is along them: `[batch, pos, neuron]` for one direction
    /// `[d_model]`, `[batch, pos, neuron, n]` for several, `[n, d_model]`.
    ///
    /// # Errors
    /// As there; directions of another width.
    pub fn get_neuron_results_onto(
        &self,
        layer: usize,
        neurons: impl Into<Slice>,
        directions: &Tensor,
    ) -> Result<Tensor> {
        let neurons = self.neurons(layer, &neurons.into())?;
        let columns = columns(directions, self.model.cfg().d_model)?.to_device(neurons.w_out.device())?;
        let results = neurons.results_onto(&f32(&columns)?)?;
        if directions.rank() == 1 { Ok(results.squeeze(D::Minus1)?) } else { Ok(results) }
    }

    /// What every neuron before a place (`None`: every neuron) writes to the residual stream, `L0N0` first. It is not
    /// multiplied out unless asked for ([`Decomposition::stack`]).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let neurons = cache.at_pos(-1)?.stack_neuron_results(None)?;
    /// let attrs = cache.at_pos(-1)?.logit_attrs(&neurons, " Mary", " John")?;
    /// println!("{:?}", attrs.top_k(5));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A layer that the model does not have, or the first one, before which there is no neuron; experts.
    pub fn stack_neuron_results(&self, place: impl Into<StreamPlace>) -> Result<Decomposition> {
        self.stack_neuron_results_of(place, ..)
    }

    /// The same of some neurons of each layer.
    ///
    /// # Errors
    /// As there; a neuron that a layer does not have.
    pub fn stack_neuron_results_of(
        &self,
        place: impl Into<StreamPlace>,
        neurons: impl Into<Slice>,
    ) -> Result<Decomposition> {
        self.model.check_additive()?;
        let (place, neurons) = (self.place(place.into())?, neurons.into());
        let mlps = self.model.writers_before(place.at).into_iter().filter(|(_, branch)| *branch == Branch::Mlp);
        let parts = mlps.map(|(layer, _)| self.neurons_of(layer, &neurons)).collect::<Result<Vec<_>>>()?;
        if parts.is_empty() {
            return Err(Error::msg(
                "there is no neuron before this place; give a layer of at least 1, or None for all",
            ));
        }
        Ok(Decomposition::new(parts, place))
    }

    pub(super) fn neurons_of(&self, layer: usize, neurons: &Slice) -> Result<Part> {
        Ok(Part::Neurons(self.neurons(layer, neurons)?))
    }

    fn neurons(&self, layer: usize, neurons: &Slice) -> Result<Neurons> {
        let w_out = f32(&self.model.w_out_of(layer)?)?;
        let acts = f32(&self.get(self.model.block_point(layer, "mlp.hook_post"))?)?;
        let mut acts = neurons.apply_kept(&acts, acts.rank() - 1)?;
        let behind = self.norm_behind(layer, Branch::Mlp)?;
        if let Some(norm) = &behind {
            acts = norm.divide(&acts)?;
        }
        let multiplier = self.model.cfg().residual_multiplier;
        if multiplier != 1.0 {
            acts = (acts * multiplier)?;
        }
        Ok(Neurons {
            layer,
            neurons: neurons.places(w_out.dim(0)?)?,
            w_out: neurons.apply_kept(&w_out, 0)?.contiguous()?,
            acts,
            behind,
        })
    }
}
