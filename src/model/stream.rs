//! The residual stream as an analysis sees it: its places, the norms that read it, what writes to it, and its read-out.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};

use super::HookedTransformer;
use super::block::{Block, FeedForward, Layout, Mixer};
use super::config::Positions;
use super::layers::MixerKind;
use super::norm::Norm;
use super::run::Logits;
use crate::hooks::{HookPoint, Tap};
use crate::tokens::{TokenChoice, TokenRef};
use crate::{Error, Result};

/// A place of the residual stream, named by what reads there. Made from a layer's number (its start), from
/// `Some(layer)`, or from `None` (the end).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamPlace {
    /// Where it enters this layer: what the attention reads. The number of layers stands for the end.
    Start(usize),
    /// Between this layer's attention and MLP: what the MLP reads (TransformerLens' `mlp_input`).
    Mid(usize),
    /// Where it leaves the last layer: what the unembedding reads.
    End,
}

impl From<usize> for StreamPlace {
    fn from(layer: usize) -> Self {
        Self::Start(layer)
    }
}

impl From<Option<usize>> for StreamPlace {
    fn from(layer: Option<usize>) -> Self {
        layer.map_or(Self::End, Self::Start)
    }
}

/// The two things in a layer that write to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    Attention,
    Mlp,
}

/// A norm: x / scale, times w, plus b; a centring one takes the mean off x first.
#[derive(Clone, Debug)]
pub(crate) struct NormInfo {
    pub(crate) hook_scale: HookPoint,
    pub(crate) centers: bool,
    pub(crate) w: Option<Tensor>,
    pub(crate) b: Option<Tensor>,
}

impl NormInfo {
    /// The norm of x `[.., d_model]` (f32) as a linear map: without the division by its scale, and without b.
    pub(crate) fn apply_unscaled(&self, x: &Tensor) -> Result<Tensor> {
        let x = if self.centers { x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)? } else { x.clone() };
        match &self.w {
            Some(w) => Ok(x.broadcast_mul(&w.to_dtype(DType::F32)?)?),
            None => Ok(x),
        }
    }
}

impl HookedTransformer {
    /// The logits that the model would give if `resid` were the stream that leaves its last layer: through its head (of a
    /// masked language model), its last norm in full, its unembedding and the soft cap: `[batch, pos, d_model]` to
    /// `[batch, pos, d_vocab]`. The logit lens is this, on the stream of an earlier layer (nostalgebraist 2020).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// println!("{:?}", model.logits_from_resid(&cache.get(resid_pre(1))?)?.top_k(3, 0, -1)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn logits_from_resid(&self, resid: &Tensor) -> Result<Logits> {
        match resid.dims() {
            &[_, _, d_model] if d_model == self.cfg().d_model => {}
            found => {
                return Err(Error::WrongShape {
                    name: "residual stream".to_string(),
                    expected: format!("[batch, pos, d_model = {}]", self.cfg().d_model),
                    found: found.to_vec(),
                });
            }
        }
        let tap = &mut Tap::closed();
        let resid = resid.to_device(self.device())?.to_dtype(self.dtype())?;
        let logits = self.unembed(self.normalized_for_unembedding(resid, tap)?, tap)?;
        Ok(Logits::new(logits, self.inner.tokenizer.clone()))
    }

    /// The directions in the residual stream that raise the logits of tokens, W_U's columns: `[d_model]` for one token,
    /// `[n, d_model]` for a list, `[batch, pos, d_model]` for one per position.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let names = model.tokens_to_residual_directions([" Mary", " John"])?;
    /// assert_eq!(names.dims(), [2, model.cfg().d_model]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A text that is not one token, or an id that the vocabulary does not have.
    pub fn tokens_to_residual_directions(&self, tokens: impl Into<TokenChoice>) -> Result<Tensor> {
        let direction = |token: &TokenRef| self.residual_direction(self.token_id(token)?);
        let row = |tokens: &[TokenRef]| -> Result<Tensor> {
            let directions = tokens.iter().map(direction).collect::<Result<Vec<_>>>()?;
            if directions.is_empty() {
                return Err(Error::msg("no token was named; give at least one"));
            }
            Ok(Tensor::stack(&directions, 0)?)
        };
        match tokens.into() {
            TokenChoice::One(token) => direction(&token),
            TokenChoice::PerRow(tokens) => row(&tokens),
            TokenChoice::PerPosition(rows) => {
                if rows.iter().any(|tokens| tokens.len() != rows[0].len()) {
                    return Err(Error::msg("one token per position was given, and the rows are not equally long"));
                }
                let rows = rows.iter().map(|tokens| row(tokens)).collect::<Result<Vec<_>>>()?;
                if rows.is_empty() {
                    return Err(Error::msg("no token was named; give at least one"));
                }
                Ok(Tensor::stack(&rows, 0)?)
            }
        }
    }

    /// What directions of the stream at its end, `[n, d_model]`, add directly to the logits, `[n, d_vocab]` in f32: through
    /// the last norm's weights, its scale taken as 1, and W_U.
    pub(crate) fn direct_logits(&self, directions: &Tensor) -> Result<Tensor> {
        let f32 = |x: &Tensor| x.to_dtype(DType::F32);
        let mut x = directions.to_device(self.device())?.to_dtype(DType::F32)?;
        if let Some(norm) = self.norm_that_reads(StreamPlace::End)? {
            x = norm.apply_unscaled(&x)?;
        }
        if let Some(project_out) = &self.inner.project_out {
            x = x.matmul(&f32(project_out)?)?;
        }
        Ok(x.matmul(&f32(&self.inner.w_u)?)?)
    }

    /// What directions that a branch gives, `[n, d_model]`, are when they are added to the stream, in f32; the scale of a
    /// norm behind the branch is taken as 1.
    pub(crate) fn direct_write(&self, layer: usize, branch: Branch, directions: &Tensor) -> Result<Tensor> {
        let x = directions.to_dtype(DType::F32)?;
        match self.norm_behind(layer, branch)? {
            Some(norm) => norm.apply_unscaled(&x),
            None => Ok(x),
        }
    }

    /// The sum of the biases that the layers before a place add to the stream, in f32, `[d_model]`: b_O of each attention
    /// and, if asked for, b_out of each MLP. (At [`StreamPlace::Mid`] the layer's own attention counts.)
    ///
    /// # Errors
    /// A layer that the model does not have. Biases that add nothing constant: those of experts, which count as much as
    /// the expert does, and those that a norm follows.
    pub fn accumulated_bias(&self, place: impl Into<StreamPlace>, include_mlp_biases: bool) -> Result<Tensor> {
        let place = self.check_place(place.into())?;
        let mut sum = Tensor::zeros(self.cfg().d_model, DType::F32, self.device())?;
        for (layer, branch) in self.writers_before(place) {
            if branch == Branch::Mlp && !include_mlp_biases {
                continue;
            }
            let Some(bias) = self.branch_bias(layer, branch)? else { continue };
            if self.norm_behind(layer, branch)?.is_some() {
                return Err(Error::msg(format!(
                    "the bias that layer {layer} adds goes through a norm, and so differs from position to position; \
                     cache.full_resid_decomposition(..) has it"
                )));
            }
            sum = (sum + (bias.to_dtype(DType::F32)? * self.cfg().residual_multiplier)?)?;
        }
        Ok(sum)
    }

    /// The same place, with a start behind the last layer as the end.
    pub(crate) fn check_place(&self, place: StreamPlace) -> Result<StreamPlace> {
        let n_layers = self.cfg().n_layers;
        match place {
            StreamPlace::Start(layer) if layer == n_layers => Ok(StreamPlace::End),
            StreamPlace::Start(layer) | StreamPlace::Mid(layer) if layer >= n_layers => {
                Err(Error::msg(format!("there is no layer {layer}: the model has {n_layers}")))
            }
            place => Ok(place),
        }
    }

    /// The point of the stream at a place.
    pub(crate) fn stream_point(&self, place: StreamPlace) -> HookPoint {
        match place {
            StreamPlace::Start(layer) => self.block_point(layer, "hook_resid_pre"),
            StreamPlace::Mid(layer) => self.block_point(layer, "hook_resid_mid"),
            StreamPlace::End => self.block_point(self.cfg().n_layers.saturating_sub(1), "hook_resid_post"),
        }
    }

    /// A point of a layer; of the decoder's, in an encoder-decoder.
    pub(crate) fn block_point(&self, layer: usize, tail: &str) -> HookPoint {
        let stack = if self.has_encoder() { "decoder_" } else { "" };
        HookPoint::new(format!("{stack}blocks.{layer}.{tail}"))
    }

    /// Whether a point is the encoder's, whose positions are those of another text.
    pub(crate) fn is_of_encoder(&self, name: &str) -> bool {
        let of = |encoder: &super::Encoder| encoder.hook_points().iter().any(|info| info.point.name() == name);
        self.inner.encoder.as_ref().is_some_and(of)
    }

    /// What writes to the stream before a place, in order.
    pub(crate) fn writers_before(&self, place: StreamPlace) -> Vec<(usize, Branch)> {
        let (whole, half) = match place {
            StreamPlace::Start(layer) => (layer, None),
            StreamPlace::Mid(layer) => (layer, Some(layer)),
            StreamPlace::End => (self.cfg().n_layers, None),
        };
        let mut writers = Vec::new();
        for (layer, outline) in self.inner.layers.outlines().enumerate().take(whole) {
            writers.push((layer, Branch::Attention));
            if outline.feed_forward.is_some() {
                writers.push((layer, Branch::Mlp));
            }
        }
        writers.extend(half.map(|layer| (layer, Branch::Attention)));
        writers
    }

    /// An error unless the stream is a sum of what embedding, attentions and MLPs write.
    pub(crate) fn check_additive(&self) -> Result<()> {
        if self.cfg().post_norm || self.has_encoder() {
            return Err(Error::msg(
                "the residual stream has parts that add up only where all layers write to one stream; in this model norms \
                 stand after the additions, or a second stack is looked at",
            ));
        }
        match self.inner.layers.outlines().position(|outline| outline.mixer == MixerKind::StateSpace) {
            Some(layer) => Err(Error::msg(format!(
                "layer {layer} has a state-space mixer, and the stream is taken apart into what attentions and MLPs \
                 write; cache.accumulated_resid(..) has the stream itself"
            ))),
            None => Ok(()),
        }
    }

    /// The norm that reads the stream at a place; none where it is read as it is.
    pub(crate) fn norm_that_reads(&self, place: StreamPlace) -> Result<Option<NormInfo>> {
        Ok(self.reader(place)?.as_ref().and_then(Norm::info))
    }

    /// `x` through the norm that reads at a place, in full and with the scale of `x` itself, `[.., d_model]`.
    pub(crate) fn through_norm(&self, place: StreamPlace, x: &Tensor) -> Result<Tensor> {
        match &self.reader(place)? {
            Some(norm) => norm.forward(x, &mut Tap::closed()),
            None => Ok(x.clone()),
        }
    }

    fn reader(&self, place: StreamPlace) -> Result<Option<Norm>> {
        let block = |layer: usize| self.block(layer);
        match place {
            StreamPlace::End if self.inner.head.is_some() => Err(Error::msg(
                "between the stream and the last norm stands the head of a masked language model, which is not linear: \
                 logits are no sum over parts of the stream; model.logits_from_resid(..) reads the whole stream",
            )),
            StreamPlace::End => Ok(self.inner.ln_final.clone()),
            // A norm that follows the addition reads nothing.
            StreamPlace::Start(_) | StreamPlace::Mid(_) if self.cfg().post_norm => Ok(None),
            StreamPlace::Start(layer) => Ok(block(layer)?.ln1.clone()),
            StreamPlace::Mid(layer) => Ok(block(layer)?.ln2.clone()),
        }
    }

    /// The norm that a branch's result goes through before it is added (Gemma 2), if there is one.
    pub(crate) fn norm_behind(&self, layer: usize, branch: Branch) -> Result<Option<NormInfo>> {
        let block = self.block(layer)?;
        let norm = match branch {
            Branch::Attention => &block.ln1_post,
            Branch::Mlp => &block.ln2_post,
        };
        Ok(norm.as_ref().and_then(Norm::info))
    }

    /// The bias at the end of a branch, `[d_model]`, before what follows it.
    pub(crate) fn branch_bias(&self, layer: usize, branch: Branch) -> Result<Option<Tensor>> {
        let block = self.block(layer)?;
        match (branch, &block.mixer, &block.feed_forward) {
            (Branch::Attention, Mixer::Attention(attention), _) => Ok(attention.weights().b_o.clone()),
            (Branch::Attention, Mixer::Latent(latent), _) => Ok(latent.weights().b_o.clone()),
            (Branch::Attention, Mixer::StateSpace(_), _) => Ok(None),
            (Branch::Mlp, _, Some(FeedForward::Mlp(mlp))) => Ok(mlp.weights().b_out.clone()),
            (Branch::Mlp, _, Some(FeedForward::Experts(_))) => Err(Error::msg(format!(
                "layer {layer} has experts, whose biases count as much as the expert does, so there is no one bias"
            ))),
            (Branch::Mlp, _, None) => Ok(None),
        }
    }

    /// W_out of a layer's MLP, `[d_mlp, d_model]`.
    pub(crate) fn w_out_of(&self, layer: usize) -> Result<Tensor> {
        let block = self.block(layer)?;
        if let Some(FeedForward::Experts(_)) = &block.feed_forward {
            return Err(Error::msg(format!(
                "layer {layer} has experts, and not one MLP whose neurons write through one W_out; \
                 cache.decompose_resid(..) has what all of them write together"
            )));
        }
        Ok(block.mlp()?.weights().w_out.clone())
    }

    /// Whether the embedding is one part that a norm has made, and not the sum of token and position vectors.
    pub(crate) fn embedding_is_normalized(&self) -> bool {
        self.inner.embed_ln.is_some()
    }

    /// The points of what is added up before the first layer, by the labels that they have in stacks.
    pub(crate) fn embedding_points(&self) -> Vec<(&'static str, HookPoint)> {
        let inner = &self.inner;
        let mut points = vec![("embed", inner.hook_embed.clone())];
        // A shortformer's positions go to queries and keys, and never into the stream.
        if inner.w_pos.is_some() && inner.cfg.positions != Positions::Shortformer {
            points.push(("pos_embed", inner.hook_pos_embed.clone()));
        }
        points.extend(inner.w_token_type.iter().map(|_| ("token_type_embed", inner.hook_token_type_embed.clone())));
        points
    }

    /// Whether there is a stream between attention and MLP; an error that says why not.
    pub(crate) fn check_mid(&self, layer: usize) -> Result<()> {
        let none = || Error::msg(format!("there is no layer {layer}: the model has {}", self.cfg().n_layers));
        match self.inner.layers.outline(layer).ok_or_else(none)?.layout {
            Layout::Sequential | Layout::PostNorm => Ok(()),
            Layout::Parallel => Err(Error::msg(
                "attention and MLP are parallel in this model, so there is no residual stream between them: the MLP reads \
                 the start of the layer",
            )),
            Layout::MixerOnly => {
                Err(Error::msg(format!("layer {layer} has no MLP, so nothing reads the stream behind its attention")))
            }
        }
    }

    fn block(&self, layer: usize) -> Result<Arc<Block>> {
        self.inner.layers.get(layer)
    }
}
