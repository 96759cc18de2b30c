//! What all layers of one run share: masks, rotations, position biases.

use candle_core::{DType, Device, Tensor};

use super::alibi;
use super::config::{ModelConfig, Positions};
use super::cross_attention::Encoded;
use super::mask::Masks;
use super::rotary::{Rotary, Rotation};
use crate::Result;

/// What all layers of one run share.
pub(super) struct Surroundings {
    pub(super) masks: Masks,
    /// What the distance between query and key adds to the scores, `[1 or batch, head, 1 or query, key]`.
    pub(super) bias: Option<Tensor>,
    /// What a shortformer adds to the inputs of queries and keys, `[batch, pos, d_model]`.
    pub(super) pos_embed: Option<Tensor>,
    /// What the decoder of an encoder-decoder looks at besides.
    pub(super) encoded: Option<Encoded>,
    /// The position of each token, one row for each of the batch or one for all.
    positions: Vec<Vec<u32>>,
    rotations: Vec<(Rotary, Rotation)>,
    dtype: DType,
    device: Device,
}

impl Surroundings {
    pub(super) fn new(
        cfg: &ModelConfig,
        masks: Masks,
        positions: Vec<Vec<u32>>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let bias = match cfg.positions {
            Positions::Alibi { bias_max, style } => {
                let slopes = alibi::slopes(cfg.n_heads, bias_max);
                Some(alibi::bias(&slopes, style, masks.keys(), cfg.attn_scale, device)?.to_dtype(dtype)?)
            }
            _ => None,
        };
        Ok(Self {
            masks,
            bias,
            pos_embed: None,
            encoded: None,
            positions,
            rotations: Vec::new(),
            dtype,
            device: device.clone(),
        })
    }

    /// The rotation that a layer asks for; made once for all layers that share it.
    pub(super) fn rotation(&mut self, rotary: &Rotary) -> Result<Rotation> {
        if let Some((_, made)) = self.rotations.iter().find(|(made, _)| made == rotary) {
            return Ok(made.clone());
        }
        let made = Rotation::new(rotary, &self.positions, self.dtype, &self.device)?;
        self.rotations.push((rotary.clone(), made.clone()));
        Ok(made)
    }
}
