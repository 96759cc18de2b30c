//! The directions that a weight matrix reads and writes, with their tokens.

use candle_core::{D, DType, Device, Tensor};
use faer::Mat;

use super::Ends;
use super::full::check_head;
use crate::analysis::factored_matrix::Svd;
use crate::analysis::linalg;
use crate::model::HookedTransformer;
use crate::tokens::Tokenizer;
use crate::{Error, Result};

/// A weight matrix or product of two, as a map from what it reads to what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// W_V W_O of a head: from the residual stream to itself.
    Ov {
        /// The head's layer.
        layer: usize,
        /// Its number.
        head: usize,
    },
    /// W_Q W_Kᵀ of a head: from the query's stream to the key's.
    Qk {
        /// The head's layer.
        layer: usize,
        /// Its number.
        head: usize,
    },
    /// W_in of an MLP (the linear branch of a gated one): from the residual stream to neurons.
    WIn {
        /// The MLP's layer.
        layer: usize,
    },
    /// W_gate of a gated MLP: from the residual stream to neurons.
    WGate {
        /// The MLP's layer.
        layer: usize,
    },
    /// W_out of an MLP: from neurons to the residual stream.
    WOut {
        /// The MLP's layer.
        layer: usize,
    },
}

/// A side of a [`Circuit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What it reads: left singular vectors. Of QK, the query.
    Reads,
    /// What it writes: right singular vectors. Of QK, the key.
    Writes,
}

/// The first singular vectors of a circuit, largest singular value first, with what they mean: tokens on a side of the
/// residual stream, neurons on the other side of an MLP's matrix.
///
/// A pair of vectors has no sign of its own (both may be turned around at once). Signs are chosen so that the most extreme token
/// that is written (or, for W_in and W_gate, read) is at the positive end.
#[derive(Clone, Debug)]
pub struct SingularVectors {
    circuit: Circuit,
    svd: Svd,
    reads: Option<Tensor>,
    writes: Option<Tensor>,
    logits: Option<Tensor>,
    tokenizer: Option<Tokenizer>,
}

/// The first `n` singular vectors of a circuit with the tokens that they read, by W_E, and write, by W_U (Millidge & Black 2022,
/// "The Singular Value Decompositions of Transformer Weight Matrices are Highly Interpretable"; TransformerLens'
/// `SVDInterpreter`).
///
/// The matrices are as the model has them; W_in and W_gate with the weight of the norm before them, if it was not folded in.
///
/// In a notebook it shows a table of the top tokens on either side. Cost: the decomposition in f64 (of W_in of GPT-2 small, some
/// seconds), and `[d_vocab, n]` numbers on each side.
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let vectors = singular_vectors(&model, Circuit::Ov { layer: 1, head: 0 }, 4)?;
/// for (text, _, logit) in vectors.top_tokens(Side::Writes, 0, 5)? {
///     println!("{text:?} {logit:.2}");
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
/// When there is no such layer or head, when it has no such matrix, or when `n` is 0 or more than there are.
pub fn singular_vectors(model: &HookedTransformer, circuit: Circuit, n: usize) -> Result<SingularVectors> {
    let ends = Ends::of(model);
    let mut svd = first(decompose(model, &ends, circuit)?, n)?;
    let by_embedding = |vectors: &Tensor| Ok::<_, Error>(ends.embedding()?.contiguous()?.matmul(vectors)?);
    let by_unembedding = |vectors: &Tensor| Ok::<_, Error>(ends.unembedding()?.t()?.matmul(vectors)?);
    let mut found = match circuit {
        Circuit::Ov { .. } => {
            let writes = by_unembedding(&svd.v)?;
            [Some(by_embedding(&svd.u)?), Some(writes.clone()), Some(writes)]
        }
        Circuit::Qk { .. } => [Some(by_embedding(&svd.u)?), Some(by_embedding(&svd.v)?), None],
        Circuit::WIn { .. } | Circuit::WGate { .. } => {
            [Some(by_embedding(&svd.u)?), None, Some(by_unembedding(&svd.u)?)]
        }
        Circuit::WOut { .. } => {
            let writes = by_unembedding(&svd.v)?;
            [None, Some(writes.clone()), Some(writes)]
        }
    };
    if let Some(signs) = signs(found[1].as_ref().or(found[0].as_ref()))? {
        svd = Svd { u: svd.u.broadcast_mul(&signs)?, v: svd.v.broadcast_mul(&signs)?, ..svd };
        for scores in found.iter_mut().flatten() {
            *scores = scores.broadcast_mul(&signs)?;
        }
    }
    let [reads, writes, logits] = found;
    Ok(SingularVectors { circuit, svd, reads, writes, logits, tokenizer: model.tokenizer().ok().cloned() })
}

impl SingularVectors {
    /// What was decomposed.
    pub fn circuit(&self) -> Circuit {
        self.circuit
    }

    /// How many vectors there are on each side.
    pub fn len(&self) -> usize {
        self.svd.s.dims().first().copied().unwrap_or(0)
    }

    /// Whether there are none (there always are).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The singular values, `[n]`, largest first.
    pub fn singular_values(&self) -> &Tensor {
        &self.svd.s
    }

    /// The vectors of a side as columns, `[d_model, n]` (`[d_mlp, n]` on the neurons' side).
    pub fn vectors(&self, side: Side) -> &Tensor {
        match side {
            Side::Reads => &self.svd.u,
            Side::Writes => &self.svd.v,
        }
    }

    /// What each vector of a side says of each token, `[d_vocab, n]`: read through W_E (keys of QK too), written through W_U.
    ///
    /// # Errors
    /// On the neurons' side of an MLP's matrix.
    pub fn tokens(&self, side: Side) -> Result<&Tensor> {
        let scores = match side {
            Side::Reads => &self.reads,
            Side::Writes => &self.writes,
        };
        let neurons =
            || Error::msg(format!("this side of {:?} is neurons, not tokens; top(..) names them", self.circuit));
        scores.as_ref().ok_or_else(neurons)
    }

    /// The vectors on the side of the residual stream through W_U, `[d_vocab, n]`: what TransformerLens' `SVDInterpreter` gives
    /// (there `[d_vocab, 1, n]`, and the sign is left to chance). For W_in that is what its input directions would write.
    ///
    /// # Errors
    /// For QK, neither side of which is written.
    pub fn logits(&self) -> Result<&Tensor> {
        self.logits.as_ref().ok_or_else(|| Error::msg("nothing of QK is written to the residual stream"))
    }

    /// The `k` tokens that a vector says most of: text, id and score, highest first.
    ///
    /// # Errors
    /// On the neurons' side, and when there is no such vector.
    pub fn top_tokens(&self, side: Side, vector: usize, k: usize) -> Result<Vec<(String, u32, f32)>> {
        let named = |(id, score): (usize, f32)| {
            let text = self.tokenizer.as_ref().map_or_else(|| format!("#{id}"), |tokenizer| tokenizer.piece(id as u32));
            (text, id as u32, score)
        };
        Ok(highest(self.tokens(side)?, vector, k, 1.0)?.into_iter().map(named).collect())
    }

    /// The `k` strongest entries of a vector at its positive end (`sign` 1) or negative end (`sign` -1), named: tokens, or neurons
    /// (`N12`) on the neurons' side.
    ///
    /// # Errors
    /// When there is no such vector.
    pub fn top(&self, side: Side, vector: usize, k: usize, sign: i8) -> Result<Vec<(String, f32)>> {
        let sign = if sign < 0 { -1.0 } else { 1.0 };
        match self.tokens(side) {
            Ok(scores) => {
                let name = |id: usize| self.tokenizer.as_ref().map_or_else(|| format!("#{id}"), |t| t.piece(id as u32));
                Ok(highest(scores, vector, k, sign)?.into_iter().map(|(id, score)| (name(id), score)).collect())
            }
            Err(_) => {
                let entries = highest(self.vectors(side), vector, k, sign)?;
                Ok(entries.into_iter().map(|(neuron, weight)| (format!("N{neuron}"), weight)).collect())
            }
        }
    }
}

fn decompose(model: &HookedTransformer, ends: &Ends, circuit: Circuit) -> Result<Svd> {
    let mlp = |layer: usize| model.layers([layer]);
    match circuit {
        Circuit::Ov { layer, head } => {
            check_head(model, layer, head)?;
            model.layers([layer])?.ov()?.at(&[0, head])?.svd()
        }
        Circuit::Qk { layer, head } => {
            check_head(model, layer, head)?;
            model.layers([layer])?.qk()?.at(&[0, head])?.svd()
        }
        Circuit::WIn { layer } => dense_svd(&ends.read_by_mlp(layer, &mlp(layer)?.w_in()?.get(0)?)?),
        Circuit::WGate { layer } => dense_svd(&ends.read_by_mlp(layer, &mlp(layer)?.w_gate()?.get(0)?)?),
        Circuit::WOut { layer } => dense_svd(&mlp(layer)?.w_out()?.get(0)?.to_dtype(DType::F32)?),
    }
}

/// The decomposition of a matrix that is no product, in f64.
fn dense_svd(matrix: &Tensor) -> Result<Svd> {
    let (rows, cols) = matrix.dims2()?;
    let (u, s, v) = linalg::thin_svd(&linalg::to_mat(matrix, "W", &[])?)?;
    let k = s.len();
    let stack = |mat: Mat<f64>, rows: usize, cols: usize| linalg::stack(&[mat], &[], rows, cols, matrix.device());
    Ok(Svd {
        u: stack(u, rows, k)?,
        s: stack(Mat::from_fn(k, 1, |i, _| s[i]), k, 1)?.squeeze(1)?,
        v: stack(v, cols, k)?,
    })
}

fn first(svd: Svd, n: usize) -> Result<Svd> {
    let all = svd.s.dim(0)?;
    if n == 0 || n > all {
        return Err(Error::msg(format!("there are {all} singular vectors, and {n} were asked for: give 1 to {all}")));
    }
    let columns = |t: &Tensor| t.narrow(1, 0, n)?.contiguous();
    Ok(Svd { u: columns(&svd.u)?, s: svd.s.narrow(0, 0, n)?, v: columns(&svd.v)? })
}

/// 1 or -1 for each vector, so that its most extreme token is at the positive end, `[n]`.
fn signs(scores: Option<&Tensor>) -> Result<Option<Tensor>> {
    let Some(scores) = scores else { return Ok(None) };
    let lowest_is_largest = scores.min(0)?.neg()?.gt(&scores.max(0)?)?.to_dtype(DType::F32)?;
    Ok(Some(lowest_is_largest.affine(-2.0, 1.0)?))
}

/// The `k` largest entries of a column, times `sign`, with their rows.
fn highest(columns: &Tensor, column: usize, k: usize, sign: f32) -> Result<Vec<(usize, f32)>> {
    let n = columns.dim(D::Minus1)?;
    if column >= n {
        return Err(Error::msg(format!("there is no singular vector {column}: {n} were made, counted from 0")));
    }
    let values: Vec<f32> = columns.narrow(1, column, 1)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| (sign * values[b]).total_cmp(&(sign * values[a])));
    Ok(order.into_iter().take(k).map(|i| (i, values[i])).collect())
}
