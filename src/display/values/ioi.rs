//! How indirect objects and induction look.

use crate::analysis::InductionLoss;
use crate::analysis::ioi::{IoiDataset, IoiOrder, IoiPart, IoiPrompt, IoiScore};
use crate::display::{Bundle, Card, LineChart, Show, Table, number};

/// A table of the prompts, their counterparts and answers.
impl Show for IoiDataset {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl IoiDataset {
    /// A row for each prompt.
    pub fn table(&self) -> Table {
        let row = |prompt: &IoiPrompt| {
            let order = if prompt.order == IoiOrder::Abba { "ABBA" } else { "BABA" };
            [prompt.text.as_str(), &prompt.io, &prompt.s, order, &prompt.corrupted].map(str::to_string)
        };
        let (prompts, positions) = self.tokens().shape();
        Table::new(["prompt", "IO", "S", "order", "corrupted"])
            .rows(self.prompts().iter().map(row))
            .title(format!("{prompts} prompts of up to {positions} tokens"))
            .max_rows(12)
    }
}

/// A prompt and its answer.
impl Show for IoiPrompt {
    fn bundle(&self) -> Bundle {
        let places = self.positions;
        Card::new(self.text.clone())
            .row("answer", format!("{} (not {})", self.io, self.s))
            .row("corrupted", self.corrupted.clone())
            .row(
                "positions",
                format!(
                    "IO {}, S1 {}, S1+1 {}, S2 {}, END {}",
                    places.io, places.s1, places.s1_plus_1, places.s2, places.end
                ),
            )
            .bundle()
    }
}

/// Accuracy and mean lead, in all and by template and order.
impl Show for IoiScore {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl IoiScore {
    /// A row for all prompts, for each order, and for each template.
    pub fn table(&self) -> Table {
        let all = IoiPart {
            name: "all".to_string(),
            count: self.logit_diffs().len(),
            accuracy: self.accuracy(),
            logit_diff: self.mean_logit_diff(),
        };
        let parts = [vec![all], self.by_order(), self.by_template()].concat();
        let row = |part: &IoiPart| {
            [part.name.clone(), part.count.to_string(), number(part.accuracy), number(part.logit_diff)]
        };
        Table::new(["prompts", "count", "accuracy", "logit difference"])
            .rows(parts.iter().map(row))
            .title("Indirect object identification")
            .note("accuracy: the indirect object's logit is above the subject's; the difference is by how much, on average")
    }
}

/// The loss at each position, and its mean over both halves.
impl Show for InductionLoss {
    fn bundle(&self) -> Bundle {
        let card = Card::new("Induction loss")
            .row(
                "random tokens",
                format!("{}, then the same again from position {}", self.length(), self.second_begins_at()),
            )
            .row("first time", format!("{} nats", number(self.first())))
            .row("second time", format!("{} nats", number(self.second())));
        Bundle::stack(&[card.bundle(), self.chart().bundle()])
    }
}

impl InductionLoss {
    /// The loss at each position as two curves, one for each half.
    pub fn chart(&self) -> LineChart {
        let points: Vec<(f64, f64)> =
            self.by_position().values().iter().enumerate().map(|(i, &loss)| (i as f64 + 1.0, loss.into())).collect();
        // Point i is of position i + 1.
        let (first, second) = points.split_at((self.second_begins_at() - 1).min(points.len()));
        LineChart::new()
            .points("first time", first.iter().copied())
            .points("second time", second.iter().copied())
            .title("Loss of random tokens that are repeated")
            .x_title("position")
            .y_title("nats")
    }
}
