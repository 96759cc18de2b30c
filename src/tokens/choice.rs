//! Tokens that a question is about: one for all, one per row, or one per position.

use super::{TokenRef, Tokens};

/// The tokens that a question is about, each named by its text (which must be a single token) or by its id: one for
/// everything, one for each row of a batch (a list), or one for each position (a list of lists, or [`Tokens`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// The same token everywhere.
    One(TokenRef),
    /// A token for each row of the batch.
    PerRow(Vec<TokenRef>),
    /// A token for each position, `[batch][pos]`.
    PerPosition(Vec<Vec<TokenRef>>),
}

macro_rules! one {
    ($($token:ty),*) => {$(
        impl From<$token> for TokenChoice {
            fn from(token: $token) -> Self {
                Self::One(token.into())
            }
        }

        impl From<Vec<$token>> for TokenChoice {
            fn from(tokens: Vec<$token>) -> Self {
                Self::PerRow(tokens.into_iter().map(Into::into).collect())
            }
        }

        impl From<&[$token]> for TokenChoice {
            fn from(tokens: &[$token]) -> Self {
                tokens.to_vec().into()
            }
        }

        impl From<&Vec<$token>> for TokenChoice {
            fn from(tokens: &Vec<$token>) -> Self {
                tokens.clone().into()
            }
        }

        impl<const N: usize> From<[$token; N]> for TokenChoice {
            fn from(tokens: [$token; N]) -> Self {
                tokens.to_vec().into()
            }
        }

        impl From<Vec<Vec<$token>>> for TokenChoice {
            fn from(rows: Vec<Vec<$token>>) -> Self {
                let row = |tokens: Vec<$token>| tokens.into_iter().map(Into::into).collect();
                Self::PerPosition(rows.into_iter().map(row).collect())
            }
        }
    )*};
}

one!(u32, &str, String, TokenRef);

impl From<&String> for TokenChoice {
    fn from(token: &String) -> Self {
        Self::One(token.into())
    }
}

impl From<&TokenChoice> for TokenChoice {
    fn from(tokens: &TokenChoice) -> Self {
        tokens.clone()
    }
}

impl From<&Tokens> for TokenChoice {
    fn from(tokens: &Tokens) -> Self {
        tokens.ids().to_vec().into()
    }
}

impl From<Tokens> for TokenChoice {
    fn from(tokens: Tokens) -> Self {
        (&tokens).into()
    }
}
