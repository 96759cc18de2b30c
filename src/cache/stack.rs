//! The residual stream, layer by layer and part by part.

use std::ops::Deref;

use candle_core::Tensor;

use super::ActivationCache;
use crate::Result;
use crate::hooks::{HookPoint, points};

/// Vectors of the residual stream, one per component, with their labels: `[component, batch, pos, d_model]`.
///
/// Without the batch dimension if the cache had none.
#[derive(Clone, Debug)]
pub struct Stack {
    tensor: Tensor,
    labels: Vec<String>,
}

impl Stack {
    pub(super) fn new(parts: Vec<(String, Tensor)>) -> Result<Self> {
        let (labels, parts): (Vec<String>, Vec<Tensor>) = parts.into_iter().unzip();
        Ok(Self { tensor: Tensor::stack(&parts, 0)?, labels })
    }

    /// What each component is: `embed`, `0_attn_out`, `3_pre`, `L2H5`.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The stacked vectors, `[component, batch, pos, d_model]`.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
}

impl Deref for Stack {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

impl ActivationCache {
    /// The residual stream at the start of every layer up to `layer` (none: to the end, where the last component is
    /// `final_post`); with `include_mid` also between attention and MLP. The logit lens reads this
    /// (nostalgebraist 2020).
    pub fn accumulated_resid(&self, layer: Option<usize>, include_mid: bool) -> Result<Stack> {
        let n_layers = self.model.cfg().n_layers;
        let last = self.check_layer(layer)?;
        let mut parts = Vec::new();
        for l in 0..last {
            parts.push((format!("{l}_pre"), self.get(points::resid_pre(l))?));
            if include_mid {
                parts.push((format!("{l}_mid"), self.get(points::resid_mid(l))?));
            }
        }
        parts.push(if last == n_layers {
            ("final_post".to_string(), self.get(points::resid_post(n_layers - 1))?)
        } else {
            (format!("{last}_pre"), self.get(points::resid_pre(last))?)
        });
        Stack::new(parts)
    }

    /// The parts that add up to the residual stream entering `layer` (none: leaving the last): the embeddings, and
    /// what each attention and each MLP before it wrote. Biases are inside of the parts.
    pub fn decompose_resid(&self, layer: Option<usize>) -> Result<Stack> {
        let last = self.check_layer(layer)?;
        if self.model.cfg().post_norm || self.model.has_encoder() {
            return Err(crate::Error::msg(
                "the residual stream has parts that add up only where all layers write to one stream; in this model norms \
                 stand after the additions, or a second stack is looked at",
            ));
        }
        let mut parts = vec![("embed".to_string(), self.get(points::embed())?)];
        if self.model.w_pos().is_some() {
            parts.push(("pos_embed".to_string(), self.get(points::pos_embed())?));
        }
        for l in 0..last {
            parts.push((format!("{l}_attn_out"), self.get(points::attn_out(l))?));
            parts.push((format!("{l}_mlp_out"), self.get(points::mlp_out(l))?));
        }
        Stack::new(parts)
    }

    /// What every head before `layer` (none: every head) wrote to the residual stream, `L0H0` first; b_O belongs to no
    /// head and is left out. Made from z and W_O unless `hook_result` was cached.
    pub fn stack_head_results(&self, layer: Option<usize>) -> Result<Stack> {
        let last = self.check_layer(layer)?;
        if last == 0 {
            return Err(crate::Error::msg("there is no head before layer 0; give a layer of at least 1"));
        }
        let mut parts = Vec::new();
        for l in 0..last {
            let result = self.head_results(l)?;
            let head_axis = result.rank() - 2;
            for head in 0..result.dim(head_axis)? {
                parts.push((format!("L{l}H{head}"), result.narrow(head_axis, head, 1)?.squeeze(head_axis)?));
            }
        }
        Stack::new(parts)
    }

    fn head_results(&self, layer: usize) -> Result<Tensor> {
        let result: HookPoint = points::result(layer);
        if self.contains(result.name()) {
            return self.get(result);
        }
        let z = self.get(points::z(layer))?;
        if self.has_batch_dim {
            return self.model.head_results(layer, &z);
        }
        Ok(self.model.head_results(layer, &z.unsqueeze(0)?)?.squeeze(0)?)
    }

    fn check_layer(&self, layer: Option<usize>) -> Result<usize> {
        let n_layers = self.model.cfg().n_layers;
        match layer {
            None => Ok(n_layers),
            Some(layer) if layer <= n_layers => Ok(layer),
            Some(layer) => Err(crate::Error::msg(format!("there is no layer {layer}: the model has {n_layers}"))),
        }
    }
}
