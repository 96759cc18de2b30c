//! Weights in TransformerLens' names and shapes: y = x W + b, attention weights with a head axis.
//!
//! [`WeightSource`] reads them from files, told apart by their first bytes: safetensors, what `torch.save` writes
//! (`pytorch_model.bin`, `.pth`, `.pt`), and GGUF; one file or several. Nothing that a file names is ever executed, and
//! no file decides how much memory is taken.
//!
//! A GGUF file's quantised tensors are turned into floats as they are read, so a model takes as much memory as its
//! float version. How far the logits of a random two-layer model of width 256 are off, relative to their size (root mean
//! square; measured in `tests/library/formats.rs`; trained models, and files that keep the embedding finer, do better):
//!
//! | format | error | format | error |
//! |---|---|---|---|
//! | F32 | 0 | Q4_K | 20 % |
//! | F16 | 0.06 % | Q4_1 | 22 % |
//! | BF16 | 0.5 % | Q4_0 | 25 % |
//! | Q8_0 | 1.4 % | Q3_K | 39 % |
//! | Q6_K | 4.9 % | Q2_K | 74 % |
//! | Q5_K, Q5_1 | 10 % | Q5_0 | 12 % |

mod encoder;
mod experts;
mod files;
mod gguf_config;
mod gguf_names;
mod latent;
mod later;
mod leftovers;
mod mamba;
mod parts;
mod processing;
mod source;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use parts::{Parts, parts};

pub use encoder::{EncoderWeights, HeadWeights};
pub use experts::ExpertsWeights;
pub(crate) use experts::{PROJ, W123};
pub(crate) use gguf_config::config_json as gguf_config_json;
pub use latent::LatentWeights;
pub(crate) use later::{BlockReader, ReadBlock};
pub use mamba::{Mamba2Weights, MambaWeights};
pub use processing::Processing;
pub(crate) use processing::Steps;
pub use source::{Linear, WeightSource};

/// All weights of a decoder.
///
/// G is the number of key and value heads. A tensor that a family lacks is `None`.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Embedding, `[d_vocab, d_model]`.
    pub w_e: Tensor,
    /// Learned positions, `[n_ctx, d_model]`.
    pub w_pos: Option<Tensor>,
    /// A norm on the embedding.
    pub embed_ln: Option<NormWeights>,
    /// From a narrower embedding to the residual stream, `[d_embed, d_model]`.
    pub project_in: Option<Tensor>,
    /// The blocks, in order.
    pub blocks: Vec<BlockWeights>,
    /// The norm after the last block.
    pub ln_final: Option<NormWeights>,
    /// From the residual stream to a narrower unembedding, `[d_model, d_embed]`.
    pub project_out: Option<Tensor>,
    /// Unembedding, `[d_model, d_vocab]`.
    pub w_u: Tensor,
    /// Unembedding bias, `[d_vocab]`.
    pub b_u: Option<Tensor>,
    /// What each kind of token adds to the embedding, `[kinds, d_model]` (BERT's first and second sentence).
    pub w_token_type: Option<Tensor>,
    /// What the distance between query and key adds to the scores, `[buckets, n_heads]` (T5).
    pub relative_bias: Option<Tensor>,
    /// A masked-language-model head, between the last block and `ln_final`.
    pub head: Option<HeadWeights>,
    /// The encoder of an encoder-decoder; all else here is then the decoder's.
    pub encoder: Option<Box<EncoderWeights>>,
}

/// The weights of one block. A norm that is there is applied: before its branch (`ln1`, `ln2`) or on what the branch
/// gives (`ln1_post`, `ln2_post`). Without `ln2`, a parallel MLP reads what the attention reads.
#[derive(Clone, Debug)]
pub struct BlockWeights {
    /// The norm before the attention (after it with `post_norm`).
    pub ln1: Option<NormWeights>,
    /// The attention, or what stands in its place.
    pub mixer: MixerWeights,
    /// A norm on what the attention gives.
    pub ln1_post: Option<NormWeights>,
    /// The norm before the MLP (after it with `post_norm`).
    pub ln2: Option<NormWeights>,
    /// The MLP, or what stands in its place.
    pub feed_forward: Option<FeedForwardWeights>,
    /// A norm on what the MLP gives.
    pub ln2_post: Option<NormWeights>,
    /// Attention over the encoder's output, between attention and MLP. `ln2` is then its norm, and `ln3` the MLP's.
    pub cross_attention: Option<AttentionWeights>,
    /// The norm of the MLP where there is cross-attention.
    pub ln3: Option<NormWeights>,
}

/// What moves information between positions.
#[derive(Clone, Debug)]
pub enum MixerWeights {
    /// Attention.
    Attention(AttentionWeights),
    /// Attention whose keys and values come from one narrow latent.
    Latent(LatentWeights),
    /// A Mamba mixer.
    Mamba(MambaWeights),
    /// A Mamba-2 mixer.
    Mamba2(Mamba2Weights),
}

/// What works on each position by itself.
#[derive(Clone, Debug)]
pub enum FeedForwardWeights {
    /// An MLP.
    Mlp(MlpWeights),
    /// A mixture of experts.
    Experts(ExpertsWeights),
}

/// A norm's factor and shift, `[d_model]` each; `None` where there is none, or where it was folded away.
#[derive(Clone, Debug, Default)]
pub struct NormWeights {
    /// Factor.
    pub w: Option<Tensor>,
    /// Shift.
    pub b: Option<Tensor>,
}

/// The weights of an attention layer.
#[derive(Clone, Debug)]
pub struct AttentionWeights {
    /// Queries, `[n_heads, d_model, d_head]`.
    pub w_q: Tensor,
    /// Query bias, `[n_heads, d_head]`.
    pub b_q: Option<Tensor>,
    /// Keys, `[G, d_model, d_head]`.
    pub w_k: Tensor,
    /// Key bias, `[G, d_head]`.
    pub b_k: Option<Tensor>,
    /// Values, `[G, d_model, d_head]`.
    pub w_v: Tensor,
    /// Value bias, `[G, d_head]`.
    pub b_v: Option<Tensor>,
    /// Norm on queries: `[d_head]`, `[n_heads, d_head]`, or `[n_heads * d_head]` where all heads are normalised together.
    pub q_norm: Option<NormWeights>,
    /// Norm on keys, as `q_norm` with G heads.
    pub k_norm: Option<NormWeights>,
    /// A learned score per head that takes attention from all keys, `[n_heads]`.
    pub sinks: Option<Tensor>,
    /// Output, `[n_heads, d_head, d_model]`.
    pub w_o: Tensor,
    /// Output bias, `[d_model]`.
    pub b_o: Option<Tensor>,
}

/// The weights of an MLP. With a gate: act(x W_gate + b_gate) * (x W_in + b_in) W_out + b_out.
#[derive(Clone, Debug)]
pub struct MlpWeights {
    /// Into the hidden layer, `[d_model, d_mlp]`.
    pub w_in: Tensor,
    /// Bias of the hidden layer, `[d_mlp]`.
    pub b_in: Option<Tensor>,
    /// The gated branch, `[d_model, d_mlp]`.
    pub w_gate: Option<Tensor>,
    /// Bias of the gated branch, `[d_mlp]`.
    pub b_gate: Option<Tensor>,
    /// The slopes of an xIELU activation, `[1]` each: for positive and for negative inputs.
    pub xielu: Option<XieluWeights>,
    /// A norm on the hidden layer, after the activation function (SoLU models).
    pub ln: Option<NormWeights>,
    /// Out of the hidden layer, `[d_mlp, d_model]`.
    pub w_out: Tensor,
    /// Output bias, `[d_model]`.
    pub b_out: Option<Tensor>,
}

/// The learned numbers of an xIELU activation function (Huang 2024, arXiv 2411.13010), `[1]` or scalar each.
#[derive(Clone, Debug)]
pub struct XieluWeights {
    /// Curvature for positive inputs, before softplus.
    pub alpha_p: Tensor,
    /// Curvature for negative inputs, before softplus.
    pub alpha_n: Tensor,
    /// Slope at zero.
    pub beta: Tensor,
    /// Largest input of the exponential.
    pub eps: Tensor,
}

parts!(Weights {
    encoder => "encoder",
    w_e => "embed.W_E",
    w_token_type => "embed.W_token_type",
    w_pos => "pos_embed.W_pos",
    embed_ln => "embed_ln",
    project_in => "embed.project_in",
    relative_bias => "relative_bias",
    blocks => "blocks",
    head => "mlm_head",
    ln_final => "ln_final",
    project_out => "unembed.project_out",
    w_u => "unembed.W_U",
    b_u => "unembed.b_U",
});
parts!(BlockWeights {
    ln1 => "ln1", mixer => "", ln1_post => "ln1_post", ln2 => "ln2", cross_attention => "cross_attn", ln3 => "ln3",
    feed_forward => "", ln2_post => "ln2_post",
});
parts!(NormWeights { w => "w", b => "b" });
parts!(AttentionWeights {
    w_q => "W_Q", b_q => "b_Q", w_k => "W_K", b_k => "b_K", w_v => "W_V", b_v => "b_V",
    q_norm => "q_norm", k_norm => "k_norm", sinks => "sinks", w_o => "W_O", b_o => "b_O",
});
parts!(MlpWeights {
    w_in => "W_in", b_in => "b_in", w_gate => "W_gate", b_gate => "b_gate", xielu => "act_fn", ln => "ln",
    w_out => "W_out", b_out => "b_out",
});
parts!(XieluWeights { alpha_p => "alpha_p", alpha_n => "alpha_n", beta => "beta", eps => "eps" });

impl Parts for MixerWeights {
    fn parts<'a>(&'a mut self, block: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
        match self {
            Self::Attention(attention) => attention.parts(&parts::join(block, "attn"), found),
            Self::Latent(latent) => latent.parts(&parts::join(block, "attn"), found),
            Self::Mamba(mamba) => mamba.parts(&parts::join(block, "mixer"), found),
            Self::Mamba2(mamba) => mamba.parts(&parts::join(block, "mixer"), found),
        }
    }
}

impl Parts for FeedForwardWeights {
    fn parts<'a>(&'a mut self, block: &str, found: &mut Vec<(String, &'a mut Tensor)>) {
        match self {
            Self::Mlp(mlp) => mlp.parts(&parts::join(block, "mlp"), found),
            Self::Experts(experts) => experts.parts(&parts::join(block, "mlp"), found),
        }
    }
}

impl Weights {
    /// Weights of which only these are there; a family adds what else it has.
    pub fn new(w_e: Tensor, blocks: Vec<BlockWeights>, ln_final: Option<NormWeights>, w_u: Tensor) -> Self {
        Self {
            w_e,
            w_pos: None,
            embed_ln: None,
            project_in: None,
            blocks,
            ln_final,
            project_out: None,
            w_u,
            b_u: None,
            w_token_type: None,
            relative_bias: None,
            head: None,
            encoder: None,
        }
    }

    /// Every tensor with TransformerLens' parameter name (`blocks.0.attn.W_Q`), in the order of the forward pass.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut shared = self.clone();
        shared.tensors_mut().into_iter().map(|(name, tensor)| (name, tensor.clone())).collect()
    }

    /// The same weights, each changed by `change` (a move to another device or type, say).
    pub fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.map_named(|_, tensor| change(tensor))
    }

    /// The same weights, each changed by `change`, which gets its name as well.
    pub(crate) fn map_named(&self, mut change: impl FnMut(&str, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut changed = self.clone();
        for (name, tensor) in changed.tensors_mut() {
            *tensor = change(&name, tensor)?;
        }
        Ok(changed)
    }

    fn tensors_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut found = Vec::new();
        let has_encoder = self.encoder.is_some();
        self.parts("", &mut found);
        if has_encoder {
            found.iter_mut().for_each(|(name, _)| *name = encoder::stack_name(name));
        }
        found
    }
}

/// The type that is computed in with weights of a type.
pub(crate) fn compute_dtype(weights: DType, device: &Device) -> DType {
    match weights {
        DType::BF16 | DType::F16 if device.is_cpu() => DType::F32,
        _ => weights,
    }
}

/// The matrices that products read, by the ends of their names: they may stay in a narrow type while the rest is widened.
const OF_PRODUCTS: [&str; 13] = [
    "W_E",
    "W_U",
    "W_Q",
    "W_K",
    "W_V",
    "W_O",
    "W_in",
    "W_gate",
    "W_out",
    "proj.W",
    "mqa.W",
    "project_in",
    "project_out",
];

/// Makes whatever no product reads of the type that is computed in, which costs little: such tensors are small.
pub(crate) fn widen_small(weights: &mut impl parts::Parts) -> Result<()> {
    let mut found = Vec::new();
    weights.parts("", &mut found);
    for (name, tensor) in found {
        if tensor.rank() < 2 || !OF_PRODUCTS.iter().any(|end| name.ends_with(end)) {
            *tensor = tensor.to_dtype(compute_dtype(tensor.dtype(), tensor.device()))?;
        }
    }
    Ok(())
}

impl BlockWeights {
    /// Attention and MLP, each behind a norm.
    pub fn new(ln1: NormWeights, attention: AttentionWeights, ln2: NormWeights, mlp: MlpWeights) -> Self {
        Self {
            ln1: Some(ln1),
            mixer: MixerWeights::Attention(attention),
            ln1_post: None,
            ln2: Some(ln2),
            feed_forward: Some(FeedForwardWeights::Mlp(mlp)),
            ln2_post: None,
            cross_attention: None,
            ln3: None,
        }
    }

    /// Attention and MLP side by side, behind one norm.
    pub fn parallel(ln1: NormWeights, attention: AttentionWeights, mlp: MlpWeights) -> Self {
        Self { ln2: None, ..Self::new(ln1, attention, NormWeights::default(), mlp) }
    }
}

impl AttentionWeights {
    /// From four linear layers: the width of a head is what the queries' width makes of `n_heads`.
    pub fn from_linears([q, k, v, o]: [Linear; 4], n_heads: usize, n_key_value_heads: usize) -> Result<Self> {
        let bias = |b: Option<Tensor>, heads| b.map(|b| heads_bias(&b, heads)).transpose();
        Ok(Self {
            w_q: heads_in(&q.w, n_heads)?,
            b_q: bias(q.b, n_heads)?,
            w_k: heads_in(&k.w, n_key_value_heads)?,
            b_k: bias(k.b, n_key_value_heads)?,
            w_v: heads_in(&v.w, n_key_value_heads)?,
            b_v: bias(v.b, n_key_value_heads)?,
            q_norm: None,
            k_norm: None,
            sinks: None,
            w_o: heads_out(&o.w, n_heads)?,
            b_o: o.b,
        })
    }
}

impl MlpWeights {
    /// act(x W_in + b_in) W_out + b_out.
    pub fn plain(w_in: Linear, w_out: Linear) -> Self {
        Self {
            w_in: w_in.w,
            b_in: w_in.b,
            w_gate: None,
            b_gate: None,
            xielu: None,
            ln: None,
            w_out: w_out.w,
            b_out: w_out.b,
        }
    }

    /// act(x W_gate + b_gate) * (x W_in + b_in) W_out + b_out.
    pub fn gated(gate: Linear, up: Linear, down: Linear) -> Self {
        Self { w_gate: Some(gate.w), b_gate: gate.b, ..Self::plain(up, down) }
    }
}

/// `[d_model, heads * d_head]` as [heads, d_model, d_head]: the weights that read the residual stream into heads.
pub(crate) fn heads_in(w: &Tensor, heads: usize) -> Result<Tensor> {
    let (d_model, width) = w.dims2()?;
    // Stored the other way round, as torch's Linear is, it stays as it lies.
    let across = w.t()?;
    match across.is_contiguous() {
        true => Ok(across.reshape((heads, width / heads, d_model))?.transpose(1, 2)?),
        false => Ok(w.reshape((d_model, heads, width / heads))?.transpose(0, 1)?),
    }
}

/// `[heads * d_head, d_model]` as [heads, d_head, d_model]: the weights that write heads to the residual stream.
pub(crate) fn heads_out(w: &Tensor, heads: usize) -> Result<Tensor> {
    let (width, d_model) = w.dims2()?;
    let across = w.t()?;
    match across.is_contiguous() {
        true => Ok(across.reshape((d_model, heads, width / heads))?.permute((1, 2, 0))?),
        false => Ok(w.reshape((heads, width / heads, d_model))?),
    }
}

/// `[heads * d_head]` as `[heads, d_head]`.
pub(crate) fn heads_bias(b: &Tensor, heads: usize) -> Result<Tensor> {
    Ok(b.reshape((heads, b.elem_count() / heads))?)
}
