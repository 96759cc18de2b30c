//! The attention pattern of one layer, with its tokens.

use std::ops::Deref;

use candle_core::Tensor;

use super::ActivationCache;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// The attention pattern of one layer, `[batch, head, query, key]` (`[head, query, key]` from a cache without batch).
///
/// Use it as the tensor that it is; in a notebook it shows every head over the tokens.
#[derive(Clone, Debug)]
pub struct AttentionPattern {
    tensor: Tensor,
    layer: usize,
    tokens: Option<Tokens>,
    queries: Option<Vec<usize>>,
    has_batch_dim: bool,
    what: &'static str,
}

impl ActivationCache {
    /// The attention of one layer over the tokens; in a notebook it shows every head. For an encoder-decoder, the decoder's
    /// own; those of the encoder and between the two are under `encoder_blocks.0.attn.hook_pattern` and
    /// `decoder_blocks.0.cross_attn.hook_pattern`.
    ///
    /// Of a cache that was sliced by position it has these queries, and all keys.
    pub fn pattern(&self, layer: usize) -> Result<AttentionPattern> {
        let tensor = self.get(self.model.pattern_point(layer))?;
        Ok(AttentionPattern {
            // A single query stays an axis here, so that the pattern is a matrix.
            tensor: if self.has_pos_dim { tensor } else { tensor.unsqueeze(tensor.rank() - 1)? },
            layer,
            tokens: self.key_tokens.clone(),
            queries: self.places.clone(),
            has_batch_dim: self.has_batch_dim,
            what: "Attention",
        })
    }
}

impl AttentionPattern {
    /// The layer that it is of.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Other numbers over the same queries and keys, and what they are.
    pub(crate) fn with_tensor(self, tensor: Tensor, what: &'static str) -> Self {
        Self { tensor, what, ..self }
    }

    /// What the numbers are, in words.
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    /// The pattern of one row of the batch, `[head, query, key]`.
    pub fn row(&self, row: usize) -> Result<Tensor> {
        if !self.has_batch_dim {
            return Ok(self.tensor.clone());
        }
        let rows = self.tensor.dim(0)?;
        if row >= rows {
            return Err(Error::msg(format!("there is no row {row}: the batch has {rows}")));
        }
        Ok(self.tensor.get(row)?)
    }

    /// The pattern of one head of the first row, `[query, key]`.
    pub fn head(&self, head: usize) -> Result<Tensor> {
        let row = self.row(0)?;
        let heads = row.dim(0)?;
        if head >= heads {
            return Err(Error::msg(format!("there is no head {head}: the layer has {heads}")));
        }
        Ok(row.get(head)?)
    }

    /// The tokens that it is over: those of the keys; none if the model ran on a residual stream.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// Which tokens the queries are, where the cache was sliced by position; none if all are there.
    pub fn queries(&self) -> Option<&[usize]> {
        self.queries.as_deref()
    }
}

impl Deref for AttentionPattern {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}
