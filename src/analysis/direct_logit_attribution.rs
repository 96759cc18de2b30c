//! Direct logit attribution of a prompt's last token, by layer, component, head and neuron.

use candle_core::Tensor;

use super::logit_attribution::title;
use super::{Axis, InsteadOf, LabelledTensor};
use crate::cache::{ActivationCache, Decomposition};
use crate::tokens::TokenChoice;
use crate::{Error, Result};

/// What parts of a model add directly to the logit of an answer at the last position, or to its lead over a wrong one. Made
/// by [`direct_logit_attribution`].
///
/// In a notebook it shows the components as bars and the heads as a heatmap.
#[derive(Clone, Debug)]
pub struct DirectLogitAttribution {
    /// Rows whose last tokens stand at one position, with their answers.
    groups: Vec<(ActivationCache, TokenChoice, InsteadOf)>,
    title: String,
}

/// What each part of the model adds directly to the logit of `right` after the last token of each prompt, or to its lead over
/// `wrong` (`None` for the logit itself), with the last norm's scale held (Elhage et al. 2021; Wang et al. 2023, arXiv
/// 2211.00593). b_U is in no part.
///
/// The last position is each row's last real token; of a cache that was sliced to one position, it is that one. Of a batch,
/// results have a leading axis `batch`.
///
/// ```
/// use candlescope::analysis::direct_logit_attribution;
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let (_, cache) = model.run_with_cache("After John and Mary went to the store, Mary gave a bottle of milk to")?;
/// let attribution = direct_logit_attribution(&cache, " John", " Mary")?;
/// println!("{:?}", attribution.by_head()?.top_k(3));
/// println!("{:?}", attribution.by_neuron(5)?.top_k(5));
/// # Ok(()) }
/// ```
///
/// # Errors
/// A text that is not one token; lists of tokens that do not fit the batch; activations that were not cached.
pub fn direct_logit_attribution(
    cache: &ActivationCache,
    right: impl Into<TokenChoice>,
    wrong: impl Into<InsteadOf>,
) -> Result<DirectLogitAttribution> {
    let (right, wrong) = (right.into(), wrong.into());
    let title = title(cache.model(), &right, &wrong);
    let attribution = DirectLogitAttribution { groups: at_last(cache, right, wrong)?, title };
    // Tokens and norms are checked here, and not only when a result is asked for.
    attribution.by(|cache| Ok((&cache.accumulated_resid(None, false)?.keep(|label| label == "final_post")?).into()))?;
    Ok(attribution)
}

impl DirectLogitAttribution {
    /// What is attributed.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The stream up to each layer, as if the model ended there but for the last norm's scale: axis `component`, with labels
    /// `0_pre`, .., `final_post`. The differences of neighbours are what the layers add.
    pub fn by_layer(&self) -> Result<LabelledTensor> {
        self.by(|cache| Ok((&cache.accumulated_resid(None, false)?).into()))
    }

    /// Embeddings, attentions and MLPs: axis `component`, with labels `embed`, `0_attn_out`, ..
    pub fn by_component(&self) -> Result<LabelledTensor> {
        self.by(|cache| Ok((&cache.decompose_resid(None)?).into()))
    }

    /// Every head: axes `layer`, `head`.
    pub fn by_head(&self) -> Result<LabelledTensor> {
        let heads = self.by(|cache| Ok((&cache.stack_head_results(None)?).into()))?;
        let Some((cache, ..)) = self.groups.first() else { return Err(nothing()) };
        let cfg = cache.model().cfg();
        let mut axes: Vec<Axis> = heads.axes()[..heads.axes().len() - 1].to_vec();
        axes.extend([Axis::numbered("layer", cfg.n_layers), Axis::numbered("head", cfg.n_heads)]);
        let dims: Vec<usize> = axes.iter().map(Axis::len).collect();
        LabelledTensor::new(self.title.clone(), &heads.reshape(dims)?, axes)
    }

    /// The `k` neurons that add or take away most (over a batch, in the mean), largest first: axis `neuron`, with labels
    /// `L1N27`. No vector of the stream is built for a neuron.
    ///
    /// # Errors
    /// Experts in the place of MLPs; k of 0.
    pub fn by_neuron(&self, k: usize) -> Result<LabelledTensor> {
        let all = self.by(|cache| cache.stack_neuron_results(None))?;
        let all = if all.axes().len() > 1 { all.mean_over("batch")? } else { all };
        let top = all.top_k(k);
        if top.is_empty() {
            return Err(Error::msg("no neuron was asked for; give a number of at least 1"));
        }
        let (labels, values): (Vec<Vec<String>>, Vec<f32>) = top.into_iter().unzip();
        let values = Tensor::new(values, &candle_core::Device::Cpu)?;
        LabelledTensor::new(self.title.clone(), &values, [Axis::new("neuron", labels.concat())])
    }

    /// The attributions of a decomposition: `component`, behind `batch` if there are several rows.
    fn by(&self, parts: impl Fn(&ActivationCache) -> Result<Decomposition>) -> Result<LabelledTensor> {
        let mut rows = Vec::new();
        let mut components = None;
        for (cache, right, wrong) in &self.groups {
            let attrs = cache.logit_attrs(parts(cache)?, right, wrong.clone())?;
            rows.push(if attrs.rank() == 1 { attrs.unsqueeze(0)? } else { attrs.t()? });
            components = Some(attrs.axes()[0].clone());
        }
        let Some(components) = components else { return Err(nothing()) };
        let all = Tensor::cat(&rows, 0)?;
        match all.dim(0)? {
            1 => LabelledTensor::new(self.title.clone(), &all.squeeze(0)?, [components]),
            n => LabelledTensor::new(self.title.clone(), &all, [Axis::numbered("batch", n), components]),
        }
    }
}

fn nothing() -> Error {
    Error::msg("the cache has no rows")
}

/// The cache at each row's last token, as few caches as may be.
fn at_last(
    cache: &ActivationCache,
    right: TokenChoice,
    wrong: InsteadOf,
) -> Result<Vec<(ActivationCache, TokenChoice, InsteadOf)>> {
    if !cache.has_pos_dim() {
        return Ok(vec![(cache.clone(), right, wrong)]);
    }
    let last = cache.tokens().map(|tokens| tokens.last_positions()).unwrap_or_default();
    if last.windows(2).all(|pair| pair[0] == pair[1]) {
        let at = match last.first() {
            Some(&last) => cache.at_pos(last)?,
            None => cache.at_pos(-1)?,
        };
        return Ok(vec![(at, right, wrong)]);
    }
    let row = |(row, last): (usize, usize)| {
        let at = cache.at_batch(row..row + 1)?.at_pos(last)?;
        let wrong = wrong.0.as_ref().map(|wrong| of_row(wrong, row, cache)).transpose()?;
        Ok((at, of_row(&right, row, cache)?, InsteadOf(wrong)))
    };
    last.into_iter().enumerate().map(row).collect()
}

/// The token of one row.
fn of_row(tokens: &TokenChoice, row: usize, cache: &ActivationCache) -> Result<TokenChoice> {
    match tokens {
        TokenChoice::PerRow(tokens) => match tokens.get(row) {
            Some(token) if tokens.len() == cache.tokens().map_or(0, |tokens| tokens.shape().0) => {
                Ok(TokenChoice::One(token.clone()))
            }
            _ => Err(Error::msg(format!(
                "{} tokens were given, and the batch has {} rows; give one, or one for each row",
                tokens.len(),
                cache.tokens().map_or(0, |tokens| tokens.shape().0)
            ))),
        },
        other => Ok(other.clone()),
    }
}
