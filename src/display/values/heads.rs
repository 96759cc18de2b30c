//! How the scores of attention heads look: a table of all heads, and a heatmap for each score.

use crate::Result;
use crate::analysis::{HeadAttention, HeadScore, HeadSummary};
use crate::display::{Bundle, Heatmap, Show, Table, number};
use crate::model::LayerWeights;

/// The table, and below it a heatmap of each score.
impl Show for HeadSummary {
    fn bundle(&self) -> Bundle {
        let maps = HeadScore::ALL.into_iter().filter(|&score| self.is_measured(score));
        let views = std::iter::once(self.table().bundle()).chain(maps.map(|score| self.heatmap(score).bundle()));
        Bundle::stack(&views.collect::<Vec<_>>())
    }
}

/// What it is over.
impl Show for HeadAttention {
    fn bundle(&self) -> Bundle {
        let lengths: Vec<String> = self.lengths().iter().map(usize::to_string).collect();
        Bundle::text(format!(
            "HeadAttention of layers {:?}, {} heads each, over rows of {} tokens",
            self.layers(),
            self.n_heads(),
            lengths.join(", ")
        ))
    }
}

/// Which layers these are.
impl Show for LayerWeights {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("LayerWeights of layers {:?}", self.layers()))
    }
}

impl HeadSummary {
    /// A row for each head, in order.
    pub fn table(&self) -> Table {
        let columns = || HeadScore::ALL.into_iter().filter(|&score| self.is_measured(score));
        let headers = ["head"].into_iter().chain(columns().map(HeadScore::name)).chain(["most likely"]);
        let mut table = Table::new(headers).title("Attention heads");
        for head in self.heads() {
            let scores = columns().map(|score| match head.score(score) {
                value if value.is_nan() => "–".to_string(),
                value => number(f64::from((value * 1000.0).round() / 1000.0)),
            });
            let cells = std::iter::once(head.label()).chain(scores).chain([head.kind.name().to_string()]);
            table = table.row(cells.collect::<Vec<_>>());
        }
        table.note(format!("Attention on {}; entropy in nats", self.tokens()))
    }

    /// One score as a heatmap of layers and heads.
    ///
    /// # Errors
    /// None in practice: every score has a layer and a head axis.
    pub fn heatmap(&self, score: HeadScore) -> Result<Heatmap> {
        self.score(score).heatmap()
    }

    fn is_measured(&self, score: HeadScore) -> bool {
        self.score(score).values().iter().any(|value| !value.is_nan())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{head_summary, head_summary_on};
    use crate::model::HookedTransformer;

    #[test]
    fn a_summary_is_a_table_and_a_heatmap_for_each_score() {
        let model = HookedTransformer::from_pretrained("tiny").unwrap();
        let summary = head_summary(&model).unwrap();
        let bundle = summary.bundle();
        for text in ["L0H0", "previous token", "copying (OV)", "random tokens, repeated"] {
            assert!(bundle.text.contains(text), "{text} is missing in {}", bundle.text);
        }
        assert!(bundle.png.is_some() && bundle.html.is_some() && summary.svg().is_some());
        // No token occurs twice, so nothing is said of duplicates.
        let text = head_summary_on(&model, "John gave").unwrap().bundle().text;
        assert!(!text.contains("duplicate") && text.contains("entropy"), "{text}");

        let heads = HeadAttention::run(&model, "John gave a book").unwrap().bundle().text;
        assert!(heads.contains("over rows of 5 tokens"), "{heads}");
        assert_eq!(model.layers([1]).unwrap().bundle().text, "LayerWeights of layers [1]");
    }
}
