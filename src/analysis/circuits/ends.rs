//! What stands at both ends of a circuit: embedding and unembedding, and the norms' weights on the way.

use candle_core::{DType, Tensor};

use crate::analysis::FactoredMatrix;
use crate::model::{HookedTransformer, ModelConfig};
use crate::weights::{NormWeights, Weights};
use crate::{Result, interrupt};

/// Tokens whose embeddings are made f32 at a time, where they are not.
const CHUNK: usize = 16384;

/// The ends of a model's circuits, in f32.
pub(crate) struct Ends {
    model: HookedTransformer,
    weights: Weights,
}

impl Ends {
    pub(crate) fn of(model: &HookedTransformer) -> Self {
        Self { model: model.clone(), weights: model.weights() }
    }

    /// What a token puts into the residual stream, `[d_vocab, d_model]`.
    pub(crate) fn embedding(&self) -> Result<Tensor> {
        self.embedding_of(0, self.weights.w_e.dim(0)?)
    }

    /// What the logits read of the residual stream, `[d_model, d_vocab]`.
    pub(crate) fn unembedding(&self) -> Result<Tensor> {
        self.unembedding_of(0, self.weights.w_u.dim(1)?)
    }

    /// Learned positions, `[n_ctx, d_model]`.
    pub(crate) fn positions(&self) -> Result<Option<Tensor>> {
        self.model.w_pos().map(in_f32).transpose()
    }

    /// Unembedding times embedding, `[d_model, d_model]`. It is small, and turns a question about `[d_vocab, d_vocab]` into one
    /// about `[d_model, d_model]`.
    pub(crate) fn unembedding_times_embedding(&self) -> Result<Tensor> {
        let d_vocab = self.weights.w_e.dim(0)?.min(self.weights.w_u.dim(1)?);
        let mut sum: Option<Tensor> = None;
        for start in (0..d_vocab).step_by(CHUNK) {
            interrupt::check()?;
            let width = CHUNK.min(d_vocab - start);
            let part = self.unembedding_of(start, width)?.matmul(&self.embedding_of(start, width)?)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        let d_model = self.cfg().d_model;
        sum.map_or_else(|| Ok(Tensor::zeros((d_model, d_model), DType::F32, self.model.device())?), Ok)
    }

    /// The OV circuit of a layer's heads with the norms' weights on both sides, `[head, d_model, d_model]`.
    pub(crate) fn ov(&self, layer: usize) -> Result<FactoredMatrix> {
        let ov = self.model.layers([layer])?.ov()?.get(0)?;
        let w_v = scaled_rows(ov.a(), self.before_attention(layer)?)?;
        FactoredMatrix::new(&w_v, &self.written_by_attention(layer, ov.b())?)
    }

    /// The QK circuit of a layer's heads with the norm's weight on both sides, `[head, d_model, d_model]`.
    pub(crate) fn qk(&self, layer: usize) -> Result<FactoredMatrix> {
        let qk = self.model.layers([layer])?.qk()?.get(0)?;
        let norm = self.before_attention(layer)?;
        FactoredMatrix::new(&scaled_rows(qk.a(), norm.clone())?, &scaled_rows(&qk.b().t()?, norm)?.t()?)
    }

    /// What heads write, `[.., d_model]`, as it comes to the residual stream, but for the division by a norm.
    pub(crate) fn written_by_attention(&self, layer: usize, written: &Tensor) -> Result<Tensor> {
        let post = self.model.block_weights(layer)?.ln1_post;
        let written = match self.factor(post.as_ref())? {
            Some(factor) => in_f32(written)?.broadcast_mul(&factor)?,
            None => in_f32(written)?,
        };
        let multiplier = self.cfg().residual_multiplier;
        if multiplier == 1.0 { Ok(written) } else { Ok((written * multiplier)?) }
    }

    /// A map that reads the stream before the MLP, `[d_model, d_mlp]`, with the norm's weight.
    pub(crate) fn read_by_mlp(&self, layer: usize, map: &Tensor) -> Result<Tensor> {
        let block = self.model.block_weights(layer)?;
        let norm = match &block.ln2 {
            // A parallel MLP without a norm of its own reads what the attention reads.
            None if self.cfg().parallel_attn_mlp => block.ln1.as_ref(),
            norm => norm.as_ref(),
        };
        scaled_rows(&in_f32(map)?, self.factor(norm.filter(|_| !self.cfg().post_norm))?)
    }

    fn before_attention(&self, layer: usize) -> Result<Option<Tensor>> {
        let norm = self.model.block_weights(layer)?.ln1;
        // A norm behind the attention is not on the way to it.
        self.factor(norm.as_ref().filter(|_| !self.cfg().post_norm))
    }

    /// A norm's weight, `[d_model]`.
    fn factor(&self, norm: Option<&NormWeights>) -> Result<Option<Tensor>> {
        norm.and_then(|norm| norm.w.as_ref()).map(in_f32).transpose()
    }

    fn embedding_of(&self, start: usize, width: usize) -> Result<Tensor> {
        let mut embedding = in_f32(&self.weights.w_e.narrow(0, start, width)?)?;
        if let Some(project_in) = &self.weights.project_in {
            embedding = embedding.contiguous()?.matmul(&in_f32(project_in)?)?;
        }
        let multiplier = self.cfg().embedding_multiplier;
        if multiplier == 1.0 { Ok(embedding) } else { Ok((embedding * multiplier)?) }
    }

    fn unembedding_of(&self, start: usize, width: usize) -> Result<Tensor> {
        let mut unembedding = in_f32(&self.weights.w_u.narrow(1, start, width)?)?;
        if let Some(project_out) = &self.weights.project_out {
            unembedding = in_f32(project_out)?.matmul(&unembedding)?;
        }
        scaled_rows(&unembedding, self.factor(self.weights.ln_final.as_ref())?)
    }

    fn cfg(&self) -> &ModelConfig {
        self.model.cfg()
    }
}

/// `[.., d_model, n]` with each row times its factor.
fn scaled_rows(map: &Tensor, factor: Option<Tensor>) -> Result<Tensor> {
    match factor {
        Some(factor) => Ok(map.broadcast_mul(&factor.unsqueeze(1)?)?),
        None => Ok(map.clone()),
    }
}

fn in_f32(t: &Tensor) -> Result<Tensor> {
    Ok(t.to_dtype(DType::F32)?)
}
