//! Trains the bundled model `tiny` from nothing: its text, its tokenizer, its weights.
//!
//! `cargo run --release --example train_tiny -- [--out DIR] [--seed N] [--steps N] [--resume]`
//!
//! It takes about 20 minutes on one core. Every random choice comes from the seed. An interruption loses at most 500
//! steps: `--resume` goes on from the last checkpoint, with AdamW's moments begun anew. `--sample` prints some of the text.

mod bpe;
mod card;
mod data;
mod eval;
mod model;
mod ops;
mod rng;
mod text;
mod train;
mod words;

use std::error::Error;
use std::path::PathBuf;

use train::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::default();
    let mut sample = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--out" => options.out = PathBuf::from(value()?),
            "--work" => options.work = PathBuf::from(value()?),
            "--seed" => options.seed = value()?.parse()?,
            "--steps" => options.steps = value()?.parse()?,
            "--more-steps" => options.more_steps = value()?.parse()?,
            "--stop-at" => options.stop_at = Some(value()?.parse()?),
            "--rate" => options.rate = value()?.parse()?,
            "--tokens" => options.tokens_per_step = value()?.parse()?,
            "--vocab" => options.d_vocab = value()?.parse()?,
            "--d-model" => options.d_model = value()?.parse()?,
            "--layers" => options.n_layers = value()?.parse()?,
            "--heads" => options.n_heads = value()?.parse()?,
            "--context" => options.n_ctx = value()?.parse()?,
            "--resume" => options.resume = true,
            "--sample" => sample = true,
            other => {
                return Err(format!(
                    "'{other}' is not an option; there are --out, --work, --seed, --steps, --more-steps, --stop-at, --rate, --tokens, \
                     --vocab, --d-model, --layers, --heads, --context, --resume, --sample"
                )
                .into());
            }
        }
    }
    if sample { show_text(&options) } else { train::run(&options) }
}

/// Prints some documents of the training text, cut into tokens.
fn show_text(options: &Options) -> Result<(), Box<dyn Error>> {
    let tokenizer = bpe::train(options.d_vocab, options.seed)?;
    println!("{} tokens in the vocabulary\n", tokenizer.get_vocab_size(true));
    for i in 0..30 {
        let text = text::document(&mut rng::Rng::new(options.seed, i), text::Openings::Many);
        println!("{text}\n= {}\n", pieces(&tokenizer, &text)?);
    }
    for (name, _) in words::PEOPLE {
        println!("{}   {}", pieces(&tokenizer, &format!(" {name}"))?, pieces(&tokenizer, name)?);
    }
    Ok(())
}

/// The text with a bar between its tokens.
fn pieces(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<String, Box<dyn Error>> {
    let encoding = tokenizer.encode(text, false).map_err(|error| error.to_string())?;
    Ok(encoding.get_offsets().iter().map(|&(start, end)| &text[start..end]).collect::<Vec<_>>().join("|"))
}
