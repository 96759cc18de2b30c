//! How features look: a card for one, tables for what was found and for a sentence.

use crate::display::{BarChart, Bundle, Card, HistogramChart, Scale, Show, Table, TokenBoxes, count, number};
use crate::neuronpedia::{
    Export, FeatureExample, FeatureHistogram, FeatureId, FeatureInfo, FeatureTable, FoundFeatures, Label, Labels,
    SourceId,
};

/// Tokens that a card shows on either side.
const TOKENS: usize = 8;
/// Texts that a card shows.
const EXAMPLES: usize = 5;
/// Tokens of an example before and behind the one that is meant.
const BEFORE: usize = 16;
const BEHIND: usize = 8;
/// Labels of a feature that a card shows.
const LABELS: usize = 4;
/// Rows that a sentence's table shows: all, unless it is a book.
const ROWS: usize = 600;

/// A card: what it is said to mean, the link, the tokens that it raises and lowers, texts coloured by its activation, how
/// its activations are spread.
impl Show for FeatureInfo {
    fn bundle(&self) -> Bundle {
        let mut parts = vec![self.card().bundle()];
        if let Some(bars) = self.bars() {
            parts.push(bars.bundle());
        }
        let distinct = self.distinct();
        let values: Vec<f32> = distinct.iter().flat_map(|example| example.values.iter().copied()).collect();
        let scale = Scale::fit(&values);
        parts.extend(distinct.iter().map(|example| example.boxes_around(BEFORE, BEHIND).scale(scale).bundle()));
        if let Some(histogram) = &self.activation_histogram {
            let title = "How often it is active, by activation";
            parts.push(histogram.chart().title(title).x_title("activation").bundle());
        }
        Bundle::stack(&parts)
    }
}

impl FeatureInfo {
    /// The facts: labels, link, density, highest activation.
    pub fn card(&self) -> Card {
        let mut card = Card::new(self.label().unwrap_or("(no label)"));
        card = card.link("feature", self.id.to_string(), self.url());
        for label in self.labels.iter().take(LABELS) {
            card = card.row(by(label), label.text.clone());
        }
        if self.labels.len() > LABELS {
            card = card.row("labels", format!("{} more", self.labels.len() - LABELS));
        }
        if let Some(density) = self.density {
            card = card.row("density", format!("{} % of tokens", number(100.0 * density)));
        }
        if let Some(max) = self.max_activation {
            card = card.row("highest activation", number(max));
        }
        if let Some(hook) = &self.hook_name {
            card = card.row("hook point", hook.clone());
        }
        match (self.distinct().len(), self.examples.len()) {
            (_, 0) => card.note("no example texts"),
            (shown, all) if shown < all => card.note(format!("{shown} of {} example texts are shown", count(all))),
            _ => card,
        }
    }

    /// The tokens whose logits it raises most, to the right, and those that it lowers most, to the left; None without any.
    pub fn bars(&self) -> Option<BarChart> {
        let tokens = || self.positive.iter().take(TOKENS).chain(self.negative.iter().take(TOKENS));
        tokens().next()?;
        let bars = BarChart::new(tokens().map(|token| token.token.clone()), tokens().map(|token| token.value)).ok()?;
        Some(bars.title("Tokens that it makes likelier, and less likely").x_title("change of the logit"))
    }

    /// The strongest examples; the same text comes once.
    fn distinct(&self) -> Vec<&FeatureExample> {
        let mut distinct: Vec<&FeatureExample> = Vec::new();
        for example in &self.examples {
            if distinct.iter().all(|seen| seen.tokens != example.tokens) {
                distinct.push(example);
            }
            if distinct.len() == EXAMPLES {
                break;
            }
        }
        distinct
    }
}

/// Who says so: `gpt-4o-mini, oai_token-act-pair`.
fn by(label: &Label) -> String {
    let parts: Vec<&str> = [&label.model, &label.method].into_iter().flatten().map(String::as_str).collect();
    if parts.is_empty() { "label".to_string() } else { parts.join(", ") }
}

/// Its tokens, coloured by activation, the one that is meant in a thick frame.
impl Show for FeatureExample {
    fn bundle(&self) -> Bundle {
        self.boxes().bundle()
    }
}

impl FeatureExample {
    /// All of its tokens as boxes, to be changed before they are shown.
    pub fn boxes(&self) -> TokenBoxes {
        self.boxes_around(self.tokens.len(), self.tokens.len())
    }

    /// The tokens near to the one that is meant.
    fn boxes_around(&self, before: usize, behind: usize) -> TokenBoxes {
        // The fields are anybody's to change.
        let meant = self.max_token.min(self.tokens.len().saturating_sub(1));
        let from = meant.saturating_sub(before);
        let to = meant.saturating_add(behind).saturating_add(1).min(self.tokens.len());
        let token = self.tokens.get(meant).map_or("", String::as_str);
        TokenBoxes::new(self.tokens[from..to].iter().cloned())
            .values("activation", self.values.iter().copied().skip(from).take(to - from))
            .mark(meant - from)
            .title(format!("{} at {}", number(self.max().into()), crate::display::escape::visible(token)))
    }
}

/// Bars over the sizes.
impl Show for FeatureHistogram {
    fn bundle(&self) -> Bundle {
        self.chart().bundle()
    }
}

impl FeatureHistogram {
    /// A bar for each height, to be changed before it is shown.
    pub fn chart(&self) -> HistogramChart {
        HistogramChart::from_bins(self.bins())
    }

    /// Lower edge, upper edge and count of each bar: it ends half-way to its neighbours.
    fn bins(&self) -> Vec<(f64, f64, u64)> {
        let bars = self.values.iter().copied().zip(self.heights.iter().copied());
        let (mut bars, lost): (Vec<(f64, f64)>, Vec<_>) = bars.partition(|bar| bar.0.is_finite());
        bars.sort_by(|a, b| a.0.total_cmp(&b.0));
        let bin = |(i, &(middle, height)): (usize, &(f64, f64))| {
            let half = |other: Option<&(f64, f64)>| other.map(|other| (other.0 / 2.0 - middle / 2.0).abs());
            let (left, right) = (half(i.checked_sub(1).and_then(|i| bars.get(i))), half(bars.get(i + 1)));
            let (below, above) = (left.or(right).unwrap_or(0.5), right.or(left).unwrap_or(0.5));
            (middle - below, middle + above, height.round() as u64)
        };
        // What has no place is said below the picture.
        let lost = lost.into_iter().map(|(middle, height)| (middle, middle, height.round() as u64));
        bars.iter().enumerate().map(bin).chain(lost).collect()
    }
}

/// A row for each token and feature: activation, meaning, identifier as a link.
impl Show for FeatureTable {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl FeatureTable {
    /// The table that a notebook shows, to be changed before it is shown.
    pub fn table(&self) -> Table {
        let (mut rows, mut links): (Vec<[String; 5]>, Vec<Option<String>>) = (Vec::new(), Vec::new());
        for (i, token) in self.tokens.iter().enumerate() {
            let mut first = [i.to_string(), crate::display::escape::visible(token)];
            let features = self.strongest.get(i).map_or(&[][..], Vec::as_slice);
            for (index, activation) in features.iter().take(self.top) {
                // The token stands once, beside the strongest of its features.
                let [position, token] = std::mem::take(&mut first);
                let id = self.source.as_ref().map(|source| source.feature(*index));
                let name = id.as_ref().map_or_else(|| index.to_string(), FeatureId::to_string);
                let meaning = self.label(*index).unwrap_or_default().to_string();
                rows.push([position, token, number(f64::from(*activation)), meaning, name]);
                links.push(id.map(|id| id.url()));
            }
            let [position, token] = first;
            if !token.is_empty() {
                rows.push([position, token, String::new(), String::new(), String::new()]);
                links.push(None);
            }
        }
        let of = self.source.as_ref().map(|source| format!(" of {source}")).unwrap_or_default();
        let title = self.title.clone().unwrap_or_else(|| format!("Strongest features{of}"));
        let mut table = Table::new(["position", "token", "activation", "said to mean", "feature"])
            .rows(rows)
            .links(4, links)
            .title(title)
            .max_rows(ROWS);
        if self.strongest.len() != self.tokens.len() {
            let (features, tokens) = (self.strongest.len(), self.tokens.len());
            table = table.note(format!("features of {features} positions were given for {tokens} tokens"));
        }
        if self.labels.is_empty() && self.strongest.iter().any(|features| !features.is_empty()) {
            table = table.note("without labels: .labels(&labels) adds what the features are said to mean");
        }
        table
    }
}

/// A table: how near, what it is said to mean, how often it is active, identifier as a link.
impl Show for FoundFeatures {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl FoundFeatures {
    /// The table that a notebook shows, to be changed before it is shown.
    pub fn table(&self) -> Table {
        let real = |value: Option<f64>| value.map(number).unwrap_or_default();
        let rows = self.features.iter().map(|found| {
            let density = found.density.map(|density| 100.0 * density);
            [real(found.similarity), found.label.text.clone(), by(&found.label), real(density), found.id.to_string()]
        });
        Table::new(["similarity", "said to mean", "by", "% of tokens", "feature"])
            .rows(rows)
            .links(4, self.features.iter().map(|found| Some(found.id.url())))
            .title(format!("Features like '{}'", self.query))
    }
}

/// A table of the features and what they are said to mean.
impl Show for Labels {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl Labels {
    /// The table that a notebook shows, to be changed before it is shown.
    pub fn table(&self) -> Table {
        let of = self.source().map(|source| format!(" of {source}")).unwrap_or_default();
        Table::new(["feature", "said to mean"])
            .rows(self.iter().map(|(index, text)| [index.to_string(), text.to_string()]))
            .links(0, self.iter().map(|(index, _)| Some(self.source()?.feature(index).url())))
            .title(format!("Labels of {} features{of}", count(self.len())))
            .max_rows(20)
            .note(".get(number), .find(\"words\")")
    }
}

/// Where it is, and how many files it has.
impl Show for Export {
    fn bundle(&self) -> Bundle {
        Card::new("An export of Neuronpedia")
            .row("path", self.path().display().to_string())
            .row("files", count(self.files().len()))
            .note(".labels()?, .feature(number)?")
            .bundle()
    }
}

/// Its name, which is a link in a page.
impl Show for FeatureId {
    fn bundle(&self) -> Bundle {
        linked(&self.to_string(), &self.url())
    }
}

/// Its name, which is a link in a page.
impl Show for SourceId {
    fn bundle(&self) -> Bundle {
        linked(&self.to_string(), &self.url())
    }
}

fn linked(name: &str, url: &str) -> Bundle {
    let html = crate::display::page::html::frame(&crate::display::page::html::link(name, url));
    Bundle { html: Some(html), ..Bundle::text(format!("{name}  {url}")) }
}

impl Show for Label {
    fn bundle(&self) -> Bundle {
        format!("{} ({})", self.text, by(self)).bundle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_half_way_to_their_neighbours() {
        let bins = |values: &[f64], heights: &[f64]| {
            FeatureHistogram { values: values.to_vec(), heights: heights.to_vec() }.bins()
        };
        // The bars of a site are in order; anybody may change that.
        assert_eq!(bins(&[4.0, 1.0, 2.0], &[7.0, 5.0, 6.4]), [(0.5, 1.5, 5), (1.5, 3.0, 6), (3.0, 5.0, 7)]);
        assert_eq!(bins(&[2.0], &[3.0]), [(1.5, 2.5, 3)]);
        let odd = FeatureHistogram { values: vec![f64::NAN, f64::MAX, f64::MIN, 1.0], heights: vec![f64::NAN; 4] };
        assert!(odd.bundle().text.contains("bins are not drawn") && odd.bundle().png.is_some());
    }
}
