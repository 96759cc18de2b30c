//! Blocks that are read from their files when they are needed.

use super::{BlockWeights, WeightSource};
use crate::Result;
use crate::model::ModelConfig;

/// How a family reads one block.
pub(crate) trait ReadBlock:
    Fn(&ModelConfig, &WeightSource, usize) -> Result<BlockWeights> + Send + Sync + 'static
{
}

impl<F: Fn(&ModelConfig, &WeightSource, usize) -> Result<BlockWeights> + Send + Sync + 'static> ReadBlock for F {}

/// Reads the blocks of one model, again and again.
pub(crate) struct BlockReader {
    cfg: ModelConfig,
    source: WeightSource,
    read: Box<dyn ReadBlock>,
}

impl BlockReader {
    pub(super) fn new(cfg: &ModelConfig, source: &WeightSource, read: impl ReadBlock) -> Self {
        Self { cfg: cfg.clone(), source: source.clone(), read: Box::new(read) }
    }

    /// The weights of a layer, as the files have them.
    pub(crate) fn read(&self, layer: usize) -> Result<BlockWeights> {
        (self.read)(&self.cfg, &self.source, layer)
    }

    /// Where they are read from.
    pub(crate) fn source(&self) -> &WeightSource {
        &self.source
    }
}
