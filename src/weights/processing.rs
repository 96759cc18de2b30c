//! Weight processing: changes that keep every prediction and make the weights easier to read.
//!
//! The formulas are TransformerLens' (`HookedTransformer.load_and_process_state_dict`). ⟨M⟩ over an axis is the mean
//! over it, kept for broadcasting.

use candle_core::{D, DType, Tensor};

use super::{AttentionWeights, BlockWeights, MlpWeights, NormWeights, Weights};
use crate::Result;
use crate::model::{ModelConfig, Normalization, Positions};

/// Which processing steps are done at loading. `Processing::default()` is all that TransformerLens does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processing {
    /// Folds each norm's weights into the linear map that reads it.
    pub fold_ln: bool,
    /// Makes everything that is written to the residual stream zero-mean over d_model (LayerNorm models only, whose
    /// readers subtract the mean anyway).
    pub center_writing_weights: bool,
    /// Makes the unembedding zero-mean over the vocabulary; logits change by one number per position.
    pub center_unembed: bool,
    /// Moves the value bias through W_O into b_O: attention rows sum to one.
    pub fold_value_biases: bool,
}

impl Default for Processing {
    fn default() -> Self {
        Self { fold_ln: true, center_writing_weights: true, center_unembed: true, fold_value_biases: true }
    }
}

impl Processing {
    /// No step at all: the weights as the file has them.
    pub fn none() -> Self {
        Self { fold_ln: false, center_writing_weights: false, center_unembed: false, fold_value_biases: false }
    }

    /// The processed weights. The arithmetic is float32, whatever type they are stored in.
    pub fn apply(self, weights: Weights, cfg: &ModelConfig) -> Result<Weights> {
        if self == Self::none() {
            return Ok(weights);
        }
        let stored = weights.w_e.dtype();
        let mut weights = weights.map(|tensor| Ok(tensor.to_dtype(DType::F32)?))?;
        let layer_norm = cfg.normalization == Normalization::LayerNorm;
        if self.fold_ln {
            fold_ln(&mut weights, layer_norm)?;
        }
        if self.center_writing_weights && layer_norm {
            center_writing_weights(&mut weights, &cfg.positions)?;
        }
        if self.center_unembed {
            weights.w_u = without_mean(&weights.w_u, D::Minus1)?;
            weights.b_u = weights.b_u.as_ref().map(|b| without_mean(b, D::Minus1)).transpose()?;
        }
        if self.fold_value_biases {
            for block in &mut weights.blocks {
                fold_value_bias(&mut block.attn)?;
                if self.center_writing_weights && layer_norm {
                    center(&mut block.attn.b_o)?;
                }
            }
        }
        weights.map(|tensor| Ok(tensor.to_dtype(stored)?))
    }
}

fn fold_ln(weights: &mut Weights, layer_norm: bool) -> Result<()> {
    for BlockWeights { ln1, attn, ln2, mlp } in &mut weights.blocks {
        fold_into_attention(ln1, attn, layer_norm)?;
        *ln1 = NormWeights::default();
        fold_into_mlp(ln2, mlp, layer_norm)?;
        *ln2 = NormWeights::default();
    }
    fold(&weights.ln_final, &mut weights.w_u, &mut weights.b_u, layer_norm)?;
    weights.ln_final = NormWeights::default();
    Ok(())
}

fn fold_into_attention(ln: &NormWeights, attn: &mut AttentionWeights, layer_norm: bool) -> Result<()> {
    fold(ln, &mut attn.w_q, &mut attn.b_q, layer_norm)?;
    fold(ln, &mut attn.w_k, &mut attn.b_k, layer_norm)?;
    fold(ln, &mut attn.w_v, &mut attn.b_v, layer_norm)
}

fn fold_into_mlp(ln: &NormWeights, mlp: &mut MlpWeights, layer_norm: bool) -> Result<()> {
    fold(ln, &mut mlp.w_in, &mut mlp.b_in, layer_norm)?;
    if let Some(w_gate) = &mut mlp.w_gate {
        // The gate is not centred: what a LayerNorm gives has no mean, so centring would change nothing.
        fold(ln, w_gate, &mut mlp.b_gate, false)?;
    }
    Ok(())
}

/// Folds a norm into a map that reads it, `w` [.., d_model, out]: b += bₙ W, then W = diag(wₙ) W, then, for a
/// LayerNorm, W -= ⟨W⟩ over d_model, the direction that the norm removes anyway.
fn fold(ln: &NormWeights, w: &mut Tensor, b: &mut Option<Tensor>, center: bool) -> Result<()> {
    if let Some(shift) = &ln.b {
        let shift = shift.unsqueeze(D::Minus1)?;
        let added = w.broadcast_mul(&shift)?.sum(D::Minus2)?;
        *b = Some(match b.take() {
            Some(b) => (b + added)?,
            None => added,
        });
    }
    if let Some(factor) = &ln.w {
        *w = w.broadcast_mul(&factor.unsqueeze(D::Minus1)?)?;
    }
    if center {
        *w = without_mean(w, D::Minus2)?;
    }
    Ok(())
}

fn center_writing_weights(weights: &mut Weights, positions: &Positions) -> Result<()> {
    weights.w_e = without_mean(&weights.w_e, D::Minus1)?;
    if *positions == Positions::Learned {
        center(&mut weights.w_pos)?;
    }
    for BlockWeights { attn, mlp, .. } in &mut weights.blocks {
        attn.w_o = without_mean(&attn.w_o, D::Minus1)?;
        center(&mut attn.b_o)?;
        mlp.w_out = without_mean(&mlp.w_out, D::Minus1)?;
        center(&mut mlp.b_out)?;
    }
    Ok(())
}

/// b_O += Σ_h b_V`[h]` W_O`[h]`, with each value head's bias used by all query heads that share it; b_V is dropped.
fn fold_value_bias(attn: &mut AttentionWeights) -> Result<()> {
    let Some(b_v) = attn.b_v.take() else { return Ok(()) };
    let (heads, d_head, _) = attn.w_o.dims3()?;
    let groups = b_v.dim(0)?;
    let per_head = b_v.unsqueeze(1)?.broadcast_as((groups, heads / groups, d_head))?.reshape((heads, d_head, 1))?;
    let added = attn.w_o.broadcast_mul(&per_head)?.sum((0, 1))?;
    attn.b_o = Some(match attn.b_o.take() {
        Some(b_o) => (b_o + added)?,
        None => added,
    });
    Ok(())
}

fn center(bias: &mut Option<Tensor>) -> Result<()> {
    if let Some(b) = bias {
        *b = without_mean(b, D::Minus1)?;
    }
    Ok(())
}

fn without_mean(tensor: &Tensor, axis: D) -> Result<Tensor> {
    Ok(tensor.broadcast_sub(&tensor.mean_keepdim(axis)?)?)
}
