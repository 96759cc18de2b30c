//! Models that are part of the program: small ones, trained by this project.

use super::{FileData, ModelFiles};

/// The bundled models' names.
pub fn names() -> Vec<&'static str> {
    BUNDLED.iter().map(|model| model.name).collect()
}

/// The files of a bundled model.
pub(super) fn find(name: &str) -> Option<ModelFiles> {
    let model = BUNDLED.iter().find(|model| model.name == name)?;
    let file = |name, data| FileData::Bytes { name, data };
    Some(ModelFiles {
        name: model.name.to_string(),
        origin: format!("the bundled model '{}'", model.name),
        config: file("config.json", model.config),
        weights: vec![file("model.safetensors", model.weights)],
        tokenizer: Some(file("tokenizer.json", model.tokenizer)),
        tokenizer_config: Some(file("tokenizer_config.json", model.tokenizer_config)),
        checkpoint: None,
        chat_template: None,
    })
}

struct Bundled {
    name: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
    tokenizer_config: &'static [u8],
}

/// A model in assets/models/, by its folder's name.
macro_rules! bundled {
    ($name:literal) => {
        Bundled {
            name: $name,
            config: bundled!($name, "config.json"),
            weights: bundled!($name, "model.safetensors"),
            tokenizer: bundled!($name, "tokenizer.json"),
            tokenizer_config: bundled!($name, "tokenizer_config.json"),
        }
    };
    ($name:literal, $file:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models/", $name, "/", $file))
    };
}

/// One line a model: `bundled!("tiny")`.
const BUNDLED: &[Bundled] = &[bundled!("tiny")];
