//! From queries, keys and values to what the heads write: scores, pattern, z, and the output map.

use candle_core::{D, Tensor};
use candle_nn::ops::{softmax, softmax_last_dim};

use super::kv_cache::LayerCache;
use super::linear::{all_heads, linear};
use super::mask::{Masks, Sees};
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::ops::{self, Scoring};

/// The part that all kinds of attention share.
#[derive(Clone, Debug)]
pub(super) struct AttentionCore {
    /// Scores are q·k divided by this.
    pub(super) scale: f64,
    /// Scores s become c·tanh(s / c).
    pub(super) soft_cap: Option<f64>,
    pub(super) sees: Sees,
    /// A score per head that no key has, `[head]`.
    pub(super) sinks: Option<Tensor>,
    /// `[head, d_head, d_model]`.
    pub(super) w_o: Tensor,
    /// `[d_model]`.
    pub(super) b_o: Option<Tensor>,
    pub(super) hooks: CoreHooks,
}

/// The points of the shared part.
#[derive(Clone, Debug)]
pub(super) struct CoreHooks {
    attn_scores: HookPoint,
    pattern: HookPoint,
    z: HookPoint,
    result: HookPoint,
}

impl CoreHooks {
    /// Of the attention called `name`, as in `blocks.0.attn`.
    pub(super) fn new(name: &str) -> Self {
        let point = |tail: &str| HookPoint::new(format!("{name}.hook_{tail}"));
        Self { attn_scores: point("attn_scores"), pattern: point("pattern"), z: point("z"), result: point("result") }
    }

    pub(super) fn points(&self) -> Vec<PointInfo> {
        vec![
            PointInfo::always(&self.attn_scores, "[batch, head, query, key]"),
            PointInfo::always(&self.pattern, "[batch, head, query, key]"),
            PointInfo::always(&self.z, "[batch, pos, head, d_head]"),
            PointInfo::on_request(&self.result, "[batch, pos, head, d_model]"),
        ]
    }
}

impl AttentionCore {
    /// From q `[batch, pos, head, d]`, k `[batch, key, kv_head, d]` and v `[batch, key, kv_head, d_head]` to
    /// `[batch, pos, d_model]`. `bias` is added to the scores; `past` holds the keys and values of earlier tokens.
    pub(super) fn forward(
        &self,
        q: &Tensor,
        (k, v): (Tensor, Tensor),
        bias: Option<&Tensor>,
        masks: &mut Masks,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let (k, v) = match past {
            Some(past) => past.append(&k, &v)?,
            None => (k, v),
        };
        let mask = masks.get(self.sees)?;
        // What a head sees is computed where it lies, unless gradients are to flow back.
        let own = ops::are_for(q) && ![q, &k, &v].into_iter().chain(bias).any(Tensor::track_op);
        let z = match own {
            true => self.mixed(q, &k, &v, (bias, mask.as_ref()), tap)?,
            false => self.mixed_by_candle(q, &k, &v, (bias, mask.as_ref()), masks.may_be_empty(), tap)?,
        };
        let z = tap.pass(&self.hooks.z, z)?;
        self.output(&z, tap)
    }

    /// z, `[batch, pos, head, d_head]`.
    fn mixed(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        (bias, mask): (Option<&Tensor>, Option<&Tensor>),
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let looks_back = matches!(self.sees, Sees::Past { .. });
        let scoring = Scoring { scale: self.scale, cap: self.soft_cap, bias, mask, looks_back };
        let seen = [&self.hooks.attn_scores, &self.hooks.pattern].map(|point| tap.wants(point));
        let own = match seen[0] || self.sinks.is_some() {
            false => ops::head_patterns(q, k, &scoring)?,
            true => {
                let scores = ops::head_scores(q, k, &scoring)?;
                let after = tap.pass(&self.hooks.attn_scores, scores.clone())?;
                let pattern = self.pattern(&after, false)?;
                if after.id() != scores.id() {
                    // A hook may have let a query see what is behind it.
                    let pattern = tap.pass(&self.hooks.pattern, pattern)?;
                    return Ok(ops::head_mixes(&pattern, v, false)?);
                }
                pattern
            }
        };
        let pattern = if seen[1] { tap.pass(&self.hooks.pattern, own.clone())? } else { own.clone() };
        let unchanged = pattern.id() == own.id();
        Ok(ops::head_mixes(&pattern, v, looks_back && mask.is_some() && unchanged)?)
    }

    /// The same by candle's operations, which have a backward pass, and work in every type and on every device.
    fn mixed_by_candle(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        added: (Option<&Tensor>, Option<&Tensor>),
        may_be_empty: bool,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let (batch, queries, heads, d) = q.dims4()?;
        let (_, keys, groups, d_head) = v.dims4()?;
        // Query heads that share a key head stand together, so their queries are one taller matrix.
        let tall = heads / groups * queries;
        let q = q.transpose(1, 2)?.contiguous()?.reshape((batch, groups, tall, d))?;
        let k_t = k.permute((0, 2, 3, 1))?.contiguous()?;
        let products = q.matmul(&k_t)?.reshape((batch, heads, queries, keys))?;
        let scores = tap.pass(&self.hooks.attn_scores, self.scores(products, added)?)?;
        let pattern = tap.pass(&self.hooks.pattern, self.pattern(&scores, may_be_empty)?)?;

        let by_group = pattern.contiguous()?.reshape((batch, groups, tall, keys))?;
        let v = v.transpose(1, 2)?.contiguous()?;
        Ok(by_group.matmul(&v)?.reshape((batch, heads, queries, d_head))?.transpose(1, 2)?.contiguous()?)
    }

    /// Scores from the products of queries and keys, `[batch, head, query, key]`.
    fn scores(&self, products: Tensor, (bias, mask): (Option<&Tensor>, Option<&Tensor>)) -> Result<Tensor> {
        let mut scores = (products / self.scale)?;
        if let Some(cap) = self.soft_cap {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        for added in [bias, mask].into_iter().flatten() {
            scores = scores.broadcast_add(added)?;
        }
        Ok(scores)
    }

    /// What each head writes: z `[batch, pos, head, d_head]` to `[batch, pos, head, d_model]`, without b_O.
    pub(super) fn head_results(&self, z: &Tensor) -> Result<Tensor> {
        let w_o = self.w_o.to_dtype(z.dtype())?;
        Ok(z.transpose(1, 2)?.contiguous()?.broadcast_matmul(&w_o)?.transpose(1, 2)?.contiguous()?)
    }

    /// z `[batch, pos, head, d_head]` through W_O; head by head if `hook_result` was asked for.
    fn output(&self, z: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        if tap.wants(&self.hooks.result) {
            let result = tap.pass(&self.hooks.result, self.head_results(z)?)?;
            let out = result.sum(2)?;
            return match &self.b_o {
                Some(b_o) => Ok(out.broadcast_add(b_o)?),
                None => Ok(out),
            };
        }
        linear(&z.flatten_from(2)?, &all_heads(&self.w_o)?, self.b_o.as_ref())
    }

    /// Softmax over the keys (and the sink, if there is one). A query that may look at no key (padding on the left)
    /// gets zeros.
    fn pattern(&self, scores: &Tensor, may_be_empty: bool) -> Result<Tensor> {
        if let Some(sinks) = &self.sinks {
            let (batch, heads, queries, keys) = scores.dims4()?;
            let sinks = sinks.reshape((1, heads, 1, 1))?.broadcast_as((batch, heads, queries, 1))?;
            // With a sink no row is empty.
            let with_sink = softmax(&Tensor::cat(&[scores, &sinks.contiguous()?], D::Minus1)?, D::Minus1)?;
            return Ok(with_sink.narrow(D::Minus1, 0, keys)?.contiguous()?);
        }
        if ops::are_for(scores) {
            return Ok(ops::softmax(scores)?);
        }
        // A row without a key is not a number after the softmax, and neither would its gradient be.
        let (seen, scores) = match may_be_empty {
            true => {
                let seen = scores.max_keepdim(D::Minus1)?.gt(f64::NEG_INFINITY)?.broadcast_as(scores.shape())?;
                let filled = seen.where_cond(scores, &scores.zeros_like()?)?;
                (Some(seen), filled)
            }
            false => (None, scores.clone()),
        };
        // The fused softmax has no backward.
        let pattern =
            if scores.track_op() { softmax(&scores, D::Minus1)? } else { softmax_last_dim(&scores.contiguous()?)? };
        match seen {
            Some(seen) => Ok(seen.where_cond(&pattern, &pattern.zeros_like()?)?),
            None => Ok(pattern),
        }
    }
}
