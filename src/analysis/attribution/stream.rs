//! What writes to the residual stream, and what reads it: the two ends of an edge.

use std::fmt;

use candle_core::{D, DType, Tensor};

use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, points};
use crate::model::{HookedTransformer, Normalization};
use crate::weights::{BlockWeights, MixerWeights};
use crate::{Error, Result};

/// What writes to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sender {
    /// The embedding, positions included: what enters the first layer.
    Embed,
    /// An attention head.
    Head {
        /// Its layer.
        layer: usize,
        /// Its number.
        head: usize,
    },
    /// An MLP, or the experts in its place.
    Mlp {
        /// Its layer.
        layer: usize,
    },
}

/// What reads the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Receiver {
    /// The queries of a head.
    Q {
        /// Its layer.
        layer: usize,
        /// Its number.
        head: usize,
    },
    /// The keys of a key head, which several query heads may share.
    K {
        /// Its layer.
        layer: usize,
        /// Its number among the layer's key heads.
        head: usize,
    },
    /// The values of a value head, which several query heads may share.
    V {
        /// Its layer.
        layer: usize,
        /// Its number among the layer's value heads.
        head: usize,
    },
    /// An MLP, or the experts in its place.
    Mlp {
        /// Its layer.
        layer: usize,
    },
    /// The end of the stream, where the last norm and the unembedding read it.
    Logits,
}

impl Receiver {
    /// Whether what `sender` writes gets to this receiver directly.
    pub(super) fn reads(self, sender: Sender, parallel: bool) -> bool {
        match (self, sender) {
            (Self::Logits, _) | (_, Sender::Embed) => true,
            (Self::Mlp { layer }, Sender::Head { layer: before, .. }) => {
                before < layer || (before == layer && !parallel)
            }
            (
                Self::Q { layer, .. } | Self::K { layer, .. } | Self::V { layer, .. } | Self::Mlp { layer },
                Sender::Head { layer: before, .. } | Sender::Mlp { layer: before },
            ) => before < layer,
        }
    }

    /// The senders that this receiver is a part of, where `share` query heads share a key head; none for the logits.
    pub(super) fn parts_of(self, share: usize) -> Vec<Sender> {
        match self {
            Self::Q { layer, head } => vec![Sender::Head { layer, head }],
            Self::K { layer, head } | Self::V { layer, head } => {
                (head * share..(head + 1) * share).map(|head| Sender::Head { layer, head }).collect()
            }
            Self::Mlp { layer } => vec![Sender::Mlp { layer }],
            Self::Logits => Vec::new(),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("embed"),
            Self::Head { layer, head } => write!(f, "L{layer}H{head}"),
            Self::Mlp { layer } => write!(f, "MLP{layer}"),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Q { layer, head } => write!(f, "L{layer}H{head}.q"),
            Self::K { layer, head } => write!(f, "L{layer}H{head}.k"),
            Self::V { layer, head } => write!(f, "L{layer}H{head}.v"),
            Self::Mlp { layer } => write!(f, "MLP{layer}"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

/// An error unless the stream of this model is a sum of what heads and MLPs write.
pub(super) fn check_stream(model: &HookedTransformer) -> Result<()> {
    let cfg = model.cfg();
    let problem = if model.has_encoder() {
        "this model has two streams, an encoder's and a decoder's"
    } else if cfg.post_norm {
        "in this model norms stand after the additions, so that the stream is no sum"
    } else if cfg.state_space.is_some() {
        "this model has state-space mixers, and no heads"
    } else if cfg.latent_attention.is_some() {
        "the latent attention of this model reads one input through its latents, and not one for each head's queries, keys \
         and values"
    } else {
        return Ok(());
    };
    Err(Error::msg(format!(
        "edges go from what heads and MLPs write to what they read, and {problem}; attribution_patch(..) works on any model"
    )))
}

/// The points that [`written`] needs.
pub(super) fn written_points(model: &HookedTransformer) -> Vec<HookPoint> {
    let mut needed = vec![points::resid_pre(0)];
    for (layer, block) in model.weights().blocks.iter().enumerate() {
        needed.push(points::z(layer));
        needed.extend(block.ln1_post.as_ref().map(|_| scale_behind_attention(layer)));
        needed.extend(block.feed_forward.as_ref().map(|_| points::mlp_out(layer)));
    }
    needed
}

/// What each sender wrote in a run, `[batch, pos, d_model]` in f32, in the order of the layers. All of them add up to the
/// stream that leaves the last layer.
///
/// A norm behind the attention is linear once its scale is held at what it was in the run; b_O is shared evenly by the
/// heads of its layer.
pub(super) fn written(model: &HookedTransformer, cache: &ActivationCache) -> Result<Vec<(Sender, Tensor)>> {
    let mut senders = vec![(Sender::Embed, cache.get(points::resid_pre(0))?.to_dtype(DType::F32)?)];
    for (layer, block) in model.weights().blocks.iter().enumerate() {
        let heads = by_heads(model, layer, block, cache)?;
        for head in 0..heads.dim(2)? {
            senders.push((Sender::Head { layer, head }, heads.narrow(2, head, 1)?.squeeze(2)?));
        }
        if block.feed_forward.is_some() {
            senders.push((Sender::Mlp { layer }, cache.get(points::mlp_out(layer))?.to_dtype(DType::F32)?));
        }
    }
    Ok(senders)
}

/// What each head of a layer added to the stream, `[batch, pos, head, d_model]`.
fn by_heads(model: &HookedTransformer, layer: usize, block: &BlockWeights, cache: &ActivationCache) -> Result<Tensor> {
    let cfg = model.cfg();
    let MixerWeights::Attention(attention) = &block.mixer else {
        return Err(Error::msg(format!("layer {layer} has no attention of heads with inputs of their own")));
    };
    let float = |t: &Tensor| t.to_dtype(DType::F32);
    let z = float(&cache.get(points::z(layer))?)?;
    let mut heads = z.transpose(1, 2)?.contiguous()?.broadcast_matmul(&float(&attention.w_o)?)?.transpose(1, 2)?;
    if let Some(b_o) = &attention.b_o {
        heads = heads.broadcast_add(&(float(b_o)? / cfg.n_heads as f64)?)?;
    }
    if let Some(norm) = &block.ln1_post {
        if cfg.normalization == Normalization::LayerNorm {
            heads = heads.broadcast_sub(&heads.mean_keepdim(D::Minus1)?)?;
        }
        let scale = float(&cache.get(scale_behind_attention(layer))?)?;
        heads = heads.broadcast_div(&scale.unsqueeze(2)?)?;
        if let Some(w) = &norm.w {
            heads = heads.broadcast_mul(&float(w)?)?;
        }
        if let Some(b) = &norm.b {
            heads = heads.broadcast_add(&(float(b)? / cfg.n_heads as f64)?)?;
        }
    }
    Ok((heads * cfg.residual_multiplier)?)
}

fn scale_behind_attention(layer: usize) -> HookPoint {
    HookPoint::new(format!("blocks.{layer}.ln1_post.hook_scale"))
}
