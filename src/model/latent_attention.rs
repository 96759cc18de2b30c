//! Latent attention (DeepSeek-AI 2024, arXiv 2405.04434): keys and values through one narrow latent, queries through another.

use candle_core::{D, Tensor};

use super::attention_core::{AttentionCore, CoreHooks};
use super::config::{ModelConfig, Normalization};
use super::kv_cache::LayerCache;
use super::linear::{for_reading, for_writing, linear, per_head};
use super::mask::Sees;
use super::norm::Norm;
use super::rotary::Rotary;
use super::surroundings::Surroundings;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::LatentWeights;
use crate::{Error, Result};

/// The sizes of a model's latent attention.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentAttention {
    /// Width of the latent that queries come from; none where they read the residual stream directly.
    pub q_rank: Option<usize>,
    /// Width of the latent that keys and values come from.
    pub kv_rank: usize,
    /// Numbers of a head's queries and keys that know no position.
    pub d_nope: usize,
    /// Numbers of a head's queries and keys that are rotated; all heads share those of the keys.
    pub d_rope: usize,
    /// Width of a head's values.
    pub d_v: usize,
    /// Whether the weights' pairs are (2i, 2i + 1), and are put into the order (i, i + d_rope / 2) before they rotate.
    pub reorders_pairs: bool,
    /// Added under the square root of the latents' norms.
    pub eps: f64,
}

/// One layer's latent attention.
#[derive(Clone, Debug)]
pub(super) struct LatentLayer {
    weights: LatentWeights,
    settings: LatentAttention,
    rotary: Option<Rotary>,
    q_norm: Option<Norm>,
    kv_norm: Norm,
    core: AttentionCore,
    hook_q_latent: HookPoint,
    hook_kv_latent: HookPoint,
    hook_q: HookPoint,
    hook_k: HookPoint,
    hook_v: HookPoint,
    hook_rot_q: HookPoint,
    hook_rot_k: HookPoint,
}

impl LatentLayer {
    /// The attention called `name`, as in `blocks.0.attn`.
    pub(super) fn new(name: &str, layer: usize, weights: LatentWeights, cfg: &ModelConfig) -> Result<Self> {
        let settings = cfg.latent_attention.clone().ok_or_else(|| {
            Error::msg("the weights have latent attention, and the configuration says nothing of its sizes")
        })?;
        let layer_cfg = cfg.layers.get(layer).ok_or_else(|| Error::msg(format!("no settings for layer {layer}")))?;
        let point = |tail: &str| HookPoint::new(format!("{name}.hook_{tail}"));
        let norm = |which: &str, weights| {
            Norm::new(&format!("{name}.{which}"), weights, Normalization::Rms, settings.eps)
                .of_shapes("[batch, pos, 1]", "[batch, pos, rank]")
        };
        let weights = LatentWeights {
            w_q: for_reading(&weights.w_q)?,
            w_kv: for_reading(&weights.w_kv)?,
            w_o: for_writing(&weights.w_o)?,
            ..weights
        };
        Ok(Self {
            rotary: layer_cfg.rotary.clone(),
            q_norm: weights.q_norm.clone().map(|weights| norm("q_a_layernorm", weights)),
            kv_norm: norm("kv_a_layernorm", weights.kv_norm.clone()),
            core: AttentionCore {
                scale: cfg.attn_scale_of(layer),
                soft_cap: cfg.attn_scores_soft_cap,
                sees: Sees::Past { window: layer_cfg.window },
                sinks: None,
                w_o: weights.w_o.clone(),
                b_o: weights.b_o.clone(),
                hooks: CoreHooks::new(name),
            },
            weights,
            settings,
            hook_q_latent: point("q_latent"),
            hook_kv_latent: point("kv_latent"),
            hook_q: point("q"),
            hook_k: point("k"),
            hook_v: point("v"),
            hook_rot_q: point("rot_q"),
            hook_rot_k: point("rot_k"),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let latent = "[batch, pos, rank]";
        let mut points = Vec::new();
        match &self.q_norm {
            Some(norm) => {
                points.extend(norm.hook_points());
                points.push(PointInfo::always(&self.hook_q_latent, latent));
            }
            None => {
                let why = "the queries of this model have no latent; they read the residual stream directly";
                points.push(PointInfo::never(self.hook_q_latent.shared_name(), why));
            }
        }
        points.extend(self.kv_norm.hook_points());
        points.push(PointInfo::always(&self.hook_kv_latent, latent));
        points.push(PointInfo::always(&self.hook_rot_q, "[batch, pos, head, d_rope]"));
        points.push(PointInfo::always(&self.hook_rot_k, "[batch, pos, 1, d_rope]"));
        points.push(PointInfo::always(&self.hook_q, "[batch, head, pos, d_head]"));
        points.push(PointInfo::always(&self.hook_k, "[batch, head, pos, d_head]"));
        points.push(PointInfo::always(&self.hook_v, "[batch, head, pos, d_v]"));
        points.extend(self.core.hooks.points());
        points
    }

    /// From the normalised stream, `[batch, pos, d_model]`, to the same shape.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        around: &mut Surroundings,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let w = &self.weights;
        let &LatentAttention { kv_rank, d_nope, d_rope, d_v, .. } = &self.settings;
        let part = |t: &Tensor, start: usize, width: usize| t.narrow(D::Minus1, start, width)?.contiguous();
        let q = match (&w.w_q_a, &self.q_norm) {
            (Some(w_q_a), Some(norm)) => {
                let latent = norm.forward(&linear(x, w_q_a, w.b_q_a.as_ref())?, tap)?;
                per_head(&tap.pass(&self.hook_q_latent, latent)?, &w.w_q, None)?
            }
            _ => per_head(x, &w.w_q, None)?,
        };
        let compressed = linear(x, &w.w_kv_a, w.b_kv_a.as_ref())?;
        let latent = self.kv_norm.forward(&part(&compressed, 0, kv_rank)?, tap)?;
        let kv = per_head(&tap.pass(&self.hook_kv_latent, latent)?, &w.w_kv, None)?;

        let (mut rot_q, mut rot_k) = (part(&q, d_nope, d_rope)?, part(&compressed, kv_rank, d_rope)?.unsqueeze(2)?);
        if self.settings.reorders_pairs {
            (rot_q, rot_k) = (halves(&rot_q)?, halves(&rot_k)?);
        }
        if let Some(rotary) = &self.rotary {
            let rotation = around.rotation(rotary)?;
            (rot_q, rot_k) = (rotation.apply(&rot_q)?, rotation.apply(&rot_k)?);
        }
        let rot_q = tap.pass(&self.hook_rot_q, rot_q)?;
        let rot_k = tap.pass(&self.hook_rot_k, rot_k)?;

        let (batch, pos, heads, _) = q.dims4()?;
        let rot_k = rot_k.broadcast_as((batch, pos, heads, d_rope))?.contiguous()?;
        let q = Tensor::cat(&[part(&q, 0, d_nope)?, rot_q], D::Minus1)?;
        let k = Tensor::cat(&[part(&kv, 0, d_nope)?, rot_k], D::Minus1)?;
        // As TransformerLens has these three: heads before positions.
        let mut by_head = |point: &HookPoint, t: Tensor| -> Result<Tensor> {
            Ok(tap.pass(point, t.transpose(1, 2)?)?.transpose(1, 2)?)
        };
        let q = by_head(&self.hook_q, q)?;
        let k = by_head(&self.hook_k, k)?;
        let v = by_head(&self.hook_v, part(&kv, d_nope, d_v)?)?;
        self.core.forward(&q, (k, v), around.bias.as_ref(), &mut around.masks, past, tap)
    }

    /// What each head writes: z `[batch, pos, head, d_v]` to `[batch, pos, head, d_model]`, without b_O.
    pub(super) fn head_results(&self, z: &Tensor) -> Result<Tensor> {
        self.core.head_results(z)
    }

    pub(super) fn weights(&self) -> &LatentWeights {
        &self.weights
    }
}

/// The last axis with its pairs (2i, 2i + 1) in the order (i, i + half).
fn halves(x: &Tensor) -> Result<Tensor> {
    let (batch, pos, heads, width) = x.dims4()?;
    let pairs = x.reshape((batch, pos, heads, width / 2, 2))?;
    Ok(pairs.transpose(3, 4)?.contiguous()?.reshape((batch, pos, heads, width))?)
}
