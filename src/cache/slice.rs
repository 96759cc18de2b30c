//! Which places of an axis are meant.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use candle_core::Tensor;

use crate::{Error, Result};

/// Which places of an axis are meant: one (the axis is dropped, as in TransformerLens), a range, a list, or all.
///
/// Made from a number (`-1` is the last place), from every kind of range (`2..5`, `-3..`, `..=4`; ends may count from the
/// end too), from a list (`[0, 3]`, `vec![..]`), or from `..`.
///
/// ```
/// use candlescope::cache::Slice;
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let x = Tensor::arange(0u32, 6, &Device::Cpu)?;
/// assert_eq!(Slice::from(-1).apply(&x, 0)?.to_scalar::<u32>()?, 5);
/// assert_eq!(Slice::from(1..-3).apply(&x, 0)?.to_vec1::<u32>()?, [1, 2]);
/// assert_eq!(Slice::from([4, 0, -1]).apply(&x, 0)?.to_vec1::<u32>()?, [4, 0, 5]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All,
    At(i64),
    Range { start: Option<i64>, end: Option<End> },
    List(Vec<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Before(i64),
    At(i64),
}

impl Slice {
    /// Every place.
    pub fn all() -> Self {
        Self(Kind::All)
    }

    /// Whether it names one place, and so drops the axis.
    pub fn drops_axis(&self) -> bool {
        matches!(self.0, Kind::At(_))
    }

    /// The places that it means on an axis of `len`, counted from 0, in its order.
    ///
    /// # Errors
    /// A place that the axis does not have; no place at all.
    pub fn places(&self, len: usize) -> Result<Vec<usize>> {
        let places = match &self.0 {
            Kind::All => (0..len).collect(),
            Kind::At(place) => vec![absolute(*place, len)?],
            Kind::List(places) => places.iter().map(|place| absolute(*place, len)).collect::<Result<_>>()?,
            Kind::Range { start, end } => {
                let start = start.map_or(Ok(0), |start| boundary(start, len))?;
                let end = match *end {
                    None => len,
                    Some(End::Before(end)) => boundary(end, len)?,
                    Some(End::At(last)) => absolute(last, len)? + 1,
                };
                (start..end).collect::<Vec<_>>()
            }
        };
        if places.is_empty() {
            return Err(Error::msg(format!("the slice {self} takes nothing of an axis with {len} places")));
        }
        Ok(places)
    }

    /// The places of dimension `dim`: a view where they lie side by side, else a copy.
    ///
    /// # Errors
    /// As [`places`](Self::places).
    pub fn apply(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        if self.0 == Kind::All {
            return Ok(x.clone());
        }
        let taken = self.apply_kept(x, dim)?;
        Ok(if self.drops_axis() { taken.squeeze(dim)? } else { taken })
    }

    /// As [`apply`](Self::apply), and the axis stays also where one place is taken.
    pub(crate) fn apply_kept(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        let places = self.places(x.dim(dim)?)?;
        let first = places.first().copied().unwrap_or(0);
        if places.iter().enumerate().all(|(i, &place)| place == first + i) {
            return Ok(x.narrow(dim, first, places.len())?);
        }
        let ids: Vec<u32> = places.iter().map(|&place| place as u32).collect();
        let ids = Tensor::from_vec(ids, places.len(), x.device())?;
        Ok(x.contiguous()?.index_select(&ids, dim)?)
    }
}

impl std::fmt::Display for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::All => f.write_str(".."),
            Kind::At(place) => write!(f, "{place}"),
            Kind::List(places) => write!(f, "{places:?}"),
            Kind::Range { start, end } => {
                start.map_or(Ok(()), |start| write!(f, "{start}"))?;
                match end {
                    None => f.write_str(".."),
                    Some(End::Before(end)) => write!(f, "..{end}"),
                    Some(End::At(last)) => write!(f, "..={last}"),
                }
            }
        }
    }
}

/// A place counted from 0.
fn absolute(place: i64, len: usize) -> Result<usize> {
    let counted = if place < 0 { place.saturating_add(len as i64) } else { place };
    if (0..len as i64).contains(&counted) {
        Ok(counted as usize)
    } else {
        Err(Error::msg(format!(
            "there is no place {place}: the axis has {len}, from 0 (or -{len}) to {}",
            len as i64 - 1
        )))
    }
}

/// An end of a range, which may lie behind the last place.
fn boundary(place: i64, len: usize) -> Result<usize> {
    if place == len as i64 { Ok(len) } else { absolute(place, len) }
}

impl From<RangeFull> for Slice {
    fn from(_: RangeFull) -> Self {
        Self::all()
    }
}

impl From<&Slice> for Slice {
    fn from(slice: &Slice) -> Self {
        slice.clone()
    }
}

macro_rules! from_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Slice {
            fn from(place: $number) -> Self {
                Self(Kind::At(place as i64))
            }
        }

        impl From<Range<$number>> for Slice {
            fn from(range: Range<$number>) -> Self {
                Self(Kind::Range { start: Some(range.start as i64), end: Some(End::Before(range.end as i64)) })
            }
        }

        impl From<RangeInclusive<$number>> for Slice {
            fn from(range: RangeInclusive<$number>) -> Self {
                Self(Kind::Range { start: Some(*range.start() as i64), end: Some(End::At(*range.end() as i64)) })
            }
        }

        impl From<RangeFrom<$number>> for Slice {
            fn from(range: RangeFrom<$number>) -> Self {
                Self(Kind::Range { start: Some(range.start as i64), end: None })
            }
        }

        impl From<RangeTo<$number>> for Slice {
            fn from(range: RangeTo<$number>) -> Self {
                Self(Kind::Range { start: None, end: Some(End::Before(range.end as i64)) })
            }
        }

        impl From<RangeToInclusive<$number>> for Slice {
            fn from(range: RangeToInclusive<$number>) -> Self {
                Self(Kind::Range { start: None, end: Some(End::At(range.end as i64)) })
            }
        }

        impl From<Vec<$number>> for Slice {
            fn from(places: Vec<$number>) -> Self {
                Self(Kind::List(places.into_iter().map(|place| place as i64).collect()))
            }
        }

        impl From<&[$number]> for Slice {
            fn from(places: &[$number]) -> Self {
                places.to_vec().into()
            }
        }

        impl From<&Vec<$number>> for Slice {
            fn from(places: &Vec<$number>) -> Self {
                places.clone().into()
            }
        }

        impl<const N: usize> From<[$number; N]> for Slice {
            fn from(places: [$number; N]) -> Self {
                places.to_vec().into()
            }
        }
    )*};
}

// All three, so that a plain literal (i32), a count from the end and a loop variable work.
from_numbers!(i32, i64, usize);

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn places(slice: impl Into<Slice>) -> Vec<usize> {
        slice.into().places(5).unwrap()
    }

    fn error(slice: impl Into<Slice>) -> String {
        slice.into().places(5).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_names_its_places() {
        assert_eq!(places(-5), [0]);
        assert_eq!(places(4usize), [4]);
        assert_eq!(places(1..3), [1, 2]);
        assert_eq!(places(-3..-1), [2, 3]);
        assert_eq!(places(3..=-1), [3, 4]);
        assert_eq!(places(-2..), [3, 4]);
        assert_eq!(places(..2usize), [0, 1]);
        assert_eq!(places(..=-4), [0, 1]);
        assert_eq!(places(0..5), [0, 1, 2, 3, 4]);
        assert_eq!(places(..), [0, 1, 2, 3, 4]);
        assert_eq!(places([3, 0, -1, 3]), [3, 0, 4, 3]);
        assert_eq!(places(vec![2usize]), [2]);
    }

    #[test]
    fn what_is_not_there_is_a_sentence() {
        assert!(error(5).contains("no place 5: the axis has 5"), "{}", error(5));
        assert!(error(-6).contains("no place -6"));
        assert!(error(2..9).contains("no place 9"));
        assert!(error(0..=5).contains("no place 5"));
        assert!(error([0, 7]).contains("no place 7"));
        assert!(error(3..3).contains("3..3 takes nothing"));
        assert!(error(Vec::<usize>::new()).contains("takes nothing"));
        assert!(Slice::from(i64::MIN).places(5).is_err() && Slice::from(..).places(0).is_err());
    }

    #[test]
    fn one_place_drops_the_axis_and_a_range_is_a_view() {
        let x = Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
        assert_eq!(Slice::from(1).apply(&x, 0).unwrap().to_vec1::<f32>().unwrap(), [4., 5., 6., 7.]);
        let view = Slice::from(1..).apply(&x, 1).unwrap();
        assert_eq!(view.to_vec2::<f32>().unwrap()[2], [9., 10., 11.]);
        assert_eq!((view.stride(), view.layout().start_offset()), (&[4, 1][..], 1));
        assert_eq!(
            Slice::from([2, 0]).apply(&x, 0).unwrap().to_vec2::<f32>().unwrap(),
            [[8., 9., 10., 11.], [0., 1., 2., 3.]]
        );
        assert_eq!(Slice::from(-1).apply_kept(&x, 1).unwrap().dims(), [3, 1]);
    }
}
