//! Mamba (Gu and Dao 2023, arXiv 2312.00752): channels with states, read and written as the token says.

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
use crate::weights::MambaWeights;

#[derive(Clone, Debug)]
pub(super) struct Mamba {
    weights: MambaWeights,
    settings: StateSpace,
    act_fn: Activation,
    hook_in: Named,
    hook_in_proj: Named,
    hook_conv: Named,
    hook_x_proj: Named,
    hook_dt_proj: Named,
    hook_out_proj: Named,
    hook_out: Named,
}

impl Mamba {
    pub(super) fn new(block: &str, weights: MambaWeights, cfg: &ModelConfig) -> Result<Self> {
        let point = |names: &[&str], shape| Named::new(block, names, shape);
        let stream = "[batch, pos, d_model]";
        Ok(Self {
            weights,
            settings: settings(cfg)?.clone(),
            act_fn: cfg.act_fn,
            hook_in: point(&["mixer.hook_in", "hook_mixer_in"], stream),
            hook_in_proj: point(&["mixer.in_proj.hook_out", "mixer.hook_in_proj"], "[batch, pos, 2 * d_inner]"),
            hook_conv: point(&["mixer.conv1d.hook_out", "mixer.hook_conv"], "[batch, d_inner, pos]"),
            hook_x_proj: point(&["mixer.x_proj.hook_out", "mixer.hook_x_proj"], "[batch, pos, dt_rank + 2 * d_state]"),
            hook_dt_proj: point(&["mixer.dt_proj.hook_out", "mixer.hook_dt_proj"], "[batch, pos, d_inner]"),
            hook_out_proj: point(&["mixer.out_proj.hook_out"], stream),
            hook_out: point(&["mixer.hook_out", "mixer.hook_ssm_out", "hook_mixer_out"], stream),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let points = [
            &self.hook_in,
            &self.hook_in_proj,
            &self.hook_conv,
            &self.hook_x_proj,
            &self.hook_dt_proj,
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
        let &StateSpace { d_inner, d_state, dt_rank, .. } = &self.settings;
        let dtype = x.dtype();
        let wide = wide(dtype);
        let x = self.hook_in.pass(tap, x.clone())?;
        let projected = self.hook_in_proj.pass(tap, linear(&x, &w.w_in, w.b_in.as_ref())?)?;
        let x = without_padding(projected.narrow(D::Minus1, 0, d_inner)?.contiguous()?, around)?;
        let gate = projected.narrow(D::Minus1, d_inner, d_inner)?;

        let (x, conv) = causal_conv(&x, &w.w_conv, w.b_conv.as_ref(), past.as_deref())?;
        let x = self.hook_conv.pass(tap, x.transpose(1, 2)?)?.transpose(1, 2)?.contiguous()?;
        let x = without_padding(self.act_fn.forward(&x)?, around)?;

        let selected = self.hook_x_proj.pass(tap, linear(&x, &w.w_x, None)?)?;
        let part = |start: usize, width: usize| selected.narrow(D::Minus1, start, width)?.contiguous();
        let dt = linear(&part(0, dt_rank)?, &w.w_dt, w.b_dt.as_ref())?;
        let dt = softplus(&self.hook_dt_proj.pass(tap, dt)?.to_dtype(wide)?)?;
        // All channels are one group.
        let grouped = |t: &Tensor| t.to_dtype(wide)?.unsqueeze(2);
        let scan = Scan {
            x: grouped(&x)?,
            dt: grouped(&dt)?,
            a: w.a_log.to_dtype(wide)?.exp()?.neg()?.unsqueeze(0)?,
            b: grouped(&part(dt_rank, d_state)?)?,
            c: grouped(&part(dt_rank + d_state, d_state)?)?,
        };
        let (y, state) = scan.run(state_of(past.as_deref()))?;
        keep(past, conv, state, x.dim(1)?);
        let y = (y.squeeze(2)?.to_dtype(dtype)? + x.broadcast_mul(&w.d)?)?;
        // The gate is SiLU whatever the model's activation function is.
        let y = (y * Activation::Silu.forward(&gate.contiguous()?)?)?;
        let out = self.hook_out_proj.pass(tap, linear(&y, &w.w_out, w.b_out.as_ref())?)?;
        self.hook_out.pass(tap, out)
    }

    pub(super) fn weights(&self) -> &MambaWeights {
        &self.weights
    }
}
