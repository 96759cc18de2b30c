//! What writes to the residual stream in a run, part by part, and which part reads which.

use candle_core::{D, DType, Tensor};

use crate::analysis::path_patching::{Receiver, Sender};
use crate::cache::ActivationCache;
use crate::hooks::{HookPoint, points};
use crate::model::{HookedTransformer, Normalization};
use crate::weights::{BlockWeights, MixerWeights};
use crate::{Error, Result};

/// Whether what a sender writes gets to a receiver directly.
pub(super) fn reads(receiver: Receiver, sender: Sender, parallel: bool) -> bool {
    // Whether attention and MLP of a layer come before what reads.
    let (attention, mlp) = match receiver {
        Receiver::Logits => return true,
        Receiver::Q(layer, _) | Receiver::K(layer, _) | Receiver::V(layer, _) => (layer, layer),
        Receiver::Mlp(layer) if parallel => (layer, layer),
        Receiver::Mlp(layer) => (layer + 1, layer),
    };
    match sender {
        Sender::Embed | Sender::PosEmbed => true,
        Sender::Head(layer, _) | Sender::Attn(layer) => layer < attention,
        Sender::Mlp(layer) => layer < mlp,
    }
}

/// The senders that a receiver is a part of, where `share` query heads share a key head; none for the logits.
pub(super) fn parts_of(receiver: Receiver, share: usize) -> Vec<Sender> {
    match receiver {
        Receiver::Q(layer, head) => vec![Sender::Head(layer, head)],
        Receiver::K(layer, head) | Receiver::V(layer, head) => {
            (head * share..(head + 1) * share).map(|head| Sender::Head(layer, head)).collect()
        }
        Receiver::Mlp(layer) => vec![Sender::Mlp(layer)],
        Receiver::Logits => Vec::new(),
    }
}

/// An error unless the stream of this model is a sum of what heads and MLPs write.
pub(super) fn check_stream(model: &HookedTransformer) -> Result<()> {
    model.check_held("attribution by edges")?;
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
            senders.push((Sender::Head(layer, head), heads.narrow(2, head, 1)?.squeeze(2)?));
        }
        if block.feed_forward.is_some() {
            senders.push((Sender::Mlp(layer), cache.get(points::mlp_out(layer))?.to_dtype(DType::F32)?));
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
