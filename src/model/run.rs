//! One forward pass.

use std::ops::Deref;

use candle_core::{DType, Tensor};

use super::linear::linear;
use super::mask::Masks;
use super::surroundings::Surroundings;
use super::{HookedTransformer, Input, KvCache, Positions, next_token_loss};
use crate::hooks::{HookPoint, Hooks, Selector, Tap};
use crate::tokens::{Tokenizer, Tokens};
use crate::{Error, Result};

/// How a model is run, and what the run is to give back. `RunOptions::new()` gives logits.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let options = RunOptions::new().cache("pattern").stop_at_layer(1);
/// let run = model.run("John gave a book to Mary.", &options)?;
/// assert!(run.logits.is_none()); // stopped before the unembedding
/// assert_eq!(run.cache.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RunOptions {
    hooks: Hooks,
    cache: Option<Selector>,
    logits: bool,
    loss: bool,
    start_at_layer: Option<i64>,
    stop_at_layer: Option<i64>,
    pub(super) prepend_bos: Option<bool>,
    pub(super) attention_mask: Option<Vec<Vec<bool>>>,
    labels: Option<Tokens>,
    logits_at: Option<Vec<usize>>,
    pub(super) decoder_input: Option<Input>,
    pub(super) token_types: Option<Vec<Vec<u32>>>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            hooks: Hooks::new(),
            cache: None,
            logits: true,
            loss: false,
            start_at_layer: None,
            stop_at_layer: None,
            prepend_bos: None,
            attention_mask: None,
            labels: None,
            logits_at: None,
            decoder_input: None,
            token_types: None,
        }
    }
}

impl RunOptions {
    /// A whole forward pass that gives logits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs with these hooks.
    pub fn hooks(mut self, hooks: &Hooks) -> Self {
        self.hooks = hooks.clone();
        self
    }

    /// Keeps the selected activations, as the hooks left them.
    pub fn cache(mut self, keep: impl Into<Selector>) -> Self {
        self.cache = Some(keep.into());
        self
    }

    /// Gives the loss per token as well.
    pub fn loss(mut self) -> Self {
        self.loss = true;
        self
    }

    /// Leaves the unembedding out; the last norm still runs.
    pub fn no_logits(mut self) -> Self {
        self.logits = false;
        self
    }

    /// Unembeds one position of each row only, which is most of the work where the vocabulary is large: the logits are
    /// `[batch, 1, d_vocab]`. `positions` has one for each row; the last real ones are `tokens.last_positions()`.
    ///
    /// The points of the unembedding then have that one position too.
    pub fn logits_at(mut self, positions: impl Into<Vec<usize>>) -> Self {
        self.logits_at = Some(positions.into());
        self
    }

    /// Begins at this layer (inclusive; negative from the end); the input is the residual stream that enters it.
    pub fn start_at_layer(mut self, layer: i64) -> Self {
        self.start_at_layer = Some(layer);
        self
    }

    /// Ends before this layer (exclusive; negative from the end); the run gives the residual stream that enters it.
    pub fn stop_at_layer(mut self, layer: i64) -> Self {
        self.stop_at_layer = Some(layer);
        self
    }

    /// Whether texts get the beginning-of-sequence token, instead of the model's default.
    pub fn prepend_bos(mut self, prepend: bool) -> Self {
        self.prepend_bos = Some(prepend);
        self
    }

    /// Which tokens are real (true) and which are padding, `[batch][pos]`. Texts of unequal length bring their own. For an
    /// encoder-decoder: those of the encoder.
    pub fn attention_mask(mut self, mask: Vec<Vec<bool>>) -> Self {
        self.attention_mask = Some(mask);
        self
    }

    /// What the decoder of an encoder-decoder has so far; the start token alone if nothing is said. The same as a pair for
    /// an input: `(encoder, decoder)`.
    pub fn decoder_input(mut self, input: impl Into<Input>) -> Self {
        self.decoder_input = Some(input.into());
        self
    }

    /// The kind of each token, `[batch][pos]`: 0 for BERT's first sentence, 1 for its second. All are 0 if nothing is said.
    pub fn token_types(mut self, kinds: Vec<Vec<u32>>) -> Self {
        self.token_types = Some(kinds);
        self
    }

    /// The tokens that the loss is measured against, needed only with `start_at_layer`.
    pub fn labels(mut self, tokens: impl Into<Tokens>) -> Self {
        self.labels = Some(tokens.into());
        self
    }
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct RunOutput {
    /// Logits; none if the run stopped early or was asked for none.
    pub logits: Option<Logits>,
    /// Loss of each predicted token, `[batch, pos - 1]`, if it was asked for; 0 where the mask hides either side.
    pub loss_per_token: Option<Tensor>,
    /// Mean of the above over all predicted tokens.
    pub loss: Option<f32>,
    /// The residual stream where the run stopped, `[batch, pos, d_model]`.
    pub resid: Tensor,
    /// The kept activations, in order.
    pub cache: Vec<(HookPoint, Tensor)>,
    /// The token ids; none if the input was a residual stream. The decoder's, where there are an encoder and a decoder.
    pub tokens: Option<Tokens>,
    /// The token ids that the encoder of an encoder-decoder read.
    pub encoder_tokens: Option<Tokens>,
}

/// Logits `[batch, pos, d_vocab]`. Use it as the tensor that it is; in a notebook it shows the likeliest next tokens.
#[derive(Clone, Debug)]
pub struct Logits {
    tensor: Tensor,
    tokenizer: Option<Tokenizer>,
}

impl Deref for Logits {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl Logits {
    pub(super) fn new(tensor: Tensor, tokenizer: Option<Tokenizer>) -> Self {
        Self { tensor, tokenizer }
    }

    /// Other logits of the same tokenizer's tokens.
    pub(crate) fn with(&self, tensor: Tensor) -> Self {
        Self { tensor, tokenizer: self.tokenizer.clone() }
    }

    /// The tensor itself, `[batch, pos, d_vocab]`.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The logits of one position, `[d_vocab]`; negative positions count from the end.
    pub fn at(&self, batch: usize, pos: i64) -> Result<Tensor> {
        let (batches, positions, _) = self.dims3()?;
        let absolute = if pos < 0 { pos + positions as i64 } else { pos };
        if batch >= batches || absolute < 0 || absolute >= positions as i64 {
            return Err(Error::msg(format!(
                "there is no position {pos} of row {batch}: the logits have {batches} rows of {positions} positions"
            )));
        }
        Ok(self.get(batch)?.get(absolute as usize)?.to_dtype(DType::F32)?)
    }

    /// The `k` likeliest next tokens after a position: text, id and probability, likeliest first.
    pub fn top_k(&self, k: usize, batch: usize, pos: i64) -> Result<Vec<(String, u32, f32)>> {
        let probs: Vec<f32> = candle_nn::ops::softmax(&self.at(batch, pos)?, 0)?.to_vec1()?;
        let mut order: Vec<u32> = (0..probs.len() as u32).collect();
        order.sort_by(|a, b| probs[*b as usize].total_cmp(&probs[*a as usize]));
        let text = |id: u32| self.tokenizer.as_ref().map_or_else(|| format!("#{id}"), |tokenizer| tokenizer.piece(id));
        Ok(order.into_iter().take(k).map(|id| (text(id), id, probs[id as usize])).collect())
    }

    /// The logit of one token minus that of another, at the last position of the first row.
    ///
    /// Each must be a single token for this model's tokenizer; mind the leading space.
    pub fn logit_diff(&self, right: &str, wrong: &str) -> Result<f32> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| Error::NoTokenizer { why: "it has none".to_string() })?;
        let last: Vec<f32> = self.at(0, -1)?.to_vec1()?;
        let logit = |token: &str| -> Result<f32> {
            let id = tokenizer.to_single_token(token)?;
            last.get(id as usize).copied().ok_or_else(|| Error::TokenOutOfRange {
                id,
                position: 0,
                d_vocab: last.len(),
            })
        };
        Ok(logit(right)? - logit(wrong)?)
    }

    /// The tokenizer that names its tokens.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }
}

impl HookedTransformer {
    /// Runs the whole model: logits `[batch, pos, d_vocab]`.
    pub fn forward(&self, input: impl Into<Input>) -> Result<Logits> {
        self.run_with_hooks(input, &Hooks::new())
    }

    /// The mean loss over all predicted tokens, in nats.
    pub fn loss(&self, input: impl Into<Input>) -> Result<f32> {
        self.loss_with_hooks(input, &Hooks::new())
    }

    /// The loss of each predicted token, `[batch, pos - 1]`, in nats.
    pub fn loss_per_token(&self, input: impl Into<Input>) -> Result<Tensor> {
        let run = self.run(input, &RunOptions::new().loss())?;
        run.loss_per_token.ok_or_else(|| Error::msg("the run gave no loss"))
    }

    /// The mean loss with hooks active.
    pub fn loss_with_hooks(&self, input: impl Into<Input>, hooks: &Hooks) -> Result<f32> {
        let run = self.run(input, &RunOptions::new().loss().hooks(hooks))?;
        run.loss.ok_or_else(|| Error::msg("the run gave no loss"))
    }

    /// Runs the whole model with hooks active: logits `[batch, pos, d_vocab]`.
    pub fn run_with_hooks(&self, input: impl Into<Input>, hooks: &Hooks) -> Result<Logits> {
        let run = self.run(input, &RunOptions::new().hooks(hooks))?;
        run.logits.ok_or_else(|| Error::msg("the run gave no logits"))
    }

    /// Runs the model, whole or in part, and gives what the options ask for.
    pub fn run(&self, input: impl Into<Input>, options: &RunOptions) -> Result<RunOutput> {
        self.run_with_past(&input.into(), options, None)
    }

    /// As [`run`](Self::run), on tokens that follow those in a key-value cache, which then holds them too.
    pub fn run_with_past(
        &self,
        input: &Input,
        options: &RunOptions,
        mut past: Option<&mut KvCache>,
    ) -> Result<RunOutput> {
        let cfg = self.cfg();
        let (start, stop) = self.layer_range(options)?;
        let pair = self.pair(input, options, past.as_deref())?;
        let input = &pair.decoder;
        let tokens = input.tokens(self, options.prepend_bos)?;
        let given = match (input, options.start_at_layer) {
            (Input::Tensor(resid), Some(_)) if resid.dtype().is_float() => Some(resid),
            (Input::Tensor(resid), None) if resid.dtype().is_float() => {
                return Err(Error::msg(
                    "the input is a tensor of floats; token ids are integers, and a residual stream needs start_at_layer(..)",
                ));
            }
            (_, Some(_)) => {
                return Err(Error::msg(
                    "start_at_layer(..) needs the residual stream that enters the layer as input, [batch, pos, d_model]",
                ));
            }
            _ => None,
        };
        let (batch, pos) = match (given, &tokens) {
            (Some(resid), _) => self.check_residual(resid)?,
            (None, Some(tokens)) => self.check_tokens(tokens)?,
            (None, None) => return Err(Error::EmptyPrompt),
        };
        if pos == 0 || batch == 0 {
            return Err(Error::EmptyPrompt);
        }
        let behind = past.as_ref().map_or(0, |past| past.len());
        // Distances have no end, learned positions do.
        if behind + pos > cfg.n_ctx && self.inner.relative_bias.is_none() {
            return Err(Error::PromptTooLong { found: behind + pos, n_ctx: cfg.n_ctx });
        }
        let mask = match &self.inner.encoder {
            None => self.mask(options.attention_mask.as_ref(), tokens.as_ref(), batch, pos)?,
            Some(_) => self.mask(None, tokens.as_ref(), batch, pos)?,
        };

        let mut tap = Tap::new(self.hook_points(), &options.hooks, options.cache.as_ref())?;
        let encoding = self.encode(pair.encoder.as_ref(), options, past.as_deref_mut(), batch, &mut tap)?;
        let placed = self.placed(tokens.as_ref(), mask.as_deref());
        let positions = position_ids(placed.as_deref(), past.as_deref(), batch, pos);
        let real = match past.as_deref_mut() {
            Some(past) => {
                past.check(cfg.n_layers, batch)?;
                past.extend_real(mask.as_deref(), batch, pos)
            }
            None => mask.clone(),
        };
        let mut resid = match (given, &tokens) {
            (Some(resid), _) => resid.to_device(self.device())?.to_dtype(self.dtype())?,
            (None, Some(tokens)) => self.embed(tokens)?,
            (None, None) => return Err(Error::EmptyPrompt),
        };
        if given.is_none() && !self.inner.embeds_with_norm() {
            resid = tap.pass(&self.inner.hook_embed, resid)?;
        }
        let pos_embed = match given {
            Some(_) if cfg.positions != Positions::Shortformer => None,
            _ => self.pos_embed(&positions, placed.as_deref(), batch, &mut tap)?,
        };
        let masks = Masks::new(pos, behind + pos, real, self.dtype(), self.device());
        let mut around = Surroundings::new(cfg, masks, positions, self.dtype(), self.device())?;
        if cfg.positions == Positions::Shortformer {
            around.pos_embed = pos_embed;
        } else if let Some(pos_embed) = pos_embed {
            resid = (resid + pos_embed)?;
        }
        if let Some(relative_bias) = &self.inner.relative_bias {
            around.bias = Some(relative_bias.forward(pos, behind + pos, &mut tap)?);
        }
        around.encoded = encoding.map(|encoding| self.look_at(encoding, pos)).transpose()?;
        if given.is_none() {
            if let Some(token_types) = self.token_type_embed(options, batch, pos)? {
                resid = (resid + tap.pass(&self.inner.hook_token_type_embed, token_types)?)?;
            }
            if let Some(norm) = &self.inner.embed_ln {
                resid = norm.forward(&resid, &mut tap)?;
            }
            if self.inner.embeds_with_norm() {
                resid = tap.pass(&self.inner.hook_embed, resid)?;
            }
        }
        for layer in start..stop.unwrap_or(cfg.n_layers) {
            let past = past.as_deref_mut().map(|past| &mut past.layers[layer]);
            let next = (layer + 1 < stop.unwrap_or(cfg.n_layers)).then_some(layer + 1);
            resid = self.inner.layers.get_before(layer, next)?.forward(resid, &mut around, past, &mut tap)?;
        }

        let labels = options.labels.as_ref().or(tokens.as_ref());
        let mut output = RunOutput {
            logits: None,
            loss_per_token: None,
            loss: None,
            resid: resid.clone(),
            cache: Vec::new(),
            tokens: tokens.clone(),
            encoder_tokens: pair.encoder,
        };
        if options.loss && cfg.bidirectional {
            return Err(Error::msg(
                "this model sees the tokens on both sides, so the loss of the next token says nothing about it; compare its logits at masked tokens",
            ));
        }
        if stop.is_none() {
            let normalized = self.normalized_for_unembedding(resid, &mut tap)?;
            if options.logits || options.loss {
                let read = match &options.logits_at {
                    Some(_) if options.loss => {
                        return Err(Error::msg("the loss needs the logits of all positions: leave logits_at(..) away"));
                    }
                    Some(positions) => at_positions(&normalized, positions)?,
                    None => normalized,
                };
                let logits = self.unembed(read, &mut tap)?;
                if options.loss {
                    let labels = labels.ok_or_else(|| {
                        Error::msg("the loss needs the tokens: give labels(..) with start_at_layer(..)")
                    })?;
                    let (per_token, mean) = next_token_loss(&logits, labels, mask.as_deref())?;
                    output.loss_per_token = Some(per_token);
                    output.loss = Some(mean);
                }
                output.logits = options.logits.then(|| Logits::new(logits, self.inner.tokenizer.clone()));
            }
        } else if options.loss {
            return Err(Error::msg("the loss needs a run to the end: leave stop_at_layer(..) away"));
        }
        output.cache = tap.into_kept();
        Ok(output)
    }

    /// The first layer and the one to stop before (none: run to the end), both in range.
    fn layer_range(&self, options: &RunOptions) -> Result<(usize, Option<usize>)> {
        let n_layers = self.cfg().n_layers as i64;
        let absolute = |what: &str, layer: i64| {
            let absolute = if layer < 0 { layer + n_layers } else { layer };
            if (0..=n_layers).contains(&absolute) {
                Ok(absolute as usize)
            } else {
                Err(Error::msg(format!("{what}({layer}) is out of range: the model has {n_layers} layers")))
            }
        };
        let start = options.start_at_layer.map_or(Ok(0), |layer| absolute("start_at_layer", layer))?;
        let stop = options.stop_at_layer.map(|layer| absolute("stop_at_layer", layer)).transpose()?;
        match stop {
            Some(stop) if stop < start => {
                Err(Error::msg(format!("stop_at_layer ({stop}) comes before start_at_layer ({start})")))
            }
            _ => Ok((start, stop)),
        }
    }

    pub(super) fn check_tokens(&self, tokens: &Tokens) -> Result<(usize, usize)> {
        let d_vocab = self.cfg().d_vocab;
        for row in tokens.ids() {
            if let Some(position) = row.iter().position(|&id| id as usize >= d_vocab) {
                return Err(Error::TokenOutOfRange { id: row[position], position, d_vocab });
            }
        }
        Ok(tokens.shape())
    }

    fn check_residual(&self, resid: &Tensor) -> Result<(usize, usize)> {
        match resid.dims() {
            &[batch, pos, d_model] if d_model == self.cfg().d_model => Ok((batch, pos)),
            found => Err(Error::WrongShape {
                name: "residual stream".to_string(),
                expected: format!("[batch, pos, d_model = {}]", self.cfg().d_model),
                found: found.to_vec(),
            }),
        }
    }

    /// The padding mask of this run: the caller's, or the tokens' own; none if nothing is padding.
    pub(super) fn mask(
        &self,
        given: Option<&Vec<Vec<bool>>>,
        tokens: Option<&Tokens>,
        batch: usize,
        pos: usize,
    ) -> Result<Option<Vec<Vec<bool>>>> {
        let mask = match given {
            Some(mask) => mask.clone(),
            None => match tokens.and_then(|tokens| tokens.mask()) {
                Some(mask) => mask.to_vec(),
                None => return Ok(None),
            },
        };
        if mask.len() != batch || mask.iter().any(|row| row.len() != pos) {
            let found = vec![mask.len(), mask.first().map_or(0, Vec::len)];
            return Err(Error::WrongShape {
                name: "attention_mask".into(),
                expected: format!("[{batch}, {pos}]"),
                found,
            });
        }
        Ok(mask.iter().flatten().any(|real| !real).then_some(mask))
    }

    /// Token embeddings, `[batch, pos, d_model]`.
    fn embed(&self, tokens: &Tokens) -> Result<Tensor> {
        let mut embed = rows(&self.inner.w_e, &tokens.tensor(self.device())?)?.to_dtype(self.dtype())?;
        if let Some(project_in) = &self.inner.project_in {
            embed = linear(&embed, project_in, None)?;
        }
        if self.cfg().embedding_multiplier != 1.0 {
            embed = (embed * self.cfg().embedding_multiplier)?;
        }
        Ok(embed)
    }

    /// Position embeddings, `[batch, pos, d_model]`, where the model has such vectors.
    fn pos_embed(
        &self,
        positions: &[Vec<u32>],
        mask: Option<&[Vec<bool>]>,
        batch: usize,
        tap: &mut Tap,
    ) -> Result<Option<Tensor>> {
        let Some(w_pos) = &self.inner.w_pos else { return Ok(None) };
        tap.pass(&self.inner.hook_pos_embed, place(w_pos, positions, mask, batch)?).map(Some)
    }

    /// What the unembedding reads of the stream that leaves the last block, `[.., d_model]`.
    pub(super) fn normalized_for_unembedding(&self, resid: Tensor, tap: &mut Tap) -> Result<Tensor> {
        let read = match &self.inner.head {
            Some(head) => head.forward(&resid)?,
            None => resid,
        };
        match &self.inner.ln_final {
            Some(norm) => norm.forward(&read, tap),
            None => Ok(read),
        }
    }

    /// Logits `[.., d_vocab]` of the normalised stream.
    pub(super) fn unembed(&self, normalized: Tensor, tap: &mut Tap) -> Result<Tensor> {
        let mut x = tap.pass(&self.inner.hook_unembed_in, normalized)?;
        if let Some(project_out) = &self.inner.project_out {
            x = linear(&x, project_out, None)?;
        }
        let logits = tap.pass(&self.inner.hook_unembed_out, linear(&x, &self.inner.w_u, self.inner.b_u.as_ref())?)?;
        match self.cfg().output_logits_soft_cap {
            Some(cap) => Ok(((logits / cap)?.tanh()? * cap)?),
            None => Ok(logits),
        }
    }
}

/// One position of each row, `[batch, pos, width]` to `[batch, 1, width]`.
pub(crate) fn at_positions(x: &Tensor, positions: &[usize]) -> Result<Tensor> {
    let (batch, pos, _) = x.dims3()?;
    if positions.len() != batch || positions.iter().any(|&position| position >= pos) {
        return Err(Error::msg(format!(
            "{positions:?} should be one position for each of the {batch} rows, each below {pos}"
        )));
    }
    if let Some(&first) = positions.first().filter(|first| positions.iter().all(|position| position == *first)) {
        return Ok(x.narrow(1, first, 1)?);
    }
    let rows = positions.iter().enumerate().map(|(row, &position)| x.narrow(0, row, 1)?.narrow(1, position, 1));
    Ok(Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

/// The rows of a table `[n, width]` that `ids` `[batch, pos]` name, `[batch, pos, width]`.
pub(super) fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (batch, pos) = ids.dims2()?;
    Ok(table.index_select(&ids.flatten_all()?, 0)?.reshape((batch, pos, ()))?)
}

/// The position vectors of tokens, `[batch, pos, d_model]`, from a table `[n, d_model]`; padding has none.
pub(super) fn place(
    table: &Tensor,
    positions: &[Vec<u32>],
    mask: Option<&[Vec<bool>]>,
    batch: usize,
) -> Result<Tensor> {
    let pos = positions.first().map_or(0, Vec::len);
    let ids = Tensor::from_vec(positions.concat(), (positions.len(), pos), table.device())?;
    let placed = rows(table, &ids)?.broadcast_as((batch, pos, table.dim(1)?))?.contiguous()?;
    let Some(mask) = mask else { return Ok(placed) };
    let real: Vec<f32> = mask.iter().flatten().map(|&real| f32::from(u8::from(real))).collect();
    let real = Tensor::from_vec(real, (batch, pos, 1), table.device())?.to_dtype(table.dtype())?;
    Ok(placed.broadcast_mul(&real)?)
}

/// The position of each token: how many real ones stand before it. One row serves all where nothing is padding.
pub(super) fn position_ids(
    mask: Option<&[Vec<bool>]>,
    past: Option<&KvCache>,
    batch: usize,
    pos: usize,
) -> Vec<Vec<u32>> {
    let past_is_padded = past.is_some_and(|past| past.real.is_some());
    let Some(mask) = mask else {
        if !past_is_padded {
            let behind = past.map_or(0, KvCache::len) as u32;
            return vec![(behind..behind + pos as u32).collect()];
        }
        let behind = past.map_or_else(|| vec![0; batch], |past| past.real_lengths(batch));
        return behind.into_iter().map(|behind| (behind as u32..(behind + pos) as u32).collect()).collect();
    };
    let behind = past.map_or_else(|| vec![0; batch], |past| past.real_lengths(batch));
    let row = |(mask, behind): (&Vec<bool>, usize)| {
        let mut seen = behind as u32;
        let place = |real: &bool| {
            seen += u32::from(*real);
            seen.saturating_sub(1)
        };
        mask.iter().map(place).collect()
    };
    mask.iter().zip(behind).map(row).collect()
}
