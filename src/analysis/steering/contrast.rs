//! Steering vectors from texts and counter-texts.

use candle_core::{DType, Tensor};

use super::{Origin, SteeringVector};
use crate::analysis::Subspace;
use crate::analysis::probe::{Probe, ProbeOptions, ProbePosition, features};
use crate::hooks::{HookPoint, Selector};
use crate::model::HookedTransformer;
use crate::tokens::Text;
use crate::{Error, Result};

/// Texts and counter-texts, of which the difference inside the model becomes a [`SteeringVector`]. Made by
/// [`HookedTransformer::contrast`].
///
/// All vectors are as long as the difference of the two sides' means along them: strength 1 is the push that takes an
/// average counter-text to where an average text is.
#[derive(Clone, Debug)]
pub struct Contrast {
    model: HookedTransformer,
    positive: Vec<String>,
    negative: Vec<String>,
    at: Selector,
    position: ProbePosition,
}

impl HookedTransformer {
    /// A contrast of texts to push towards and texts to push away from: one of each, or several.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let happy = ["Anna was happy because", "Tom was happy because", "Kate was happy because"];
    /// let angry = ["Anna was angry because", "Tom was angry because", "Kate was angry because"];
    /// let contrast = model.contrast(happy, angry).position(-2);
    /// let (means, main) = (contrast.difference()?, contrast.principal()?);
    /// assert!(means.cosine(&main)?.values().iter().all(|cosine| *cosine > 0.5));
    /// # Ok(()) }
    /// ```
    pub fn contrast(&self, positive: impl Into<Text>, negative: impl Into<Text>) -> Contrast {
        Contrast {
            model: self.clone(),
            positive: positive.into().rows().to_vec(),
            negative: negative.into().rows().to_vec(),
            at: "resid_post".into(),
            position: ProbePosition::Last,
        }
    }
}

impl Contrast {
    /// The activations to take the difference of: the residual stream behind every layer, unless something else is said.
    pub fn at(mut self, at: impl Into<Selector>) -> Self {
        self.at = at.into();
        self
    }

    /// Where in each text: the last token, unless something else is said. A number is a position (negative from the end), a
    /// text a token's last place; [`ProbePosition::Mean`] is the mean over all tokens.
    pub fn position(mut self, position: impl Into<ProbePosition>) -> Self {
        self.position = position.into();
        self
    }

    /// The difference of the two sides' means (of one text each: simply the difference).
    ///
    /// # Errors
    /// Those of running the texts; a difference that is zero, as between equal texts.
    pub fn difference(&self) -> Result<SteeringVector> {
        let vectors = self.sides()?.into_iter().map(|side| Ok((side.point.clone(), side.difference()?)));
        let method = if self.positive.len() + self.negative.len() == 2 { "contrast" } else { "difference of means" };
        SteeringVector::of(vectors.collect::<Result<Vec<_>>>()?, self.origin(method))
    }

    /// The first principal component of the pairs' differences (Zou et al. 2023, arXiv 2310.01405), turned towards the
    /// texts.
    ///
    /// # Errors
    /// Fewer than two texts on a side, or unequal numbers of them: text i belongs to counter-text i.
    pub fn principal(&self) -> Result<SteeringVector> {
        let (ours, theirs) = (self.positive.len(), self.negative.len());
        if ours != theirs || ours < 2 {
            return Err(Error::msg(format!(
                "the first principal component is of pairs, and there are {ours} texts and {theirs} counter-texts; give as \
                 many of each, two at least"
            )));
        }
        let vectors = self.sides()?.into_iter().map(|side| {
            let pairs = (&side.positive - &side.negative)?;
            let direction = Subspace::principal(&pairs, 1)?.directions()?.squeeze(0)?;
            Ok((side.point.clone(), along(&direction, &side.difference()?)?))
        });
        SteeringVector::of(vectors.collect::<Result<Vec<_>>>()?, self.origin("first principal component"))
    }

    /// The direction in which a linear probe that tells the two sides apart reads them.
    ///
    /// # Errors
    /// Those of [`Probe::fit`]: too few texts, above all.
    pub fn probe(&self, options: &ProbeOptions) -> Result<SteeringVector> {
        let labels: Vec<bool> = self.negative.iter().map(|_| false).chain(self.positive.iter().map(|_| true)).collect();
        let vectors = self.sides()?.into_iter().map(|side| {
            let rows = Tensor::cat(&[&side.negative, &side.positive], 0)?;
            let direction = Probe::fit(&rows, &labels, options)?.direction()?;
            Ok((side.point.clone(), along(&direction, &side.difference()?)?))
        });
        SteeringVector::of(vectors.collect::<Result<Vec<_>>>()?, self.origin("probe"))
    }

    /// The rows of both sides at every point.
    fn sides(&self) -> Result<Vec<Sides>> {
        if self.positive.is_empty() || self.negative.is_empty() {
            return Err(Error::msg("a contrast needs at least one text on each side"));
        }
        let position = |from: usize, count: usize| match &self.position {
            ProbePosition::Each(each) => ProbePosition::Each(each.get(from..from + count).unwrap_or(each).to_vec()),
            other => other.clone(),
        };
        let rows = |texts: &[String], from: usize| features(&self.model, texts, &self.at, position(from, texts.len()));
        let (positive, negative) = (rows(&self.positive, 0)?, rows(&self.negative, self.positive.len())?);
        let f32 = |rows: Tensor| rows.to_dtype(DType::F32);
        let sides = positive.into_iter().zip(negative);
        sides
            .map(|((point, ours), (_, theirs))| Ok(Sides { point, positive: f32(ours)?, negative: f32(theirs)? }))
            .collect()
    }

    fn origin(&self, method: &str) -> Origin {
        let position = match &self.position {
            ProbePosition::Last => "the last token".to_string(),
            ProbePosition::Mean => "the mean over all tokens".to_string(),
            other => format!("{other:?}"),
        };
        Origin {
            method: method.to_string(),
            model: self.model.cfg().model_name.clone(),
            positive: self.positive.clone(),
            negative: self.negative.clone(),
            notes: [("position".to_string(), position)].into(),
        }
    }
}

/// The activations of both sides at one point, `[text, width]`.
struct Sides {
    point: HookPoint,
    positive: Tensor,
    negative: Tensor,
}

impl Sides {
    fn difference(&self) -> Result<Tensor> {
        Ok((self.positive.mean(0)? - self.negative.mean(0)?)?)
    }
}

/// The part of `difference` that lies along a unit vector: so the direction is turned towards it, and as long.
fn along(direction: &Tensor, difference: &Tensor) -> Result<Tensor> {
    let length: f32 = (direction * difference)?.sum_all()?.to_scalar()?;
    Ok((direction * f64::from(length))?)
}
