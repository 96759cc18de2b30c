//! Weights in TransformerLens' names and shapes: y = x W + b, attention weights with a head axis.
//!
//! [`WeightSource`] reads them from files, told apart by their first bytes: safetensors, what `torch.save` writes
//! (`pytorch_model.bin`, `.pth`, `.pt`), and GGUF; one file or several. Nothing that a file names is ever executed, and
//! no file decides how much memory is taken.
//!
//! A GGUF file's quantised tensors are turned into floats as they are read, so a model takes as much memory as its
//! float version. How far the logits of a random two-layer model of width 256 are off, relative to their size (root mean
//! square; measured in `tests/formats.rs`; trained models, and files that keep the embedding finer, do better):
//!
//! | format | error | format | error |
//! |---|---|---|---|
//! | F32 | 0 | Q4_K | 20 % |
//! | F16 | 0.06 % | Q4_1 | 22 % |
//! | BF16 | 0.5 % | Q4_0 | 25 % |
//! | Q8_0 | 1.4 % | Q3_K | 39 % |
//! | Q6_K | 4.9 % | Q2_K | 74 % |
//! | Q5_K, Q5_1 | 10 % | Q5_0 | 12 % |

mod files;
mod gguf_config;
mod gguf_names;
mod leftovers;
mod processing;
mod source;

use candle_core::Tensor;

use crate::Result;

pub(crate) use gguf_config::config_json as gguf_config_json;
pub use processing::Processing;
pub use source::{Linear, WeightSource};

/// All weights of a decoder.
///
/// G is the number of key and value heads. A bias that a family lacks is `None`.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Embedding, `[d_vocab, d_model]`.
    pub w_e: Tensor,
    /// Learned positions, `[n_ctx, d_model]`.
    pub w_pos: Option<Tensor>,
    /// The blocks, in order.
    pub blocks: Vec<BlockWeights>,
    /// The norm after the last block.
    pub ln_final: NormWeights,
    /// Unembedding, `[d_model, d_vocab]`.
    pub w_u: Tensor,
    /// Unembedding bias, `[d_vocab]`.
    pub b_u: Option<Tensor>,
}

/// The weights of one block.
#[derive(Clone, Debug)]
pub struct BlockWeights {
    /// The norm before the attention.
    pub ln1: NormWeights,
    /// The attention.
    pub attn: AttentionWeights,
    /// The norm before the MLP.
    pub ln2: NormWeights,
    /// The MLP.
    pub mlp: MlpWeights,
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
    /// Out of the hidden layer, `[d_mlp, d_model]`.
    pub w_out: Tensor,
    /// Output bias, `[d_model]`.
    pub b_out: Option<Tensor>,
}

impl Weights {
    /// Every tensor with TransformerLens' parameter name (`blocks.0.attn.W_Q`), in the order of the forward pass.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let mut named = Vec::new();
        let mut add = |name: String, tensor: Option<&Tensor>| named.extend(tensor.map(|t| (name, t.clone())));
        add("embed.W_E".into(), Some(&self.w_e));
        add("pos_embed.W_pos".into(), self.w_pos.as_ref());
        for (layer, block) in self.blocks.iter().enumerate() {
            let (attn, mlp) = (&block.attn, &block.mlp);
            for (name, tensor) in [
                ("ln1.w", block.ln1.w.as_ref()),
                ("ln1.b", block.ln1.b.as_ref()),
                ("attn.W_Q", Some(&attn.w_q)),
                ("attn.b_Q", attn.b_q.as_ref()),
                ("attn.W_K", Some(&attn.w_k)),
                ("attn.b_K", attn.b_k.as_ref()),
                ("attn.W_V", Some(&attn.w_v)),
                ("attn.b_V", attn.b_v.as_ref()),
                ("attn.W_O", Some(&attn.w_o)),
                ("attn.b_O", attn.b_o.as_ref()),
                ("ln2.w", block.ln2.w.as_ref()),
                ("ln2.b", block.ln2.b.as_ref()),
                ("mlp.W_in", Some(&mlp.w_in)),
                ("mlp.b_in", mlp.b_in.as_ref()),
                ("mlp.W_gate", mlp.w_gate.as_ref()),
                ("mlp.b_gate", mlp.b_gate.as_ref()),
                ("mlp.W_out", Some(&mlp.w_out)),
                ("mlp.b_out", mlp.b_out.as_ref()),
            ] {
                add(format!("blocks.{layer}.{name}"), tensor);
            }
        }
        add("ln_final.w".into(), self.ln_final.w.as_ref());
        add("ln_final.b".into(), self.ln_final.b.as_ref());
        add("unembed.W_U".into(), Some(&self.w_u));
        add("unembed.b_U".into(), self.b_u.as_ref());
        named
    }

    /// The same weights, each changed by `change` (a move to another device or type, say).
    pub fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let some = |tensor: &Option<Tensor>| tensor.as_ref().map(&change).transpose();
        let norm = |norm: &NormWeights| Ok::<_, crate::Error>(NormWeights { w: some(&norm.w)?, b: some(&norm.b)? });
        let block = |block: &BlockWeights| {
            let (attn, mlp) = (&block.attn, &block.mlp);
            Ok(BlockWeights {
                ln1: norm(&block.ln1)?,
                attn: AttentionWeights {
                    w_q: change(&attn.w_q)?,
                    b_q: some(&attn.b_q)?,
                    w_k: change(&attn.w_k)?,
                    b_k: some(&attn.b_k)?,
                    w_v: change(&attn.w_v)?,
                    b_v: some(&attn.b_v)?,
                    w_o: change(&attn.w_o)?,
                    b_o: some(&attn.b_o)?,
                },
                ln2: norm(&block.ln2)?,
                mlp: MlpWeights {
                    w_in: change(&mlp.w_in)?,
                    b_in: some(&mlp.b_in)?,
                    w_gate: some(&mlp.w_gate)?,
                    b_gate: some(&mlp.b_gate)?,
                    w_out: change(&mlp.w_out)?,
                    b_out: some(&mlp.b_out)?,
                },
            })
        };
        Ok(Self {
            w_e: change(&self.w_e)?,
            w_pos: some(&self.w_pos)?,
            blocks: self.blocks.iter().map(block).collect::<Result<_>>()?,
            ln_final: norm(&self.ln_final)?,
            w_u: change(&self.w_u)?,
            b_u: some(&self.b_u)?,
        })
    }
}

/// `[d_model, heads * d_head]` as [heads, d_model, d_head]: the weights that read the residual stream into heads.
pub(crate) fn heads_in(w: &Tensor, heads: usize) -> Result<Tensor> {
    let (d_model, width) = w.dims2()?;
    Ok(w.reshape((d_model, heads, width / heads))?.transpose(0, 1)?)
}

/// `[heads * d_head, d_model]` as [heads, d_head, d_model]: the weights that write heads to the residual stream.
pub(crate) fn heads_out(w: &Tensor, heads: usize) -> Result<Tensor> {
    let (width, d_model) = w.dims2()?;
    Ok(w.reshape((heads, width / heads, d_model))?)
}

/// `[heads * d_head]` as `[heads, d_head]`.
pub(crate) fn heads_bias(b: &Tensor, heads: usize) -> Result<Tensor> {
    Ok(b.reshape((heads, b.elem_count() / heads))?)
}
