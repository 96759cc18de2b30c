//! A model whose weights come into being as its arithmetic is written out, and the library's logits of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use candlescope::candle_core::safetensors;
use candlescope::candle_nn::ops::log_softmax;
use candlescope::prelude::*;

use crate::common;
use crate::common::plain::{Rows, layer_norm, linear, rows};

pub const TOKENS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];
pub const D_MODEL: usize = 24;
pub const D_VOCAB: usize = 40;

/// A model folder in the making. Every tensor is drawn when it is first asked for, spread so that none is without effect.
pub struct Folder {
    pub tensors: RefCell<HashMap<String, Tensor>>,
    state: RefCell<u64>,
}

impl Folder {
    pub fn new() -> Self {
        Self { tensors: RefCell::new(HashMap::new()), state: RefCell::new(0x9e37_79b9_7f4a_7c15) }
    }

    fn draw(&self) -> f32 {
        // Xorshift64 (Marsaglia 2003).
        let mut state = self.state.borrow_mut();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    }

    /// The numbers of a tensor, which belongs to the model from now on.
    pub fn get(&self, name: &str, shape: &[usize]) -> Rows {
        let made = self.tensors.borrow().get(name).cloned();
        let tensor = made.unwrap_or_else(|| {
            let count: usize = shape.iter().product();
            let is_norm = name.ends_with("norm.weight") || name.contains("ln") && name.ends_with("weight");
            let spread = if shape.len() == 1 { 0.4 } else { 1.5 / (shape[shape.len() - 1] as f32).sqrt() };
            let offset = if is_norm || name.contains("norms.") || name.ends_with(".w") { 1.0 } else { 0.0 };
            let values: Vec<f32> = (0..count).map(|_| offset + spread * self.draw()).collect();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            self.tensors.borrow_mut().insert(name.to_string(), tensor.clone());
            tensor
        });
        rows(&tensor.reshape(((), *shape.last().unwrap())).unwrap())
    }

    /// A norm's weight and bias on x.
    pub fn norm(&self, x: &Rows, name: &str, bias: bool) -> Rows {
        let width = x[0].len();
        let b = bias.then(|| self.get(&format!("{name}.bias"), &[width]));
        layer_norm(x, Some(&self.get(&format!("{name}.weight"), &[width])), b.as_ref())
    }

    /// A linear layer's weight and bias on x.
    pub fn linear(&self, x: &Rows, name: &str, out: usize, bias: bool) -> Rows {
        let w = self.get(&format!("{name}.weight"), &[out, x[0].len()]);
        let b = bias.then(|| self.get(&format!("{name}.bias"), &[out]));
        linear(x, &w, b.as_ref())
    }

    /// Rows of a table at the tokens.
    pub fn embed(&self, name: &str, width: usize) -> Rows {
        let table = self.get(name, &[D_VOCAB, width]);
        TOKENS.iter().map(|token| table[*token as usize].clone()).collect()
    }

    /// The model as the library loads it from a folder.
    pub fn load(&self, name: &str, config: &serde_json::Value, options: &LoadOptions) -> HookedTransformer {
        let folder = folder(name);
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        safetensors::save(&self.tensors.borrow(), folder.join("model.safetensors")).unwrap();
        HookedTransformer::from_pretrained_with(&folder.to_string_lossy(), options).unwrap()
    }

    /// Checks the logits of the raw weights, and that the processed ones predict the same.
    pub fn check(&self, name: &str, config: serde_json::Value, expected: &Rows) {
        let raw = self.logits(name, &config, &LoadOptions::new().raw());
        let worst = rows(&raw)
            .iter()
            .zip(expected)
            .flat_map(|(ours, expected)| ours.iter().zip(expected).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>())
            .fold(0.0, f64::max);
        assert!(worst < 2e-4, "{name}: logits differ from the formula's by {worst}");
        let folded = self.logits(name, &config, &LoadOptions::new());
        let difference = common::max_difference(&log_softmax(&raw, 1).unwrap(), &log_softmax(&folded, 1).unwrap());
        assert!(difference < 1e-4, "{name}: processed weights predict otherwise, by {difference}");
    }

    pub fn logits(&self, name: &str, config: &serde_json::Value, options: &LoadOptions) -> Tensor {
        let tokens = Tensor::new(&[TOKENS], &Device::Cpu).unwrap();
        self.load(name, config, options).forward(&tokens).unwrap().tensor().squeeze(0).unwrap()
    }
}

/// An empty folder of this test's own.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("candlescope-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
