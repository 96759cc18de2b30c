//! The layers of a model: in memory, or read from their files whenever a run comes to them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::block::{Block, FeedForward, Layout, Mixer};
use super::config::ModelConfig;
use crate::hooks::{HookPoint, PointInfo};
use crate::weights::{BlockReader, BlockWeights, Steps, widen_small};
use crate::{Error, Result};

#[derive(Clone)]
pub(super) enum Layers {
    Held(Vec<Arc<Block>>),
    Streamed(Arc<Streamed>),
}

/// What can be known of a layer without its weights.
#[derive(Clone, Copy)]
pub(super) struct Outline {
    pub(super) mixer: MixerKind,
    pub(super) feed_forward: Option<FeedForwardKind>,
    pub(super) layout: Layout,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MixerKind {
    Attention,
    Latent,
    StateSpace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedForwardKind {
    Mlp,
    Experts,
}

/// Layers that are read when they are needed. While one is computed with, the next is read.
pub(super) struct Streamed {
    cfg: ModelConfig,
    /// Shared with the thread that reads ahead.
    reader: Arc<BlockReader>,
    steps: Option<Steps>,
    outlines: Vec<Outline>,
    points: Vec<PointInfo>,
    norms_folded: bool,
    n_params: usize,
    /// The layer that is being read ahead.
    ahead: Mutex<Option<(usize, JoinHandle<Result<Block>>)>>,
}

impl Layers {
    /// Blocks of these weights, named `blocks.0` and so on behind `stack`.
    pub(super) fn held(stack: &str, blocks: Vec<BlockWeights>, cfg: &ModelConfig) -> Result<Self> {
        let block = |(layer, weights): (usize, BlockWeights)| {
            Ok(Arc::new(Block::new(&format!("{stack}blocks.{layer}"), layer, weights, cfg)?))
        };
        Ok(Self::Held(blocks.into_iter().enumerate().map(block).collect::<Result<_>>()?))
    }

    /// Layers that `reader` reads; `steps` are done to each.
    ///
    /// # Errors
    /// When the first of the layers that are alike can't be read.
    pub(super) fn streamed(cfg: &ModelConfig, reader: BlockReader, steps: Option<Steps>) -> Result<Self> {
        let reader = Arc::new(reader);
        let (mut outlines, mut points): (Vec<Outline>, Vec<Vec<PointInfo>>) = (Vec::new(), Vec::new());
        let mut norms_folded = true;
        for (layer, alike) in reader.source().alike(cfg.n_layers).into_iter().enumerate() {
            if alike < layer && cfg.layers[alike] == cfg.layers[layer] {
                outlines.push(outlines[alike]);
                points.push(points[alike].iter().map(|info| in_layer(info, alike, layer)).collect());
            } else {
                let block = read(&reader, cfg, steps, layer)?;
                norms_folded &= has_folded_norms(&block.weights());
                outlines.push(Outline::of(&block));
                points.push(block.hook_points());
            }
        }
        let n_params = reader.source().elements_in_layers(cfg.n_layers);
        let (cfg, points) = (cfg.clone(), points.concat());
        let ahead = Mutex::default();
        Ok(Self::Streamed(Arc::new(Streamed { cfg, reader, steps, outlines, points, norms_folded, n_params, ahead })))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Held(blocks) => blocks.len(),
            Self::Streamed(streamed) => streamed.outlines.len(),
        }
    }

    /// A layer, which is read from its file where it is not in memory.
    pub(super) fn get(&self, layer: usize) -> Result<Arc<Block>> {
        let none = || Error::msg(format!("there is no layer {layer}: the model has {}", self.len()));
        match self {
            Self::Held(blocks) => blocks.get(layer).cloned().ok_or_else(none),
            Self::Streamed(streamed) if layer < self.len() => streamed.get(layer, None).map(Arc::new),
            Self::Streamed(_) => Err(none()),
        }
    }

    /// As [`get`](Self::get), in a run that comes to `next` afterwards.
    pub(super) fn get_before(&self, layer: usize, next: Option<usize>) -> Result<Arc<Block>> {
        match self {
            Self::Streamed(streamed) if layer < self.len() => streamed.get(layer, next).map(Arc::new),
            _ => self.get(layer),
        }
    }

    pub(super) fn outline(&self, layer: usize) -> Option<Outline> {
        match self {
            Self::Held(blocks) => blocks.get(layer).map(|block| Outline::of(block)),
            Self::Streamed(streamed) => streamed.outlines.get(layer).copied(),
        }
    }

    pub(super) fn outlines(&self) -> impl Iterator<Item = Outline> + '_ {
        (0..self.len()).filter_map(|layer| self.outline(layer))
    }

    pub(super) fn hook_points(&self) -> Vec<PointInfo> {
        match self {
            Self::Held(blocks) => blocks.iter().flat_map(|block| block.hook_points()).collect(),
            Self::Streamed(streamed) => streamed.points.clone(),
        }
    }

    /// The weights that are in memory.
    pub(super) fn weights_held(&self) -> Vec<BlockWeights> {
        match self {
            Self::Held(blocks) => blocks.iter().map(|block| block.weights()).collect(),
            Self::Streamed(_) => Vec::new(),
        }
    }

    /// How many numbers the weights are that stay in their files.
    pub(super) fn n_params_in_files(&self) -> usize {
        match self {
            Self::Held(_) => 0,
            Self::Streamed(streamed) => streamed.n_params,
        }
    }

    /// Whether no norm has weights.
    pub(super) fn norms_folded(&self) -> bool {
        match self {
            Self::Held(blocks) => blocks.iter().all(|block| has_folded_norms(&block.weights())),
            Self::Streamed(streamed) => streamed.norms_folded,
        }
    }
}

impl Streamed {
    /// A layer: the one that was read ahead, if it is that, else read now. The next begins to be read.
    fn get(&self, layer: usize, next: Option<usize>) -> Result<Block> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let block = match ahead.take() {
            Some((read, thread)) if read == layer => thread
                .join()
                .unwrap_or_else(|_| Err(Error::msg(format!("the thread that read layer {layer} panicked"))))?,
            _ => read(&self.reader, &self.cfg, self.steps, layer)?,
        };
        if let Some(next) = next {
            let (reader, cfg, steps) = (self.reader.clone(), self.cfg.clone(), self.steps);
            *ahead = Some((next, thread::spawn(move || read(&reader, &cfg, steps, next))));
        }
        Ok(block)
    }
}

impl Outline {
    fn of(block: &Block) -> Self {
        Self {
            mixer: match block.mixer {
                Mixer::Attention(_) => MixerKind::Attention,
                Mixer::Latent(_) => MixerKind::Latent,
                Mixer::StateSpace(_) => MixerKind::StateSpace,
            },
            feed_forward: block.feed_forward.as_ref().map(|feed_forward| match feed_forward {
                FeedForward::Mlp(_) => FeedForwardKind::Mlp,
                FeedForward::Experts(_) => FeedForwardKind::Experts,
            }),
            layout: block.layout,
        }
    }
}

fn read(reader: &BlockReader, cfg: &ModelConfig, steps: Option<Steps>, layer: usize) -> Result<Block> {
    let mut weights = reader.read(layer)?;
    if let Some(steps) = steps {
        steps.block(&mut weights, cfg)?;
    }
    widen_small(&mut weights)?;
    Block::new(&format!("blocks.{layer}"), layer, weights, cfg)
}

/// A point of one layer as that of another, which is made alike.
fn in_layer(info: &PointInfo, from: usize, to: usize) -> PointInfo {
    let name = info.point.name().replacen(&format!("blocks.{from}."), &format!("blocks.{to}."), 1);
    PointInfo { point: HookPoint::new(name), ..info.clone() }
}

fn has_folded_norms(block: &BlockWeights) -> bool {
    [&block.ln1, &block.ln2].into_iter().flatten().all(|norm| norm.w.is_none() && norm.b.is_none())
}
