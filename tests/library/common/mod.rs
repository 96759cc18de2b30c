//! What the integration tests share.

pub mod llama_cpp;
pub mod parts;
pub mod plain;
pub mod server;
pub mod writers;
pub mod written;

use std::path::{Path, PathBuf};

use candlescope::prelude::*;

/// The folder of a tiny model with random weights.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// That model, with processed weights.
pub fn model(name: &str) -> HookedTransformer {
    HookedTransformer::from_pretrained(&fixture(name).to_string_lossy()).unwrap()
}

/// The largest difference of two tensors of one shape.
pub fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a.to_dtype(DType::F32).unwrap() - b.to_dtype(DType::F32).unwrap()).unwrap();
    difference.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// All folders of fixtures.
pub fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("fixtures");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    assert!(found.len() > 20, "the fixtures are missing");
    found
}
