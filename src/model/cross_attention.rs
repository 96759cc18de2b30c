//! Attention from the decoder to what the encoder made of its text.

use candle_core::Tensor;

use super::attention_core::{AttentionCore, CoreHooks};
use super::config::ModelConfig;
use super::kv_cache::LayerCache;
use super::linear::{for_reading, for_writing, per_head};
use super::mask::{Masks, Sees};
use crate::Result;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::weights::AttentionWeights;

/// One layer's cross-attention: queries from the decoder, keys and values from the encoder.
#[derive(Clone, Debug)]
pub(super) struct CrossAttention {
    weights: AttentionWeights,
    core: AttentionCore,
    hook_q: HookPoint,
    hook_k: HookPoint,
    hook_v: HookPoint,
}

/// What the encoder made of its text, for all layers of the decoder.
pub(super) struct Encoded {
    /// `[batch, encoder_pos, d_model]`.
    pub(super) stream: Tensor,
    /// Hides the encoder's padding.
    pub(super) masks: Masks,
}

impl CrossAttention {
    /// The attention called `name`, as in `decoder_blocks.0.cross_attn`.
    pub(super) fn new(name: &str, layer: usize, weights: AttentionWeights, cfg: &ModelConfig) -> Result<Self> {
        let point = |tail: &str| HookPoint::new(format!("{name}.hook_{tail}"));
        let weights = AttentionWeights {
            w_q: for_reading(&weights.w_q)?,
            w_k: for_reading(&weights.w_k)?,
            w_v: for_reading(&weights.w_v)?,
            w_o: for_writing(&weights.w_o)?,
            ..weights
        };
        Ok(Self {
            core: AttentionCore {
                scale: cfg.attn_scale_of(layer),
                soft_cap: None,
                sees: Sees::All,
                sinks: None,
                w_o: weights.w_o.clone(),
                b_o: weights.b_o.clone(),
                hooks: CoreHooks::new(name),
            },
            weights,
            hook_q: point("q"),
            hook_k: point("k"),
            hook_v: point("v"),
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let mut points = vec![
            PointInfo::always(&self.hook_q, "[batch, pos, head, d_head]"),
            PointInfo::always(&self.hook_k, "[batch, encoder_pos, kv_head, d_head]"),
            PointInfo::always(&self.hook_v, "[batch, encoder_pos, kv_head, d_head]"),
        ];
        points.extend(self.core.hooks.points());
        points
    }

    /// From the decoder's normalised stream to what the heads write, `[batch, pos, d_model]` both. Keys and values are
    /// made once: with a key-value cache, later steps take them from there, and their points don't fire again.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        encoded: &mut Encoded,
        past: Option<&mut LayerCache>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let w = &self.weights;
        let q = tap.pass(&self.hook_q, per_head(x, &w.w_q, w.b_q.as_ref())?)?;
        let (k, v) = match past.as_ref().and_then(|past| past.cross.clone()) {
            Some(made) => made,
            None => {
                let k = tap.pass(&self.hook_k, per_head(&encoded.stream, &w.w_k, w.b_k.as_ref())?)?;
                (k, tap.pass(&self.hook_v, per_head(&encoded.stream, &w.w_v, w.b_v.as_ref())?)?)
            }
        };
        if let Some(past) = past {
            past.cross = Some((k.clone(), v.clone()));
        }
        self.core.forward(&q, (k, v), None, &mut encoded.masks, None, tap)
    }

    pub(super) fn weights(&self) -> &AttentionWeights {
        &self.weights
    }
}
