//! How attention patterns of a run look.

use candle_core::Tensor;

use crate::cache::{ActivationCache, AttentionPattern};
use crate::display::{AttentionView, Bundle, Show};
use crate::{Error, Result};

/// Every head of the layer over the tokens of the first row.
impl Show for AttentionPattern {
    fn bundle(&self) -> Bundle {
        self.view().bundle()
    }
}

impl AttentionPattern {
    /// The picture that a notebook shows, to be changed before it is shown (`.title(..)`, `.head(3)`).
    pub fn view(&self) -> Result<AttentionView> {
        let (keys, queries) = labels(self)?;
        let view = AttentionView::new(&self.row(0)?, keys)?.title(format!("{} of layer {}", self.what(), self.layer()));
        Ok(with_queries(view, queries))
    }
}

impl ActivationCache {
    /// The attention of every head of every layer that the cache has, over the tokens of the first row: a row of small
    /// pictures for each layer. Heads that do something special (look one back, look at the first token, look at a
    /// repetition) stand out at a glance.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let (_, cache) = model.run_with_cache("John gave a book to Mary.")?;
    /// assert!(cache.attention_overview()?.bundle().text.contains("L1H2"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the cache has no pattern.
    pub fn attention_overview(&self) -> Result<AttentionView> {
        let kept = |layer: &usize| self.contains(self.model().pattern_point(*layer).name());
        let layers = (0..self.model().cfg().n_layers).filter(kept);
        let patterns: Vec<AttentionPattern> = layers.map(|layer| self.pattern(layer)).collect::<Result<_>>()?;
        let Some(first) = patterns.first() else {
            return Err(Error::msg("the cache has no attention pattern; run with a filter that keeps `hook_pattern`"));
        };
        let (keys, queries) = labels(first)?;
        let layers: Result<Vec<(usize, Tensor)>> =
            patterns.iter().map(|pattern| Ok((pattern.layer(), pattern.row(0)?))).collect();
        Ok(with_queries(AttentionView::overview(layers?, keys)?, queries))
    }
}

/// The texts of a pattern's keys; and of its queries, where they need not be the last tokens.
fn labels(pattern: &AttentionPattern) -> Result<(Vec<String>, Option<Vec<String>>)> {
    let n = pattern.dims().last().copied().unwrap_or(0);
    let keys: Vec<String> = match pattern.tokens() {
        Some(tokens) => tokens.str_tokens(0)?,
        None => (0..n).map(|position| position.to_string()).collect(),
    };
    let named = |places: &[usize]| places.iter().filter_map(|&place| keys.get(place).cloned()).collect();
    let queries = pattern.queries().map(named);
    Ok((keys, queries))
}

/// Of a sliced cache the queries need not be the last tokens.
fn with_queries(mut view: AttentionView, queries: Option<Vec<String>>) -> AttentionView {
    if let Some(queries) = queries.filter(|queries| queries.len() == view.queries.len()) {
        view.queries = queries;
        view.causal = false;
    }
    view
}
