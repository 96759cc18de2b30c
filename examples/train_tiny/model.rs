//! GPT-2 as candle operations: just what training needs. The trained file is read by the library like any other.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor, Var};

use crate::ops;
use crate::rng::Rng;

/// The sizes of the model.
#[derive(Clone, Debug)]
pub struct Size {
    pub d_vocab: usize,
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_ctx: usize,
}

/// The weights, by the names that Hugging Face's GPT-2 has for them.
pub struct Gpt2 {
    pub size: Size,
    pub weights: BTreeMap<String, Var>,
}

const EPS: f32 = 1e-5;

impl Gpt2 {
    /// New weights. Positions begin as sines and cosines, so that neighbours are easy to find from the first step on.
    pub fn new(size: Size, seed: u64) -> Result<Self> {
        let mut rng = Rng::new(seed, u64::MAX);
        let mut model = Self { weights: BTreeMap::new(), size: size.clone() };
        let (d, deep) = (size.d_model, 0.02 / (2.0 * size.n_layers as f64).sqrt());
        let inner = 1.0 / (d as f64).sqrt();
        model.add("wte.weight", &[size.d_vocab, d], |_| 0.2 * rng.normal())?;
        model.add("wpe.weight", &[size.n_ctx, d], |i| position(i / d, i % d, d))?;
        for layer in 0..size.n_layers {
            let name = |rest: &str| format!("h.{layer}.{rest}");
            for norm in ["ln_1", "ln_2"] {
                model.add(&name(&format!("{norm}.weight")), &[d], |_| 1.0)?;
                model.add(&name(&format!("{norm}.bias")), &[d], |_| 0.0)?;
            }
            for (matrix, rows, columns, deviation) in [
                ("attn.c_attn", d, 3 * d, inner),
                ("attn.c_proj", d, d, deep),
                ("mlp.c_fc", d, 4 * d, inner),
                ("mlp.c_proj", 4 * d, d, deep),
            ] {
                model.add(&name(&format!("{matrix}.weight")), &[rows, columns], |_| deviation * rng.normal())?;
                model.add(&name(&format!("{matrix}.bias")), &[columns], |_| 0.0)?;
            }
        }
        model.add("ln_f.weight", &[d], |_| 1.0)?;
        model.add("ln_f.bias", &[d], |_| 0.0)?;
        Ok(model)
    }

    fn add(&mut self, name: &str, shape: &[usize], mut value: impl FnMut(usize) -> f64) -> Result<()> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| value(i) as f32).collect();
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        self.weights.insert(format!("transformer.{name}"), var);
        Ok(())
    }

    /// Every weight, always in the same order.
    pub fn vars(&self) -> Vec<Var> {
        self.weights.values().cloned().collect()
    }

    /// Logits [batch * pos, d_vocab] for `ids`, `batch` rows of equal length.
    pub fn forward(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        self.forward_with_patterns(ids, batch).map(|(logits, _)| logits)
    }

    /// Logits, and every layer's attention pattern [batch, head, query, key].
    pub fn forward_with_patterns(&self, ids: &[u32], batch: usize) -> Result<(Tensor, Vec<Tensor>)> {
        let Size { d_model, n_heads, .. } = self.size;
        let (pos, d_head) = (ids.len() / batch, d_model / n_heads);
        let tokens = self.get("wte.weight")?.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        let positions = self.get("wpe.weight")?.narrow(0, 0, pos)?;
        let mut x = tokens.reshape((batch, pos, d_model))?.broadcast_add(&positions)?.reshape(((), d_model))?;
        let mut patterns = Vec::new();
        for layer in 0..self.size.n_layers {
            let name = |rest: &str| format!("h.{layer}.{rest}");
            let qkv = self.linear(&self.norm(&x, &name("ln_1"))?, &name("attn.c_attn"))?;
            let qkv = qkv.reshape((batch, pos, 3, n_heads, d_head))?.permute((2, 0, 3, 1, 4))?.contiguous()?;
            let (q, k, v) = (qkv.get(0)?, qkv.get(1)?, qkv.get(2)?);
            let scale = 1.0 / (d_head as f32).sqrt();
            let pattern = ops::causal_softmax(&q.matmul(&k.transpose(D::Minus1, D::Minus2)?)?, scale)?;
            let z = pattern.matmul(&v)?.transpose(1, 2)?.reshape(((), d_model))?;
            patterns.push(pattern);
            x = (x + self.linear(&z, &name("attn.c_proj"))?)?;
            let hidden = ops::gelu(&self.linear(&self.norm(&x, &name("ln_2"))?, &name("mlp.c_fc"))?)?;
            x = (x + self.linear(&hidden, &name("mlp.c_proj"))?)?;
        }
        let logits = self.norm(&x, "ln_f")?.matmul(&self.get("wte.weight")?.t()?)?;
        Ok((logits, patterns))
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.matmul(self.get(&format!("{name}.weight"))?)?.broadcast_add(self.get(&format!("{name}.bias"))?)
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        ops::layer_norm(x, self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?, EPS)
    }

    fn get(&self, name: &str) -> Result<&Tensor> {
        match self.weights.get(&format!("transformer.{name}")) {
            Some(var) => Ok(var.as_tensor()),
            None => candle_core::bail!("this model has no weight named {name}"),
        }
    }

    /// Writes the weights as safetensors of the given type.
    pub fn save(&self, path: &Path, dtype: DType) -> Result<()> {
        let tensors: Result<HashMap<&str, Tensor>> =
            self.weights.iter().map(|(name, var)| Ok((name.as_str(), var.as_tensor().to_dtype(dtype)?))).collect();
        candle_core::safetensors::save(&tensors?, path)
    }

    /// Replaces the weights by those of a file that [`Gpt2::save`] wrote.
    pub fn load(&self, path: &Path) -> Result<()> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        for (name, var) in &self.weights {
            match tensors.get(name) {
                Some(tensor) => var.set(&tensor.to_dtype(DType::F32)?)?,
                None => candle_core::bail!("{} lacks {name}", path.display()),
            }
        }
        Ok(())
    }

    /// Number of parameters.
    pub fn n_params(&self) -> usize {
        self.weights.values().map(|var| var.elem_count()).sum()
    }

    /// The configuration, as Hugging Face writes it; `bos` begins and ends a text.
    pub fn config(&self, bos: u32) -> serde_json::Value {
        serde_json::json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
            "bos_token_id": bos, "eos_token_id": bos, "pad_token_id": bos,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-5,
            "n_ctx": self.size.n_ctx, "n_positions": self.size.n_ctx,
            "n_embd": self.size.d_model, "n_head": self.size.n_heads, "n_layer": self.size.n_layers,
            "n_inner": serde_json::Value::Null,
            "tie_word_embeddings": true,
            "torch_dtype": "float16",
            "vocab_size": self.size.d_vocab,
        })
    }
}

/// Sines and cosines with wavelengths from 6 to about 1000 positions.
fn position(pos: usize, i: usize, d_model: usize) -> f64 {
    let turns = (160f64).powf(-((i / 2 * 2) as f64) / d_model as f64) * pos as f64;
    0.2 * if i.is_multiple_of(2) { turns.sin() } else { turns.cos() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gradient of the loss against small steps along random directions, one weight at a time.
    #[test]
    fn gradients_agree_with_differences() -> Result<()> {
        let size = Size { d_vocab: 11, d_model: 16, n_layers: 2, n_heads: 2, n_ctx: 8 };
        let model = Gpt2::new(size, 3)?;
        let mut rng = Rng::new(4, 0);
        for var in model.vars() {
            let noise: Vec<f32> = (0..var.elem_count()).map(|_| 0.3 * rng.normal() as f32).collect();
            var.set(&(var.as_tensor() + Tensor::from_vec(noise, var.shape(), &Device::Cpu)?)?)?;
        }
        let ids: Vec<u32> = (0..16).map(|_| rng.between(0, 11) as u32).collect();
        let targets: Vec<u32> = (0..16).map(|_| rng.between(0, 11) as u32).collect();
        let loss = || ops::cross_entropy(&model.forward(&ids, 2)?, &targets, &[1.0; 16]);
        let gradients = loss()?.backward()?;
        for (name, var) in &model.weights {
            let start = var.as_tensor().copy()?;
            let direction: Vec<f32> = (0..var.elem_count()).map(|_| rng.normal() as f32).collect();
            let direction = Tensor::from_vec(direction, var.shape(), &Device::Cpu)?;
            let step = 2e-3 / direction.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()? as f64;
            let at = |factor: f64| -> Result<f64> {
                var.set(&(&start + (&direction * (factor * step))?)?)?;
                Ok(f64::from(loss()?.to_scalar::<f32>()?))
            };
            let difference = (at(1.0)? - at(-1.0)?) / (2.0 * step);
            var.set(&start)?;
            let Some(gradient) = gradients.get(var) else { panic!("{name} has no gradient") };
            let slope = f64::from((gradient * &direction)?.sum_all()?.to_scalar::<f32>()?);
            assert!((slope - difference).abs() < 0.005 + 0.01 * slope.abs(), "{name}: {slope}, {difference}");
        }
        Ok(())
    }
}
