//! Self-attention, with its hook points.

use candle_core::Tensor;

use super::attention_core::{AttentionCore, CoreHooks};
use super::config::{ModelConfig, Positions};
use super::kv_cache::LayerCache;
use super::linear::{for_reading, for_writing, per_head};
use super::mask::Sees;
use super::norm::Norm;
use super::rotary::Rotary;
use super::surroundings::Surroundings;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::{AttentionWeights, NormWeights};
use crate::{Error, Result};

/// One layer's attention. Queries, keys and values may come from inputs of their own.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    weights: AttentionWeights,
    clip: Option<f64>,
    /// Whether queries and keys are clipped behind their norm.
    clip_after_norm: bool,
    norms: Option<QkNorms>,
    rotary: Option<Rotary>,
    /// Whether the model's positions are rotary; a layer of it may still leave queries and keys as they are.
    places_by_rotation: bool,
    core: AttentionCore,
    hook_q: HookPoint,
    hook_k: HookPoint,
    hook_v: HookPoint,
    hook_rot_q: HookPoint,
    hook_rot_k: HookPoint,
}

/// The norms on queries and keys.
#[derive(Clone, Debug)]
struct QkNorms {
    q: Norm,
    k: Norm,
    joint: bool,
    after_rotary: bool,
}

impl Attention {
    /// The attention called `name`, as in `blocks.0.attn`.
    pub(super) fn new(name: &str, layer: usize, weights: AttentionWeights, cfg: &ModelConfig) -> Result<Self> {
        let point = |tail: &str| HookPoint::new(format!("{name}.hook_{tail}"));
        let layer_cfg = cfg.layers.get(layer).ok_or_else(|| Error::msg(format!("no settings for layer {layer}")))?;
        let weights = AttentionWeights {
            w_q: for_reading(&weights.w_q)?,
            w_k: for_reading(&weights.w_k)?,
            w_v: for_reading(&weights.w_v)?,
            w_o: for_writing(&weights.w_o)?,
            ..weights
        };
        let sees = match (cfg.bidirectional, layer_cfg.window) {
            (false, window) => Sees::Past { window },
            (true, Some(window)) => Sees::Around { window },
            (true, None) => Sees::All,
        };
        Ok(Self {
            clip: cfg.clip_qkv,
            clip_after_norm: cfg.clip_after_qk_norm,
            norms: QkNorms::new(name, &weights, cfg)?,
            rotary: layer_cfg.rotary.clone(),
            places_by_rotation: cfg.positions == Positions::Rotary,
            core: AttentionCore {
                scale: cfg.attn_scale_of(layer),
                soft_cap: cfg.attn_scores_soft_cap,
                sees,
                sinks: weights.sinks.clone(),
                w_o: weights.w_o.clone(),
                b_o: weights.b_o.clone(),
                hooks: CoreHooks::new(name),
            },
            weights,
            hook_q: point("q"),
            hook_k: point("k"),
            hook_v: point("v"),
            hook_rot_q: point("rot_q"),
            hook_rot_k: point("rot_k"),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let rotary = |point: &HookPoint, shape| match self.places_by_rotation {
            true => PointInfo::always(point, shape),
            false => PointInfo::never(point.shared_name(), "the model's positions are not rotary"),
        };
        let mut points = vec![
            PointInfo::always(&self.hook_q, "[batch, pos, head, d_head]"),
            PointInfo::always(&self.hook_k, "[batch, pos, kv_head, d_head]"),
            PointInfo::always(&self.hook_v, "[batch, pos, kv_head, d_head]"),
        ];
        let rotated = [
            rotary(&self.hook_rot_q, "[batch, pos, head, d_head]"),
            rotary(&self.hook_rot_k, "[batch, pos, kv_head, d_head]"),
        ];
        let norms = self.norms.iter().flat_map(|norms| [norms.q.hook_points(), norms.k.hook_points()].concat());
        if self.norms.as_ref().is_some_and(|norms| norms.after_rotary) {
            points.extend(rotated);
            points.extend(norms);
        } else {
            points.extend(norms);
            points.extend(rotated);
        }
        points.extend(self.core.hooks.points());
        points
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
        let v = self.clipped(tap.pass(&self.hook_v, per_head(v_in, &w.w_v, w.b_v.as_ref())?)?)?;
        let (before, after) = match &self.norms {
            Some(norms) if norms.after_rotary => (None, Some(norms)),
            norms => (norms.as_ref(), None),
        };
        if !self.clip_after_norm {
            (q, k) = (self.clipped(q)?, self.clipped(k)?);
        }
        if let Some(norms) = before {
            (q, k) = norms.forward(&q, &k, tap)?;
        }
        if self.clip_after_norm {
            (q, k) = (self.clipped(q)?, self.clipped(k)?);
        }
        if let Some(rotary) = &self.rotary {
            let rotation = around.rotation(rotary)?;
            (q, k) = (rotation.apply(&q)?, rotation.apply(&k)?);
        }
        if self.places_by_rotation {
            q = tap.pass(&self.hook_rot_q, q)?;
            k = tap.pass(&self.hook_rot_k, k)?;
        }
        if let Some(norms) = after {
            (q, k) = norms.forward(&q, &k, tap)?;
        }
        self.core.forward(&q, (k, v), around.bias.as_ref(), &mut around.masks, past, tap)
    }

    /// What each head writes: z `[batch, pos, head, d_head]` to `[batch, pos, head, d_model]`, without b_O.
    pub(super) fn head_results(&self, z: &Tensor) -> Result<Tensor> {
        self.core.head_results(z)
    }

    pub(super) fn weights(&self) -> &AttentionWeights {
        &self.weights
    }

    fn clipped(&self, x: Tensor) -> Result<Tensor> {
        match self.clip {
            Some(limit) => Ok(x.clamp(-limit, limit)?),
            None => Ok(x),
        }
    }
}

impl QkNorms {
    fn new(name: &str, weights: &AttentionWeights, cfg: &ModelConfig) -> Result<Option<Self>> {
        let (Some(settings), Some(q), Some(k)) = (cfg.qk_norm, &weights.q_norm, &weights.k_norm) else {
            return match (cfg.qk_norm, &weights.q_norm, &weights.k_norm) {
                (None, None, None) => Ok(None),
                _ => Err(Error::msg(format!(
                    "{name}: a norm on queries and keys needs its settings (qk_norm) and its weights (q_norm, k_norm)"
                ))),
            };
        };
        // Weights of each head's own, [heads, d_head], stand beside [batch, head, pos, d_head].
        let beside =
            |w: &Option<Tensor>| w.as_ref().map(|w| if w.rank() == 2 { w.unsqueeze(1) } else { Ok(w.clone()) });
        let norm = |which: &str, weights: &NormWeights| -> Result<Norm> {
            let weights = NormWeights { w: beside(&weights.w).transpose()?, b: beside(&weights.b).transpose()? };
            let norm = Norm::new(&format!("{name}.{which}"), weights, settings.normalization, cfg.eps);
            Ok(if settings.joint {
                norm.of_shapes("[batch, pos, 1]", "[batch, pos, head * d_head]")
            } else {
                norm.of_shapes("[batch, head, pos, 1]", "[batch, head, pos, d_head]")
            })
        };
        Ok(Some(Self {
            q: norm("q_norm", q)?,
            k: norm("k_norm", k)?,
            joint: settings.joint,
            after_rotary: settings.after_rotary,
        }))
    }

    /// q and k, `[batch, pos, head, d_head]` each, normalised.
    fn forward(&self, q: &Tensor, k: &Tensor, tap: &mut Tap) -> Result<(Tensor, Tensor)> {
        let mut apply = |norm: &Norm, x: &Tensor| -> Result<Tensor> {
            if self.joint {
                Ok(norm.forward(&x.flatten_from(2)?, tap)?.reshape(x.shape())?)
            } else {
                Ok(norm.forward(&x.transpose(1, 2)?.contiguous()?, tap)?.transpose(1, 2)?)
            }
        };
        Ok((apply(&self.q, q)?, apply(&self.k, k)?))
    }
}
