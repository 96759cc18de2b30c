//! One feature, as its dashboard.

use super::{LogitEffects, Sae};
use crate::analysis::OverText;
use crate::analysis::over_text::{Example, Histogram, UnitExamples};
use crate::{Error, Result};

/// Examples on a card.
const EXAMPLES: usize = 8;

/// What is known of one feature: which tokens it makes likelier, how often it is active, and where it is strongest. Made by
/// [`Sae::card`], out of one's own model and text.
#[derive(Clone, Debug)]
pub struct FeatureCard {
    feature: usize,
    sae: String,
    neuronpedia_id: Option<String>,
    effects: Option<LogitEffects>,
    examples: UnitExamples,
}

impl Sae {
    /// A feature's dashboard: the tokens that it makes likelier and less likely, how often it is active in a text, how strong,
    /// and the places where it is strongest, in one pass over the text.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let text = model.over(["John gave a book to Mary.", "Mary went home."]).one_row_each().skip_bos();
    /// # let options = SaeTrainOptions::new().d_sae(64).k(4).steps(1).progress(&Progress::quiet());
    /// # let sae = Sae::train(&text, resid_post(1), &options)?;
    /// let card = sae.card(&text, 17)?;
    /// println!("active at {:.1} % of the tokens", 100.0 * card.density());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As those of [`top_examples`](Self::top_examples). An activation without a direct effect on the logits is none: the card
    /// then has no tokens.
    pub fn card(&self, text: &OverText, feature: usize) -> Result<FeatureCard> {
        let examples = self.top_examples(text, feature, EXAMPLES)?.unit(feature)?.clone();
        if examples.histogram().total() == 0 {
            return Err(Error::msg("no token of the text counts, so there is nothing to show"));
        }
        Ok(FeatureCard {
            feature,
            sae: format!("{self:?}"),
            neuronpedia_id: self.neuronpedia_id().map(str::to_string),
            effects: self.logit_effects(text.model(), feature).ok(),
            examples,
        })
    }
}

impl FeatureCard {
    /// Which feature.
    pub fn feature(&self) -> usize {
        self.feature
    }

    /// The SAE that it is of, in words.
    pub fn sae(&self) -> &str {
        &self.sae
    }

    /// Where the feature is on Neuronpedia, as in "gpt2-small/8-res-jb/123", if the SAE's files say so.
    pub fn neuronpedia(&self) -> Option<String> {
        self.neuronpedia_id.as_ref().map(|id| format!("{id}/{}", self.feature))
    }

    /// What it adds directly to the logits; none for an activation that is not added to the stream.
    pub fn logit_effects(&self) -> Option<&LogitEffects> {
        self.effects.as_ref()
    }

    /// At which part of the text's tokens it is active.
    pub fn density(&self) -> f64 {
        self.examples.fraction_positive()
    }

    /// How many tokens the text has.
    pub fn tokens(&self) -> usize {
        self.examples.histogram().total() as usize
    }

    /// Its largest activation.
    pub fn largest(&self) -> f32 {
        self.examples().first().map_or(0.0, Example::value)
    }

    /// How often activations of each size were seen, zeros included.
    pub fn histogram(&self) -> &Histogram {
        self.examples.histogram()
    }

    /// The places where it is strongest, strongest first; only those where it is active.
    pub fn examples(&self) -> &[Example] {
        let examples = self.examples.examples();
        &examples[..examples.iter().take_while(|example| example.value() > 0.0).count()]
    }
}
