//! How sparse autoencoders, and what they say of a text, look.

use crate::Result;
use crate::display::{BarChart, Bundle, Card, Heatmap, LineChart, Scale, Show, Table, TokenBoxes, count, number};
use crate::sae::{
    ActiveFeature, FeatureActivations, FeatureCard, FeatureStatistics, InputNorm, LogitEffects, Sae, SaeScores,
};

/// Features that a picture has.
const PICTURED: usize = 20;
/// Features that a table names for each token.
const NAMED: usize = 5;
/// Tokens that are named on either side.
const TOKENS: usize = 10;
/// Points of a curve.
const POINTS: usize = 300;
/// Bars of a histogram of densities, by powers of ten.
const DECADES: i32 = 6;

/// What it is.
impl Show for Sae {
    fn bundle(&self) -> Bundle {
        self.facts().bundle()
    }
}

impl Sae {
    fn facts(&self) -> Card {
        let name = |point: Result<crate::hooks::HookPoint>| {
            point.map_or_else(|_| "unknown; say so with .at(..)".to_string(), |point| point.name().to_string())
        };
        let mut card = Card::new(format!("{self:?}")).row("features", count(self.d_sae()));
        card = match self.is_transcoder() {
            false => card.row("activation", name(self.hook_in())),
            true => card.row("input", name(self.hook_in())).row("output", name(self.hook_out())),
        };
        card = card.row("width", self.d_in().to_string());
        let facts = [("model", self.model_name()), ("Neuronpedia", self.neuronpedia_id())];
        for (what, fact) in facts {
            card = fact.into_iter().fold(card, |card, fact| card.row(what, fact));
        }
        match self.input_norm() {
            InputNorm::UnknownScale => card.note("The scale of its inputs is not known; give it with .input_scale(..)"),
            _ => card,
        }
    }
}

/// The strongest features of the first prompt by token, and the tokens with theirs.
impl Show for FeatureActivations {
    fn bundle(&self) -> Bundle {
        Bundle::stack(&[self.heatmap().bundle(), self.table(0).bundle()])
    }
}

impl FeatureActivations {
    /// The strongest features of the first prompt, features by tokens, to be changed before it is shown.
    ///
    /// # Errors
    /// Where no feature is active.
    pub fn heatmap(&self) -> Result<Heatmap> {
        let top = self.top_features_of_row(0, PICTURED);
        if top.is_empty() {
            return Err(crate::Error::msg("no feature is active in the first prompt"));
        }
        let width = self.shape().1;
        let mut values = vec![0f32; top.len() * width];
        for pos in 0..width {
            for active in self.at(0, pos)? {
                if let Some(place) = top.iter().position(|feature| feature.feature == active.feature) {
                    values[place * width + pos] = active.value;
                }
            }
        }
        Ok(Heatmap::new(values, top.len(), width)?
            .title(format!("The strongest {}", self.title()))
            .y_labels(top.iter().map(|active| active.feature.to_string()))
            .x_labels(self.texts(0))
            .y_title("feature")
            .x_title("token")
            .sequential())
    }

    /// The strongest features of each token of a row: a table.
    pub fn table(&self, row: usize) -> Table {
        let tokens = self.texts(row);
        let shown = |active: &ActiveFeature| format!("{} ({})", active.feature, number(active.value.into()));
        let top = self.top_per_token(NAMED);
        let by_token = top.get(row).into_iter().flatten().enumerate();
        let rows = by_token.map(|(pos, active)| {
            let count = self.at(row, pos).map_or(0, |active| active.len());
            let named: Vec<String> = active.iter().map(shown).collect();
            [pos.to_string(), tokens[pos].clone(), count.to_string(), named.join(", ")]
        });
        Table::new(["position", "token", "active", "strongest features (activation)"])
            .rows(rows)
            .title(format!("{} features a token in the mean", number(self.l0())))
            .note(".of(feature)? has one feature's values, .boxes(feature, row)? shows them on the text")
    }

    /// A row's tokens, coloured by the activations of a feature.
    ///
    /// # Errors
    /// When there is no such feature or row.
    pub fn boxes(&self, feature: usize, row: usize) -> Result<TokenBoxes> {
        let values = self.of(feature)?;
        let values = match self.shape().0 {
            1 if row == 0 => values.values(),
            _ => values.at("batch", row as i64)?.values(),
        };
        Ok(TokenBoxes::new(self.texts(row))
            .values("activation", values.iter().copied())
            .scale(Scale::sequential(&values))
            .title(format!("Feature {feature}")))
    }
}

/// The tokens that rise most and those that fall most.
impl Show for LogitEffects {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl LogitEffects {
    /// The tokens that rise most beside those that fall most.
    pub fn table(&self) -> Table {
        let rows = self
            .top(TOKENS)
            .into_iter()
            .zip(self.bottom(TOKENS))
            .map(|(up, down)| [up.0, format!("{:+.3}", up.2), down.0, format!("{:+.3}", down.2)]);
        Table::new(["rises", "by", "falls", "by"])
            .rows(rows)
            .title(format!("Feature {}: direct effect on the logits", self.feature()))
    }
}

/// How many features are active how often.
impl Show for FeatureStatistics {
    fn bundle(&self) -> Bundle {
        self.chart().bundle()
    }
}

impl FeatureStatistics {
    /// How many features are active how often, by powers of ten.
    pub fn chart(&self) -> Result<BarChart> {
        let densities = self.densities()?.values();
        let mut bars: Vec<(String, usize)> = vec![("never".to_string(), self.dead().len())];
        for decade in (0..DECADES).rev() {
            let (low, high) = (10f32.powi(-decade - 1), 10f32.powi(-decade));
            let is_first = decade == DECADES - 1;
            let inside = |d: &&f32| **d > 0.0 && (**d > low || is_first) && **d <= high;
            let n = densities.iter().filter(inside).count();
            if n > 0 || bars.len() > 1 {
                bars.push((format!("up to {} %", number(f64::from(high) * 100.0)), n));
            }
        }
        let (labels, counts): (Vec<String>, Vec<usize>) = bars.into_iter().unzip();
        Ok(BarChart::new(labels, counts.into_iter().map(|n| n as f64))?
            .title(format!("At which part of {} tokens features are active", count(self.tokens())))
            .x_title("features"))
    }
}

/// The scores in a table, and how often the features are active.
impl Show for SaeScores {
    fn bundle(&self) -> Bundle {
        Bundle::stack(&[self.facts().bundle(), self.features.bundle()])
    }
}

impl SaeScores {
    fn facts(&self) -> Card {
        let percent = |part: f64| format!("{:.1} %", 100.0 * part);
        Card::new(format!("An SAE over {} tokens", count(self.tokens)))
            .row("L0 (features a token)", number(self.l0))
            .row("variance explained", percent(self.variance_explained))
            .row("squared error a token", number(self.mse))
            .row("cosine", format!("{:.4}", self.cosine))
            .row("dead features", format!("{} of {}", count(self.dead), count(self.d_sae)))
            .row("loss", format!("{:.4} nats", self.loss))
            .row("loss, spliced in", format!("{:.4} nats", self.loss_spliced))
            .row("loss, zeros instead", format!("{:.4} nats", self.loss_zero))
            .row("loss, the mean instead", format!("{:.4} nats", self.loss_mean))
            .row("loss recovered (from zeros)", percent(self.loss_recovered()))
            .row("loss recovered (from the mean)", percent(self.loss_recovered_from_mean()))
    }
}

/// The feature's dashboard.
impl Show for FeatureCard {
    fn bundle(&self) -> Bundle {
        let mut facts = Card::new(format!("Feature {} of {}", self.feature(), self.sae()))
            .row("active at", format!("{} % of {} tokens", number(100.0 * self.density()), count(self.tokens())))
            .row("largest activation", number(self.largest().into()));
        if let Some(place) = self.neuronpedia() {
            facts = facts.row("Neuronpedia", place);
        }
        let mut parts = vec![facts.bundle()];
        parts.extend(self.logit_effects().map(|effects| effects.bundle()));
        parts.push(self.histogram().bundle());
        let all: Vec<f32> = self.examples().iter().flat_map(|example| example.values().iter().copied()).collect();
        let boxes = self.examples().iter().map(|example| example.boxes("activation").scale(Scale::sequential(&all)));
        parts.extend(boxes.map(|boxes| boxes.bundle()));
        Bundle::stack(&parts)
    }
}

/// The losses of an SAE's training as a curve.
pub(crate) fn sae_losses(losses: &[f32]) -> LineChart {
    let each = losses.len().div_ceil(POINTS).max(1);
    let mean = |(i, part): (usize, &[f32])| {
        let mean = part.iter().sum::<f32>() / part.len() as f32;
        ((i * each + part.len()) as f64, f64::from(mean))
    };
    let now = losses.last().map_or(String::new(), |loss| format!(", now {loss:.4}"));
    LineChart::new()
        .points("", losses.chunks(each).enumerate().map(mean))
        .title(format!("SAE after {} steps{now}", losses.len()))
        .x_title("step")
        .y_title("variance not explained")
        .markers(false)
}

impl Sae {
    /// The loss of each step of its training as a curve; empty where it was loaded.
    pub fn training_curve(&self) -> LineChart {
        sae_losses(self.training_losses())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::points::resid_post;
    use crate::model::HookedTransformer;
    use crate::progress::Progress;
    use crate::sae::SaeTrainOptions;

    #[test]
    fn everything_has_a_look() {
        let model = HookedTransformer::from_pretrained("tiny").unwrap();
        let text = model.over(["John gave a book to Mary.", "Mary went home."]).one_row_each().skip_bos();
        let options = SaeTrainOptions::new().d_sae(64).k(4).steps(5).progress(&Progress::quiet());
        let sae = Sae::train(&text, resid_post(1), &options).unwrap();
        assert!(sae.bundle().text.contains("blocks.1.hook_resid_post"), "{}", sae.bundle().text);
        assert!(sae.training_curve().svg().is_some());
        let (_, cache) = model.run_with_cache("John gave a book to Mary.").unwrap();
        let features = sae.features(&cache).unwrap();
        let text_of = features.bundle().text;
        assert!(text_of.contains("Mary") && text_of.contains("4 features a token in the mean"), "{text_of}");
        let strongest = features.top_features(1)[0];
        assert!(features.boxes(strongest.feature, 0).unwrap().bundle().png.is_some());
        assert!(features.boxes(64, 0).is_err() && features.boxes(0, 1).is_err());
        let effects = sae.logit_effects(&model, 3).unwrap();
        assert!(effects.bundle().text.contains("Feature 3"));
        let scores = sae.evaluate(&text).unwrap();
        let shown = scores.bundle().text;
        assert!(shown.contains("dead features") && shown.contains("never"), "{shown}");
        let card = sae.card(&text, strongest.feature).unwrap();
        let shown = card.bundle();
        assert!(shown.text.contains("rises") && shown.text.contains("active at") && shown.png.is_some());
        assert!(!card.examples().is_empty() && card.density() > 0.0);
    }
}
