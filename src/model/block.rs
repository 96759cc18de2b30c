//! One block: attention and MLP around the residual stream.

use candle_core::Tensor;

use super::attention::{Attention, Surroundings};
use super::config::ModelConfig;
use super::kv_cache::LayerCache;
use super::mlp::Mlp;
use super::norm::Norm;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::BlockWeights;
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) ln1: Norm,
    pub(super) attn: Attention,
    pub(super) ln2: Norm,
    pub(super) mlp: Mlp,
    parallel: bool,
    n_heads: usize,
    n_key_value_heads: usize,
    hook_resid_pre: HookPoint,
    hook_attn_in: HookPoint,
    hook_q_input: HookPoint,
    hook_k_input: HookPoint,
    hook_v_input: HookPoint,
    hook_attn_out: HookPoint,
    hook_resid_mid: HookPoint,
    hook_mlp_in: HookPoint,
    hook_mlp_out: HookPoint,
    hook_resid_post: HookPoint,
}

impl Block {
    pub(super) fn new(layer: usize, weights: BlockWeights, cfg: &ModelConfig) -> Result<Self> {
        let point = |name: &str| HookPoint::new(format!("blocks.{layer}.hook_{name}"));
        Ok(Self {
            ln1: Norm::new(&format!("blocks.{layer}.ln1"), weights.ln1, cfg),
            attn: Attention::new(layer, weights.attn, cfg)?,
            ln2: Norm::new(&format!("blocks.{layer}.ln2"), weights.ln2, cfg),
            mlp: Mlp::new(layer, weights.mlp, cfg),
            parallel: cfg.parallel_attn_mlp,
            n_heads: cfg.n_heads,
            n_key_value_heads: cfg.n_key_value_heads,
            hook_resid_pre: point("resid_pre"),
            hook_attn_in: point("attn_in"),
            hook_q_input: point("q_input"),
            hook_k_input: point("k_input"),
            hook_v_input: point("v_input"),
            hook_attn_out: point("attn_out"),
            hook_resid_mid: point("resid_mid"),
            hook_mlp_in: point("mlp_in"),
            hook_mlp_out: point("mlp_out"),
            hook_resid_post: point("resid_post"),
        })
    }

    /// The block's points in the order in which they fire.
    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let stream = "[batch, pos, d_model]";
        let mut points = vec![
            PointInfo::always(&self.hook_resid_pre, stream),
            if self.n_heads == self.n_key_value_heads {
                PointInfo::on_request(&self.hook_attn_in, "[batch, pos, head, d_model]")
            } else {
                let why = "query heads share key and value heads here, so there is no one input per head; use hook_q_input, hook_k_input and hook_v_input";
                PointInfo::never(self.hook_attn_in.shared_name(), why)
            },
            PointInfo::on_request(&self.hook_q_input, "[batch, pos, head, d_model]"),
            PointInfo::on_request(&self.hook_k_input, "[batch, pos, kv_head, d_model]"),
            PointInfo::on_request(&self.hook_v_input, "[batch, pos, kv_head, d_model]"),
        ];
        points.extend(self.ln1.hook_points());
        points.extend(self.attn.hook_points());
        points.push(PointInfo::always(&self.hook_attn_out, stream));
        points.push(if self.parallel {
            let why = "attention and MLP are parallel in this model, so there is no residual stream between them";
            PointInfo::never(self.hook_resid_mid.shared_name(), why)
        } else {
            PointInfo::always(&self.hook_resid_mid, stream)
        });
        points.push(PointInfo::on_request(&self.hook_mlp_in, stream));
        points.extend(self.ln2.hook_points());
        points.extend(self.mlp.hook_points());
        points.push(PointInfo::always(&self.hook_mlp_out, stream));
        points.push(PointInfo::always(&self.hook_resid_post, stream));
        points
    }

    /// The residual stream after the block, `[batch, pos, d_model]`.
    pub(super) fn forward(
        &self,
        resid: Tensor,
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let resid_pre = tap.pass(&self.hook_resid_pre, resid)?;
        let attn_out = self.attention(&resid_pre, around, past, tap)?;
        let attn_out = tap.pass(&self.hook_attn_out, attn_out)?;
        let (mlp_input, resid) = if self.parallel {
            (resid_pre.clone(), (resid_pre + attn_out)?)
        } else {
            let resid_mid = tap.pass(&self.hook_resid_mid, (resid_pre + attn_out)?)?;
            (resid_mid.clone(), resid_mid)
        };
        let mlp_in = if tap.wants(&self.hook_mlp_in) { tap.pass(&self.hook_mlp_in, mlp_input)? } else { mlp_input };
        let mlp_out = self.mlp.forward(&self.ln2.forward(&mlp_in, tap)?, tap)?;
        let mlp_out = tap.pass(&self.hook_mlp_out, mlp_out)?;
        tap.pass(&self.hook_resid_post, (resid + mlp_out)?)
    }

    /// Norm and attention. If a hook asked for the inputs of queries, keys or values, each gets its own copy of the
    /// stream and goes through the norm by itself; the norm's own points then fire once for each.
    fn attention(
        &self,
        resid_pre: &Tensor,
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let inputs = [&self.hook_q_input, &self.hook_k_input, &self.hook_v_input];
        if !tap.wants(&self.hook_attn_in) && !inputs.iter().any(|point| tap.wants(point)) {
            let normalized = self.ln1.forward(resid_pre, tap)?;
            return self.attn.forward([&normalized; 3], around, past, tap);
        }
        let copies = |heads: usize| -> Result<Tensor> {
            let (batch, pos, d_model) = resid_pre.dims3()?;
            Ok(resid_pre.unsqueeze(2)?.broadcast_as((batch, pos, heads, d_model))?.contiguous()?)
        };
        let attn_in = if tap.wants(&self.hook_attn_in) {
            Some(tap.pass(&self.hook_attn_in, copies(self.n_heads)?)?)
        } else {
            None
        };
        let heads = [self.n_heads, self.n_key_value_heads, self.n_key_value_heads];
        let mut normalized = Vec::with_capacity(3);
        for (point, heads) in inputs.into_iter().zip(heads) {
            let input = match &attn_in {
                Some(attn_in) => attn_in.clone(),
                None => copies(heads)?,
            };
            normalized.push(self.ln1.forward(&tap.pass(point, input)?, tap)?);
        }
        let [q, k, v] = &normalized[..] else { return Err(Error::msg("three inputs make three norms")) };
        self.attn.forward([q, k, v], around, past, tap)
    }
}
