//! Direct logit attribution: how much each part of the residual stream adds to a token's logit (Elhage et al. 2021,
//! "A Mathematical Framework for Transformer Circuits").

use candle_core::{DType, Tensor};

use super::{Axis, LabelledTensor};
use crate::cache::{ActivationCache, Decomposition, StreamPlace};
use crate::model::HookedTransformer;
use crate::tokens::{TokenChoice, TokenRef};
use crate::{Error, Result};

/// The token that another is compared with, if any: made from a token (or a list, as [`TokenChoice`]), `None` or
/// `Some(id)`.
#[derive(Clone, Debug, Default)]
pub struct InsteadOf(pub(super) Option<TokenChoice>);

macro_rules! instead_of {
    ($($token:ty),*) => {$(
        impl From<$token> for InsteadOf {
            fn from(token: $token) -> Self {
                Self(Some(token.into()))
            }
        }
    )*};
}

instead_of!(
    u32,
    &str,
    String,
    &String,
    TokenRef,
    TokenChoice,
    Vec<u32>,
    Vec<&str>,
    Vec<String>,
    Vec<TokenRef>,
    &[u32],
    &[&str],
    Vec<Vec<u32>>,
    &Vec<u32>,
    &Vec<&str>,
    &Vec<String>
);

impl From<Option<u32>> for InsteadOf {
    fn from(token: Option<u32>) -> Self {
        Self(token.map(TokenChoice::from))
    }
}

impl<const N: usize> From<[&str; N]> for InsteadOf {
    fn from(tokens: [&str; N]) -> Self {
        Self(Some(tokens.into()))
    }
}

impl<const N: usize> From<[u32; N]> for InsteadOf {
    fn from(tokens: [u32; N]) -> Self {
        Self(Some(tokens.into()))
    }
}

impl ActivationCache {
    /// What each component of a stack adds to the logit of a token, or to its lead over `instead_of`, at every position,
    /// with the last norm's scale held at what it was in the run: axes `component`, `batch`, `pos` (those that the cache
    /// has).
    ///
    /// A token is named by its text or its id; a list has one for each row of the batch, a list of lists one for each
    /// position. `instead_of` is `None`, a token, or a list.
    ///
    /// The sum over a whole decomposition is the logit (or its lead) less what no component writes: b_U, and the last
    /// norm's b where it was not folded away. Where the model caps its logits (Gemma 2), it is of the logits before the cap,
    /// which is not linear.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to")?;
    /// let attrs = cache.at_pos(-1)?.logit_attrs(&cache.at_pos(-1)?.decompose_resid(None)?, " Mary", " John")?;
    /// println!("{:?}", attrs.top_k(3));
    /// assert_eq!(attrs.axis("component")?.0, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A text that is not one token; lists that do not fit the batch; parts that went through another norm; a masked
    /// language model, whose head is not linear.
    pub fn logit_attrs(
        &self,
        stack: impl Into<Decomposition>,
        token: impl Into<TokenChoice>,
        instead_of: impl Into<InsteadOf>,
    ) -> Result<LabelledTensor> {
        let (token, instead_of) = (token.into(), instead_of.into());
        let parts = stack.into().at_the_end(self.reader(StreamPlace::End))?;
        let sizes = parts.sizes();
        let model = self.model();
        let mut direction = direction(model, &token, parts.axes(), &sizes)?;
        if let Some(other) = &instead_of.0 {
            direction = direction.broadcast_sub(&self::direction(model, other, parts.axes(), &sizes)?)?;
        }
        let axes = parts.axes().iter().zip(&sizes).map(|(&name, &len)| self.labelled_axis(name, len));
        let axes = std::iter::once(Axis::new("component", parts.labels())).chain(axes);
        LabelledTensor::new(title(model, &token, &instead_of), &parts.dot(&direction)?, axes)
    }

    /// An axis of activations: positions are labelled with their tokens, where there is one row.
    pub(super) fn labelled_axis(&self, name: &str, len: usize) -> Axis {
        let labels = self.tokens().filter(|tokens| name == "pos" && tokens.shape() == (1, len));
        match labels.and_then(|tokens| tokens.str_tokens(0).ok()) {
            Some(labels) => Axis::new(name, labels),
            None => Axis::numbered(name, len),
        }
    }
}

/// The directions of tokens, in f32, with the axes of the parts (size 1 where they do not differ): `[d_model]` for one.
fn direction(model: &HookedTransformer, tokens: &TokenChoice, axes: &[&str], sizes: &[usize]) -> Result<Tensor> {
    let directions = model.tokens_to_residual_directions(tokens)?.to_dtype(DType::F32)?;
    let size = |name: &str| axes.iter().position(|axis| *axis == name).map(|i| sizes[i]);
    let (rows, positions) = (size("batch"), size("pos"));
    let misfit = |what: String| {
        Err(Error::msg(format!(
            "{what}, and the parts have {} rows and {} positions; give one token, a list with one for each row, or a list of \
             lists with one for each position of each row",
            rows.unwrap_or(1),
            positions.unwrap_or(1)
        )))
    };
    let given = match tokens {
        TokenChoice::One(_) => return Ok(directions),
        TokenChoice::PerRow(tokens) if tokens.len() == rows.unwrap_or(1) => directions.unsqueeze(1)?,
        TokenChoice::PerRow(tokens) => return misfit(format!("{} tokens were given", tokens.len())),
        TokenChoice::PerPosition(_) => {
            let (batch, pos, _) = directions.dims3()?;
            if batch != rows.unwrap_or(1) || pos != positions.unwrap_or(1) {
                return misfit(format!("tokens for {batch} rows of {pos} positions were given"));
            }
            directions
        }
    };
    // Now [batch, pos or 1, d_model]; axes that the parts lack have size 1.
    let given = if positions.is_none() { given.squeeze(1)? } else { given };
    Ok(if rows.is_none() { given.squeeze(0)? } else { given })
}

/// What the numbers are.
pub(super) fn title(model: &HookedTransformer, token: &TokenChoice, instead_of: &InsteadOf) -> String {
    let name = |choice: &TokenChoice| match choice {
        TokenChoice::One(TokenRef::Text(text)) => format!("'{text}'"),
        TokenChoice::One(TokenRef::Id(id)) => {
            model.tokenizer().map_or_else(|_| format!("token {id}"), |tokenizer| format!("'{}'", tokenizer.piece(*id)))
        }
        _ => "the answers".to_string(),
    };
    match &instead_of.0 {
        None => format!("logit of {}", name(token)),
        Some(other @ TokenChoice::One(_)) => format!("logit difference of {} and {}", name(token), name(other)),
        Some(_) => format!("logit difference of {} and the others", name(token)),
    }
}
