//! How probes look.

use crate::Result;
use crate::analysis::probe::{LayerProbes, Probe};
use crate::display::{Bundle, Card, LineChart, Show, number};

/// Classes beyond this many have no table of confusions.
const CONFUSED: usize = 12;

/// Scores beside the control's, and for several classes which is taken for which.
impl Show for Probe {
    fn bundle(&self) -> Bundle {
        let card = self.card().bundle();
        match (3..=CONFUSED).contains(&self.classes().len()) {
            true => Bundle::stack(&[card, self.confusion().bundle()]),
            false => card,
        }
    }
}

impl Probe {
    fn card(&self) -> Card {
        let (train, test) = self.rows();
        let score = if self.is_classifier() { "accuracy" } else { "R²" };
        let error = self.standard_error().map(|error| format!(" ± {}", number(error))).unwrap_or_default();
        let mut card = Card::new(if self.is_classifier() { "Logistic probe" } else { "Ridge probe" })
            .row("features", self.n_features().to_string())
            .row("rows", format!("{train} trained on, {test} held out"));
        if self.is_classifier() {
            card = card.row("classes", self.classes().join(", "));
        }
        card = card
            .row(format!("{score}, held out"), format!("{}{error}", number(self.score())))
            .row(format!("{score}, training"), number(self.train_score()))
            .row(format!("{score}, best guess without features"), number(self.baseline()));
        if let (Some(control), Some(selectivity)) = (self.control(), self.selectivity()) {
            card =
                card.row(format!("{score}, shuffled labels"), number(control)).row("selectivity", number(selectivity));
        }
        match self.convergence() {
            (0, _) => card,
            (steps, gradient) => card.note(format!("converged in {steps} steps; the gradient is {gradient:.0e} there")),
        }
    }
}

/// Lines over the points: held out, shuffled labels, best guess.
impl Show for LayerProbes {
    fn bundle(&self) -> Bundle {
        self.chart().bundle()
    }
}

impl LayerProbes {
    /// The scores as lines over the layers (over the points in order, where a layer has several).
    ///
    /// # Errors
    /// When a tensor can't be made.
    pub fn chart(&self) -> Result<LineChart> {
        let scores = self.scores()?;
        let layers: Option<Vec<usize>> = self.probes().iter().map(|(point, _)| point.layer()).collect();
        let layers = layers.filter(|layers| layers.windows(2).all(|pair| pair[0] < pair[1]));
        let of = |i: usize| layers.as_ref().map_or(i, |layers| layers[i]) as f64;
        let width = self.probes().len().max(1);
        let values = scores.values();
        let mut chart = LineChart::new();
        for (name, line) in scores.axes()[0].labels().iter().zip(values.chunks(width)) {
            if line.iter().any(|value| !value.is_nan()) {
                chart = chart.points(name.clone(), line.iter().enumerate().map(|(i, &value)| (of(i), value.into())));
            }
        }
        let what = if self.probes().iter().any(|(_, probe)| probe.is_classifier()) { "accuracy" } else { "R²" };
        let names: Vec<&str> = self.probes().iter().map(|(point, _)| point.short_name()).collect();
        let title = match names.first() {
            Some(first) if names.iter().all(|name| name == first) => format!("Probes on {first}"),
            _ => "Probes".to_string(),
        };
        Ok(chart.title(title).x_title(if layers.is_some() { "layer" } else { "point" }).y_title(what))
    }
}
