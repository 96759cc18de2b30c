//! Parts of a cache: some of its positions, some rows of its batch.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::{ActivationCache, LeftOut, Slice};
use crate::hooks::{Activations, HookPoint};
use crate::{Error, Result};

/// The axes of an activation that count positions, and those that count rows of the batch.
const POS: [&str; 2] = ["pos", "query"];
const BATCH: [&str; 1] = ["batch"];

/// How an activation depends on positions (or rows of the batch).
enum Axis {
    /// It has an axis for them.
    At(usize),
    /// It does not depend on them.
    Absent,
    /// It depends on them, and has no axis for them alone.
    Mixed,
}

impl ActivationCache {
    /// The cache of some positions: every activation with an axis for them is sliced there (attention at its queries). One
    /// position drops the axis; all that a cache can do works on the result.
    ///
    /// Nothing is copied where the positions lie side by side. Activations whose rows are tokens without order (those of
    /// experts) are left out. In an encoder-decoder the positions are the decoder's, and the encoder's activations stay
    /// whole.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
    /// let last = cache.at_pos(-1)?;
    /// assert_eq!(last.get(resid_pre(0))?.dims(), [1, model.cfg().d_model]);
    /// assert_eq!(cache.at_pos(1..3)?.get(pattern(0))?.dims()[2], 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A position that is not there; a cache that has no positions any more.
    pub fn at_pos(&self, slice: impl Into<Slice>) -> Result<Self> {
        let slice = slice.into();
        if !self.has_pos_dim {
            return Err(Error::msg("this cache is of one position already; slice the cache that it was made from"));
        }
        let len = self.length(&POS, |name| self.model.is_of_encoder(name))?;
        let places = match len.or(self.tokens.as_ref().map(|tokens| tokens.shape().1)) {
            Some(len) => slice.places(len)?,
            None => return Err(nothing_to_slice("positions")),
        };
        let why = "it has no axis for positions (its rows are tokens of the whole batch), and so was left out when the \
                   cache was sliced; take it from the whole cache";
        let (activations, left_out) = self.sliced(&slice, &POS, |name| self.model.is_of_encoder(name), why)?;
        let rows = |tokens: &crate::tokens::Tokens| (0..tokens.shape().0).collect::<Vec<_>>();
        Ok(Self {
            activations,
            left_out,
            tokens: self.tokens.as_ref().map(|tokens| tokens.select(&rows(tokens), &places)),
            places: Some(match &self.places {
                Some(before) => places.iter().filter_map(|&place| before.get(place).copied()).collect(),
                None => places,
            }),
            has_pos_dim: !slice.drops_axis(),
            ..self.clone()
        })
    }

    /// The cache of some rows of the batch. One row drops the axis. What [`at_pos`](Self::at_pos) says holds here too.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache(["John gave a book to Mary.", "Mary gave a book to John."])?;
    /// assert_eq!(cache.at_batch(0..1)?.get(resid_pre(0))?.dims()[0], 1);
    /// assert!(!cache.at_batch(1)?.has_batch_dim());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A row that is not there; a cache that has no batch dimension any more.
    pub fn at_batch(&self, slice: impl Into<Slice>) -> Result<Self> {
        let slice = slice.into();
        if !self.has_batch_dim {
            return Err(Error::msg("this cache has no batch dimension; slice the cache that it was made from"));
        }
        let places = match self.length(&BATCH, |_| false)?.or(self.tokens.as_ref().map(|tokens| tokens.shape().0)) {
            Some(len) => slice.places(len)?,
            None => return Err(nothing_to_slice("rows")),
        };
        let why = "it has no axis for the batch (its rows are tokens of the whole batch), and so was left out when the cache \
                   was sliced; take it from the whole cache";
        let (activations, left_out) = self.sliced(&slice, &BATCH, |_| false, why)?;
        let select =
            |tokens: &crate::tokens::Tokens| tokens.select(&places, &(0..tokens.shape().1).collect::<Vec<_>>());
        Ok(Self {
            activations,
            left_out,
            tokens: self.tokens.as_ref().map(select),
            key_tokens: self.key_tokens.as_ref().map(select),
            encoder_tokens: self.encoder_tokens.as_ref().map(select),
            has_batch_dim: !slice.drops_axis(),
            ..self.clone()
        })
    }

    /// The same cache without the batch dimension; an error unless the batch is one.
    pub fn remove_batch_dim(&self) -> Result<Self> {
        if !self.has_batch_dim {
            return Ok(self.clone());
        }
        let shapes = self.shapes();
        let mut kept = Vec::with_capacity(self.len());
        for (point, tensor) in self {
            let tensor = match self.axis_of(&shapes, point, tensor, &BATCH) {
                Axis::At(dim) if tensor.dim(dim)? == 1 => tensor.squeeze(dim)?,
                Axis::At(_) => {
                    return Err(Error::msg(format!(
                        "the batch dimension can be dropped only when it is 1; '{point}' has shape {:?}; at_batch(row) \
                         takes one row",
                        tensor.dims()
                    )));
                }
                // With one row, the tokens of the whole batch are those of that row.
                Axis::Mixed | Axis::Absent => tensor.clone(),
            };
            kept.push((point.clone(), tensor));
        }
        Ok(Self { activations: Activations::new(kept), has_batch_dim: false, ..self.clone() })
    }

    /// The size of the first axis of these names, over activations that are not skipped.
    fn length(&self, names: &[&str], skip: impl Fn(&str) -> bool) -> Result<Option<usize>> {
        let shapes = self.shapes();
        for (point, tensor) in self {
            if let (Axis::At(dim), false) = (self.axis_of(&shapes, point, tensor, names), skip(point.name())) {
                return Ok(Some(tensor.dim(dim)?));
            }
        }
        Ok(None)
    }

    fn sliced(
        &self,
        slice: &Slice,
        names: &[&str],
        skip: impl Fn(&str) -> bool,
        why: &str,
    ) -> Result<(Activations, LeftOut)> {
        let shapes = self.shapes();
        let mut kept = Vec::with_capacity(self.len());
        let mut left_out = (*self.left_out).clone();
        for (point, tensor) in self {
            match self.axis_of(&shapes, point, tensor, names) {
                _ if skip(point.name()) => kept.push((point.clone(), tensor.clone())),
                Axis::At(dim) => kept.push((point.clone(), slice.apply(tensor, dim)?)),
                Axis::Absent => kept.push((point.clone(), tensor.clone())),
                Axis::Mixed => left_out.push((point.name().to_string(), why.to_string())),
            }
        }
        Ok((Activations::new(kept), Arc::new(left_out)))
    }

    /// The axes of every point, by its name.
    fn shapes(&self) -> HashMap<&str, &'static str> {
        self.model.hook_points().iter().map(|info| (info.point.name(), info.shape)).collect()
    }

    /// Where an activation has an axis of one of these names.
    fn axis_of(
        &self,
        shapes: &HashMap<&str, &'static str>,
        point: &HookPoint,
        tensor: &Tensor,
        names: &[&str],
    ) -> Axis {
        let shape = shapes.get(point.name()).copied().unwrap_or("");
        let axes: Vec<&str> = shape.trim_matches(['[', ']']).split(", ").collect();
        let dropped = |axis: &&str| {
            (!self.has_batch_dim && BATCH.contains(axis))
                || (!self.has_pos_dim && POS.contains(axis) && !self.model.is_of_encoder(point.name()))
        };
        let axes: Vec<&str> = axes.into_iter().filter(|axis| !dropped(axis)).collect();
        let joined = axes.iter().any(|axis| axis.contains("batch * pos") || axis.contains("tokens"));
        // Of a run with hooks on split inputs a norm may have an axis more, but never fewer.
        if joined || tensor.rank() < axes.len() {
            return Axis::Mixed;
        }
        axes.iter().position(|axis| names.contains(axis)).map_or(Axis::Absent, Axis::At)
    }
}

fn nothing_to_slice(what: &str) -> Error {
    Error::msg(format!("no activation of this cache has an axis for {what}, so there is nothing to slice"))
}
