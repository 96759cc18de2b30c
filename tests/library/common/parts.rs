//! What the tests of caches and lenses share.

use candlescope::prelude::*;

use crate::common::{self, max_difference, model};

pub const PROMPT: [u32; 8] = [5, 80, 17, 200, 33, 5, 80, 17];

/// Two prompts.
pub fn batch() -> Tokens {
    Tokens::from_ids(vec![PROMPT.to_vec(), vec![9, 8, 7, 6, 5, 4, 3, 100]]).unwrap()
}

pub fn cache_of(model: &HookedTransformer) -> ActivationCache {
    model.run_with_cache(batch()).unwrap().1
}

/// Every fixture whose stream is a sum of what attentions and MLPs write.
pub fn additive() -> Vec<(String, HookedTransformer)> {
    let mut models = Vec::new();
    for folder in common::fixtures() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !["bart", "bert", "mamba", "mamba2", "t5"].contains(&name.as_str()) {
            models.push((name.clone(), model(&name)));
            // What weight processing folds away must be right where it was not.
            if ["gpt2", "gemma2", "gpt_neox", "mixtral"].contains(&name.as_str()) {
                let raw = HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy()).unwrap();
                models.push((format!("{name}, raw"), raw));
            }
        }
    }
    assert!(models.len() > 25);
    models
}

pub fn size(x: &Tensor) -> f32 {
    x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap().max(1.0)
}

pub fn assert_close(name: &str, a: &Tensor, b: &Tensor) {
    let difference = max_difference(a, b);
    assert!(difference < 1e-4 * size(b), "{name}: {difference} of {}", size(b));
}

pub fn numbers(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A new folder for a test's files.
pub fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("candlescope-cache-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
