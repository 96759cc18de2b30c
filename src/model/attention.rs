//! Causal self-attention, with its hook points.

use candle_core::{D, Tensor};
use candle_nn::ops::{softmax, softmax_last_dim};

use super::config::{ModelConfig, Positions};
use super::kv_cache::LayerCache;
use super::linear::{for_reading, linear, per_head};
use super::mask::Masks;
use super::rotary::RotaryRows;
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::AttentionWeights;

/// One layer's attention. Queries, keys and values may come from inputs of their own.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    weights: AttentionWeights,
    scale: f64,
    window: Option<usize>,
    rotary: bool,
    hook_q: HookPoint,
    hook_k: HookPoint,
    hook_v: HookPoint,
    hook_rot_q: HookPoint,
    hook_rot_k: HookPoint,
    hook_attn_scores: HookPoint,
    hook_pattern: HookPoint,
    hook_z: HookPoint,
    hook_result: HookPoint,
}

/// What all layers of one run share.
pub(super) struct Surroundings {
    pub(super) masks: Masks,
    pub(super) rotary: Option<RotaryRows>,
}

impl Attention {
    pub(super) fn new(layer: usize, weights: AttentionWeights, cfg: &ModelConfig) -> Result<Self> {
        let point = |name: &str| HookPoint::new(format!("blocks.{layer}.attn.hook_{name}"));
        let weights = AttentionWeights {
            w_q: for_reading(&weights.w_q)?,
            w_k: for_reading(&weights.w_k)?,
            w_v: for_reading(&weights.w_v)?,
            w_o: weights.w_o.contiguous()?,
            ..weights
        };
        Ok(Self {
            weights,
            scale: cfg.attn_scale_of(layer),
            window: cfg.windows[layer],
            rotary: matches!(cfg.positions, Positions::Rotary(_)),
            hook_q: point("q"),
            hook_k: point("k"),
            hook_v: point("v"),
            hook_rot_q: point("rot_q"),
            hook_rot_k: point("rot_k"),
            hook_attn_scores: point("attn_scores"),
            hook_pattern: point("pattern"),
            hook_z: point("z"),
            hook_result: point("result"),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let rotary = |point: &HookPoint, shape| match self.rotary {
            true => PointInfo::always(point, shape),
            false => PointInfo::never(point.shared_name(), "the model's positions are not rotary"),
        };
        vec![
            PointInfo::always(&self.hook_q, "[batch, pos, head, d_head]"),
            PointInfo::always(&self.hook_k, "[batch, pos, kv_head, d_head]"),
            PointInfo::always(&self.hook_v, "[batch, pos, kv_head, d_head]"),
            rotary(&self.hook_rot_q, "[batch, pos, head, d_head]"),
            rotary(&self.hook_rot_k, "[batch, pos, kv_head, d_head]"),
            PointInfo::always(&self.hook_attn_scores, "[batch, head, query, key]"),
            PointInfo::always(&self.hook_pattern, "[batch, head, query, key]"),
            PointInfo::always(&self.hook_z, "[batch, pos, head, d_head]"),
            PointInfo::on_request(&self.hook_result, "[batch, pos, head, d_model]"),
        ]
    }

    /// From normalised inputs, `[batch, pos, d_model]` or with a head axis before the last, to `[batch, pos, d_model]`.
    pub(super) fn forward(
        &self,
        [q_in, k_in, v_in]: [&Tensor; 3],
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let w = &self.weights;
        let mut q = tap.pass(&self.hook_q, per_head(q_in, &w.w_q, w.b_q.as_ref())?)?;
        let mut k = tap.pass(&self.hook_k, per_head(k_in, &w.w_k, w.b_k.as_ref())?)?;
        let v = tap.pass(&self.hook_v, per_head(v_in, &w.w_v, w.b_v.as_ref())?)?;
        if let Some(rotary) = &around.rotary {
            q = tap.pass(&self.hook_rot_q, rotary.apply(&q)?)?;
            k = tap.pass(&self.hook_rot_k, rotary.apply(&k)?)?;
        }
        let (k, v) = match past {
            Some(past) => past.append(&k, &v)?,
            None => (k, v),
        };

        let (batch, queries, heads, d_head) = q.dims4()?;
        let groups = k.dim(2)?;
        let keys = k.dim(1)?;
        // Query heads that share a key head stand together, so their queries are one taller matrix.
        let shared = (batch, groups, heads / groups * queries, d_head);
        let q = q.transpose(1, 2)?.contiguous()?.reshape(shared)?;
        let k_t = k.permute((0, 2, 3, 1))?.contiguous()?;
        let scores = (q.matmul(&k_t)? / self.scale)?.reshape((batch, heads, queries, keys))?;
        let scores = scores.broadcast_add(&around.masks.causal(self.window)?)?;
        let scores = tap.pass(&self.hook_attn_scores, scores)?;
        let pattern = tap.pass(&self.hook_pattern, attention_pattern(&scores, around.masks.may_be_empty())?)?;

        let by_group = pattern.contiguous()?.reshape((batch, groups, heads / groups * queries, keys))?;
        let v = v.transpose(1, 2)?.contiguous()?;
        let z = by_group.matmul(&v)?.reshape((batch, heads, queries, d_head))?.transpose(1, 2)?.contiguous()?;
        let z = tap.pass(&self.hook_z, z)?;
        self.output(&z, tap)
    }

    /// z `[batch, pos, head, d_head]` through W_O; head by head if `hook_result` was asked for.
    fn output(&self, z: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let (_, _, heads, d_head) = z.dims4()?;
        let w_o = &self.weights.w_o;
        if tap.wants(&self.hook_result) {
            let result = tap.pass(&self.hook_result, self.head_results(z)?)?;
            let out = result.sum(2)?;
            return match &self.weights.b_o {
                Some(b_o) => Ok(out.broadcast_add(b_o)?),
                None => Ok(out),
            };
        }
        let d_model = w_o.dim(2)?;
        linear(&z.flatten_from(2)?, &w_o.reshape((heads * d_head, d_model))?, self.weights.b_o.as_ref())
    }

    /// What each head writes: z `[batch, pos, head, d_head]` to `[batch, pos, head, d_model]`, without b_O.
    pub(super) fn head_results(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.transpose(1, 2)?.contiguous()?.broadcast_matmul(&self.weights.w_o)?.transpose(1, 2)?.contiguous()?)
    }

    pub(super) fn weights(&self) -> &AttentionWeights {
        &self.weights
    }
}

/// Softmax over the keys. A query that may look at no key (padding on the left) gets zeros.
fn attention_pattern(scores: &Tensor, may_be_empty: bool) -> Result<Tensor> {
    // The fused softmax has no backward.
    let pattern =
        if scores.track_op() { softmax(scores, D::Minus1)? } else { softmax_last_dim(&scores.contiguous()?)? };
    if !may_be_empty {
        return Ok(pattern);
    }
    let seen = scores.max_keepdim(D::Minus1)?.gt(f64::NEG_INFINITY)?.broadcast_as(pattern.shape())?;
    Ok(seen.where_cond(&pattern, &pattern.zeros_like()?)?)
}
