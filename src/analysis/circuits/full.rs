//! Circuits from token to token, through embedding and unembedding.

use candle_core::Tensor;

use super::Ends;
use crate::analysis::factored_matrix::{Eigenvalues, FactoredMatrix};
use crate::analysis::heads::head_axes;
use crate::analysis::{Axis, LabelledTensor};
use crate::model::HookedTransformer;
use crate::{Error, Result};

/// What stands on a side of a QK circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// Tokens, by W_E: `d_vocab` rows.
    Tokens,
    /// Positions, by W_pos: `n_ctx` rows.
    Positions,
    /// Tokens and then positions, by W_E_pos: `d_vocab + n_ctx` rows, so that all four blocks are there.
    TokensAndPositions,
}

/// A head's full OV circuit W_E W_V W_O W_U, `[d_vocab, d_vocab]` through d_head (Elhage et al. 2021): row t says how the logits
/// change where the head attends to token t, all else aside. `m.rows(t..=t)?.ab()?` is a row.
///
/// Two products with the vocabulary; the factors take 2 d_vocab d_head floats.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let circuit = full_ov(&model, 1, 0)?;
/// let mary = model.to_single_token(" Mary")? as usize;
/// let logits = circuit.rows(mary..=mary)?.ab()?;
/// assert_eq!(logits.dims(), [1, model.cfg().d_vocab]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When there is no such head, or the layer has no W_V and W_O.
pub fn full_ov(model: &HookedTransformer, layer: usize, head: usize) -> Result<FactoredMatrix> {
    check_head(model, layer, head)?;
    let ends = Ends::of(model);
    let ov = ends.ov(layer)?.get(head)?;
    ov.left_mul(&ends.embedding()?)?.right_mul(&ends.unembedding()?)
}

/// A head's full QK circuit W_E W_Q W_Kᵀ W_Eᵀ, `[d_vocab, d_vocab]` through d_head: how much the token of a query (row) looks for
/// the token of a key (column), all else aside (Elhage et al. 2021).
///
/// Not divided by the scale of the scores, and without biases, norms on queries and keys, and rotations: for rotary positions
/// it is the circuit at distance 0.
///
/// # Errors
/// When there is no such head, or the layer has no W_Q and W_K.
pub fn full_qk(model: &HookedTransformer, layer: usize, head: usize) -> Result<FactoredMatrix> {
    full_qk_between(model, layer, head, Embedded::Tokens, Embedded::Tokens)
}

/// As [`full_qk`], with tokens, learned positions or both on either side:
/// `full_qk_between(&model, 0, 3, Embedded::Positions, Embedded::Positions)` is W_pos W_Q W_Kᵀ W_posᵀ, which shows where a
/// head looks by place alone.
///
/// # Errors
/// Those of [`full_qk`], and positions that the model has no vectors for.
pub fn full_qk_between(
    model: &HookedTransformer,
    layer: usize,
    head: usize,
    query: Embedded,
    key: Embedded,
) -> Result<FactoredMatrix> {
    check_head(model, layer, head)?;
    let ends = Ends::of(model);
    let qk = ends.qk(layer)?.get(head)?;
    qk.left_mul(&embedded(&ends, query)?)?.right_mul(&embedded(&ends, key)?.t()?)
}

/// The non-zero eigenvalues of every head's full OV circuit, `[layer, head, d_head]`, largest modulus first.
///
/// Those of W_E W_V W_O W_U `[d_vocab, d_vocab]` are those of W_O (W_U W_E) W_V `[d_head, d_head]`: W_U W_E is made once, for
/// all heads, and the small problems are solved in parallel. Layer by layer, so the memory is that of one layer's heads.
///
/// # Errors
/// When no layer has W_V and W_O, or a weight is not finite.
pub fn full_ov_eigenvalues(model: &HookedTransformer) -> Result<Eigenvalues> {
    let layers = model.attn_layers()?;
    let ends = Ends::of(model);
    let around = ends.unembedding_times_embedding()?;
    let of_layer = |&layer: &usize| ends.ov(layer)?.right_mul(&around)?.eigenvalues();
    let found = layers.layers().iter().map(of_layer).collect::<Result<Vec<_>>>()?;
    let part = |of: fn(&Eigenvalues) -> &Tensor| Tensor::stack(&found.iter().map(of).collect::<Vec<_>>(), 0);
    Ok(Eigenvalues { re: part(|e| &e.re)?, im: part(|e| &e.im)? })
}

/// How much every head copies, `[layer, head]` in -1 to 1: Re Σλ / Σ|λ| over the eigenvalues of its full OV circuit (Elhage
/// et al. 2021). 1: it raises the tokens that it attends to; -1: it lowers them.
///
/// See [`full_ov_eigenvalues`] for how; a model of GPT-2 small's size takes about as long as 60 GFLOP of matrix product.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let scores = full_ov_copying_scores(&model)?;
/// println!("{:?}", scores.top_k(3));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of [`full_ov_eigenvalues`].
pub fn full_ov_copying_scores(model: &HookedTransformer) -> Result<LabelledTensor> {
    let scores = full_ov_eigenvalues(model)?.copying_score()?;
    labelled(model, "copying score of the full OV circuit", &scores)
}

/// As [`full_ov_copying_scores`], of the OV circuits themselves (W_V W_O, within the residual stream).
///
/// # Errors
/// When no layer has W_V and W_O, or a weight is not finite.
pub fn ov_copying_scores(model: &HookedTransformer) -> Result<LabelledTensor> {
    let scores = model.attn_layers()?.ov()?.copying_score()?;
    labelled(model, "copying score of the OV circuit", &scores)
}

fn labelled(model: &HookedTransformer, title: &str, scores: &Tensor) -> Result<LabelledTensor> {
    let axes: [Axis; 2] = head_axes(model.attn_layers()?.layers(), model.cfg().n_heads);
    LabelledTensor::new(title, scores, axes)
}

fn embedded(ends: &Ends, what: Embedded) -> Result<Tensor> {
    let positions = || {
        let none = "the model has no vectors for positions (W_pos), so only Embedded::Tokens can stand here";
        ends.positions()?.ok_or_else(|| Error::msg(none))
    };
    match what {
        Embedded::Tokens => ends.embedding(),
        Embedded::Positions => positions(),
        Embedded::TokensAndPositions => Ok(Tensor::cat(&[ends.embedding()?, positions()?], 0)?),
    }
}

/// # Errors
/// When there is no such head.
pub(super) fn check_head(model: &HookedTransformer, layer: usize, head: usize) -> Result<()> {
    let cfg = model.cfg();
    if layer < cfg.n_layers && head < cfg.n_heads {
        return Ok(());
    }
    Err(Error::msg(format!(
        "there is no head {head} in layer {layer}: the model has {} layers of {} heads, counted from 0",
        cfg.n_layers, cfg.n_heads
    )))
}
