//! How much of what a head writes a later head reads.

use crate::analysis::LabelledTensor;
use crate::analysis::heads::head_axes;
use crate::model::HookedTransformer;
use crate::{Error, Result};

/// Through which of its inputs a later head reads what an earlier head wrote (Elhage et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Composition {
    /// Its queries: ‖W_OV W_QK‖ / (‖W_OV‖ ‖W_QK‖).
    Q,
    /// Its keys: with W_QKᵀ.
    K,
    /// Its values: with its W_OV.
    V,
}

impl HookedTransformer {
    /// The composition score of every head with every head of a later layer, in Frobenius norms, `[layer, head, later layer,
    /// later head]` (Elhage et al. 2021; as TransformerLens has it). 0 where the later layer is not later. Layers are those
    /// that have attention.
    ///
    /// Random matrices do not score 0; see [`chance_composition`](Self::chance_composition). Cost: products of
    /// `[d_head, d_model]` with `[d_model, d_head]` for each pair of heads, in parallel.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let scores = model.all_composition_scores(Composition::K)?;
    /// let above_chance = scores.map(|s| Ok((s - model.chance_composition())?))?;
    /// println!("{:?}", above_chance.top_k(3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When no layer has W_Q, W_K, W_V and W_O, or a weight is not finite.
    pub fn all_composition_scores(&self, composition: Composition) -> Result<LabelledTensor> {
        let layers = self.attn_layers()?;
        let n_heads = self.cfg().n_heads;
        let ov = layers.ov()?;
        let later = match composition {
            Composition::Q => layers.qk()?,
            Composition::K => layers.qk()?.t()?,
            Composition::V => ov.clone(),
        };
        let scores = ov.composition_scores_where(&later, |earlier, later| earlier / n_heads < later / n_heads)?;
        let [layer, head] = head_axes(layers.layers(), n_heads);
        let [later_layer, later_head] =
            [&layer, &head].map(|axis| crate::analysis::Axis::new(format!("later {}", axis.name()), axis.labels()));
        let title = format!("{composition:?}-composition");
        LabelledTensor::new(title, &scores, [layer, head, later_layer, later_head])
    }

    /// What a composition score is by chance, 1 / √d_model: the root mean square of the score of two matrices of any singular
    /// values, one of them turned at random. (‖A R B‖², over all rotations R, is ‖A‖² ‖B‖² / d_model on average.)
    ///
    /// Elhage et al. 2021 subtract a baseline of this kind, measured with random matrices.
    pub fn chance_composition(&self) -> f64 {
        1.0 / (self.cfg().d_model.max(1) as f64).sqrt()
    }

    /// As [`all_composition_scores`](Self::all_composition_scores), less [chance](Self::chance_composition); still 0 where the
    /// later layer is not later.
    ///
    /// # Errors
    /// Those of [`all_composition_scores`](Self::all_composition_scores).
    pub fn composition_scores_above_chance(&self, composition: Composition) -> Result<LabelledTensor> {
        let scores = self.all_composition_scores(composition)?;
        let layers = scores.axis("layer")?.1.len();
        if layers < 2 {
            return Err(Error::msg("composition needs two layers with attention, and the model has one"));
        }
        let is_later: Vec<f32> = (0..layers * layers).map(|i| f32::from(u8::from(i / layers < i % layers))).collect();
        let is_later = candle_core::Tensor::from_vec(is_later, (layers, 1, layers, 1), scores.device())?;
        let chance = (is_later * self.chance_composition())?;
        Ok(scores
            .map(|scores| Ok(scores.broadcast_sub(&chance)?))?
            .with_title(format!("{composition:?}-composition above chance")))
    }
}
