//! Keys and values of the tokens that a model has seen, so that generation computes only new ones.

use candle_core::Tensor;

use super::HookedTransformer;
use super::encoder::Encoding;
use super::selective_scan::SsmState;
use crate::{Error, Result};

/// Keys (after rotary positions) and values of every layer, and which of their positions are padding.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(super) layers: Vec<LayerCache>,
    /// Per row, whether each position is a real token; none as long as all are.
    pub(super) real: Option<Vec<Vec<bool>>>,
    /// What an encoder-decoder's encoder made of its text, which later steps look at too.
    pub(super) encoded: Option<Encoding>,
}

/// One layer's keys and values, `[batch, pos, kv_head, d_head]` each, or the state of its state-space mixer.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerCache {
    keys_values: Option<(Tensor, Tensor)>,
    /// What a state-space mixer has instead of keys and values.
    pub(super) state: Option<SsmState>,
    /// Keys and values of the cross-attention, which stay as they are.
    pub(super) cross: Option<(Tensor, Tensor)>,
}

impl KvCache {
    /// An empty cache for a model of `n_layers` layers.
    pub fn new(n_layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); n_layers], real: None, encoded: None }
    }

    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.layers.first().and_then(LayerCache::shape).map_or(0, |(_, pos)| pos)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch that it holds; none while it is empty.
    pub fn batch(&self) -> Option<usize> {
        self.layers.first().and_then(LayerCache::shape).map(|(batch, _)| batch)
    }

    /// Whether such a cache can hold all that later positions of a model's text see of earlier ones as keys and values.
    pub(crate) fn is_for(&self, model: &HookedTransformer) -> bool {
        !model.cfg().bidirectional && !model.has_encoder() && model.layers_with_patterns().len() == self.layers.len()
    }

    /// What it held after its first positions, which are real, for so many copies of its rows.
    pub(crate) fn beginning(&self, positions: usize, copies: usize) -> Result<Self> {
        let of_layer = |layer: &LayerCache| -> Result<LayerCache> {
            let several = |x: &Tensor| -> Result<Tensor> {
                let first = x.narrow(1, 0, positions)?;
                match first.dims() {
                    // One row is seen several times, without a copy.
                    &[1, pos, heads, d] => Ok(first.broadcast_as((copies, pos, heads, d))?),
                    _ => Ok(first.repeat((copies, 1, 1, 1))?),
                }
            };
            let keys_values =
                layer.keys_values.as_ref().map(|(k, v)| Ok::<_, Error>((several(k)?, several(v)?))).transpose()?;
            Ok(LayerCache { keys_values, ..LayerCache::default() })
        };
        let layers = self.layers.iter().map(of_layer).collect::<Result<_>>()?;
        Ok(Self { layers, real: None, encoded: None })
    }

    /// How many real tokens each row holds, which is the position of the next one.
    pub(super) fn real_lengths(&self, batch: usize) -> Vec<usize> {
        match &self.real {
            Some(real) => real.iter().map(|row| row.iter().filter(|real| **real).count()).collect(),
            None => vec![self.len(); batch],
        }
    }

    /// Notes which of `new` more positions are real and gives the marks of all positions, none if all are real.
    pub(super) fn extend_real(
        &mut self,
        mask: Option<&[Vec<bool>]>,
        batch: usize,
        new: usize,
    ) -> Option<Vec<Vec<bool>>> {
        if self.real.is_none() && mask.is_none() {
            return None;
        }
        let past = self.len();
        let mut real = self.real.take().unwrap_or_else(|| vec![vec![true; past]; batch]);
        for (row, marks) in real.iter_mut().enumerate() {
            match mask.and_then(|mask| mask.get(row)) {
                Some(mask) => marks.extend(mask),
                None => marks.extend(std::iter::repeat_n(true, new)),
            }
        }
        self.real = Some(real.clone());
        Some(real)
    }

    pub(super) fn check(&self, n_layers: usize, batch: usize) -> Result<()> {
        if self.layers.len() != n_layers {
            return Err(Error::msg(format!(
                "the key-value cache was made for {} layers, and this model has {n_layers}",
                self.layers.len()
            )));
        }
        match self.batch() {
            Some(held) if held != batch => {
                Err(Error::msg(format!("the key-value cache holds {held} rows, and the input has {batch}")))
            }
            _ => Ok(()),
        }
    }
}

impl LayerCache {
    /// Rows and positions that it holds; none while it is empty.
    fn shape(&self) -> Option<(usize, usize)> {
        match (&self.keys_values, &self.state) {
            (Some((k, _)), _) => Some((k.dims()[0], k.dims()[1])),
            (None, Some(state)) => Some((state.batch(), state.seen())),
            (None, None) => None,
        }
    }

    /// Adds new keys and values and gives all of them.
    pub(super) fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let all = match self.keys_values.take() {
            Some((past_k, past_v)) => (Tensor::cat(&[&past_k, k], 1)?, Tensor::cat(&[&past_v, v], 1)?),
            None => (k.clone(), v.clone()),
        };
        self.keys_values = Some(all.clone());
        Ok(all)
    }
}
