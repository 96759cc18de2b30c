//! What a lens shows: for every layer and position, a distribution over the vocabulary.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::log_softmax;

use crate::analysis::{Axis, LabelledTensor};
use crate::cache::ActivationCache;
use crate::model::{HookedTransformer, Logits};
use crate::tokens::{TokenChoice, TokenRef, Tokens};
use crate::{Error, Result};

/// The stream of every layer, read as logits: for every layer and position a distribution over the vocabulary.
///
/// It keeps the streams and not the logits, which would take `[layer, batch, pos, d_vocab]`: each question makes the logits
/// of one layer at a time, and so costs one unembedding per layer. Results have the axes `layer`, `batch` and `pos`; `batch`
/// is left out where there is one row. In a notebook it shows the likeliest token of every layer and position.
#[derive(Clone, Debug)]
pub struct LensReading {
    pub(crate) model: HookedTransformer,
    labels: Vec<String>,
    /// `[batch, pos, d_model]` each, as the model's last norm is to read them; the last one is the model's own.
    streams: Vec<Tensor>,
    tokens: Option<Tokens>,
    pub(crate) title: String,
    pub(crate) note: Option<String>,
}

/// A token that a lens finds likely.
#[derive(Clone, Debug, PartialEq)]
pub struct LensToken {
    /// Its text.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// Its probability, 0 to 1.
    pub probability: f32,
}

impl ActivationCache {
    /// The logit lens: the residual stream at the start of every layer, and at the end, through the model's own last norm
    /// (computed anew, in full), unembedding and soft cap (nostalgebraist 2020). The last layer, `final_post`, is the model's
    /// own prediction.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
    /// let lens = cache.logit_lens()?;
    /// println!("{:?}", lens.top_tokens(0, 1)?[0][3]); // of row 0: layer 0, position 3
    /// let rank = lens.rank(" Mary")?.at("pos", -3)?; // by layer
    /// assert_eq!(rank.dims(), [model.cfg().n_layers + 1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A cache without the residual stream.
    pub fn logit_lens(&self) -> Result<LensReading> {
        LensReading::new(self, false, "Logit lens", |_, stream| Ok(stream.clone()))
    }

    /// The logit lens, between attention and MLP of every layer too.
    ///
    /// # Errors
    /// As there; a model without a stream between the two.
    pub fn logit_lens_with_mid(&self) -> Result<LensReading> {
        LensReading::new(self, true, "Logit lens", |_, stream| Ok(stream.clone()))
    }
}

impl LensReading {
    /// The streams of a cache, each changed by `translate` (with the number of its layer), but for the last.
    pub(super) fn new(
        cache: &ActivationCache,
        include_mid: bool,
        title: &str,
        translate: impl Fn(usize, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let stack = cache.accumulated_resid(None, include_mid)?;
        let n = stack.labels().len();
        let per_layer = if include_mid { 2 } else { 1 };
        let stream = |i: usize| -> Result<Tensor> {
            let mut stream = stack.tensor().get(i)?;
            if !cache.has_pos_dim() {
                stream = stream.unsqueeze(stream.rank() - 1)?;
            }
            if !cache.has_batch_dim() {
                stream = stream.unsqueeze(0)?;
            }
            if i + 1 == n { Ok(stream) } else { translate(i / per_layer, &stream) }
        };
        Ok(Self {
            model: cache.model().clone(),
            streams: (0..n).map(stream).collect::<Result<_>>()?,
            labels: stack.labels().to_vec(),
            tokens: cache.tokens().cloned(),
            title: title.to_string(),
            note: None,
        })
    }

    /// What each layer is: `0_pre`, `0_mid`, .., `final_post`.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The tokens that the model ran on.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// The logits of one layer (by its place in [`labels`](Self::labels); negative from the end), `[batch, pos, d_vocab]`.
    ///
    /// # Errors
    /// A layer that is not there.
    pub fn logits(&self, layer: i64) -> Result<Logits> {
        let n = self.streams.len() as i64;
        let place = if layer < 0 { layer + n } else { layer };
        match usize::try_from(place).ok().and_then(|place| self.streams.get(place)) {
            Some(stream) => self.model.logits_from_resid(stream),
            None => Err(Error::msg(format!(
                "there is no layer {layer}: the lens reads {n} places ({})",
                self.labels.join(", ")
            ))),
        }
    }

    /// The `k` likeliest tokens of one row of the batch, likeliest first: `[layer][pos][k]`.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn top_tokens(&self, row: usize, k: usize) -> Result<Vec<Vec<Vec<LensToken>>>> {
        let (batch, _) = self.shape()?;
        if row >= batch {
            return Err(Error::msg(format!("there is no row {row}: the batch has {batch}")));
        }
        let mut layers = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            let logits = self.model.logits_from_resid(&stream.narrow(0, row, 1)?)?;
            let log_probs: Vec<Vec<f32>> = log_probs(&logits)?.squeeze(0)?.to_vec2()?;
            layers.push(log_probs.iter().map(|log_probs| self.top(log_probs, k)).collect());
        }
        Ok(layers)
    }

    /// The logits of tokens: of one everywhere, of one for each row (a list), or of one for each position (a list of lists,
    /// such as the tokens that follow).
    ///
    /// # Errors
    /// A text that is not one token; a list that does not fit.
    pub fn logit(&self, token: impl Into<TokenChoice>) -> Result<LabelledTensor> {
        let token = token.into();
        self.of_token("logit", &token, |logits, ids| Ok(logits.gather(ids, D::Minus1)?))
    }

    /// The probabilities of tokens, named as in [`logit`](Self::logit).
    ///
    /// # Errors
    /// As there.
    pub fn probability(&self, token: impl Into<TokenChoice>) -> Result<LabelledTensor> {
        let token = token.into();
        let probability =
            |logits: &Tensor, ids: &Tensor| Ok(log_softmax(logits, D::Minus1)?.gather(ids, D::Minus1)?.exp()?);
        self.of_token("probability", &token, probability)
    }

    /// The ranks of tokens: how many other tokens have a higher logit, 0 for the likeliest. Named as in
    /// [`logit`](Self::logit).
    ///
    /// # Errors
    /// As there.
    pub fn rank(&self, token: impl Into<TokenChoice>) -> Result<LabelledTensor> {
        let token = token.into();
        self.of_token("rank", &token, |logits, ids| {
            let higher = logits.broadcast_gt(&logits.gather(ids, D::Minus1)?)?;
            Ok(higher.to_dtype(DType::F32)?.sum_keepdim(D::Minus1)?)
        })
    }

    /// The lead of one token's logit over another's.
    ///
    /// # Errors
    /// As [`logit`](Self::logit).
    pub fn logit_diff(&self, right: impl Into<TokenChoice>, wrong: impl Into<TokenChoice>) -> Result<LabelledTensor> {
        let (right, wrong) = (right.into(), wrong.into());
        let other = self.ids(&wrong)?;
        let title = format!("logit difference{}", self.named(&right, Some(&wrong)));
        let ids = self.ids(&right)?;
        self.sweep(title, |logits| {
            Ok((logits.gather(&ids, D::Minus1)? - logits.gather(&other, D::Minus1)?)?.squeeze(D::Minus1)?)
        })
    }

    /// The entropy of each distribution, in nats.
    pub fn entropy(&self) -> Result<LabelledTensor> {
        self.sweep("entropy (nats)".to_string(), |logits| {
            let log_probs = log_softmax(logits, D::Minus1)?;
            Ok((log_probs.exp()? * log_probs)?.sum(D::Minus1)?.neg()?)
        })
    }

    /// How far each distribution is from the model's own: KL(final ‖ layer), in nats; 0 at the end.
    pub fn kl_to_final(&self) -> Result<LabelledTensor> {
        let last = log_probs(self.logits(-1)?.tensor())?;
        let probs = last.exp()?;
        self.sweep("KL(final || layer) (nats)".to_string(), |logits| {
            let log_probs = log_softmax(logits, D::Minus1)?;
            Ok((&probs * (&last - log_probs)?)?.sum(D::Minus1)?)
        })
    }

    pub(crate) fn with_note(mut self, note: Option<String>) -> Self {
        self.note = note;
        self
    }

    /// `(batch, pos)`.
    pub(crate) fn shape(&self) -> Result<(usize, usize)> {
        match self.streams.first() {
            Some(stream) => Ok((stream.dim(0)?, stream.dim(1)?)),
            None => Err(Error::msg("the lens has no layers to read")),
        }
    }

    /// The texts of one row's tokens; numbers where there are none.
    pub(crate) fn positions(&self, row: usize) -> Result<Vec<String>> {
        let (batch, pos) = self.shape()?;
        match &self.tokens {
            Some(tokens) if tokens.shape() == (batch, pos) => tokens.str_tokens(row),
            _ => Ok((0..pos).map(|pos| pos.to_string()).collect()),
        }
    }

    fn of_token(
        &self,
        what: &str,
        token: &TokenChoice,
        f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<LabelledTensor> {
        let ids = self.ids(token)?;
        self.sweep(format!("{what}{}", self.named(token, None)), |logits| Ok(f(logits, &ids)?.squeeze(D::Minus1)?))
    }

    /// A number for each layer and position, from the logits of a layer, in f32, `[batch, pos, d_vocab]`.
    fn sweep(&self, title: String, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<LabelledTensor> {
        let layer = |stream: &Tensor| f(&self.model.logits_from_resid(stream)?.to_dtype(DType::F32)?.contiguous()?);
        let values = Tensor::stack(&self.streams.iter().map(layer).collect::<Result<Vec<_>>>()?, 0)?;
        let (batch, pos) = self.shape()?;
        let layers = Axis::new("layer", self.labels.clone());
        if batch == 1 {
            return LabelledTensor::new(title, &values.squeeze(1)?, [layers, Axis::new("pos", self.positions(0)?)]);
        }
        LabelledTensor::new(title, &values, [layers, Axis::numbered("batch", batch), Axis::numbered("pos", pos)])
    }

    /// The ids of tokens, `[batch, pos, 1]`.
    fn ids(&self, tokens: &TokenChoice) -> Result<Tensor> {
        let (batch, pos) = self.shape()?;
        let id = |token: &TokenRef| self.model.token_id(token);
        let ids: Vec<u32> = match tokens {
            TokenChoice::One(token) => vec![id(token)?; batch * pos],
            TokenChoice::PerRow(tokens) if tokens.len() == batch => {
                let rows = tokens.iter().map(|token| Ok(vec![id(token)?; pos])).collect::<Result<Vec<_>>>()?;
                rows.concat()
            }
            TokenChoice::PerPosition(rows) if rows.len() == batch && rows.iter().all(|row| row.len() == pos) => {
                rows.iter().flatten().map(id).collect::<Result<_>>()?
            }
            _ => {
                return Err(Error::msg(format!(
                    "the tokens do not fit: the lens reads {batch} rows of {pos} positions; give one token, a list with one \
                     for each row, or a list of lists with one for each position"
                )));
            }
        };
        Ok(Tensor::from_vec(ids, (batch, pos, 1), self.model.device())?)
    }

    /// ` of 'token'`, where it is one.
    fn named(&self, token: &TokenChoice, other: Option<&TokenChoice>) -> String {
        let name = |token: &TokenRef| match token {
            TokenRef::Text(text) => format!("'{text}'"),
            TokenRef::Id(id) => format!("'{}'", self.text(*id)),
        };
        match (token, other) {
            (TokenChoice::One(token), None) => format!(" of {}", name(token)),
            (TokenChoice::One(token), Some(TokenChoice::One(other))) => {
                format!(" of {} and {}", name(token), name(other))
            }
            _ => String::new(),
        }
    }

    fn top(&self, log_probs: &[f32], k: usize) -> Vec<LensToken> {
        let mut order: Vec<usize> = (0..log_probs.len()).collect();
        let higher = |a: &usize, b: &usize| log_probs[*b].total_cmp(&log_probs[*a]);
        if k < order.len() {
            order.select_nth_unstable_by(k, higher);
            order.truncate(k);
        }
        order.sort_by(higher);
        let token =
            |id: usize| LensToken { text: self.text(id as u32), id: id as u32, probability: log_probs[id].exp() };
        order.into_iter().map(token).collect()
    }

    fn text(&self, id: u32) -> String {
        self.model.tokenizer().map_or_else(|_| format!("#{id}"), |tokenizer| tokenizer.piece(id))
    }
}

/// In f32, `[batch, pos, d_vocab]`.
pub(crate) fn log_probs(logits: &Tensor) -> Result<Tensor> {
    Ok(log_softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?)
}
