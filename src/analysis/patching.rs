//! Activation patching in TransformerLens' ready-made forms: each is a [`Sweep`] in one call.
//!
//! `base` is the prompt that is run and changed (customarily the corrupted one), `source` the cache of the run that
//! activations are taken from (the clean one). Both must have the same number of tokens. The results' axes are those of
//! TransformerLens' `get_act_patch_...` functions; key and value heads are counted as the model has them, so that with
//! grouped queries there are fewer. A sweep of n places costs less than n forward passes (see [`Sweep`]).
//!
//! Activation patching: Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022 (arXiv 2202.05262); how to choose metric and
//! direction: Heimersheim & Nanda 2024 (arXiv 2404.15255).
//!
//! ```
//! use candlescope::prelude::*;
//! # fn main() -> candlescope::Result<()> {
//! let model = HookedTransformer::from_pretrained("tiny")?;
//! let clean = "After John and Mary went to the store, Mary gave a bottle of milk to";
//! let corrupted = "After John and Mary went to the store, John gave a bottle of milk to";
//! let (_, clean_cache) = model.run_with_cache(clean)?;
//! let metric = logit_diff(" John", " Mary");
//! let restored = patching::resid_pre(&model, corrupted, &clean_cache, &metric)?.normalized()?;
//! // The whole clean stream at the last layer's last position, or at the second name in the first layer, says it all.
//! assert!(restored.top_k(1)[0].1 > 0.9);
//! # Ok(()) }
//! ```

use super::metric::Metric;
use super::sweep::{Sweep, SweepResult};
use crate::Result;
use crate::cache::ActivationCache;
use crate::model::{HookedTransformer, Input};

macro_rules! patches {
    ($($(#[$doc:meta])* $function:ident: $($activation:literal),+ by $($axis:literal),+;)*) => {$(
        $(#[$doc])*
        pub fn $function(
            model: &HookedTransformer,
            base: impl Into<Input>,
            source: &ActivationCache,
            metric: &Metric,
        ) -> Result<SweepResult> {
            let sweep = model.sweep(base).by([$($axis),+]).patch_from(source).measure(metric);
            at(sweep, &[$($activation),+]).run()
        }
    )*};
}

patches! {
    /// The residual stream at the start of each layer, at each position: `[layer, pos]`.
    resid_pre: "resid_pre" by "layer", "pos";
    /// The residual stream between attention and MLP, at each position: `[layer, pos]`. Parallel blocks have none.
    resid_mid: "resid_mid" by "layer", "pos";
    /// The residual stream at the end of each layer, at each position: `[layer, pos]`.
    resid_post: "resid_post" by "layer", "pos";
    /// What each attention layer writes, at each position: `[layer, pos]`.
    attn_out: "attn_out" by "layer", "pos";
    /// What each MLP writes, at each position: `[layer, pos]`.
    mlp_out: "mlp_out" by "layer", "pos";
    /// Each head's z at each position: `[layer, pos, head]`.
    head_out_by_pos: "z" by "layer", "pos", "head";
    /// Each head's queries at each position: `[layer, pos, head]`.
    head_q_by_pos: "q" by "layer", "pos", "head";
    /// Each key head's keys at each position: `[layer, pos, head]`.
    head_k_by_pos: "k" by "layer", "pos", "head";
    /// Each value head's values at each position: `[layer, pos, head]`.
    head_v_by_pos: "v" by "layer", "pos", "head";
    /// Each head's pattern, the row of one query: `[layer, head, pos]`.
    head_pattern_by_pos: "pattern" by "layer", "head", "pos";
    /// Each head's pattern, one entry: `[layer, head, dest, src]`.
    head_pattern_dest_src_pos: "pattern" by "layer", "head", "dest", "src";
    /// Each head's z at all positions: `[layer, head]`.
    head_out_all_pos: "z" by "layer", "head";
    /// Each head's queries at all positions: `[layer, head]`.
    head_q_all_pos: "q" by "layer", "head";
    /// Each key head's keys at all positions: `[layer, head]`.
    head_k_all_pos: "k" by "layer", "head";
    /// Each value head's values at all positions: `[layer, head]`.
    head_v_all_pos: "v" by "layer", "head";
    /// Each head's whole pattern: `[layer, head]`.
    head_pattern_all_pos: "pattern" by "layer", "head";
    /// Residual stream, attention output and MLP output: `[activation, layer, pos]`.
    block_every: "resid_pre", "attn_out", "mlp_out" by "layer", "pos";
    /// z, queries, keys, values and pattern of each head: `[activation, layer, head]`; NaN where there is no such key head.
    head_all_pos_every: "z", "q", "k", "v", "pattern" by "layer", "head";
    /// z, queries, keys, values and pattern of each head at each position: `[activation, layer, pos, head]`.
    head_by_pos_every: "z", "q", "k", "v", "pattern" by "layer", "pos", "head";
}

fn at(sweep: Sweep, activations: &[&str]) -> Sweep {
    activations.iter().fold(sweep, |sweep, activation| sweep.at(*activation))
}
