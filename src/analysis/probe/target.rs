//! What a probe is to read out: a class or a number for each row.

use crate::{Error, Result};

/// A class for each row (bools, words, whole numbers), or a number for each row (floats). Made from vectors, slices and
/// arrays of these.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeTarget {
    /// The classes' names, and each row's class.
    Classes {
        /// In order; false before true, numbers by size, words by letters.
        names: Vec<String>,
        /// Each row's class, as an index into the names.
        rows: Vec<usize>,
    },
    /// A number for each row.
    Numbers(Vec<f64>),
}

impl ProbeTarget {
    /// How many rows have one.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { rows, .. } => rows.len(),
            Self::Numbers(rows) => rows.len(),
        }
    }

    /// Whether no row has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An error unless there is something to learn, for `n` rows.
    pub(super) fn check(&self, n: usize) -> Result<()> {
        if self.len() != n {
            return Err(Error::msg(format!(
                "there are {n} rows of features and {} labels; each row needs one",
                self.len()
            )));
        }
        match self {
            Self::Classes { names, .. } if names.len() < 2 => Err(Error::msg(match names.first() {
                Some(name) => format!("all {n} labels are '{name}', and a probe needs at least two classes"),
                None => "there are no labels; a probe needs at least two classes".to_string(),
            })),
            Self::Classes { .. } => Ok(()),
            Self::Numbers(rows) => match rows.iter().position(|number| !number.is_finite()) {
                Some(row) => Err(Error::msg(format!("the label of row {row} is {}, and must be finite", rows[row]))),
                None if rows.iter().all(|number| *number == rows[0]) => {
                    Err(Error::msg(format!("all {n} labels are equal, so there is nothing to learn")))
                }
                None => Ok(()),
            },
        }
    }

    /// The same labels in another order: row `i` gets that of row `order[i]`.
    pub(super) fn reordered(&self, order: &[usize]) -> Self {
        match self {
            Self::Classes { names, rows } => {
                Self::Classes { names: names.clone(), rows: order.iter().map(|&i| rows[i]).collect() }
            }
            Self::Numbers(rows) => Self::Numbers(order.iter().map(|&i| rows[i]).collect()),
        }
    }

    fn classes<T: Ord + Clone + ToString>(labels: &[T]) -> Self {
        let mut sorted = labels.to_vec();
        sorted.sort();
        sorted.dedup();
        let rows = labels.iter().map(|label| sorted.partition_point(|other| other < label)).collect();
        Self::Classes { names: sorted.iter().map(ToString::to_string).collect(), rows }
    }
}

macro_rules! labels {
    ($($label:ty => $make:expr),* $(,)?) => {$(
        impl From<Vec<$label>> for ProbeTarget {
            fn from(labels: Vec<$label>) -> Self {
                $make(&labels[..])
            }
        }

        impl From<&Vec<$label>> for ProbeTarget {
            fn from(labels: &Vec<$label>) -> Self {
                $make(&labels[..])
            }
        }

        impl From<&[$label]> for ProbeTarget {
            fn from(labels: &[$label]) -> Self {
                $make(labels)
            }
        }

        impl<const N: usize> From<[$label; N]> for ProbeTarget {
            fn from(labels: [$label; N]) -> Self {
                $make(&labels[..])
            }
        }
    )*};
}

labels!(
    bool => ProbeTarget::classes,
    &str => ProbeTarget::classes,
    String => ProbeTarget::classes,
    usize => ProbeTarget::classes,
    u32 => ProbeTarget::classes,
    i32 => ProbeTarget::classes,
    i64 => ProbeTarget::classes,
    f32 => |labels: &[f32]| ProbeTarget::Numbers(labels.iter().map(|&number| number.into()).collect()),
    f64 => |labels: &[f64]| ProbeTarget::Numbers(labels.to_vec()),
);

impl From<&ProbeTarget> for ProbeTarget {
    fn from(target: &ProbeTarget) -> Self {
        target.clone()
    }
}
