//! The training run: steps, states to go on from, checkpoints, and at the end the model's folder.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candlescope::model::{HookedTransformer, RunOptions};
use candlescope::tokens::{Tokenizer, Tokens};
use candlescope::training::{TrainOptions, Trainer};

use crate::data::{self, Batch};
use crate::recipe::Recipe;
use crate::{bpe, card, gpt2, measure};

/// Where things go, and how far.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the model goes.
    pub out: PathBuf,
    /// Where the state is kept that a training can go on from.
    pub work: PathBuf,
    /// Stops early, as an interruption would.
    pub stop_at: Option<usize>,
    pub resume: bool,
}

impl Options {
    pub fn new(recipe: &Recipe) -> Self {
        let out = PathBuf::from("assets/models").join(recipe.name);
        Self { out, work: PathBuf::from("target/train").join(recipe.name), stop_at: None, resume: false }
    }
}

const REPORT_EVERY: usize = 100;
const SAVE_EVERY: usize = 200;
const MEASURE_EVERY: usize = 500;
/// Steps that a line of the loss curve is the mean of.
const CURVE_STEPS: usize = 25;

/// Trains, and writes the model with its tokenizer, card and loss curve.
pub fn run(recipe: &Recipe, options: &Options) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&options.out)?;
    fs::create_dir_all(&options.work)?;
    let tokenizer = bpe::train(recipe.d_vocab, recipe.seed)?;
    let model = recipe.model(tokenizer.get_vocab_size(true))?.with_tokenizer(bpe::wrap(&tokenizer)?);
    let mut trainer = Trainer::new(&model, &settings(recipe))?;
    println!("{}: {} numbers, {} steps", recipe.name, trainer.n_trained(), recipe.steps);
    let state = options.work.join("state.safetensors");
    if options.resume {
        trainer.load_state(&state)?;
        println!("goes on after step {}", trainer.steps_done());
    }
    let (started, first) = (Instant::now(), trainer.steps_done());
    let keep = |trainer: &Trainer| -> Result<(), Box<dyn Error>> {
        let step = trainer.steps_done() as u64;
        if recipe.checkpoints.contains(&step) {
            trainer.model().save_checkpoint(&options.out, step, DType::F16)?;
        }
        Ok(())
    };
    keep(&trainer)?;
    while !trainer.is_done() {
        one_step(&mut trainer, recipe, model.tokenizer()?)?;
        keep(&trainer)?;
        let step = trainer.steps_done();
        if step.is_multiple_of(REPORT_EVERY) {
            let per_step = started.elapsed().as_secs_f64() / (step - first) as f64;
            let left = per_step * (recipe.steps - step) as f64 / 60.0;
            let loss = trainer.curve().recent(REPORT_EVERY).unwrap_or_default();
            println!("step {step}  loss {loss:.3}  {:.0} ms a step, {left:.1} min left", 1e3 * per_step);
        }
        if step.is_multiple_of(MEASURE_EVERY) {
            println!("{:.3?}", measure::measure(&trainer.snapshot()?, recipe.seed, 100)?);
        }
        if step.is_multiple_of(SAVE_EVERY) {
            trainer.save_state(&state)?;
        }
        if options.stop_at == Some(step) {
            println!("stopped after step {step}");
            return Ok(());
        }
    }
    trainer.save_state(&state)?;
    write(recipe, options, &trainer)
}

pub fn settings(recipe: &Recipe) -> TrainOptions {
    TrainOptions::new()
        .steps(recipe.steps)
        .rate(recipe.rate)
        .warm_up(recipe.warm_up)
        .last_rate(0.05)
        .weight_decay(0.02)
        .progress(&candlescope::Progress::quiet())
}

/// The next step of a training, on rows that its number and the seed decide.
pub fn one_step(trainer: &mut Trainer, recipe: &Recipe, tokenizer: &Tokenizer) -> Result<f32, Box<dyn Error>> {
    let step = trainer.steps_done();
    let mix = (recipe.mix)(step as f64 / recipe.steps as f64);
    let Batch { rows, weights } =
        data::batch(tokenizer, recipe.seed, step, &mix, recipe.tokens_per_step, recipe.n_ctx)?;
    let weights = Tensor::new(weights, &Device::Cpu)?;
    let tokens = Tokens::from_ids(rows)?;
    let run = RunOptions::new().loss().no_logits();
    Ok(trainer.step_on(|model| {
        let losses = model.run(&tokens, &run)?.loss_per_token.ok_or_else(|| candlescope::Error::msg("no loss"))?;
        Ok((losses * &weights)?.mean_all()?)
    })?)
}

/// The model's folder. What the card says is measured on these files, after their rounding.
fn write(recipe: &Recipe, options: &Options, trainer: &Trainer) -> Result<(), Box<dyn Error>> {
    let model = trainer.snapshot()?;
    if recipe.has_mlp {
        gpt2::save(&model, &options.out)?;
    } else {
        model.save_model(&options.out, DType::F16)?;
    }
    trainer.curve().save_csv(options.out.join("loss.csv"), CURVE_STEPS)?;
    let written = HookedTransformer::from_pretrained_no_processing(&options.out.to_string_lossy())?;
    let text = "After John and Mary went to the store, Mary gave a bottle of milk to";
    let rounding = (model.forward(text)?.tensor() - written.forward(text)?.tensor())?.abs()?.max_all()?;
    println!("the written model's logits differ by {:.4} at most", rounding.to_scalar::<f32>()?);
    write_card(recipe, options)
}

/// The card, from the model's files.
pub fn write_card(recipe: &Recipe, options: &Options) -> Result<(), Box<dyn Error>> {
    let model = HookedTransformer::from_pretrained_no_processing(&options.out.to_string_lossy())?;
    let report = measure::measure(&model, recipe.seed + 1, 1000)?;
    println!("{report:.3?}");
    fs::write(options.out.join("README.md"), card::text(recipe, &model, &report))?;
    println!("{} is written", options.out.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Recipe {
        Recipe {
            steps: 12,
            tokens_per_step: 64,
            d_vocab: 300,
            d_model: 16,
            n_heads: 2,
            d_head: 8,
            n_ctx: 32,
            ..Recipe::tiny()
        }
    }

    fn trainer(recipe: &Recipe) -> (Trainer, Tokenizer) {
        let tokenizer = bpe::wrap(&bpe::train_on(recipe.d_vocab, recipe.seed, 300).unwrap()).unwrap();
        let model = recipe.model(tokenizer.vocab_size()).unwrap();
        (Trainer::new(&model, &settings(recipe)).unwrap(), tokenizer)
    }

    #[test]
    fn training_twice_gives_the_same_curve_and_so_does_resuming() {
        let recipe = small();
        let state = std::env::temp_dir().join(format!("candlescope_train_{}.safetensors", std::process::id()));
        let (mut whole, tokenizer) = trainer(&recipe);
        while !whole.is_done() {
            one_step(&mut whole, &recipe, &tokenizer).unwrap();
        }
        let (mut killed, _) = trainer(&recipe);
        for _ in 0..5 {
            one_step(&mut killed, &recipe, &tokenizer).unwrap();
        }
        killed.save_state(&state).unwrap();
        // Lost, like all that comes after the last state.
        one_step(&mut killed, &recipe, &tokenizer).unwrap();
        let (mut resumed, _) = trainer(&recipe);
        resumed.load_state(&state).unwrap();
        assert_eq!(resumed.steps_done(), 5);
        while !resumed.is_done() {
            one_step(&mut resumed, &recipe, &tokenizer).unwrap();
        }
        fs::remove_file(&state).unwrap();
        assert_eq!(whole.curve(), resumed.curve());
        let numbers = |trainer: &Trainer| -> Vec<f32> {
            let all = trainer.model().named_parameters();
            all.iter().flat_map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
        };
        assert_eq!(numbers(&whole), numbers(&resumed));
        assert_ne!(whole.curve().losses()[0], whole.curve().losses()[11]);
    }

    #[test]
    fn another_seed_gives_another_curve() {
        let losses = |seed| {
            let recipe = Recipe { seed, steps: 2, ..small() };
            let (mut trainer, tokenizer) = trainer(&recipe);
            (0..2).map(|_| one_step(&mut trainer, &recipe, &tokenizer).unwrap()).collect::<Vec<_>>()
        };
        assert_ne!(losses(1), losses(2));
    }
}
