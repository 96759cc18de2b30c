//! Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): Mamba with heads, each of which decays as one, and a norm before the output.

use candle_core::{D, Tensor};

use super::activations::Activation;
use super::config::ModelConfig;
use super::kv_cache::LayerCache;
use super::linear::linear;
use super::selective_scan::{Scan, causal_conv, keep, softplus, state_of, wide};
use super::state_space::{Named, StateSpace, settings, without_padding};
use super::surroundings::Surroundings;
use crate::Result;
use crate::hooks::{PointInfo, Tap};
use crate::weights::Mamba2Weights;

#[derive(Clone, Debug)]
pub(super) struct Mamba2 {
    weights: Mamba2Weights,
    settings: StateSpace,
    act_fn: Activation,
    eps: f64,
    n_heads: usize,
    hook_in: Named,
    hook_in_proj: Named,
    hook_conv: Named,
    hook_inner_in: Named,
    hook_inner_gate: Named,
    hook_inner_norm: Named,
    hook_out_proj: Named,
    hook_out: Named,
}

impl Mamba2 {
    pub(super) fn new(block: &str, weights: Mamba2Weights, cfg: &ModelConfig) -> Result<Self> {
        let point = |names: &[&str], shape| Named::new(block, names, shape);
        let stream = "[batch, pos, d_model]";
        let in_proj = "[batch, pos, 2 * d_inner + 2 * n_groups * d_state + head]";
        Ok(Self {
            weights,
            settings: settings(cfg)?.clone(),
            act_fn: cfg.act_fn,
            eps: cfg.eps,
            n_heads: cfg.n_heads,
            hook_in: point(&["mixer.hook_in", "hook_mixer_in"], stream),
            hook_in_proj: point(&["mixer.in_proj.hook_out", "mixer.hook_in_proj"], in_proj),
            hook_conv: point(
                &["mixer.conv1d.hook_out", "mixer.hook_conv"],
                "[batch, d_inner + 2 * n_groups * d_state, pos]",
            ),
            hook_inner_in: point(&["mixer.inner_norm.hook_in"], "[batch, pos, d_inner]"),
            hook_inner_gate: point(&["mixer.inner_norm.hook_gate"], "[batch, pos, d_inner]"),
            hook_inner_norm: point(&["mixer.inner_norm.hook_out", "mixer.hook_inner_norm"], "[batch, pos, d_inner]"),
            hook_out_proj: point(&["mixer.out_proj.hook_out"], stream),
            hook_out: point(&["mixer.hook_out", "mixer.hook_ssm_out", "hook_mixer_out"], stream),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let points = [
            &self.hook_in,
            &self.hook_in_proj,
            &self.hook_conv,
            &self.hook_inner_in,
            &self.hook_inner_gate,
            &self.hook_inner_norm,
            &self.hook_out_proj,
            &self.hook_out,
        ];
        points.into_iter().flat_map(Named::points).collect()
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        around: &Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let w = &self.weights;
        let &StateSpace { d_inner, d_state, n_groups, dt_limit, .. } = &self.settings;
        let (batch, pos, _) = x.dims3()?;
        let dtype = x.dtype();
        let wide = wide(dtype);
        let x = without_padding(self.hook_in.pass(tap, x.clone())?, around)?;
        let projected = self.hook_in_proj.pass(tap, linear(&x, &w.w_in, w.b_in.as_ref())?)?;
        let (both, conv_width) = (n_groups * d_state, d_inner + 2 * n_groups * d_state);
        let gate = projected.narrow(D::Minus1, 0, d_inner)?;
        let dt = projected.narrow(D::Minus1, d_inner + conv_width, self.n_heads)?;

        let x = projected.narrow(D::Minus1, d_inner, conv_width)?.contiguous()?;
        let (x, conv) = causal_conv(&x, &w.w_conv, w.b_conv.as_ref(), past.as_deref())?;
        let x = self.hook_conv.pass(tap, x.transpose(1, 2)?)?.transpose(1, 2)?.contiguous()?;
        let x = without_padding(self.act_fn.forward(&x)?, around)?;

        let dt = softplus(&dt.to_dtype(wide)?.broadcast_add(&w.dt_bias.to_dtype(wide)?)?)?.maximum(dt_limit.0)?;
        let dt = if dt_limit.1.is_finite() { dt.minimum(dt_limit.1)? } else { dt };
        // Heads that share a group stand together; a head's channels share its time step and decay.
        let d_head = d_inner / self.n_heads;
        let per_channel = |t: &Tensor| -> Result<Tensor> {
            let t = t.unsqueeze(D::Minus1)?;
            let mut shape = t.dims().to_vec();
            if let Some(last) = shape.last_mut() {
                *last = d_head;
            }
            Ok(t.broadcast_as(shape)?.contiguous()?)
        };
        let part = |start: usize, width: usize| -> Result<Tensor> {
            let part = x.narrow(D::Minus1, start, width)?.contiguous()?.to_dtype(wide)?;
            Ok(part.reshape((batch, pos, n_groups, width / n_groups))?)
        };
        let a = w.a_log.to_dtype(wide)?.exp()?.neg()?;
        let scan = Scan {
            x: part(0, d_inner)?,
            dt: per_channel(&dt)?.reshape((batch, pos, n_groups, d_inner / n_groups))?,
            a: per_channel(&a)?.reshape((n_groups, d_inner / n_groups, 1))?,
            b: part(d_inner, both)?,
            c: part(d_inner + both, both)?,
        };
        let (y, state) = scan.run(state_of(past.as_deref()))?;
        keep(past, conv, state, pos);
        let skipped = per_channel(&w.d.to_dtype(wide)?)?.reshape((n_groups, d_inner / n_groups))?;
        let y = (y + scan.x.broadcast_mul(&skipped)?)?.reshape((batch, pos, d_inner))?;

        // The gate is SiLU whatever the model's activation function is.
        let y = self.hook_inner_in.pass(tap, y)?;
        let gate = self.hook_inner_gate.pass(tap, gate.contiguous()?)?;
        let y = (y * gate.to_dtype(wide)?.silu()?)?.reshape((batch, pos, n_groups, d_inner / n_groups))?;
        // Each group is normalised by itself.
        let scale = (y.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        let mut y = y.broadcast_div(&scale)?.reshape((batch, pos, d_inner))?.to_dtype(dtype)?;
        if let Some(factor) = &w.norm.w {
            y = y.broadcast_mul(factor)?;
        }
        let y = self.hook_inner_norm.pass(tap, y)?;
        let out = self.hook_out_proj.pass(tap, linear(&y, &w.w_out, w.b_out.as_ref())?)?;
        self.hook_out.pass(tap, out)
    }

    pub(super) fn weights(&self) -> &Mamba2Weights {
        &self.weights
    }
}
