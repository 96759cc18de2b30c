//! How long a forward pass takes in a release program, in milliseconds. The kernel's `cell_latency` runs these same lines in a
//! notebook's cell, and compares.

use candlescope::model::{Activation, Sizes};
use candlescope::prelude::*;
use candlescope::weights::{AttentionWeights, BlockWeights, Linear, MlpWeights, NormWeights, Weights};
use std::time::Instant;

/// Four layers as wide as GPT-2 small's, with random weights.
fn random_model() -> candlescope::Result<HookedTransformer> {
    let (n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab) = (4, 768, 12, 64, 3072, 256, 1000);
    let random = |rows: usize, columns: usize| Tensor::randn(0f32, 0.02, (rows, columns), &Device::Cpu);
    let linear = |d_in: usize, d_out: usize| Ok::<_, candlescope::Error>(Linear { w: random(d_in, d_out)?, b: None });
    let block = || {
        let attention = [
            linear(d_model, d_model)?,
            linear(d_model, d_model)?,
            linear(d_model, d_model)?,
            linear(d_model, d_model)?,
        ];
        let attention = AttentionWeights::from_linears(attention, n_heads, n_heads)?;
        let mlp = MlpWeights::plain(linear(d_model, d_mlp)?, linear(d_mlp, d_model)?);
        Ok::<_, candlescope::Error>(BlockWeights::new(NormWeights::default(), attention, NormWeights::default(), mlp))
    };
    let mut blocks = Vec::new();
    for _ in 0..n_layers {
        blocks.push(block()?);
    }
    let mut weights =
        Weights::new(random(d_vocab, d_model)?, blocks, Some(NormWeights::default()), random(d_model, d_vocab)?);
    weights.w_pos = Some(random(n_ctx, d_model)?);
    let sizes = Sizes { n_layers, d_model, n_ctx, n_heads, d_head, d_mlp, d_vocab };
    HookedTransformer::from_weights(ModelConfig::new("gpt2", Activation::GeluNew, sizes), weights)
}

/// The median of 31 passes over 256 tokens, with every activation kept.
fn forward_speed() -> candlescope::Result<f64> {
    let model = random_model()?;
    let tokens = Tokens::from_ids(vec![(0..256).map(|i| i * 7 % 1000).collect()])?;
    let mut times = Vec::new();
    for _ in 0..31 {
        let started = Instant::now();
        model.run_with_cache(&tokens)?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn main() -> candlescope::Result<()> {
    println!("{:.1}", forward_speed()?);
    Ok(())
}
