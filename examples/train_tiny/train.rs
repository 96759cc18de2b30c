//! The training loop.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{DType, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use candlescope::model::HookedTransformer;
use tokenizers::Tokenizer;

use crate::data::{self, Part};
use crate::model::{Gpt2, Size};
use crate::{bpe, card, eval, ops};

/// What to train, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the model goes, in Hugging Face layout.
    pub out: PathBuf,
    /// Where checkpoints go.
    pub work: PathBuf,
    pub seed: u64,
    pub steps: usize,
    /// Steps after those, with more varied text and a new optimizer.
    pub more_steps: usize,
    /// Stops early, with a checkpoint, as an interruption would.
    pub stop_at: Option<usize>,
    /// The highest learning rate.
    pub rate: f64,
    pub tokens_per_step: usize,
    pub d_vocab: usize,
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_ctx: usize,
    pub resume: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            out: PathBuf::from("assets/models/tiny"),
            work: PathBuf::from("target/train_tiny"),
            seed: 1,
            steps: 6000,
            more_steps: 1000,
            stop_at: None,
            rate: 3e-3,
            tokens_per_step: 1536,
            d_vocab: 1200,
            d_model: 128,
            n_layers: 3,
            n_heads: 4,
            n_ctx: 256,
            resume: false,
        }
    }
}

const WARM_UP: usize = 150;
/// Gradients longer than this are shortened to it.
const LONGEST_GRADIENT: f64 = 1.0;
const REPORT_EVERY: usize = 25;
const MEASURE_EVERY: usize = 250;
const CHECKPOINT_EVERY: usize = 500;

/// Trains, and writes the model with its tokenizer, card and loss curve.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(&options.out)?;
    fs::create_dir_all(&options.work)?;
    let tokenizer = bpe::train(options.d_vocab, options.seed)?;
    let d_vocab = tokenizer.get_vocab_size(true);
    let size = Size {
        d_vocab,
        d_model: options.d_model,
        n_layers: options.n_layers,
        n_heads: options.n_heads,
        n_ctx: options.n_ctx,
    };
    let model = Gpt2::new(size, options.seed)?;
    println!(
        "{} parameters, {d_vocab} tokens in the vocabulary, {} steps",
        model.n_params(),
        options.steps + options.more_steps
    );

    let checkpoint = options.work.join("checkpoint.safetensors");
    let progress = options.work.join("steps_done.txt");
    let curve_path = options.out.join("loss.csv");
    let mut first_step = 0;
    if options.resume {
        model.load(&checkpoint)?;
        first_step = fs::read_to_string(&progress)?.trim().parse()?;
    } else {
        let columns = "step,rate,loss,text_loss,random_loss_first,random_loss_second,induction,ioi\n";
        fs::write(&curve_path, columns)?;
    }
    let mut curve = fs::OpenOptions::new().append(true).open(&curve_path)?;

    let vars = model.vars();
    let new_optimizer =
        || AdamW::new(vars.clone(), ParamsAdamW { beta2: 0.98, weight_decay: 0.02, ..Default::default() });
    let mut optimizer = new_optimizer()?;
    let started = Instant::now();
    let mut recent = Vec::new();
    let last_step = options.stop_at.unwrap_or(usize::MAX).min(options.steps + options.more_steps);
    for step in first_step..last_step {
        if step == options.steps {
            optimizer = new_optimizer()?;
        }
        let rate = learning_rate(options, step, first_step);
        optimizer.set_learning_rate(rate);
        let part = match step {
            _ if step < options.steps / 4 => Part::Short,
            _ if step < options.steps => Part::Long,
            _ => Part::Varied,
        };
        let batch = data::batch(&tokenizer, options.seed, step, part, options.tokens_per_step, options.n_ctx)?;
        let loss = ops::cross_entropy(&model.forward(&batch.inputs, batch.rows)?, &batch.targets, &batch.weights)?;
        let mut gradients = loss.backward()?;
        clip(&vars, &mut gradients)?;
        optimizer.step(&gradients)?;
        recent.push(loss.to_scalar::<f32>()?);

        let done = step + 1;
        let finished = done == last_step;
        if done % REPORT_EVERY == 0 || finished {
            let mean = recent.drain(..).fold((0.0, 0.0), |(sum, n), loss| (sum + f64::from(loss), n + 1.0));
            let mean = mean.0 / mean.1;
            let mut line = format!("{done},{rate:.6},{mean:.4}");
            let per_step = started.elapsed().as_secs_f64() / (done - first_step) as f64;
            let left = per_step * (last_step - done) as f64 / 60.0;
            println!(
                "step {done}  loss {mean:.3}  rate {rate:.5}  {:.0} ms a step, {left:.1} min left",
                1e3 * per_step
            );
            if done % MEASURE_EVERY == 0 || finished {
                let report = eval::measure(&model, &tokenizer, options.seed, 100)?;
                println!("{report:.3?}");
                line += &format!(
                    ",{:.4},{:.4},{:.4},{:.4},{:.3}",
                    report.text_loss, report.random_loss[0], report.random_loss[1], report.induction.2, report.ioi.0
                );
            } else {
                line += ",,,,,";
            }
            writeln!(curve, "{line}")?;
        }
        if done % CHECKPOINT_EVERY == 0 || finished {
            model.save(&checkpoint, DType::F32)?;
            fs::write(&progress, done.to_string())?;
        }
    }
    drop(curve);

    // What is shipped is rounded to f16; what the card says is measured after the rounding.
    let weights = options.out.join("model.safetensors");
    model.save(&weights, DType::F16)?;
    model.load(&weights)?;
    let bos = bpe::id(&tokenizer, bpe::BOS)?;
    let report = eval::measure(&model, &tokenizer, options.seed + 1, 1000)?;
    println!("{report:.3?}");
    tokenizer.save(options.out.join("tokenizer.json"), true).map_err(|error| error.to_string())?;
    let write_json = |name: &str, value: &serde_json::Value| -> Result<(), Box<dyn Error>> {
        Ok(fs::write(options.out.join(name), serde_json::to_string_pretty(value)? + "\n")?)
    };
    write_json("tokenizer_config.json", &bpe::config(options.n_ctx))?;
    write_json("config.json", &model.config(bos))?;
    fs::write(options.out.join("README.md"), card::text(options, &model, last_step, &report))?;
    compare_with_library(&model, &tokenizer, &options.out)?;
    println!("{} is written", options.out.display());
    Ok(())
}

/// The library, reading what was written, must compute what was trained.
fn compare_with_library(model: &Gpt2, tokenizer: &Tokenizer, folder: &Path) -> Result<(), Box<dyn Error>> {
    let ids = [vec![bpe::id(tokenizer, bpe::BOS)?], bpe::ids(tokenizer, eval::JOHN.0)?].concat();
    let read = HookedTransformer::from_pretrained_no_processing(&folder.to_string_lossy())?;
    let theirs = read.forward(ids.clone())?.tensor().squeeze(0)?;
    let worst = (model.forward(&ids, 1)? - theirs)?.abs()?.max_all()?.to_scalar::<f32>()?;
    if worst > 1e-3 {
        return Err(format!("the library's logits differ from the trained model's by {worst}").into());
    }
    println!("the library's logits agree: {worst:.1e} at most");
    Ok(())
}

/// Warm-up, then a cosine down to a twentieth; once for the first steps, and at half the rate for the later ones. A resumed
/// run warms up again, briefly.
fn learning_rate(options: &Options, step: usize, first_step: usize) -> f64 {
    let (start, steps, rate) = match step {
        _ if step < options.steps => (0, options.steps, options.rate),
        _ => (options.steps, options.more_steps, 0.5 * options.rate),
    };
    let warm = ((step - start.max(first_step) + 1) as f64 / WARM_UP as f64).min(1.0);
    let part = (step - start) as f64 / steps as f64;
    let cosine = 0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
    rate * warm * cosine
}

/// Shortens the gradient, taken over all weights, to [`LONGEST_GRADIENT`].
fn clip(vars: &[Var], gradients: &mut GradStore) -> candle_core::Result<()> {
    let mut sum = 0.0;
    for var in vars {
        if let Some(gradient) = gradients.get(var) {
            sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
    }
    let length = sum.sqrt();
    if length > LONGEST_GRADIENT {
        for var in vars {
            if let Some(gradient) = gradients.get(var) {
                let gradient = (gradient * (LONGEST_GRADIENT / length))?;
                gradients.insert(var, gradient);
            }
        }
    }
    Ok(())
}
