//! The instrumented forward pass, put together from parts that a [`ModelConfig`] selects.

mod activations;
mod alibi;
mod attention;
mod attention_core;
mod block;
mod chat;
mod checkpoints;
mod config;
mod cross_attention;
mod encoder;
mod experts;
mod generate;
mod generated;
mod head;
mod input;
mod kv_cache;
mod latent_attention;
mod layer_weights;
mod layers;
mod linear;
mod load;
mod loss;
mod mamba;
mod mamba2;
mod mask;
mod mlp;
mod norm;
mod pair;
mod parameters;
mod relative_bias;
mod rotary;
mod routing;
mod run;
mod save;
mod selective_scan;
mod sinusoid;
mod staged;
mod state_space;
mod stream;
mod surroundings;

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::hooks::{HookPoint, PointInfo};
use crate::tokens::{Occurrence, Text, TokenInput, TokenOptions, TokenRef, Tokenizer, Tokens};
use crate::weights::{BlockReader, NormWeights, Steps, Weights, compute_dtype, widen_small};
use crate::{Error, Result};
use encoder::Encoder;
use head::Head;
use layers::Layers;
use norm::Norm;
use relative_bias::RelativeBias;

pub use activations::Activation;
pub use config::{AlibiStyle, LayerConfig, ModelConfig, Normalization, Positions, QkNorm, Sizes};
pub use experts::{ExpertJoin, Experts};
pub use generate::GenerateOptions;
pub use generated::{Choice, Generation};
pub use input::Input;
pub use kv_cache::KvCache;
pub use latent_attention::LatentAttention;
pub use layer_weights::LayerWeights;
pub use load::LoadOptions;
pub(crate) use loss::real_pairs;
pub use loss::{log_probs_of_next, next_token_loss};
pub use rotary::{RopeScaling, Rotary};
pub use routing::{ExpertGroups, GroupScore, RouterScores, Routing};
pub(crate) use run::at_positions;
pub use run::{Logits, RunOptions, RunOutput};
pub use state_space::StateSpace;
pub use stream::StreamPlace;
pub(crate) use stream::{Branch, NormInfo};

/// A transformer whose every activation can be read and changed.
///
/// Cheap to clone: clones share the weights.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let (logits, cache) = model.run_with_cache("John gave a book to Mary.")?;
/// assert_eq!(cache.get(pattern(0))?.dims().len(), 4);
/// # let _ = logits; Ok(()) }
/// ```
#[derive(Clone)]
pub struct HookedTransformer {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    cfg: ModelConfig,
    w_e: Tensor,
    w_pos: Option<Tensor>,
    embed_ln: Option<Norm>,
    project_in: Option<Tensor>,
    layers: Layers,
    ln_final: Option<Norm>,
    project_out: Option<Tensor>,
    w_u: Tensor,
    b_u: Option<Tensor>,
    w_token_type: Option<Tensor>,
    relative_bias: Option<RelativeBias>,
    head: Option<Head>,
    encoder: Option<Encoder>,
    hook_embed: HookPoint,
    hook_pos_embed: HookPoint,
    hook_token_type_embed: HookPoint,
    hook_unembed_in: HookPoint,
    hook_unembed_out: HookPoint,
    tokenizer: Option<Tokenizer>,
    no_tokenizer: String,
    norms_folded: bool,
    points: Vec<PointInfo>,
    /// The name that it was loaded by, and how.
    loaded: Option<(String, LoadOptions)>,
}

impl HookedTransformer {
    /// A model of these parts and weights, without a tokenizer.
    ///
    /// The weights may be candle variables; gradients then flow to them.
    pub fn from_weights(cfg: ModelConfig, weights: Weights) -> Result<Self> {
        if weights.blocks.len() != cfg.n_layers || cfg.layers.len() != cfg.n_layers {
            return Err(Error::msg(format!(
                "the configuration has {} layers and settings for {}, and the weights have {} blocks",
                cfg.n_layers,
                cfg.layers.len(),
                weights.blocks.len()
            )));
        }
        let mut weights = weights;
        widen_small(&mut weights)?;
        // TransformerLens' names say which stack they are of only where there are two.
        let stack = if weights.encoder.is_some() { "decoder_" } else { "" };
        let layers = Layers::held(stack, std::mem::take(&mut weights.blocks), &cfg)?;
        Self::assembled(cfg, weights, layers)
    }

    /// A model whose layers `reader` reads whenever a run comes to them.
    fn streamed(cfg: ModelConfig, mut weights: Weights, reader: BlockReader, steps: Option<Steps>) -> Result<Self> {
        let layers = Layers::streamed(&cfg, reader, steps)?;
        if let Some(steps) = steps {
            steps.ends(&mut weights, &cfg)?;
        }
        widen_small(&mut weights)?;
        Self::assembled(cfg, weights, layers)
    }

    /// A model of what is not in layers, and the layers.
    fn assembled(cfg: ModelConfig, weights: Weights, layers: Layers) -> Result<Self> {
        // Folding leaves every norm without weights; a model whose norms never had any counts as folded too.
        let is_folded = |norm: &NormWeights| norm.w.is_none() && norm.b.is_none();
        let norms_folded = layers.norms_folded() && weights.ln_final.as_ref().is_none_or(is_folded);
        let norm = |name: &str, weights: Option<_>| {
            weights.map(|weights| Norm::new(name, weights, cfg.normalization, cfg.eps))
        };
        let encoder = match (&cfg.encoder, weights.encoder) {
            (Some(cfg), Some(weights)) => Some(Encoder::new((**cfg).clone(), *weights)?),
            (None, None) => None,
            _ => return Err(Error::msg("an encoder needs both its configuration and its weights")),
        };
        // TransformerLens' names say which stack they are of only where there are two.
        let (stack, embedding) = if encoder.is_some() { ("decoder_", "hook_decoder_") } else { ("", "hook_") };
        let hook_pos_embed = format!("{embedding}pos_embed");
        let mut inner = Inner {
            w_pos: match cfg.positions {
                Positions::Sinusoidal => Some(sinusoid::table(cfg.n_ctx, cfg.d_model, &weights.w_e)?),
                _ => weights.w_pos,
            },
            w_e: weights.w_e,
            embed_ln: norm(&format!("{stack}embed_ln"), weights.embed_ln),
            project_in: weights.project_in,
            layers,
            ln_final: weights.ln_final.map(|weights| {
                Norm::new(
                    &format!("{stack}ln_final"),
                    weights,
                    cfg.final_normalization.unwrap_or(cfg.normalization),
                    cfg.eps,
                )
            }),
            project_out: weights.project_out,
            w_u: weights.w_u,
            b_u: weights.b_u,
            w_token_type: weights.w_token_type,
            relative_bias: match (&cfg.positions, weights.relative_bias) {
                (Positions::RelativeBias { max_distance, .. }, Some(table)) => {
                    Some(RelativeBias::new(&hook_pos_embed, table, *max_distance, cfg.bidirectional))
                }
                _ => None,
            },
            head: match (cfg.head_act_fn, weights.head) {
                (Some(act_fn), Some(weights)) => Some(Head::new(weights, act_fn)),
                (None, None) => None,
                _ => return Err(Error::msg("a head needs both its activation function and its weights")),
            },
            encoder,
            hook_embed: HookPoint::new(format!("{embedding}embed")),
            hook_pos_embed: HookPoint::new(hook_pos_embed),
            hook_token_type_embed: HookPoint::new("hook_token_type_embed"),
            hook_unembed_in: HookPoint::new("unembed.hook_in"),
            hook_unembed_out: HookPoint::new("unembed.hook_out"),
            tokenizer: None,
            no_tokenizer: "it was made from weights alone".to_string(),
            norms_folded,
            points: Vec::new(),
            loaded: None,
            cfg,
        };
        inner.points = inner.list_points();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same model with this tokenizer.
    pub fn with_tokenizer(self, tokenizer: Tokenizer) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.tokenizer = Some(
            tokenizer
                .with_default_prepend_bos(inner.cfg.default_prepend_bos)
                .with_own_template(inner.cfg.tokenizer_template),
        );
        Self { inner: Arc::new(inner) }
    }

    /// The same model with other weights.
    ///
    /// # Errors
    /// Weights of other parts than the configuration has.
    pub fn with_weights(&self, weights: Weights) -> Result<Self> {
        let mut inner = Arc::unwrap_or_clone(Self::from_weights(self.inner.cfg.clone(), weights)?.inner);
        inner.tokenizer = self.inner.tokenizer.clone();
        inner.no_tokenizer = self.inner.no_tokenizer.clone();
        Ok(Self { inner: Arc::new(inner) })
    }

    fn without_tokenizer_because(self, why: String) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.no_tokenizer = why;
        Self { inner: Arc::new(inner) }
    }

    /// Its sizes and switches.
    pub fn cfg(&self) -> &ModelConfig {
        &self.inner.cfg
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        self.inner.w_e.device()
    }

    /// The type of its activations. It is that of its weights, but for weights of half the width (bf16, f16) on the CPU: they
    /// stay as they are in memory, and are widened piece by piece; what is computed is float32.
    pub fn dtype(&self) -> DType {
        compute_dtype(self.inner.w_e.dtype(), self.inner.w_e.device())
    }

    /// Its tokenizer; an error that says why if it has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner.tokenizer.as_ref().ok_or_else(|| Error::NoTokenizer { why: self.inner.no_tokenizer.clone() })
    }

    /// Every hook point that TransformerLens has for such a model, in the order in which they fire, with shapes.
    pub fn hook_points(&self) -> &[PointInfo] {
        &self.inner.points
    }

    /// Whether the norms' weights were folded away (weight processing).
    pub fn norms_folded(&self) -> bool {
        self.inner.norms_folded
    }

    /// Whether `other` is this very model: the same loaded weights.
    pub fn is(&self, other: &HookedTransformer) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Token ids of a text or texts; BOS in front if that is the model's default.
    pub fn to_tokens(&self, text: impl Into<Text>) -> Result<Tokens> {
        self.tokenizer()?.to_tokens(text)
    }

    /// The pieces that a text is split into, BOS included where it is the default.
    pub fn to_str_tokens(&self, text: impl Into<Text>) -> Result<Vec<String>> {
        self.tokenizer()?.to_str_tokens(text)
    }

    /// The id of a text that is a single token; an error that shows the pieces if it is not.
    pub fn to_single_token(&self, text: &str) -> Result<u32> {
        self.tokenizer()?.to_single_token(text)
    }

    /// The id of a token that is named by its text (which must be a single token) or by its id; an error if the model has
    /// no such id.
    pub fn token_id(&self, token: impl Into<TokenRef>) -> Result<u32> {
        let id = match token.into() {
            TokenRef::Id(id) => id,
            TokenRef::Text(text) => self.to_single_token(&text)?,
        };
        let d_vocab = self.cfg().d_vocab;
        if id as usize >= d_vocab { Err(Error::TokenOutOfRange { id, position: 0, d_vocab }) } else { Ok(id) }
    }

    /// The text of one token.
    pub fn to_single_str_token(&self, id: u32) -> Result<String> {
        self.tokenizer()?.to_single_str_token(id)
    }

    /// Where a token stands in a text or in tokens: its first or last position, counting BOS where it is the default.
    pub fn get_token_position(
        &self,
        token: impl Into<TokenRef>,
        input: impl Into<TokenInput>,
        occurrence: Occurrence,
    ) -> Result<usize> {
        self.tokenizer()?.get_token_position(token, input, occurrence, &TokenOptions::default())
    }

    /// The text of token ids.
    pub fn to_string(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer()?.to_string(ids)
    }
}

impl Inner {
    /// Whether the embedding is whole only behind its norm, as in Bloom and BERT; `hook_embed` then lies there, as in
    /// TransformerLens.
    fn embeds_with_norm(&self) -> bool {
        // One without weights (nanochat) is a step by itself.
        self.embed_ln.as_ref().is_some_and(|norm| norm.weights().w.is_some())
    }

    fn list_points(&self) -> Vec<PointInfo> {
        let stream = "[batch, pos, d_model]";
        let norm = |norm: &Option<Norm>| norm.as_ref().map(Norm::hook_points).unwrap_or_default();
        let mut points = self.encoder.as_ref().map(Encoder::hook_points).unwrap_or_default();
        let embed = PointInfo::always(&self.hook_embed, stream);
        let pos_embed = match (&self.relative_bias, &self.w_pos) {
            (Some(bias), _) => bias.hook_point(),
            (None, Some(_)) => PointInfo::always(&self.hook_pos_embed, stream),
            (None, None) => {
                let why = "the model adds no vectors for positions to the embedding";
                PointInfo::never(self.hook_pos_embed.shared_name(), why)
            }
        };
        if self.embeds_with_norm() {
            points.push(pos_embed);
            points.extend(self.w_token_type.iter().map(|_| PointInfo::always(&self.hook_token_type_embed, stream)));
            points.extend(norm(&self.embed_ln));
            points.push(embed);
        } else {
            points.extend([embed, pos_embed]);
            points.extend(norm(&self.embed_ln));
        }
        points.extend(self.layers.hook_points());
        points.extend(norm(&self.ln_final));
        points.push(PointInfo::on_request(&self.hook_unembed_in, stream));
        points.push(PointInfo::on_request(&self.hook_unembed_out, "[batch, pos, d_vocab]"));
        points
    }
}

impl fmt::Debug for HookedTransformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cfg = self.cfg();
        write!(
            f,
            "HookedTransformer({}: {} layers, {} heads, d_model {}, d_vocab {})",
            cfg.model_name, cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_vocab
        )
    }
}
