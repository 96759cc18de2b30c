//! Trains a sparse autoencoder on the bundled model's residual stream, without a network:
//! `cargo run --release --example train_sae -- [OUT] [--layer L] [--steps N] [--k K] [--d-sae D] [--seed S]`.
//!
//! The text is what the model learned from, written here from another seed. Prints the scores on text that the SAE has not
//! seen and the card of some features, and writes the SAE to the folder OUT, if one is named, in SAELens' format.

#[path = "train/rng.rs"]
#[allow(dead_code)]
mod rng;
#[path = "train/text/mod.rs"]
#[allow(dead_code, unused_imports)]
mod text;
#[path = "train/words.rs"]
mod words;

use std::time::Instant;

use candlescope::prelude::*;

/// Documents to learn from and to measure on; one has about 60 tokens.
const DOCUMENTS: u64 = 2500;
const HELD_OUT: u64 = 400;

fn main() -> candlescope::Result<()> {
    let (mut out, mut layer) = (None, 1usize);
    let mut options = SaeTrainOptions::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().and_then(|value| value.parse::<usize>().ok());
            value.ok_or_else(|| candlescope::Error::msg(format!("{arg} needs a number")))
        };
        match arg.as_str() {
            "--layer" => layer = number()?,
            "--steps" => options.steps = number()?,
            "--k" => options.k = number()?,
            "--d-sae" => options.d_sae = Some(number()?),
            "--seed" => options.seed = number()? as u64,
            _ => out = Some(arg),
        }
    }
    let model = HookedTransformer::from_pretrained("tiny")?;
    let documents = |seed, n| (0..n).map(|i| text::document(&mut rng::Rng::new(seed, i))).collect::<Vec<String>>();
    let learned = model.over(documents(101, DOCUMENTS)).skip_bos();
    let held_out = model.over(documents(102, HELD_OUT)).skip_bos();

    let start = Instant::now();
    let sae = Sae::train(&learned, resid_post(layer), &options)?;
    let losses = sae.training_losses();
    println!("{sae:?}: {} steps in {:.1} s", losses.len(), start.elapsed().as_secs_f64());
    for (i, part) in losses.chunks(losses.len().div_ceil(10)).enumerate() {
        let mean = part.iter().sum::<f32>() / part.len() as f32;
        println!("  part {} of 10: {:.2} % of the variance not explained", i + 1, 100.0 * mean);
    }
    let scores = sae.evaluate(&held_out)?;
    println!("{}", scores.bundle().text);

    let (_, cache) = model.run_with_cache("After John and Mary went to the store, Mary gave a bottle of milk to")?;
    let features = sae.features(&cache)?;
    println!("{}", features.table(0).bundle().text);
    for active in features.top_per_token(2)[0].last().into_iter().flatten() {
        println!("{}", sae.card(&held_out, active.feature)?.bundle().text);
    }
    if let Some(out) = out {
        sae.save(&out)?;
        println!("written to {out}");
    }
    Ok(())
}
