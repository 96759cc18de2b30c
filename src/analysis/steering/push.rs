//! What is done with a steering vector.

use candle_core::{D, DType, Tensor};

use super::SteeringVector;
use crate::analysis::subspace::{TokenPositions, as_rows, changing};
use crate::hooks::Hooks;
use crate::model::GenerateOptions;
use crate::{Error, Result};

/// A steering vector and what to do with it, made by [`SteeringVector::add`] and the others beside it. Everywhere, unless
/// layers or positions are named.
#[derive(Clone, Debug)]
pub struct Steering {
    vector: SteeringVector,
    how: How,
    positions: Option<TokenPositions>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum How {
    /// x + s v
    Add(f64),
    /// x + s |x| v / |v|
    AddRelative(f64),
    /// x + (c |v| - x·v / |v|) v / |v|
    Clamp(f64),
}

impl Steering {
    pub(super) fn new(vector: &SteeringVector, how: How) -> Self {
        Self { vector: vector.clone(), how, positions: None }
    }

    /// Only in these layers.
    ///
    /// # Errors
    /// When the vector has none for one of them.
    pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Result<Self> {
        self.vector = self.vector.only_layers(layers)?;
        Ok(self)
    }

    /// Only at these positions of the prompt: `.positions(-1)`, `.positions(1..)`, `.positions([3, 5])`.
    pub fn positions(mut self, positions: impl Into<TokenPositions>) -> Self {
        self.positions = Some(positions.into());
        self
    }

    /// The hooks that do it. In a generation use [`GenerateOptions::steer`], which knows prompt and new tokens apart.
    pub fn hooks(&self) -> Hooks {
        let positions = self.positions.clone().unwrap_or_else(|| TokenPositions::from(..));
        let mut hooks = Hooks::new();
        for (point, vector) in &self.vector.vectors {
            let (vector, how) = (vector.clone(), self.how);
            hooks = hooks.and(&changing(point.into(), positions.clone(), move |x| how.change(x, &vector)));
        }
        hooks
    }
}

impl GenerateOptions {
    /// Pushes at every step, or, where the push is of some positions, at those of the prompt. Said again, it pushes in both
    /// ways.
    pub fn steer(mut self, steering: &Steering) -> Self {
        let hooks = if steering.positions.is_some() { &mut self.prompt_hooks } else { &mut self.hooks };
        *hooks = hooks.clone().and(&steering.hooks());
        self
    }
}

impl How {
    fn strength(self) -> f64 {
        match self {
            Self::Add(strength) | Self::AddRelative(strength) | Self::Clamp(strength) => strength,
        }
    }

    /// What is added to an activation, of its shape.
    fn change(self, x: &Tensor, vector: &Tensor) -> Result<Tensor> {
        if !self.strength().is_finite() {
            return Err(Error::msg(format!("the strength of the push is {}; give a finite number", self.strength())));
        }
        let vector = vector.to_device(x.device())?;
        let rows = as_rows(x, vector.elem_count())?.to_dtype(DType::F32)?;
        let length: f32 = vector.sqr()?.sum_all()?.sqrt()?.to_scalar()?;
        let unit = || &vector / f64::from(length);
        let change = match self {
            Self::Add(strength) => (vector * strength)?.broadcast_as(rows.shape())?,
            Self::AddRelative(part) => {
                let lengths = (rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? * part)?;
                lengths.broadcast_mul(&unit()?)?
            }
            Self::Clamp(value) => {
                let along = rows.broadcast_mul(&unit()?)?.sum_keepdim(D::Minus1)?;
                (value * f64::from(length) - along)?.broadcast_mul(&unit()?)?
            }
        };
        Ok(change.contiguous()?.reshape(x.shape())?.to_dtype(x.dtype())?)
    }
}
