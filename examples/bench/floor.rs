//! The least time that a forward pass could take: its matrix products by the same gemm, and nothing else.

use std::time::Instant;

use candlescope::Result;
use candlescope::prelude::*;

/// The matrix products of a pass over `rows` x `len` tokens.
pub struct Products {
    model: HookedTransformer,
    layer: Vec<(Tensor, Tensor)>,
    unembed: (Tensor, Tensor),
}

impl Products {
    pub fn new(model: &HookedTransformer, rows: usize, len: usize) -> Result<Self> {
        let cfg = model.cfg();
        let tokens = rows * len;
        let random = |dims: &[usize]| Tensor::randn(0f32, 0.02, dims, &Device::Cpu);
        let (wide, heads) = (cfg.n_heads * cfg.d_head, rows * cfg.n_heads);
        let x = random(&[tokens, cfg.d_model])?;
        let mut layer = Vec::new();
        for _ in 0..3 {
            layer.push((x.clone(), random(&[cfg.d_model, wide])?));
        }
        layer.push((random(&[heads, len, cfg.d_head])?, random(&[heads, cfg.d_head, len])?));
        layer.push((random(&[heads, len, len])?, random(&[heads, len, cfg.d_head])?));
        layer.push((random(&[tokens, wide])?, random(&[wide, cfg.d_model])?));
        layer.push((x.clone(), random(&[cfg.d_model, cfg.d_mlp])?));
        layer.push((random(&[tokens, cfg.d_mlp])?, random(&[cfg.d_mlp, cfg.d_model])?));
        Ok(Self { model: model.clone(), layer, unembed: (x, model.w_u().clone()) })
    }

    /// The seconds that all of them take, one after the other. Each layer has weights of its own, as in the pass: the
    /// second of two layers must not find the first one's in the processor's cache.
    pub fn time(&self) -> Result<f64> {
        let weights = self.model.weights();
        let started = Instant::now();
        for block in &weights.blocks {
            let own = own_weights(block)?;
            for (i, (a, b)) in self.layer.iter().enumerate() {
                let b = own.iter().find(|(place, _)| *place == i).map_or(b, |(_, own)| own);
                std::hint::black_box(a.matmul(b)?);
            }
        }
        std::hint::black_box(self.unembed.0.matmul(&self.unembed.1)?);
        Ok(started.elapsed().as_secs_f64())
    }
}

/// A block's own weights as the matrices of [`Products::layer`], by their place there.
fn own_weights(block: &candlescope::weights::BlockWeights) -> Result<Vec<(usize, Tensor)>> {
    use candlescope::weights::{FeedForwardWeights, MixerWeights};
    let mut own = Vec::new();
    if let MixerWeights::Attention(attention) = &block.mixer {
        for (place, w) in [(0, &attention.w_q), (1, &attention.w_k), (2, &attention.w_v)] {
            let (heads, d_model, d_head) = w.dims3()?;
            own.push((place, w.transpose(0, 1)?.reshape((d_model, heads * d_head))?));
        }
        let (heads, d_head, d_model) = attention.w_o.dims3()?;
        own.push((5, attention.w_o.reshape((heads * d_head, d_model))?));
    }
    if let Some(FeedForwardWeights::Mlp(mlp)) = &block.feed_forward {
        own.push((6, mlp.w_in.clone()));
        own.push((7, mlp.w_out.clone()));
    }
    Ok(own)
}
