//! Models that are part of the program: small ones, trained by this project.

use super::checkpoints::position;
use super::{Checkpoint, CheckpointUnit, FileData, ModelFiles, Version};
use crate::Result;

/// The bundled models' names.
pub fn names() -> Vec<&'static str> {
    BUNDLED.iter().map(|model| model.name).collect()
}

/// The files of a bundled model, if there is one of this name.
pub(super) fn find(name: &str, version: &Version) -> Option<Result<ModelFiles>> {
    BUNDLED.iter().find(|model| model.name == name).map(|model| model.files(version))
}

/// The steps of a bundled model's training checkpoints.
pub(super) fn steps(name: &str) -> Option<Vec<u64>> {
    BUNDLED.iter().find(|model| model.name == name && !model.checkpoints.is_empty()).map(Bundled::steps)
}

struct Bundled {
    name: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
    tokenizer_config: &'static [u8],
    /// Weights in the order of the training's steps.
    checkpoints: &'static [(u64, &'static [u8])],
}

impl Bundled {
    fn steps(&self) -> Vec<u64> {
        self.checkpoints.iter().map(|(step, _)| *step).collect()
    }

    fn files(&self, version: &Version) -> Result<ModelFiles> {
        let origin = format!("the bundled model '{}'", self.name);
        let file = |name, data| FileData::Bytes { name, data };
        let (weights, checkpoint) = match version.checkpoint {
            Some(choice) if !self.checkpoints.is_empty() => {
                Version { checkpoint: None, ..version.clone() }.refuse_for(&origin)?;
                let index = position(self.name, &self.steps(), choice)?;
                let (value, data) = self.checkpoints[index];
                (data, Some(Checkpoint { unit: CheckpointUnit::Step, value, index: Some(index) }))
            }
            _ => version.refuse_for(&origin).map(|()| (self.weights, None))?,
        };
        Ok(ModelFiles {
            name: self.name.to_string(),
            origin,
            config: file("config.json", self.config),
            weights: vec![file("model.safetensors", weights)],
            tokenizer: Some(file("tokenizer.json", self.tokenizer)),
            tokenizer_config: Some(file("tokenizer_config.json", self.tokenizer_config)),
            checkpoint,
            chat_template: None,
        })
    }
}

/// A model in assets/models/, by its folder's name, and the steps of its checkpoints.
macro_rules! bundled {
    ($name:literal, [$($step:literal),*]) => {
        Bundled {
            name: $name,
            config: file!($name, "config.json"),
            weights: file!($name, "model.safetensors"),
            tokenizer: file!($name, "tokenizer.json"),
            tokenizer_config: file!($name, "tokenizer_config.json"),
            checkpoints: &[$(($step, file!($name, "checkpoints/step_", $step, ".safetensors"))),*],
        }
    };
}

macro_rules! file {
    ($name:literal, $($part:literal),*) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models/", $name, "/", $($part),*))
    };
}

/// One line a model.
const BUNDLED: &[Bundled] = &[
    bundled!("tiny", []),
    bundled!(
        "tiny-attn-only-2l",
        [
            0, 50, 100, 200, 300, 400, 500, 550, 600, 650, 700, 750, 800, 850, 900, 950, 1000, 1100, 1250, 1500, 2000,
            2500, 3000, 4000
        ]
    ),
];
