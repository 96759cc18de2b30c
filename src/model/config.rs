//! What a model is made of: the sizes and switches that select the parts of the forward pass.

use super::activations::Activation;
use super::experts::Experts;
use super::latent_attention::LatentAttention;
use super::rotary::{RopeScaling, Rotary};
use super::state_space::StateSpace;
use crate::hub::Checkpoint;
use crate::weights::Processing;

/// The shape of a model, in TransformerLens' names. A family makes it from `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The name that it was loaded by.
    pub model_name: String,
    /// Hugging Face's `model_type`, which names the family.
    pub model_type: String,
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Longest prompt, in tokens.
    pub n_ctx: usize,
    /// Query heads in a layer.
    pub n_heads: usize,
    /// Key and value heads in a layer; fewer than `n_heads` where several query heads share one.
    pub n_key_value_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer; 0 where there is no MLP.
    pub d_mlp: usize,
    /// Entries of the vocabulary.
    pub d_vocab: usize,
    /// The MLP's activation function.
    pub act_fn: Activation,
    /// Whether the MLP multiplies a gated branch with a linear one.
    pub gated_mlp: bool,
    /// Which norm stands before (or after) attention and MLP, and before the unembedding.
    pub normalization: Normalization,
    /// Added under the norm's square root.
    pub eps: f64,
    /// Whether the norms stand after the addition to the residual stream, as in the first transformers.
    pub post_norm: bool,
    /// How a token knows its place.
    pub positions: Positions,
    /// What differs from layer to layer; one entry for each.
    pub layers: Vec<LayerConfig>,
    /// Whether a token sees those after it.
    pub bidirectional: bool,
    /// Whether the MLP reads the same residual stream as the attention, instead of the one after it.
    pub parallel_attn_mlp: bool,
    /// Attention scores are q·k divided by this.
    pub attn_scale: f64,
    /// Whether layer l divides its scores by l + 1 as well.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Scores s become c·tanh(s / c).
    pub attn_scores_soft_cap: Option<f64>,
    /// Logits x become c·tanh(x / c).
    pub output_logits_soft_cap: Option<f64>,
    /// Queries, keys and values are cut to the range from -c to c.
    pub clip_qkv: Option<f64>,
    /// Whether queries and keys are cut behind their norm instead of before it (OLMoE).
    pub clip_after_qk_norm: bool,
    /// A norm on queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Token embeddings are multiplied by this.
    pub embedding_multiplier: f64,
    /// What attention and MLP add to the residual stream is multiplied by this.
    pub residual_multiplier: f64,
    /// Logits are multiplied by this; W_U has it in it.
    pub logits_multiplier: f64,
    /// Whether a text gets the beginning-of-sequence token when nothing else is said.
    pub default_prepend_bos: bool,
    /// Whether the unembedding is the transposed embedding (before weight processing).
    pub tie_word_embeddings: bool,
    /// Width of a token's embedding; where it is not d_model, a projection leads to the residual stream and one back.
    pub d_embed: usize,
    /// The norm before the unembedding, where it is of another kind than those in the blocks.
    pub final_normalization: Option<Normalization>,
    /// Whether a LayerNorm stands in the MLP, after the activation function (SoLU models).
    pub mlp_ln: bool,
    /// The steps of weight processing that the family takes part in; others are left out silently, as TransformerLens does.
    pub processing: Processing,
    /// The repository whose tokenizer the model uses, where its own has none.
    pub tokenizer_name: Option<String>,
    /// The experts that stand in place of (some) MLPs.
    pub experts: Option<Experts>,
    /// Whether a text gets what the tokenizer's own template puts around it (`[CLS]` and `[SEP]`, `</s>`), as encoders and
    /// encoder-decoders expect, instead of a BOS alone.
    pub tokenizer_template: bool,
    /// The encoder of an encoder-decoder; all else here is then the decoder's.
    pub encoder: Option<Box<ModelConfig>>,
    /// The token that an encoder-decoder's decoder starts from.
    pub decoder_start_token: Option<u32>,
    /// The file's unembedding is multiplied by this when it is read (T5's 1 / sqrt(d_model)).
    pub output_multiplier: f64,
    /// The activation function of a masked-language-model head; none where there is no such head.
    pub head_act_fn: Option<Activation>,
    /// Whether `hook_attn_out` lies behind the norm that follows the attention (BERT's attention has that norm inside).
    pub attn_out_is_normalized: bool,
    /// Kinds of tokens that the embedding tells apart (BERT's first and second sentence); 0 where it knows none.
    pub n_token_types: usize,
    /// A token that takes no position: it is skipped in the count and gets no position vector (RoBERTa's padding).
    pub unplaced_token: Option<u32>,
    /// The sizes of latent attention, where the attention is of that kind.
    pub latent_attention: Option<LatentAttention>,
    /// The settings of the state-space mixers that stand in the attention's place.
    pub state_space: Option<StateSpace>,
    /// The training checkpoint that was loaded; none for a model's last state.
    pub checkpoint: Option<Checkpoint>,
}

/// What one layer has for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerConfig {
    /// How many keys back a query sees (itself included); none for all.
    pub window: Option<usize>,
    /// How queries and keys are rotated; none where they are not.
    pub rotary: Option<Rotary>,
}

/// The kinds of norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// LayerNorm: subtract the mean, divide by the standard deviation.
    LayerNorm,
    /// RMSNorm: divide by the root of the mean square.
    Rms,
    /// No norm at all.
    None,
}

/// A norm on queries and keys, between projection and scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QkNorm {
    /// Its kind.
    pub normalization: Normalization,
    /// Whether it is over all heads together instead of over each.
    pub joint: bool,
    /// Whether it comes after the rotary positions.
    pub after_rotary: bool,
}

/// The kinds of position information.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// None: only the causal mask tells the order.
    None,
    /// A learned vector per position, added to the embedding.
    Learned,
    /// A fixed vector of sines and cosines per position, added to the embedding (Vaswani et al. 2017).
    Sinusoidal,
    /// A learned vector per position, added to the inputs of queries and keys in every layer (Press et al. 2020).
    Shortformer,
    /// Queries and keys rotated by an angle that grows with the position; each layer says how.
    Rotary,
    /// Scores fall with the distance, at a slope of each head's own (Press et al. 2021).
    Alibi {
        /// The smallest slope is 2 to the power of minus this.
        bias_max: f64,
        /// From where the distance is counted.
        style: AlibiStyle,
    },
    /// Scores get a learned bias by the distance's bucket, the same in every layer (Raffel et al. 2019).
    RelativeBias {
        /// Number of buckets.
        buckets: usize,
        /// Distances from here on share the last bucket.
        max_distance: usize,
    },
}

/// The ways of adding ALiBi's bias. A softmax does not tell them apart, but for Falcon's rounding; the scores do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlibiStyle {
    /// Upwards from 0 at the first key.
    Bloom,
    /// Up to 0 at the last key.
    Mpt,
    /// As Bloom's, rounded to bfloat16, and then divided as q·k is.
    Falcon,
}

/// The sizes that every family has, from which [`ModelConfig::new`] starts.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Longest prompt, in tokens.
    pub n_ctx: usize,
    /// Query heads in a layer.
    pub n_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Entries of the vocabulary.
    pub d_vocab: usize,
}

impl ModelConfig {
    /// A decoder of these sizes as GPT-2 is: LayerNorm before attention and MLP, learned positions, one key head per
    /// query head, a plain MLP. A family changes what it has otherwise.
    pub fn new(model_type: &str, act_fn: Activation, sizes: Sizes) -> Self {
        let Sizes { n_layers, d_model, n_ctx, n_heads, d_head, d_mlp, d_vocab } = sizes;
        Self {
            model_name: String::new(),
            model_type: model_type.to_string(),
            n_layers,
            d_model,
            n_ctx,
            n_heads,
            n_key_value_heads: n_heads,
            d_head,
            d_mlp,
            d_vocab,
            act_fn,
            gated_mlp: false,
            normalization: Normalization::LayerNorm,
            eps: 1e-5,
            post_norm: false,
            positions: Positions::Learned,
            layers: vec![LayerConfig::default(); n_layers],
            bidirectional: false,
            parallel_attn_mlp: false,
            attn_scale: (d_head as f64).sqrt(),
            scale_attn_by_inverse_layer_idx: false,
            attn_scores_soft_cap: None,
            output_logits_soft_cap: None,
            clip_qkv: None,
            clip_after_qk_norm: false,
            qk_norm: None,
            embedding_multiplier: 1.0,
            residual_multiplier: 1.0,
            logits_multiplier: 1.0,
            default_prepend_bos: true,
            tie_word_embeddings: true,
            d_embed: d_model,
            final_normalization: None,
            mlp_ln: false,
            processing: Processing::default(),
            tokenizer_name: None,
            experts: None,
            tokenizer_template: false,
            encoder: None,
            decoder_start_token: None,
            output_multiplier: 1.0,
            head_act_fn: None,
            attn_out_is_normalized: false,
            n_token_types: 0,
            unplaced_token: None,
            latent_attention: None,
            state_space: None,
            checkpoint: None,
        }
    }

    /// The same with these rotary positions in every layer.
    pub fn with_rotary(mut self, rotary: Rotary) -> Self {
        self.positions = Positions::Rotary;
        // This scaling is for prompts longer than what the file gives as the context.
        if let RopeScaling::Dynamic { factor, original_n_ctx } = rotary.scaling {
            self.n_ctx = self.n_ctx.max((factor * original_n_ctx) as usize);
        }
        for layer in &mut self.layers {
            layer.rotary = Some(rotary.clone());
        }
        self
    }

    /// The same with each layer's window, in order; none for a layer that sees everything.
    pub fn with_windows(mut self, windows: impl IntoIterator<Item = Option<usize>>) -> Self {
        for (layer, window) in self.layers.iter_mut().zip(windows) {
            layer.window = window;
        }
        self
    }

    /// Query heads that share one key and value head.
    pub fn heads_per_key_value(&self) -> usize {
        self.n_heads / self.n_key_value_heads
    }

    /// What q·k is divided by in a layer.
    pub fn attn_scale_of(&self, layer: usize) -> f64 {
        if self.scale_attn_by_inverse_layer_idx { self.attn_scale * (layer + 1) as f64 } else { self.attn_scale }
    }
}
