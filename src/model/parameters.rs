//! The weights of a model, by TransformerLens' names, and stacked over layers.

use candle_core::Tensor;

use super::norm::Norm;
use super::{HookedTransformer, Positions};
use crate::analysis::FactoredMatrix;
use crate::weights::{BlockWeights, Weights};
use crate::{Error, Result};

impl HookedTransformer {
    /// All weights, as the model uses them; of a model that reads its layers while it runs
    /// ([`LoadOptions::stream`](super::LoadOptions::stream)) those that are in memory: `blocks` is empty.
    pub fn weights(&self) -> Weights {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.weights().clone());
        let inner = &self.inner;
        Weights {
            w_e: inner.w_e.clone(),
            // A table of sines is computed, not stored.
            w_pos: inner.w_pos.clone().filter(|_| inner.cfg.positions != Positions::Sinusoidal),
            embed_ln: norm(&inner.embed_ln),
            project_in: inner.project_in.clone(),
            blocks: inner.layers.weights_held(),
            ln_final: norm(&inner.ln_final),
            project_out: inner.project_out.clone(),
            w_u: inner.w_u.clone(),
            b_u: inner.b_u.clone(),
            w_token_type: inner.w_token_type.clone(),
            relative_bias: inner.relative_bias.as_ref().map(|bias| bias.weights().clone()),
            head: inner.head.as_ref().map(|head| head.weights().clone()),
            encoder: inner.encoder.as_ref().map(|encoder| Box::new(encoder.weights())),
        }
    }

    /// The weights of one layer, read from its file where they are not in memory.
    pub(crate) fn block_weights(&self, layer: usize) -> Result<BlockWeights> {
        Ok(self.inner.layers.get(layer)?.weights())
    }

    /// An error if the layers stay in their files, and `what` needs them in memory.
    pub(crate) fn check_held(&self, what: &str) -> Result<()> {
        match self.inner.layers.n_params_in_files() {
            0 => Ok(()),
            _ => Err(Error::msg(format!(
                "{what} needs the weights of all layers in memory, and this model reads them while it runs; load it without \
                 stream(true)"
            ))),
        }
    }

    /// Every parameter with TransformerLens' name (`blocks.0.attn.W_Q`), in the order of the forward pass.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        self.weights().named()
    }

    /// How many numbers its weights are; tied tensors count once for each use.
    pub fn n_params(&self) -> usize {
        let held: usize = self.named_parameters().iter().map(|(_, tensor)| tensor.elem_count()).sum();
        held + self.inner.layers.n_params_in_files()
    }

    /// Embedding, `[d_vocab, d_model]`.
    pub fn w_e(&self) -> &Tensor {
        &self.inner.w_e
    }

    /// Learned (or sinusoidal) positions, `[n_ctx, d_model]`; none for models that place tokens otherwise.
    pub fn w_pos(&self) -> Option<&Tensor> {
        self.inner.w_pos.as_ref()
    }

    /// Unembedding, `[d_model, d_vocab]`.
    pub fn w_u(&self) -> &Tensor {
        &self.inner.w_u
    }

    /// Unembedding bias, `[d_vocab]`; zero where there is none.
    pub fn b_u(&self) -> Result<Tensor> {
        match &self.inner.b_u {
            Some(b_u) => Ok(b_u.clone()),
            None => Ok(Tensor::zeros(self.cfg().d_vocab, self.dtype(), self.device())?),
        }
    }

    /// Embedding and learned positions, one under the other, `[d_vocab + n_ctx, d_model]`.
    ///
    /// # Errors
    /// When the model has no vectors for positions, or its embedding is narrower than the residual stream.
    pub fn w_e_pos(&self) -> Result<Tensor> {
        match self.w_pos() {
            Some(w_pos) if w_pos.dims().last() == self.w_e().dims().last() => {
                Ok(Tensor::cat(&[self.w_e(), &w_pos.to_dtype(self.dtype())?], 0)?)
            }
            Some(_) => Err(Error::msg(
                "the embedding is narrower than the residual stream that positions are added to, so the two can't be one table",
            )),
            None => Err(Error::msg("the model has no vectors for positions (W_pos); w_e() is all that it embeds with")),
        }
    }

    /// W_Q of every layer: `[n_layers, n_heads, d_model, d_head]`.
    pub fn w_q(&self) -> Result<Tensor> {
        self.all_layers().w_q()
    }

    /// W_K of every layer; a shared key head is repeated for each that uses it: `[n_layers, n_heads, d_model, d_head]`.
    pub fn w_k(&self) -> Result<Tensor> {
        self.all_layers().w_k()
    }

    /// W_V of every layer; a shared value head is repeated for each that uses it: `[n_layers, n_heads, d_model, d_head]`.
    pub fn w_v(&self) -> Result<Tensor> {
        self.all_layers().w_v()
    }

    /// W_O of every layer: `[n_layers, n_heads, d_head, d_model]`.
    pub fn w_o(&self) -> Result<Tensor> {
        self.all_layers().w_o()
    }

    /// b_Q of every layer; zero where there is none: `[n_layers, n_heads, d_head]`.
    pub fn b_q(&self) -> Result<Tensor> {
        self.all_layers().b_q()
    }

    /// b_K of every layer, repeated as W_K is; zero where there is none: `[n_layers, n_heads, d_head]`.
    pub fn b_k(&self) -> Result<Tensor> {
        self.all_layers().b_k()
    }

    /// b_V of every layer, repeated as W_V is; zero where there is none, or where it was folded into b_O: `[n_layers, n_heads, d_head]`.
    pub fn b_v(&self) -> Result<Tensor> {
        self.all_layers().b_v()
    }

    /// b_O of every layer; zero where there is none: `[n_layers, d_model]`.
    pub fn b_o(&self) -> Result<Tensor> {
        self.all_layers().b_o()
    }

    /// W_in of every layer: `[n_layers, d_model, d_mlp]`.
    pub fn w_in(&self) -> Result<Tensor> {
        self.all_layers().w_in()
    }

    /// W_gate of every layer; an error where the MLPs have no gate: `[n_layers, d_model, d_mlp]`.
    pub fn w_gate(&self) -> Result<Tensor> {
        self.all_layers().w_gate()
    }

    /// W_out of every layer: `[n_layers, d_mlp, d_model]`.
    pub fn w_out(&self) -> Result<Tensor> {
        self.all_layers().w_out()
    }

    /// b_in of every layer; zero where there is none: `[n_layers, d_mlp]`.
    pub fn b_in(&self) -> Result<Tensor> {
        self.all_layers().b_in()
    }

    /// b_out of every layer; zero where there is none: `[n_layers, d_model]`.
    pub fn b_out(&self) -> Result<Tensor> {
        self.all_layers().b_out()
    }

    /// The QK circuit of every head, W_Q W_Kᵀ in f32, `[n_layers, n_heads, d_model, d_model]` (Elhage et al. 2021). Where
    /// some layers have no attention, [`attn_layers`](Self::attn_layers) has those that do.
    pub fn qk(&self) -> Result<FactoredMatrix> {
        self.all_layers().qk()
    }

    /// The OV circuit of every head, W_V W_O in f32, `[n_layers, n_heads, d_model, d_model]` (Elhage et al. 2021). Where
    /// some layers have no attention, [`attn_layers`](Self::attn_layers) has those that do.
    pub fn ov(&self) -> Result<FactoredMatrix> {
        self.all_layers().ov()
    }

    /// `L0H0`, `L0H1` and so on, for all heads.
    pub fn all_head_labels(&self) -> Vec<String> {
        let cfg = self.cfg();
        let layer = |layer| (0..cfg.n_heads).map(move |head| format!("L{layer}H{head}"));
        (0..cfg.n_layers).flat_map(layer).collect()
    }

    /// The direction in the residual stream that raises a token's logit, `[d_model]`: W_U's column, led back through the
    /// projection in front of it where there is one.
    pub fn residual_direction(&self, token: u32) -> Result<Tensor> {
        let d_vocab = self.cfg().d_vocab;
        if token as usize >= d_vocab {
            return Err(Error::TokenOutOfRange { id: token, position: 0, d_vocab });
        }
        let column = self.inner.w_u.narrow(1, token as usize, 1)?.contiguous()?.to_dtype(self.dtype())?;
        match &self.inner.project_out {
            Some(project_out) => Ok(project_out.to_dtype(self.dtype())?.matmul(&column)?.squeeze(1)?),
            None => Ok(column.squeeze(1)?),
        }
    }

    /// What each head of a layer writes, `[batch, pos, head, d_model]`, from its z `[batch, pos, head, d_head]`.
    pub(crate) fn head_results(&self, layer: usize, z: &Tensor) -> Result<Tensor> {
        self.inner.layers.get(layer)?.head_results(z)
    }
}
