//! Blocks of another order than attention, MLP, each behind its norm: those whose norms follow the addition (BERT, BART),
//! and those of a decoder that looks at an encoder between the two (T5, BART).

use candle_core::Tensor;

use super::block::{Block, FeedForward, Layout, Mixer};
use super::config::ModelConfig;
use super::cross_attention::CrossAttention;
use super::kv_cache::LayerCache;
use super::norm::Norm;
use super::surroundings::Surroundings;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::AttentionWeights;
use crate::{Error, Result};

/// The cross-attention of a block. `ln2` is its norm, and `ln3` the MLP's.
#[derive(Clone, Debug)]
pub(super) struct Cross {
    pub(super) attention: CrossAttention,
    pub(super) ln3: Option<Norm>,
    hook_cross_attn_out: HookPoint,
    hook_resid_mid2: HookPoint,
}

impl Cross {
    /// Of the block called `name`, as in `decoder_blocks.0`.
    pub(super) fn new(
        name: &str,
        layer: usize,
        weights: AttentionWeights,
        ln3: Option<Norm>,
        cfg: &ModelConfig,
    ) -> Result<Self> {
        Ok(Self {
            attention: CrossAttention::new(&format!("{name}.cross_attn"), layer, weights, cfg)?,
            ln3,
            hook_cross_attn_out: HookPoint::new(format!("{name}.hook_cross_attn_out")),
            hook_resid_mid2: HookPoint::new(format!("{name}.hook_resid_mid2")),
        })
    }
}

impl Block {
    /// The points of such a block, in the order in which they fire. As in TransformerLens, `hook_resid_mid` is what `ln2`
    /// reads and `hook_resid_mid2` what `ln3` reads: in a block whose norms come last, the stream after the addition
    /// that each of them follows.
    pub(super) fn staged_points(&self) -> Vec<PointInfo> {
        let stream = "[batch, pos, d_model]";
        let norm = |norm: &Option<Norm>| norm.as_ref().map(Norm::hook_points).unwrap_or_default();
        let one = |point: &HookPoint| vec![PointInfo::always(point, stream)];
        let post = self.layout == Layout::PostNorm;
        let attention = match &self.mixer {
            Mixer::Attention(attention) => attention.hook_points(),
            Mixer::Latent(latent) => latent.hook_points(),
            Mixer::StateSpace(mixer) => mixer.hook_points(),
        };
        let mlp = match &self.feed_forward {
            Some(FeedForward::Mlp(mlp)) => mlp.hook_points(),
            Some(FeedForward::Experts(experts)) => experts.hook_points(),
            None => Vec::new(),
        };
        let mut points = vec![one(&self.hook_resid_pre), self.input_points()];
        match (post, self.attn_out_is_normalized) {
            (true, true) => points.extend([attention, norm(&self.ln1), one(&self.hook_attn_out)]),
            (true, false) => points.extend([attention, one(&self.hook_attn_out), norm(&self.ln1)]),
            (false, _) => points.extend([norm(&self.ln1), attention, one(&self.hook_attn_out)]),
        }
        let mid = one(&self.hook_resid_mid);
        let mlp_in = vec![PointInfo::on_request(&self.hook_mlp_in, stream)];
        let mlp_out = one(&self.hook_mlp_out);
        match &self.cross {
            None => points.extend([mlp_in, mlp, mlp_out, mid, norm(&self.ln2)]),
            Some(cross) => {
                let (attention, out) = (cross.attention.hook_points(), one(&cross.hook_cross_attn_out));
                let mid2 = one(&cross.hook_resid_mid2);
                let (ln2, ln3) = (norm(&self.ln2), norm(&cross.ln3));
                if post {
                    points.extend([attention, out, mid, ln2, mlp_in, mlp, mlp_out, mid2, ln3]);
                } else {
                    points.extend([mid, ln2, attention, out, mid2, mlp_in, ln3, mlp, mlp_out]);
                }
            }
        }
        points.push(one(&self.hook_resid_post));
        points.concat()
    }

    /// The residual stream after such a block, `[batch, pos, d_model]`.
    pub(super) fn forward_staged(
        &self,
        resid: Tensor,
        around: &mut Surroundings,
        mut past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let post = self.layout == Layout::PostNorm;
        let before =
            |norm: &Option<Norm>, x: &Tensor, tap: &mut Tap| normalize(norm.as_ref().filter(|_| !post), x, tap);
        let after = |norm: &Option<Norm>, x: Tensor, tap: &mut Tap| normalize(norm.as_ref().filter(|_| post), &x, tap);

        let resid_pre = tap.pass(&self.hook_resid_pre, resid)?;
        let attn_out = if self.splits_inputs(tap) {
            self.mix_split(&resid_pre, around, past.as_deref_mut(), tap)?
        } else {
            self.mix(&before(&self.ln1, &resid_pre, tap)?, around, past.as_deref_mut(), tap)?
        };
        let mut stream = if post && self.attn_out_is_normalized {
            let normalized = after(&self.ln1, (resid_pre + attn_out)?, tap)?;
            tap.pass(&self.hook_attn_out, normalized)?
        } else {
            let attn_out = tap.pass(&self.hook_attn_out, attn_out)?;
            after(&self.ln1, (resid_pre + attn_out)?, tap)?
        };

        if let Some(cross) = &self.cross {
            if !post {
                stream = tap.pass(&self.hook_resid_mid, stream)?;
            }
            let input = before(&self.ln2, &stream, tap)?;
            let encoded = around.encoded.as_mut().ok_or_else(|| Error::msg("the decoder runs without an encoder"))?;
            let out = cross.attention.forward(&input, encoded, past, tap)?;
            stream = (stream + tap.pass(&cross.hook_cross_attn_out, out)?)?;
            stream = if post {
                let resid_mid = tap.pass(&self.hook_resid_mid, stream)?;
                after(&self.ln2, resid_mid, tap)?
            } else {
                tap.pass(&cross.hook_resid_mid2, stream)?
            };
        }

        let (mlp_norm, summed) = match &self.cross {
            Some(cross) => (&cross.ln3, &cross.hook_resid_mid2),
            None => (&self.ln2, &self.hook_resid_mid),
        };
        let mlp_in =
            if tap.wants(&self.hook_mlp_in) { tap.pass(&self.hook_mlp_in, stream.clone())? } else { stream.clone() };
        let mlp_in = before(mlp_norm, &mlp_in, tap)?;
        let mlp_out = match &self.feed_forward {
            Some(FeedForward::Mlp(mlp)) => mlp.forward(&mlp_in, tap)?,
            Some(FeedForward::Experts(experts)) => experts.forward(&mlp_in, tap)?,
            None => {
                return Err(Error::msg("a block with norms after the addition, or with cross-attention, needs an MLP"));
            }
        };
        stream = (stream + tap.pass(&self.hook_mlp_out, mlp_out)?)?;
        if post {
            stream = tap.pass(summed, stream)?;
            stream = after(mlp_norm, stream, tap)?;
        }
        tap.pass(&self.hook_resid_post, stream)
    }
}

fn normalize(norm: Option<&Norm>, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(x, tap),
        None => Ok(x.clone()),
    }
}
