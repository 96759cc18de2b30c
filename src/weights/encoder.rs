//! The weights that encoders and encoder-decoders have besides.

use candle_core::Tensor;

use super::parts::parts;
use super::{BlockWeights, NormWeights};

/// The encoder of an encoder-decoder. The two share the embedding.
#[derive(Clone, Debug)]
pub struct EncoderWeights {
    /// Learned positions, `[n_ctx, d_model]`.
    pub w_pos: Option<Tensor>,
    /// A norm on the embedding.
    pub embed_ln: Option<NormWeights>,
    /// What the distance between query and key adds to the scores, `[buckets, n_heads]` (T5).
    pub relative_bias: Option<Tensor>,
    /// The blocks, in order.
    pub blocks: Vec<BlockWeights>,
    /// The norm after the last block.
    pub ln_final: Option<NormWeights>,
}

/// The head of a masked language model: act(x W + b), which the last norm and the unembedding read.
#[derive(Clone, Debug)]
pub struct HeadWeights {
    /// `[d_model, d_model]`.
    pub w: Tensor,
    /// `[d_model]`.
    pub b: Option<Tensor>,
}

parts!(EncoderWeights {
    w_pos => "pos_embed.W_pos",
    embed_ln => "embed_ln",
    relative_bias => "relative_bias",
    blocks => "blocks",
    ln_final => "ln_final",
});
parts!(HeadWeights { w => "W", b => "b" });

/// The name of an encoder-decoder's parameter, which says the stack: `encoder_blocks.0.attn.W_Q`,
/// `decoder_blocks.0.self_attn.W_Q`, `decoder_ln_final.w`. What the encoder embeds with keeps its plain name.
pub(super) fn stack_name(name: &str) -> String {
    match name.strip_prefix("encoder.") {
        Some(own) if own.starts_with("blocks.") || own.starts_with("ln_final") || own.starts_with("relative_bias") => {
            format!("encoder_{own}")
        }
        Some(own) => own.to_string(),
        None if name.starts_with("blocks.") => format!("decoder_{}", name.replacen(".attn.", ".self_attn.", 1)),
        None if ["pos_embed", "embed_ln", "ln_final", "relative_bias"].iter().any(|part| name.starts_with(part)) => {
            format!("decoder_{name}")
        }
        None => name.to_string(),
    }
}
