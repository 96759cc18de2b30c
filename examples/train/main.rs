//! Trains the models that candlescope brings along, from nothing: their text, their tokenizers, their weights.
//!
//! `cargo run --release --example train -- tiny` (about twenty minutes on two cores), and
//! `cargo run --release --example train -- tiny-attn-only-2l` (about five minutes). Each writes the whole folder
//! in assets/models; `--out DIR` writes elsewhere. Every random choice comes from the seed. An interruption loses at most
//! 200 steps: `--resume` goes on, and comes to the same numbers as if it had not stopped. `--card` measures the model that is there and writes its
//! card anew; `--sample` prints some of the text.

mod bpe;
mod card;
mod data;
mod gpt2;
mod measure;
mod recipe;
mod rng;
mod text;
mod train;
mod words;

use std::error::Error;
use std::path::PathBuf;

use recipe::Recipe;
use train::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let names = Recipe::all().map(|recipe| recipe.name).join(", ");
    let name = args.next().ok_or_else(|| format!("name a model to train: {names}"))?;
    let known = Recipe::all().into_iter().find(|recipe| recipe.name == name);
    let mut recipe = known.ok_or_else(|| format!("'{name}' is none of the models: {names}"))?;
    let mut options = Options::new(&recipe);
    let (mut sample, mut card) = (false, false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--out" => options.out = PathBuf::from(value()?),
            "--work" => options.work = PathBuf::from(value()?),
            "--stop-at" => options.stop_at = Some(value()?.parse()?),
            "--resume" => options.resume = true,
            "--seed" => recipe.seed = value()?.parse()?,
            "--steps" => recipe.steps = value()?.parse()?,
            "--rate" => recipe.rate = value()?.parse()?,
            "--tokens" => recipe.tokens_per_step = value()?.parse()?,
            "--sample" => sample = true,
            "--card" => card = true,
            other => {
                return Err(format!(
                    "'{other}' is not an option; there are --out, --work, --stop-at, --resume, --seed, --steps, --rate, \
                     --tokens, --sample, --card"
                )
                .into());
            }
        }
    }
    match (sample, card) {
        (true, _) => show_text(&recipe),
        (_, true) => train::write_card(&recipe, &options),
        _ => train::run(&recipe, &options),
    }
}

/// Prints some documents of the training text, cut into tokens, and how the names are.
fn show_text(recipe: &Recipe) -> Result<(), Box<dyn Error>> {
    let tokenizer = bpe::train(recipe.d_vocab, recipe.seed)?;
    println!("{} tokens in the vocabulary\n", tokenizer.get_vocab_size(true));
    for i in 0..30 {
        let text = text::document(&mut rng::Rng::new(recipe.seed, i));
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
