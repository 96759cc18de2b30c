//! Weights stacked over layers: over all of them, or over those that have the part in question.

use candle_core::{DType, Tensor};

use super::HookedTransformer;
use super::block::Block;
use super::layers::{FeedForwardKind, MixerKind, Outline};
use crate::analysis::FactoredMatrix;
use crate::weights::{AttentionWeights, MlpWeights};
use crate::{Error, Result};

/// The weights of some layers of a model, stacked: the first axis of every tensor is [`layers`](Self::layers).
///
/// Heads that share keys and values are all there: W_K and W_V are repeated for each query head that uses them. A bias
/// that the model lacks is zero. Stacking copies: n layers take the memory of their weights once more.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let attention = model.attn_layers()?;
/// println!("layers {:?}: W_Q {:?}", attention.layers(), attention.w_q()?.dims());
/// assert_eq!(model.layers([1])?.w_o()?.dims()[0], 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LayerWeights {
    model: HookedTransformer,
    layers: Vec<usize>,
}

impl HookedTransformer {
    /// The weights of all layers, stacked.
    pub fn all_layers(&self) -> LayerWeights {
        LayerWeights { model: self.clone(), layers: (0..self.cfg().n_layers).collect() }
    }

    /// The weights of these layers, stacked in this order.
    ///
    /// # Errors
    /// When there is no such layer, or none is named.
    pub fn layers(&self, layers: impl Into<Vec<usize>>) -> Result<LayerWeights> {
        let (layers, n_layers) = (layers.into(), self.cfg().n_layers);
        match layers.iter().find(|&&layer| layer >= n_layers) {
            Some(layer) => Err(Error::msg(format!("there is no layer {layer}: the model has {n_layers}"))),
            None if layers.is_empty() => Err(Error::msg("no layer was named; give at least one")),
            None => Ok(LayerWeights { model: self.clone(), layers }),
        }
    }

    /// The weights of the layers that have attention with W_Q, W_K, W_V and W_O.
    ///
    /// # Errors
    /// When no layer has.
    pub fn attn_layers(&self) -> Result<LayerWeights> {
        let found = self.layers_where(|outline| outline.mixer == MixerKind::Attention);
        match found.is_empty() {
            // The first layer says what stands in the attention's place.
            true if self.cfg().n_layers > 0 => {
                Err(self.inner.layers.get(0)?.attention().err().unwrap_or_else(no_attention))
            }
            true => Err(no_attention()),
            false => self.layers(found),
        }
    }

    /// The weights of the layers that have a plain or gated MLP (experts are none).
    ///
    /// # Errors
    /// When no layer has.
    pub fn mlp_layers(&self) -> Result<LayerWeights> {
        let found = self.layers_where(|outline| outline.feed_forward == Some(FeedForwardKind::Mlp));
        if found.is_empty() {
            return Err(Error::msg("no layer has one MLP (but experts, or none); the weights are in model.weights()"));
        }
        self.layers(found)
    }

    /// The layers whose heads have an attention pattern, also those of latent attention.
    pub(crate) fn layers_with_patterns(&self) -> Vec<usize> {
        self.layers_where(|outline| outline.mixer != MixerKind::StateSpace)
    }

    fn layers_where(&self, is_wanted: impl Fn(&Outline) -> bool) -> Vec<usize> {
        let outlines = self.inner.layers.outlines().enumerate();
        outlines.filter(|(_, outline)| is_wanted(outline)).map(|(layer, _)| layer).collect()
    }
}

impl LayerWeights {
    /// Which layers these are.
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// W_Q, `[layer, n_heads, d_model, d_head]`.
    pub fn w_q(&self) -> Result<Tensor> {
        self.attention(|w| Ok(w.w_q.clone()))
    }

    /// W_K, `[layer, n_heads, d_model, d_head]`; a shared key head is repeated for each that uses it.
    pub fn w_k(&self) -> Result<Tensor> {
        self.attention(|w| self.ungrouped(&w.w_k))
    }

    /// W_V, `[layer, n_heads, d_model, d_head]`; a shared value head is repeated for each that uses it.
    pub fn w_v(&self) -> Result<Tensor> {
        self.attention(|w| self.ungrouped(&w.w_v))
    }

    /// W_O, `[layer, n_heads, d_head, d_model]`.
    pub fn w_o(&self) -> Result<Tensor> {
        self.attention(|w| Ok(w.w_o.clone()))
    }

    /// b_Q, `[layer, n_heads, d_head]`.
    pub fn b_q(&self) -> Result<Tensor> {
        self.attention(|w| head_bias(&w.b_q, &w.w_q))
    }

    /// b_K, `[layer, n_heads, d_head]`, repeated as W_K is.
    pub fn b_k(&self) -> Result<Tensor> {
        self.attention(|w| self.ungrouped(&head_bias(&w.b_k, &w.w_k)?))
    }

    /// b_V, `[layer, n_heads, d_head]`, repeated as W_V is; weight processing moves it into b_O.
    pub fn b_v(&self) -> Result<Tensor> {
        self.attention(|w| self.ungrouped(&head_bias(&w.b_v, &w.w_v)?))
    }

    /// b_O, `[layer, d_model]`.
    pub fn b_o(&self) -> Result<Tensor> {
        self.attention(|w| last_axis_bias(&w.b_o, &w.w_o))
    }

    /// W_in, `[layer, d_model, d_mlp]`.
    pub fn w_in(&self) -> Result<Tensor> {
        self.mlp(|w| Ok(w.w_in.clone()))
    }

    /// W_gate of gated MLPs, `[layer, d_model, d_mlp]`.
    ///
    /// # Errors
    /// When the MLPs have no gate.
    pub fn w_gate(&self) -> Result<Tensor> {
        self.mlp(|w| {
            let none = "the MLPs of this model have no gate, and so no W_gate; w_in() is what they read with";
            w.w_gate.clone().ok_or_else(|| Error::msg(none))
        })
    }

    /// W_out, `[layer, d_mlp, d_model]`.
    pub fn w_out(&self) -> Result<Tensor> {
        self.mlp(|w| Ok(w.w_out.clone()))
    }

    /// b_in, `[layer, d_mlp]`.
    pub fn b_in(&self) -> Result<Tensor> {
        self.mlp(|w| last_axis_bias(&w.b_in, &w.w_in))
    }

    /// b_out, `[layer, d_model]`.
    pub fn b_out(&self) -> Result<Tensor> {
        self.mlp(|w| last_axis_bias(&w.b_out, &w.w_out))
    }

    /// The QK circuit of every head, W_Q W_Kᵀ in f32, `[layer, n_heads, d_model, d_model]` (Elhage et al. 2021).
    pub fn qk(&self) -> Result<FactoredMatrix> {
        FactoredMatrix::new(&in_f32(self.w_q()?)?, &in_f32(self.w_k()?.transpose(2, 3)?)?)
    }

    /// The OV circuit of every head, W_V W_O in f32, `[layer, n_heads, d_model, d_model]` (Elhage et al. 2021).
    pub fn ov(&self) -> Result<FactoredMatrix> {
        FactoredMatrix::new(&in_f32(self.w_v()?)?, &in_f32(self.w_o()?)?)
    }

    fn attention(&self, part: impl Fn(&AttentionWeights) -> Result<Tensor>) -> Result<Tensor> {
        self.stack(|block| part(block.attention()?.weights()))
    }

    fn mlp(&self, part: impl Fn(&MlpWeights) -> Result<Tensor>) -> Result<Tensor> {
        self.stack(|block| part(block.mlp()?.weights()))
    }

    fn stack(&self, part: impl Fn(&Block) -> Result<Tensor>) -> Result<Tensor> {
        let of_layer = |&layer: &usize| part(&*self.model.inner.layers.get(layer)?);
        Ok(Tensor::stack(&self.layers.iter().map(of_layer).collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// `[G, ..]` to `[n_heads, ..]`.
    fn ungrouped(&self, w: &Tensor) -> Result<Tensor> {
        let share = self.model.cfg().heads_per_key_value();
        if share == 1 {
            return Ok(w.clone());
        }
        let mut dims = w.dims().to_vec();
        dims.insert(1, share);
        Ok(w.unsqueeze(1)?.broadcast_as(dims)?.flatten(0, 1)?)
    }
}

fn in_f32(weight: Tensor) -> Result<Tensor> {
    Ok(weight.to_dtype(DType::F32)?)
}

/// The bias `[head, d_head]` of a map `[head, d_model, d_head]`.
fn head_bias(bias: &Option<Tensor>, of: &Tensor) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(bias.clone()),
        None => Ok(Tensor::zeros((of.dim(0)?, of.dim(2)?), of.dtype(), of.device())?),
    }
}

/// The bias of a map's last axis.
fn last_axis_bias(bias: &Option<Tensor>, of: &Tensor) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(bias.clone()),
        None => Ok(Tensor::zeros(of.dim(of.rank() - 1)?, of.dtype(), of.device())?),
    }
}

fn no_attention() -> Error {
    Error::msg("the model has no layer with attention")
}
