//! What a model is made of: the sizes and switches that select the parts of the forward pass.

use super::activations::Activation;

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
    /// Which norm stands before attention, MLP and unembedding.
    pub normalization: Normalization,
    /// Added under the norm's square root.
    pub eps: f64,
    /// How a token knows its place.
    pub positions: Positions,
    /// Whether the MLP multiplies a gated branch with a linear one.
    pub gated_mlp: bool,
    /// Whether the MLP reads the same residual stream as the attention, instead of the one after it.
    pub parallel_attn_mlp: bool,
    /// Attention scores are q·k divided by this.
    pub attn_scale: f64,
    /// Whether layer l divides its scores by l + 1 as well.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// For each layer, how many keys back a query sees (itself included); none for all.
    pub windows: Vec<Option<usize>>,
    /// Whether a text gets the beginning-of-sequence token when nothing else is said.
    pub default_prepend_bos: bool,
    /// Whether the unembedding is the transposed embedding (before weight processing).
    pub tie_word_embeddings: bool,
}

/// The kinds of norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// LayerNorm: subtract the mean, divide by the standard deviation.
    LayerNorm,
    /// RMSNorm: divide by the root of the mean square.
    Rms,
}

/// The kinds of position information.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A learned vector per position, added to the embedding.
    Learned,
    /// Queries and keys rotated by an angle that grows with the position.
    Rotary(Rotary),
}

/// Rotary positions (Su et al. 2021, arXiv 2104.09864); pairs are (i, i + rotary_dim / 2).
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// How many of a head's dimensions rotate.
    pub rotary_dim: usize,
    /// Base of the frequencies.
    pub base: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// Changes of the rotary frequencies for contexts longer than the trained one.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by a factor.
    Linear { factor: f64 },
    /// Llama 3's: low frequencies divided by a factor, high ones kept, those between blended.
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_n_ctx: f64 },
}

impl ModelConfig {
    /// Query heads that share one key and value head.
    pub fn heads_per_key_value(&self) -> usize {
        self.n_heads / self.n_key_value_heads
    }

    /// What q·k is divided by in a layer.
    pub fn attn_scale_of(&self, layer: usize) -> f64 {
        if self.scale_attn_by_inverse_layer_idx { self.attn_scale * (layer + 1) as f64 } else { self.attn_scale }
    }
}

impl Rotary {
    /// The angle per position of each rotating pair, `[rotary_dim / 2]`.
    pub fn frequencies(&self) -> Vec<f64> {
        let plain = (0..self.rotary_dim / 2).map(|i| self.base.powf(-2.0 * i as f64 / self.rotary_dim as f64));
        plain.map(|frequency| self.scaling.apply(frequency)).collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_n_ctx } => {
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                if wavelength < original_n_ctx / high_freq_factor {
                    frequency
                } else if wavelength > original_n_ctx / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth = (original_n_ctx / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    frequency * ((1.0 - smooth) / factor + smooth)
                }
            }
        }
    }
}
