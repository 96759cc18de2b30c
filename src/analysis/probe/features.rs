//! Rows of features out of a model's activations.

use candle_core::{Device, Tensor};

use crate::analysis::over_text::activation::Axes;
use crate::hooks::{HookPoint, Selector};
use crate::model::HookedTransformer;
use crate::tokens::{TokenInput, TokenRef};
use crate::{Error, Result};

/// Texts that run at once.
const BATCH: usize = 16;

/// Where in each text the activation is read. A number is a position (negative from the end of the text, BOS counted), a text is
/// a token, at its last place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbePosition {
    /// The last token of each text.
    Last,
    /// This position of each text; negative from its end.
    At(i64),
    /// A position for each text.
    Each(Vec<usize>),
    /// The last place of a token, in each text.
    Token(TokenRef),
    /// The mean over all tokens of a text, BOS included.
    Mean,
}

macro_rules! positions {
    ($($number:ty),*) => {$(
        impl From<$number> for ProbePosition {
            fn from(position: $number) -> Self {
                Self::At(position as i64)
            }
        }
    )*};
}

positions!(i32, i64, usize);

impl From<&str> for ProbePosition {
    fn from(token: &str) -> Self {
        Self::Token(token.into())
    }
}

impl From<Vec<usize>> for ProbePosition {
    fn from(positions: Vec<usize>) -> Self {
        Self::Each(positions)
    }
}

/// The activation of each text at a position, `[text, d]` (of several axes, such as head and d_head, all together), for each
/// selected point. One pass over the texts.
///
/// ```
/// use candlescope::analysis::probe::{ProbePosition, features};
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let texts = ["John gave a book to Mary.", "Mary went home."];
/// let rows = features(&model, texts, "resid_post", ProbePosition::Last)?;
/// assert_eq!(rows.len(), model.cfg().n_layers);
/// assert_eq!(rows[0].1.dims(), [2, model.cfg().d_model]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When a text has no such position, when an activation has nothing for each token, or when the run fails.
pub fn features(
    model: &HookedTransformer,
    texts: impl Into<TokenInput>,
    at: impl Into<Selector>,
    position: impl Into<ProbePosition>,
) -> Result<Vec<(HookPoint, Tensor)>> {
    let at = at.into();
    let tokens = match texts.into() {
        TokenInput::Text(texts) => model.to_tokens(texts)?,
        TokenInput::Tokens(tokens) => tokens,
    };
    let places = Places::new(model, position.into(), tokens.shape().0)?;
    let points = model.hook_points();
    let chosen = at.resolve(points)?;
    let axes = chosen.iter().map(|&i| Axes::of(&points[i])).collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<Vec<Tensor>> = vec![Vec::new(); chosen.len()];
    model.over(&tokens).batch_size(BATCH).for_each(&at, |batch, cache| {
        let real = batch.real();
        for ((&i, axes), rows) in chosen.iter().zip(&axes).zip(&mut rows) {
            let activation = axes.by_position(&cache.get(&points[i].point)?, batch)?;
            for (row, (ids, real)) in batch.tokens().ids().iter().zip(&real).enumerate() {
                let (from, to) = places.of(batch.first_row() + row, ids, real)?;
                let vectors = activation.get(row)?.narrow(0, from, to - from)?;
                rows.push(vectors.mean(0)?.flatten_all()?);
            }
        }
        Ok(())
    })?;
    let named = chosen.iter().zip(rows);
    named.map(|(&i, rows)| Ok((points[i].point.clone(), Tensor::stack(&rows, 0)?.to_device(&Device::Cpu)?))).collect()
}

/// Positions of texts, in their rows.
struct Places {
    position: ProbePosition,
    token: Option<u32>,
}

impl Places {
    fn new(model: &HookedTransformer, position: ProbePosition, texts: usize) -> Result<Self> {
        let token = match &position {
            ProbePosition::Token(TokenRef::Id(id)) => Some(*id),
            ProbePosition::Token(TokenRef::Text(text)) => Some(model.to_single_token(text)?),
            ProbePosition::Each(each) if each.len() != texts => {
                return Err(Error::msg(format!(
                    "there are {texts} texts and {} positions; each text needs one",
                    each.len()
                )));
            }
            _ => None,
        };
        Ok(Self { position, token })
    }

    /// The first position of a text that is read, and the one after the last.
    fn of(&self, text: usize, ids: &[u32], real: &[bool]) -> Result<(usize, usize)> {
        let start = real.iter().position(|real| *real).unwrap_or(0);
        let end = real.iter().rposition(|real| *real).map_or(start, |last| last + 1);
        let length = (end - start) as i64;
        let place = match &self.position {
            ProbePosition::Mean => return Ok((start, end)),
            ProbePosition::Last => length - 1,
            ProbePosition::At(position) if *position < 0 => position + length,
            ProbePosition::At(position) => *position,
            ProbePosition::Each(each) => each[text] as i64,
            ProbePosition::Token(_) => {
                let found = ids[start..end].iter().rposition(|id| Some(*id) == self.token);
                found.ok_or_else(|| {
                    Error::msg(format!(
                        "the token {:?} does not occur in text {text}; mind the leading space",
                        self.position
                    ))
                })? as i64
            }
        };
        if !(0..length).contains(&place) {
            return Err(Error::msg(format!("text {text} has {length} tokens, and so no position {:?}", self.position)));
        }
        Ok((start + place as usize, start + place as usize + 1))
    }
}
