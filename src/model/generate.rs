//! Text generation.

use candle_core::DType;
use candle_transformers::generation::{LogitsProcessor, Sampling};

use super::generated::{Choice, Generation};
use super::{HookedTransformer, Input, KvCache, RunOptions};
use crate::hooks::Hooks;
use crate::tokens::{PaddingSide, Text, TokenOptions, Tokenizer, Tokens};
use crate::{Error, Progress, Result};

/// How text is generated. The default is 10 new tokens, sampled at temperature 1 with seed 0, until EOS.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token each time.
    pub temperature: f64,
    /// Samples among this many likeliest tokens.
    pub top_k: Option<usize>,
    /// Samples among the likeliest tokens that together have this probability.
    pub top_p: Option<f64>,
    /// Seed of the random choices.
    pub seed: u64,
    /// Whether a row ends at the end-of-sequence token.
    pub stop_at_eos: bool,
    /// Whether the prompt gets the beginning-of-sequence token, instead of the model's default.
    pub prepend_bos: Option<bool>,
    /// Active at every step. With the key-value cache, later steps pass only the newest position through.
    pub hooks: Hooks,
    /// Active on the prompt only, not on what is added to it; before `hooks`.
    pub prompt_hooks: Hooks,
    /// Whether keys and values are kept; without it every step runs the whole text, and hooks see all of it.
    pub use_kv_cache: bool,
    /// Who hears how many tokens there are.
    pub progress: Progress,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 10,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            seed: 0,
            stop_at_eos: true,
            prepend_bos: None,
            hooks: Hooks::new(),
            prompt_hooks: Hooks::new(),
            use_kv_cache: true,
            progress: Progress::default(),
        }
    }
}

impl GenerateOptions {
    /// Ten new tokens at temperature 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Most tokens to add.
    pub fn max_new_tokens(mut self, count: usize) -> Self {
        self.max_new_tokens = count;
        self
    }

    /// Divides the logits; 0 takes the likeliest token each time.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Samples among this many likeliest tokens.
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = Some(k);
        self
    }

    /// Samples among the likeliest tokens that together have this probability.
    pub fn top_p(mut self, p: f64) -> Self {
        self.top_p = Some(p);
        self
    }

    /// Seed of the random choices.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether a row ends at the end-of-sequence token.
    pub fn stop_at_eos(mut self, stop: bool) -> Self {
        self.stop_at_eos = stop;
        self
    }

    /// Whether the prompt gets the beginning-of-sequence token, instead of the model's default.
    pub fn prepend_bos(mut self, prepend: bool) -> Self {
        self.prepend_bos = Some(prepend);
        self
    }

    /// Hooks that are active at every step.
    pub fn hooks(mut self, hooks: &Hooks) -> Self {
        self.hooks = hooks.clone();
        self
    }

    /// Hooks that are active on the prompt only: what is added to it is as it would be without them, but for what it reads
    /// from the prompt's keys and values.
    pub fn prompt_hooks(mut self, hooks: &Hooks) -> Self {
        self.prompt_hooks = hooks.clone();
        self
    }

    /// Whether keys and values are kept between steps.
    pub fn use_kv_cache(mut self, keep: bool) -> Self {
        self.use_kv_cache = keep;
        self
    }

    /// Tells how many tokens there are.
    pub fn progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    fn sampling(&self) -> Result<Sampling> {
        let temperature = self.temperature;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(Error::msg(format!("temperature is {temperature}; it must be 0 or more")));
        }
        if let Some(p) = self.top_p.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(Error::msg(format!("top_p is {p}; it must be between 0 and 1")));
        }
        if self.top_k == Some(0) {
            return Err(Error::msg("top_k is 0; it must be at least 1"));
        }
        Ok(match (self.top_k, self.top_p) {
            _ if temperature == 0.0 => Sampling::ArgMax,
            (None, None) => Sampling::All { temperature },
            (Some(k), None) => Sampling::TopK { k, temperature },
            (None, Some(p)) => Sampling::TopP { p, temperature },
            (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
        })
    }
}

impl HookedTransformer {
    /// Continues a text, or several at once (padded on the left), or token ids.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let story = model.generate("John went to the", &GenerateOptions::greedy().max_new_tokens(5))?;
    /// assert!(story.text(0)?.starts_with("John went to the"));
    /// # Ok(()) }
    /// ```
    pub fn generate(&self, input: impl Into<Input>, options: &GenerateOptions) -> Result<Generation> {
        let sampling = options.sampling()?;
        if self.cfg().bidirectional {
            return Err(Error::msg(
                "this model is an encoder: it sees a text from both sides and can't continue it; look at its logits at a masked token",
            ));
        }
        let (read, prompt) = self.read_and_prompt(input.into(), options.prepend_bos)?;
        let (batch, pos) = prompt.shape();
        let n_ctx = self.cfg().n_ctx;
        if pos + options.max_new_tokens > n_ctx + 1 && self.inner.relative_bias.is_none() {
            return Err(Error::msg(format!(
                "a prompt of {pos} tokens and {} new ones are more than the model's context of {n_ctx}; ask for fewer new tokens or shorten the prompt",
                options.max_new_tokens
            )));
        }
        let eos = self.tokenizer().ok().and_then(Tokenizer::eos_id).filter(|_| options.stop_at_eos);
        // One source of random numbers per row, so that a row is the same alone and in a batch.
        let mut samplers: Vec<LogitsProcessor> =
            (0..batch).map(|_| LogitsProcessor::from_sampling(options.seed, sampling.clone())).collect();
        let mut past = options.use_kv_cache.then(|| KvCache::new(self.cfg().n_layers));
        let run_options = RunOptions::new().hooks(&options.hooks);
        // With a key-value cache the prompt is what the first run sees; without, it is the beginning of each.
        let on_prompt = match options.prompt_hooks.is_empty() || options.use_kv_cache {
            true => options.prompt_hooks.clone(),
            false => options.prompt_hooks.at_first_positions(pos, self.hook_points())?,
        };
        let on_prompt = on_prompt.and(&options.hooks);
        let hooks_on_logits = on_prompt.any_on_unembedding(self.hook_points())?;
        let with_prompt = RunOptions::new().hooks(&on_prompt);
        let mut added: Vec<Vec<Choice>> = vec![Vec::new(); batch];
        let mut ended = vec![false; batch];
        let mut next = prompt.clone();
        let meter = options.progress.start("generating", "tokens");
        let mut steps = 0;
        while steps < options.max_new_tokens {
            let decoder = Input::Tokens(next.clone());
            // With a key-value cache the encoder reads its text once.
            let input = match &read {
                Some(read) if past.as_ref().is_none_or(KvCache::is_empty) => Input::from((read.clone(), decoder)),
                _ => decoder,
            };
            let sees_prompt = past.as_ref().is_none_or(KvCache::is_empty);
            let mut run_options = if sees_prompt { with_prompt.clone() } else { run_options.clone() };
            // Only the end is unembedded, unless a hook looks at the rest.
            if !hooks_on_logits {
                run_options = run_options.logits_at(vec![next.shape().1 - 1; batch]);
            }
            let run = self.run_with_past(&input, &run_options, past.as_mut())?;
            let logits = run.logits.ok_or_else(|| Error::msg("the run gave no logits"))?;
            let last = logits.narrow(1, logits.dim(1)? - 1, 1)?.squeeze(1)?.to_dtype(DType::F32)?;
            let mut column = Vec::with_capacity(batch);
            for row in 0..batch {
                let logits = last.get(row)?;
                let id = match (ended[row], eos) {
                    (true, Some(eos)) => eos,
                    _ => samplers[row].sample(&logits)?,
                };
                if !ended[row] {
                    added[row].push(Choice::of(id, &logits.to_vec1()?));
                }
                ended[row] |= Some(id) == eos;
                column.push(id);
            }
            steps += 1;
            meter.at(steps * batch, Some(steps as f64 / options.max_new_tokens as f64));
            if ended.iter().all(|ended| *ended) {
                break;
            }
            next = match past {
                Some(_) => Tokens::from_ids(column.into_iter().map(|id| vec![id]).collect())?,
                None => next.with_column(&column)?,
            };
        }
        meter.finish(steps * batch);
        Ok(Generation::new(real_ids(&prompt), added, self.tokenizer().ok().cloned()))
    }

    /// What the encoder reads, where there is one, and what is to be continued: of an encoder-decoder, what its decoder has
    /// so far, or the start token.
    fn read_and_prompt(&self, input: Input, prepend_bos: Option<bool>) -> Result<(Option<Tokens>, Tokens)> {
        if !self.has_encoder() {
            return Ok((None, self.prompt(input, prepend_bos)?));
        }
        let options = prepend_bos.map_or_else(RunOptions::new, |prepend| RunOptions::new().prepend_bos(prepend));
        let pair = self.pair(&input, &options, None)?;
        let prompt = pair.decoder.tokens(self, None)?.ok_or_else(|| {
            Error::msg("the decoder continues a text or token ids; a residual stream can't be continued")
        })?;
        let ended_by_padding = |mask: &Vec<bool>| mask.last() == Some(&false);
        if prompt.mask().is_some_and(|mask| mask.iter().any(ended_by_padding)) {
            return Err(Error::msg("the decoder's inputs are of unequal length; give inputs of one length, or none"));
        }
        Ok((pair.encoder, prompt))
    }

    /// The prompts as tokens, padded on the left so that all of them end at the same column.
    fn prompt(&self, input: Input, prepend_bos: Option<bool>) -> Result<Tokens> {
        match input {
            Input::Text(text) => self.padded_left(text, prepend_bos),
            other => other.tokens(self, None)?.ok_or_else(|| {
                Error::msg("generation continues a text or token ids; a residual stream can't be continued")
            }),
        }
    }

    fn padded_left(&self, text: Text, prepend_bos: Option<bool>) -> Result<Tokens> {
        let options = TokenOptions { prepend_bos, padding_side: Some(PaddingSide::Left), ..TokenOptions::default() };
        self.tokenizer()?.to_tokens_with(text, &options)
    }
}

fn real_ids(tokens: &Tokens) -> Vec<Vec<u32>> {
    let Some(mask) = tokens.mask() else { return tokens.ids().to_vec() };
    let real = |(row, mask): (&Vec<u32>, &Vec<bool>)| {
        row.iter().zip(mask).filter(|(_, real)| **real).map(|(id, _)| *id).collect()
    };
    tokens.ids().iter().zip(mask).map(real).collect()
}
