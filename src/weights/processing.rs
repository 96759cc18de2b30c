//! Weight processing: changes that keep every prediction and make the weights easier to read.
//!
//! The formulas are TransformerLens' (`HookedTransformer.load_and_process_state_dict`). ⟨M⟩ over an axis is the mean
//! over it, kept for broadcasting.

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;

use super::compute_dtype;
use super::parts::Parts;
use super::{AttentionWeights, BlockWeights, FeedForwardWeights, MixerWeights, MlpWeights, NormWeights, Weights};
use crate::model::{ModelConfig, Normalization, Positions};
use crate::{Result, interrupt};

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
    pub fn apply(self, mut weights: Weights, cfg: &ModelConfig) -> Result<Weights> {
        let Some(steps) = self.steps(&weights, cfg) else { return Ok(weights) };
        let mut blocks = std::mem::take(&mut weights.blocks);
        // Each is a few operations on one core.
        let (of_blocks, of_ends) = rayon::join(
            || blocks.par_iter_mut().try_for_each(|block| steps.block(block, cfg)),
            || steps.ends(&mut weights, cfg),
        );
        of_blocks.and(of_ends)?;
        weights.blocks = blocks;
        Ok(weights)
    }

    /// What is to be done to weights with these ends; none if nothing is.
    pub(crate) fn steps(self, weights: &Weights, cfg: &ModelConfig) -> Option<Steps> {
        let wanted = self.and(cfg.processing);
        if wanted == Self::none() {
            return None;
        }
        let shortformer = cfg.positions == Positions::Shortformer;
        Some(Steps {
            // The readers of a norm that stands after the addition are all later maps, so nothing is folded; a shortformer's
            // positions come between the norm and its readers.
            folds: wanted.fold_ln && !cfg.post_norm && !shortformer,
            centers: wanted.center_writing_weights && can_center(weights, cfg),
            // A cap on the logits is not indifferent to a shift.
            centers_unembedding: wanted.center_unembed && cfg.output_logits_soft_cap.is_none() && !shortformer,
            folds_value_biases: wanted.fold_value_biases && cfg.clip_qkv.is_none(),
            stored: weights.w_e.dtype(),
        })
    }

    /// The steps that both have.
    fn and(self, other: Self) -> Self {
        Self {
            fold_ln: self.fold_ln && other.fold_ln,
            center_writing_weights: self.center_writing_weights && other.center_writing_weights,
            center_unembed: self.center_unembed && other.center_unembed,
            fold_value_biases: self.fold_value_biases && other.fold_value_biases,
        }
    }
}

/// The steps that a model takes, block by block, and at its ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    folds: bool,
    centers: bool,
    centers_unembedding: bool,
    folds_value_biases: bool,
    /// The type that the weights have before and afterwards.
    stored: DType,
}

impl Steps {
    /// Processes a block.
    pub(crate) fn block(self, block: &mut BlockWeights, cfg: &ModelConfig) -> Result<()> {
        interrupt::check()?;
        to_dtype(block, DType::F32)?;
        if self.folds {
            fold_norms(block, cfg)?;
        }
        if self.centers {
            let BlockWeights { mixer, feed_forward, .. } = &mut *block;
            let writers = feed_forward.as_mut().map(FeedForwardWeights::writers).unwrap_or_default();
            for (w, b) in mixer.writers().into_iter().chain(writers) {
                *w = without_mean(w, D::Minus1)?;
                center(b)?;
            }
        }
        if let (true, MixerWeights::Attention(attention)) = (self.folds_value_biases, &mut block.mixer) {
            fold_value_bias(attention)?;
            if self.centers {
                center(&mut attention.b_o)?;
            }
        }
        to_dtype(block, self.stored)
    }

    /// Processes what is not in a block.
    pub(crate) fn ends(self, weights: &mut Weights, cfg: &ModelConfig) -> Result<()> {
        to_dtype(weights, DType::F32)?;
        if self.folds {
            fold_last_norm(weights, cfg)?;
        }
        if self.centers {
            match &mut weights.project_in {
                Some(project_in) => *project_in = without_mean(project_in, D::Minus1)?,
                None => weights.w_e = without_mean(&weights.w_e, D::Minus1)?,
            }
            if cfg.positions == Positions::Learned {
                center(&mut weights.w_pos)?;
            }
        }
        if self.centers_unembedding {
            weights.w_u = without_mean(&weights.w_u, D::Minus1)?;
            weights.b_u = weights.b_u.as_ref().map(|b| without_mean(b, D::Minus1)).transpose()?;
        }
        to_dtype(weights, self.stored)
    }
}

fn to_dtype(weights: &mut impl Parts, dtype: DType) -> Result<()> {
    let mut found = Vec::new();
    weights.parts("", &mut found);
    for (_, tensor) in found {
        interrupt::check()?;
        // As they were read: vectors are never narrower than what is computed.
        let dtype = if tensor.rank() < 2 { compute_dtype(dtype, tensor.device()) } else { dtype };
        *tensor = tensor.to_dtype(dtype)?;
    }
    Ok(())
}

/// Whether every reader of the residual stream takes its mean off, so that what is written may do without. Where norms
/// stand after the additions, each sum goes through one; the embedding must then have its own.
fn can_center(weights: &Weights, cfg: &ModelConfig) -> bool {
    cfg.normalization == Normalization::LayerNorm
        && cfg.final_normalization.is_none()
        && weights.ln_final.is_some()
        && (!cfg.post_norm || weights.embed_ln.is_some())
        && cfg.positions != Positions::Shortformer
}

/// A map `[.., d_in, out]` and its bias `[.., out]`.
type Map<'a> = (&'a mut Tensor, &'a mut Option<Tensor>);

impl MixerWeights {
    /// The maps that read the normed stream, `[.., d_model, out]`. Those of latents and of state-space mixers keep their
    /// norm, as in TransformerLens.
    fn readers(&mut self) -> Vec<Map<'_>> {
        match self {
            Self::Attention(a) => vec![(&mut a.w_q, &mut a.b_q), (&mut a.w_k, &mut a.b_k), (&mut a.w_v, &mut a.b_v)],
            Self::Latent(_) | Self::Mamba(_) | Self::Mamba2(_) => Vec::new(),
        }
    }

    /// The maps that write to the residual stream, `[.., d_model]`.
    fn writers(&mut self) -> Vec<Map<'_>> {
        vec![match self {
            Self::Attention(a) => (&mut a.w_o, &mut a.b_o),
            Self::Latent(a) => (&mut a.w_o, &mut a.b_o),
            Self::Mamba(mamba) => (&mut mamba.w_out, &mut mamba.b_out),
            Self::Mamba2(mamba) => (&mut mamba.w_out, &mut mamba.b_out),
        }]
    }
}

impl FeedForwardWeights {
    /// The maps that read the normed stream, `[.., d_model, out]`.
    fn readers(&mut self) -> Vec<Map<'_>> {
        match self {
            Self::Mlp(mlp) => {
                let gate = mlp.w_gate.as_mut().map(|w_gate| (w_gate, &mut mlp.b_gate));
                std::iter::once((&mut mlp.w_in, &mut mlp.b_in)).chain(gate).collect()
            }
            Self::Experts(experts) => experts.readers(),
        }
    }

    /// The maps that write to the residual stream, `[.., d_model]`.
    fn writers(&mut self) -> Vec<Map<'_>> {
        match self {
            Self::Mlp(mlp) => vec![(&mut mlp.w_out, &mut mlp.b_out)],
            Self::Experts(experts) => experts.writers(),
        }
    }
}

/// Folds a block's norms into the maps that read them.
fn fold_norms(block: &mut BlockWeights, cfg: &ModelConfig) -> Result<()> {
    let centers = cfg.normalization == Normalization::LayerNorm;
    let BlockWeights { ln1, mixer, ln2, feed_forward, .. } = block;
    // As in TransformerLens: beside latent attention, only plain MLPs take up their norm.
    let keeps_norm =
        matches!((&*mixer, &*feed_forward), (MixerWeights::Latent(_), Some(FeedForwardWeights::Experts(_))));
    let mut readers = mixer.readers();
    let mut feed_forward_readers = match feed_forward {
        Some(feed_forward) if !keeps_norm => feed_forward.readers(),
        _ => Vec::new(),
    };
    if ln2.is_none() && cfg.parallel_attn_mlp {
        readers.append(&mut feed_forward_readers);
    }
    for (ln, readers) in [(ln1, readers), (ln2, feed_forward_readers)] {
        let Some(ln) = ln.as_mut().filter(|_| !readers.is_empty()) else { continue };
        for (w, b) in readers {
            fold(ln, w, b, centers)?;
        }
        *ln = NormWeights::default();
    }
    // A norm on the hidden layer (SoLU models) is read by the map out of it.
    if let Some(FeedForwardWeights::Mlp(MlpWeights { ln: Some(ln), w_out, b_out, .. })) = feed_forward {
        fold(ln, w_out, b_out, true)?;
        *ln = NormWeights::default();
    }
    Ok(())
}

/// Folds the last norm into the unembedding.
fn fold_last_norm(weights: &mut Weights, cfg: &ModelConfig) -> Result<()> {
    if let (Some(ln), None) = (&mut weights.ln_final, &weights.project_out) {
        // As in TransformerLens, W_U keeps its mean behind a norm that has no weights (OLMo 1); it is never read.
        let is_layer_norm = cfg.final_normalization.unwrap_or(cfg.normalization) == Normalization::LayerNorm;
        let centers = is_layer_norm && (ln.w.is_some() || ln.b.is_some());
        fold(ln, &mut weights.w_u, &mut weights.b_u, centers)?;
        *ln = NormWeights::default();
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

/// b_O += Σ_h b_V`[h]` W_O`[h]`, with each value head's bias used by all query heads that share it; b_V is dropped.
fn fold_value_bias(attn: &mut AttentionWeights) -> Result<()> {
    // With a sink, the rows don't sum to one.
    if attn.sinks.is_some() {
        return Ok(());
    }
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
    Ok(tensor.broadcast_sub(&mean(tensor, axis)?)?)
}

/// The mean over one of the last two axes, which stays. Of a matrix it is a product, whichever way it lies in memory.
fn mean(tensor: &Tensor, axis: D) -> Result<Tensor> {
    if tensor.rank() < 2 {
        return Ok(tensor.mean_keepdim(axis)?);
    }
    let n = tensor.dim(axis)?;
    let shares = |shape: (usize, usize)| Tensor::full(1.0 / n as f32, shape, tensor.device());
    Ok(match axis {
        D::Minus1 => tensor.broadcast_matmul(&shares((n, 1))?)?,
        _ => shares((1, n))?.broadcast_matmul(tensor)?,
    })
}
