//! Which keys a kind of head looks at.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};

/// The keys that a kind of head looks at: 1 where query (row) looks at key (column), 0 elsewhere.
///
/// Where tokens see both ways (encoders), duplicates may stand on either side.
#[derive(Clone, Debug)]
pub enum HeadPattern {
    /// The token before.
    PreviousToken,
    /// Other occurrences of the same token.
    DuplicateToken,
    /// The tokens that followed other occurrences of the same token (Elhage et al. 2021; Olsson et al. 2022). Where a token
    /// follows itself, that is the token itself.
    Induction,
    /// An own pattern `[pos, pos]`: lower triangular, unless tokens see both ways. It may hold other numbers than 0 and 1,
    /// such as the attention that is expected; then [`Measure::Abs`](super::Measure::Abs) tells more.
    Own(Tensor),
}

impl From<Tensor> for HeadPattern {
    fn from(pattern: Tensor) -> Self {
        Self::Own(pattern)
    }
}

impl From<&Tensor> for HeadPattern {
    fn from(pattern: &Tensor) -> Self {
        Self::Own(pattern.clone())
    }
}

impl HeadPattern {
    /// The pattern over these token ids, `[pos, pos]` in f32 on the CPU.
    ///
    /// `bidirectional`: whether a token sees those after it.
    ///
    /// # Errors
    /// When an own pattern has another size, is not lower triangular though it must be, or is not finite.
    pub fn over(&self, ids: &[u32], bidirectional: bool) -> Result<Tensor> {
        let seen = |query: usize, key: usize| bidirectional || key <= query;
        match self {
            Self::PreviousToken => square(ids.len(), |query, key| key + 1 == query),
            Self::DuplicateToken => {
                square(ids.len(), |query, key| key != query && seen(query, key) && ids[key] == ids[query])
            }
            Self::Induction => square(ids.len(), |query, key| {
                seen(query, key) && key > 0 && key - 1 != query && ids[key - 1] == ids[query]
            }),
            Self::Own(pattern) => own(pattern, ids.len(), bidirectional),
        }
    }

    /// Whether it says something only of tokens, and not of positions alone.
    pub(super) fn needs_tokens(&self) -> bool {
        matches!(self, Self::DuplicateToken | Self::Induction)
    }

    /// What it is called in titles.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::PreviousToken => "previous token",
            Self::DuplicateToken => "duplicate token",
            Self::Induction => "induction",
            Self::Own(_) => "own pattern",
        }
    }
}

fn square(n: usize, is_looked_at: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let values = (0..n * n).map(|i| f32::from(u8::from(is_looked_at(i / n, i % n)))).collect();
    Ok(Tensor::from_vec(values, (n, n), &Device::Cpu)?)
}

fn own(pattern: &Tensor, n: usize, bidirectional: bool) -> Result<Tensor> {
    if pattern.dims() != [n, n] {
        return Err(Error::msg(format!(
            "a pattern for these tokens is [{n}, {n}] (query, key), and this one is {:?}; mind that BOS counts as a token",
            pattern.dims()
        )));
    }
    let pattern = pattern.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    for (query, row) in pattern.to_vec2::<f32>()?.iter().enumerate() {
        if let Some(key) = row.iter().position(|value| !value.is_finite()) {
            return Err(Error::msg(format!(
                "the pattern holds NaN or infinity (query {query}, key {key}); numbers are needed"
            )));
        }
        let ahead = row.iter().skip(query + 1).position(|value| *value != 0.0);
        if let Some(ahead) = ahead.filter(|_| !bidirectional) {
            return Err(Error::msg(format!(
                "the pattern is not lower triangular: query {query} looks at key {}, which comes after it, and no head of \
                 this model sees that",
                query + 1 + ahead
            )));
        }
    }
    Ok(pattern)
}
