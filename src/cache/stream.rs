//! The residual stream, layer by layer, part by part and head by head.

use candle_core::{D, Tensor};

use super::decomposition::{Decomposition, Part};
use super::norm::f32;
use super::{ActivationCache, Slice, Stack, StreamPlace};
use crate::model::Branch;
use crate::{Error, Result};

impl ActivationCache {
    /// The residual stream at the start of every layer up to a place (`None`: to the end, where the last component is
    /// `final_post`); with `include_mid` also between attention and MLP. At [`StreamPlace::Mid`] the last one is the
    /// stream between the two in that layer. The logit lens reads this (nostalgebraist 2020).
    ///
    /// Labels: `0_pre`, `0_mid`, .., `final_post`. With [`Stack::apply_ln_anew`] it is TransformerLens'
    /// `accumulated_resid(apply_ln=True)`.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let stack = cache.accumulated_resid(None, true)?;
    /// assert_eq!(stack.labels()[..3], ["0_pre", "0_mid", "1_pre"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A layer that the model does not have; a model without a stream between attention and MLP, where that is asked for.
    pub fn accumulated_resid(&self, place: impl Into<StreamPlace>, include_mid: bool) -> Result<Stack> {
        let place = self.place(place.into())?.of_no_parts();
        let (whole, half) = match place.at {
            StreamPlace::Start(layer) => (layer, None),
            StreamPlace::Mid(layer) => (layer, Some(layer)),
            StreamPlace::End => (self.model.cfg().n_layers, None),
        };
        let mut places = Vec::new();
        for layer in 0..whole {
            places.push((format!("{layer}_pre"), StreamPlace::Start(layer)));
            if include_mid {
                places.push((format!("{layer}_mid"), StreamPlace::Mid(layer)));
            }
        }
        match (place.at, half) {
            (StreamPlace::End, _) => places.push(("final_post".to_string(), StreamPlace::End)),
            (_, None) => places.push((format!("{whole}_pre"), StreamPlace::Start(whole))),
            (_, Some(layer)) => {
                places.push((format!("{layer}_pre"), StreamPlace::Start(layer)));
                places.push((format!("{layer}_mid"), StreamPlace::Mid(layer)));
            }
        }
        let part = |(label, at)| Ok((label, self.get(self.model.stream_point(at))?));
        Stack::new(places.into_iter().map(part).collect::<Result<_>>()?, place)
    }

    /// The parts that add up to the residual stream at a place (`None`: leaving the last layer; a number: entering that
    /// layer): the embeddings, and what each attention and each MLP before it wrote. Biases are inside of the parts.
    ///
    /// Labels: `embed`, `pos_embed`, `0_attn_out`, `0_mlp_out`, .. [`Stack::without_mlps`], [`Stack::without_attention`]
    /// and [`Stack::without_embeds`] leave some out.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let what_the_last_mlp_reads = cache.decompose_resid(StreamPlace::Mid(1))?.apply_ln()?;
    /// let attention = cache.decompose_resid(None)?.without_mlps()?.without_embeds()?;
    /// assert_eq!(attention.labels()[0], "0_attn_out");
    /// # let _ = what_the_last_mlp_reads; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A layer that the model does not have; a model whose stream is no sum of such parts.
    pub fn decompose_resid(&self, place: impl Into<StreamPlace>) -> Result<Stack> {
        self.model.check_additive()?;
        let place = self.place(place.into())?;
        let mut parts = self.embeddings()?;
        for (layer, branch) in self.model.writers_before(place.at) {
            parts.push(self.branch_out(layer, branch)?);
        }
        Stack::new(parts, place)
    }

    /// What every head before a place (`None`: every head) wrote to the residual stream, `L0H0` first; b_O belongs to no
    /// head and is left out ([`Stack::with_remainder`] has it with all the rest). Made from z and W_O unless `hook_result`
    /// was cached.
    ///
    /// Where a norm follows the attention (Gemma 2), it is what the head's result becomes behind that norm, with the scale
    /// held; and with a multiplier on what layers write (Granite), it is multiplied. So heads, b_O and all others add up to
    /// the stream. (TransformerLens stacks what is before the norm, `hook_result`.)
    ///
    /// # Errors
    /// A layer that the model does not have, or the first one, before which there is no head; a model whose stream is no
    /// sum of such parts.
    pub fn stack_head_results(&self, place: impl Into<StreamPlace>) -> Result<Stack> {
        let place = self.place(place.into())?;
        let parts = self.heads_before(place.at)?;
        if parts.is_empty() {
            return Err(Error::msg("there is no head before layer 0; give a layer of at least 1"));
        }
        Stack::new(parts, place)
    }

    /// Everything that adds up to the residual stream at a place (`None`: the end): every head's result, every neuron's (or,
    /// without `expand_neurons`, every MLP's), the embeddings, and what the biases add up to, in this order, as in
    /// TransformerLens.
    ///
    /// Neurons are kept as activations and rows of W_out, and multiplied out only by [`Decomposition::stack`]: projections
    /// and attributions never take `[neurons, batch, pos, d_model]`.
    ///
    /// Labels: `L0H0`, .., `L0N0`, .. (or `0_mlp_out`, ..), `embed`, `pos_embed`, `bias`.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let everything = cache.at_pos(-1)?.full_resid_decomposition(None, true)?;
    /// let towards_mary = everything.apply_ln()?.onto(&model.tokens_to_residual_directions(" Mary")?)?;
    /// assert_eq!(towards_mary.dims(), [everything.len(), 1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A layer that the model does not have; a model whose stream is no sum of such parts; neurons of experts.
    pub fn full_resid_decomposition(
        &self,
        place: impl Into<StreamPlace>,
        expand_neurons: bool,
    ) -> Result<Decomposition> {
        let place = self.place(place.into())?;
        let mut parts = Vec::new();
        parts.extend(Part::dense(self.heads_before(place.at)?)?);
        let mlps = self.model.writers_before(place.at).into_iter().filter(|(_, branch)| *branch == Branch::Mlp);
        if expand_neurons {
            for (layer, _) in mlps {
                parts.push(self.neurons_of(layer, &Slice::all())?);
            }
        } else {
            parts.extend(Part::dense(
                mlps.map(|(layer, branch)| self.branch_out(layer, branch)).collect::<Result<_>>()?,
            )?);
        }
        let embeddings = self.embeddings()?;
        let bias = self.bias_before(place.at, expand_neurons, &embeddings[0].1)?;
        parts.extend(Part::dense(embeddings.into_iter().chain([("bias".to_string(), bias)]).collect())?);
        Ok(Decomposition::new(parts, place))
    }

    /// The activations of one name in all layers, one under the other: `stack_activation("pattern")` is
    /// `[layer, batch, head, query, key]`.
    ///
    /// # Errors
    /// A name that is no layer's, or an activation that was not cached; shapes that differ between layers.
    pub fn stack_activation(&self, name: &str) -> Result<Tensor> {
        let layers = (0..self.model.cfg().n_layers).map(|layer| self.get((name, layer))).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&layers, 0)?)
    }

    /// The embeddings, which the stream begins with.
    fn embeddings(&self) -> Result<Vec<(String, Tensor)>> {
        if self.model.embedding_is_normalized() {
            return Ok(vec![("embed".to_string(), f32(&self.get(self.model.stream_point(StreamPlace::Start(0)))?)?)]);
        }
        let points = self.model.embedding_points().into_iter();
        points.map(|(label, point)| Ok((label.to_string(), f32(&self.get(point)?)?))).collect()
    }

    fn branch_out(&self, layer: usize, branch: Branch) -> Result<(String, Tensor)> {
        let name = match branch {
            Branch::Attention => "attn_out",
            Branch::Mlp => "mlp_out",
        };
        Ok((format!("{layer}_{name}"), self.get(self.model.block_point(layer, &format!("hook_{name}")))?))
    }

    fn heads_before(&self, place: StreamPlace) -> Result<Vec<(String, Tensor)>> {
        self.model.check_additive()?;
        let mut parts = Vec::new();
        for (layer, branch) in self.model.writers_before(place) {
            if branch != Branch::Attention {
                continue;
            }
            let results = self.written(layer, branch, &self.head_results(layer)?)?;
            let axis = results.rank() - 2;
            for head in 0..results.dim(axis)? {
                parts.push((format!("L{layer}H{head}"), results.narrow(axis, head, 1)?.squeeze(axis)?));
            }
        }
        Ok(parts)
    }

    /// What each head makes of its values, before anything that follows the attention: `[batch, pos, head, d_model]`.
    fn head_results(&self, layer: usize) -> Result<Tensor> {
        let result = self.model.block_point(layer, "attn.hook_result");
        if self.contains(result.name()) {
            return self.get(result);
        }
        let z = f32(&self.get(self.model.block_point(layer, "attn.hook_z"))?)?;
        let (heads, d_head) = (z.dim(D::Minus2)?, z.dim(D::Minus1)?);
        let results = self.model.head_results(layer, &z.reshape((1, (), heads, d_head))?)?;
        let mut dims = z.dims().to_vec();
        dims.pop();
        dims.push(results.dim(D::Minus1)?);
        Ok(results.reshape(dims)?)
    }

    /// What the biases before a place add up to, as large as `like` `[batch, pos, d_model]`. Behind a norm they differ from
    /// position to position.
    fn bias_before(&self, place: StreamPlace, include_mlps: bool, like: &Tensor) -> Result<Tensor> {
        let mut sum = like.zeros_like()?;
        for (layer, branch) in self.model.writers_before(place) {
            if branch == Branch::Mlp && !include_mlps {
                continue;
            }
            if let Some(bias) = self.model.branch_bias(layer, branch)? {
                sum = (sum + self.written(layer, branch, &f32(&bias)?.broadcast_as(like.shape())?)?)?;
            }
            if let Some(shift) = self.model.norm_behind(layer, branch)?.and_then(|norm| norm.b) {
                sum = sum.broadcast_add(&(f32(&shift)? * self.model.cfg().residual_multiplier)?)?;
            }
        }
        Ok(sum)
    }
}
