//! The encoder of an encoder-decoder: its own stack of blocks, on a text of its own.

use candle_core::Tensor;

use super::block::Block;
use super::config::{ModelConfig, Positions};
use super::kv_cache::KvCache;
use super::mask::Masks;
use super::norm::Norm;
use super::relative_bias::RelativeBias;
use super::run::{place, position_ids, rows};
use super::surroundings::Surroundings;
use crate::hooks::{HookPoint, PointInfo, Tap};
use crate::tokens::Tokens;
use crate::weights::{EncoderWeights, compute_dtype};
use crate::{Error, Result};

/// An encoder: it reads all of its text at once, and the decoder looks at what it gives.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    cfg: ModelConfig,
    w_pos: Option<Tensor>,
    embed_ln: Option<Norm>,
    relative_bias: Option<RelativeBias>,
    blocks: Vec<Block>,
    ln_final: Option<Norm>,
    hook_embed: HookPoint,
    hook_pos_embed: HookPoint,
}

/// What an encoder made of its text.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    /// `[batch, pos, d_model]`.
    pub(super) stream: Tensor,
    /// Which of its positions are not padding, `[batch][pos]`; none if all are.
    pub(super) real: Option<Vec<Vec<bool>>>,
}

impl Encoder {
    pub(super) fn new(cfg: ModelConfig, weights: EncoderWeights) -> Result<Self> {
        if weights.blocks.len() != cfg.n_layers || cfg.layers.len() != cfg.n_layers {
            return Err(Error::msg(format!(
                "the encoder's configuration has {} layers and settings for {}, and its weights have {} blocks",
                cfg.n_layers,
                cfg.layers.len(),
                weights.blocks.len()
            )));
        }
        let norm = |name: &str, weights: Option<_>| {
            weights.map(|weights| Norm::new(name, weights, cfg.normalization, cfg.eps))
        };
        let block = |(layer, block)| Block::new(&format!("encoder_blocks.{layer}"), layer, block, &cfg);
        let blocks = weights.blocks.into_iter().enumerate().map(block).collect::<Result<_>>()?;
        Ok(Self {
            w_pos: weights.w_pos,
            embed_ln: norm("embed_ln", weights.embed_ln),
            relative_bias: match (&cfg.positions, weights.relative_bias) {
                (Positions::RelativeBias { max_distance, .. }, Some(table)) => {
                    Some(RelativeBias::new("hook_pos_embed", table, *max_distance, cfg.bidirectional))
                }
                _ => None,
            },
            blocks,
            ln_final: norm("encoder_ln_final", weights.ln_final),
            hook_embed: HookPoint::new("hook_embed"),
            hook_pos_embed: HookPoint::new("hook_pos_embed"),
            cfg,
        })
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        let stream = "[batch, pos, d_model]";
        let norm = |norm: &Option<Norm>| norm.as_ref().map(Norm::hook_points).unwrap_or_default();
        let mut points = Vec::new();
        if self.w_pos.is_some() {
            points.push(PointInfo::always(&self.hook_pos_embed, stream));
        }
        points.extend(norm(&self.embed_ln));
        points.push(PointInfo::always(&self.hook_embed, stream));
        points.extend(self.relative_bias.iter().map(RelativeBias::hook_point));
        points.extend(self.blocks.iter().flat_map(Block::hook_points));
        points.extend(norm(&self.ln_final));
        points
    }

    /// From tokens, embedded by `w_e` `[d_vocab, d_model]`, to what the decoder looks at.
    pub(super) fn forward(
        &self,
        w_e: &Tensor,
        tokens: &Tokens,
        mask: Option<Vec<Vec<bool>>>,
        tap: &mut Tap,
    ) -> Result<Encoding> {
        let (batch, pos) = tokens.shape();
        if self.relative_bias.is_none() && pos > self.cfg.n_ctx {
            return Err(Error::PromptTooLong { found: pos, n_ctx: self.cfg.n_ctx });
        }
        let (device, dtype) = (w_e.device(), compute_dtype(w_e.dtype(), w_e.device()));
        let positions = position_ids(mask.as_deref(), None::<&KvCache>, batch, pos);
        let embed = rows(w_e, &tokens.tensor(device)?)?.to_dtype(dtype)?;
        let mut resid = (embed * self.cfg.embedding_multiplier)?;
        if let Some(w_pos) = &self.w_pos {
            let pos_embed = tap.pass(&self.hook_pos_embed, place(w_pos, &positions, mask.as_deref(), batch)?)?;
            resid = (resid + pos_embed)?;
        }
        if let Some(norm) = &self.embed_ln {
            resid = norm.forward(&resid, tap)?;
        }
        resid = tap.pass(&self.hook_embed, resid)?;
        let masks = Masks::new(pos, pos, mask.clone(), dtype, device);
        let mut around = Surroundings::new(&self.cfg, masks, positions, dtype, device)?;
        if let Some(relative_bias) = &self.relative_bias {
            around.bias = Some(relative_bias.forward(pos, pos, tap)?);
        }
        for block in &self.blocks {
            resid = block.forward(resid, &mut around, None, tap)?;
        }
        let stream = match &self.ln_final {
            Some(norm) => norm.forward(&resid, tap)?,
            None => resid,
        };
        Ok(Encoding { stream, real: mask })
    }

    pub(super) fn weights(&self) -> EncoderWeights {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.weights().clone());
        EncoderWeights {
            w_pos: self.w_pos.clone(),
            embed_ln: norm(&self.embed_ln),
            relative_bias: self.relative_bias.as_ref().map(|bias| bias.weights().clone()),
            blocks: self.blocks.iter().map(Block::weights).collect(),
            ln_final: norm(&self.ln_final),
        }
    }
}
