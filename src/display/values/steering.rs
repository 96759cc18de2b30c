//! How steering vectors, and what they do, look.

use crate::Result;
use crate::analysis::steering::{SteeredTexts, SteeringResult, SteeringVector, WeakestPushes};
use crate::display::{BarChart, Bundle, Card, LineChart, MAX_SERIES, Show, Table, number};

/// Texts of a side that a card names.
const NAMED: usize = 3;

/// A card: what it was made from, where it goes, how long it is.
impl Show for SteeringVector {
    fn bundle(&self) -> Bundle {
        let origin = self.origin();
        let points: Vec<&str> = self.points().map(|point| point.name()).collect();
        let lengths: Vec<String> =
            self.lengths().unwrap_or_default().iter().map(|length| number(f64::from(*length))).collect();
        let mut card = Card::new("Steering vector").row("made by", &origin.method);
        if !origin.model.is_empty() {
            card = card.row("with the model", &origin.model);
        }
        for (name, texts) in [("towards", &origin.positive), ("away from", &origin.negative)] {
            if !texts.is_empty() {
                let more = texts.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let shown: Vec<String> = texts.iter().take(NAMED).map(|text| format!("'{text}'")).collect();
                card = card.row(name, shown.join(", ") + &more);
            }
        }
        for (name, text) in &origin.notes {
            card = card.row(name, text);
        }
        card = match points.as_slice() {
            [only] => card.row("at", *only),
            [first, .., last] => card.row("at", format!("{} points, {first} to {last}", points.len())),
            [] => card,
        };
        card.row("length", lengths.join(", ")).bundle()
    }
}

/// The measure by layer and strength, and the price below it.
impl Show for SteeringResult {
    fn bundle(&self) -> Bundle {
        let mut parts = vec![match self.values().axes() {
            [_, _] => self.values().heatmap().map(|view| view.note(self.note())).bundle(),
            _ => self.lines().bundle(),
        }];
        if let (Some(price), [_, _]) = (self.price(), self.values().axes()) {
            let note = format!("{} without a push", number(self.price_base().unwrap_or_default().into()));
            parts.push(price.heatmap().map(|view| view.sequential().note(note)).bundle());
        }
        Bundle::stack(&parts)
    }
}

impl SteeringResult {
    /// The measure over the strength, a line for each layer (those that move most); and, where all were pushed together, the
    /// price beside it.
    ///
    /// # Errors
    /// When the values can't be read.
    pub fn lines(&self) -> Result<LineChart> {
        let values = self.values();
        let [.., strengths] = values.axes() else { return Ok(LineChart::new()) };
        let x: Vec<f64> = strengths.labels().iter().map(|label| label.parse().unwrap_or_default()).collect();
        let at = |y: Vec<f32>| x.iter().copied().zip(y.into_iter().map(f64::from)).collect::<Vec<_>>();
        let mut chart = LineChart::new().title(values.title()).x_title(strengths.name()).markers(true);
        let [layers, _] = values.axes() else {
            chart = chart.points(values.title(), at(values.values()));
            return Ok(match self.price() {
                Some(price) => chart.points(price.title(), at(price.values())),
                None => chart.y_title(values.title()),
            });
        };
        let rows: Vec<Vec<f32>> = values.to_vec2()?;
        let range =
            |row: &[f32]| row.iter().copied().fold(f32::MIN, f32::max) - row.iter().copied().fold(f32::MAX, f32::min);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| range(&rows[b]).total_cmp(&range(&rows[a])));
        order.truncate(MAX_SERIES);
        order.sort_unstable();
        for i in order {
            chart = chart.points(format!("layer {}", layers.labels()[i]), at(rows[i].clone()));
        }
        Ok(chart.y_title(values.title()))
    }

    /// The measure over the price, a line for each layer along its strengths: the best push is the one that goes furthest at
    /// the least loss.
    ///
    /// # Errors
    /// When no price was asked for.
    pub fn trade(&self) -> Result<LineChart> {
        let price =
            self.price().ok_or_else(|| crate::Error::msg("no price was measured; say .price(texts) before .run()"))?;
        let (values, layers) = (self.values(), &self.values().axes()[..self.values().axes().len() - 1]);
        let width = values.axes().last().map_or(1, |axis| axis.len());
        let (measures, prices) = (values.values(), price.values());
        let rows = measures.chunks(width).zip(prices.chunks(width));
        let mut chart = LineChart::new()
            .title(format!("{} over its price", values.title()))
            .x_title(price.title())
            .y_title(values.title())
            .markers(true);
        for (i, (measures, prices)) in rows.enumerate().take(MAX_SERIES) {
            let name = layers.first().map_or("all layers".to_string(), |axis| format!("layer {}", axis.labels()[i]));
            let points = prices.iter().zip(measures).map(|(price, value)| (f64::from(*price), f64::from(*value)));
            chart = chart.points(name, points.collect::<Vec<_>>());
        }
        Ok(chart)
    }

    fn note(&self) -> String {
        format!("{} without a push", number(self.base().into()))
    }
}

/// Bars: how strong the weakest push is that flips the answer, by layer; and a table with the price.
impl Show for WeakestPushes {
    fn bundle(&self) -> Bundle {
        Bundle::stack(&[self.bars().bundle(), self.table().bundle()])
    }
}

impl WeakestPushes {
    /// The weakest push as a part of the activation's length, by layer; layers that don't flip the answer have no bar.
    ///
    /// # Errors
    /// When there is nothing to show.
    pub fn bars(&self) -> Result<BarChart> {
        let labels = self.pushes().iter().map(|push| push.layer.clone());
        let parts = self.pushes().iter().map(|push| push.part.unwrap_or(0.0));
        Ok(BarChart::new(labels, parts)?.title(self.title()).x_title("part of the activation's length, by layer"))
    }

    fn title(&self) -> String {
        match self.deciding() {
            Some(push) => format!("The weakest push that flips it: layer {}", push.layer),
            None => "No push flips it".to_string(),
        }
    }

    fn table(&self) -> Table {
        let cell = |value: Option<f64>| value.map_or("-".to_string(), number);
        let mut headers = vec!["layer", "strength", "part of its length", "measure"];
        if self.price_base().is_some() {
            headers.push("loss on other text");
        }
        let mut table = Table::new(headers);
        for push in self.pushes() {
            let mut cells =
                vec![push.layer.clone(), cell(push.strength), cell(push.part), cell(push.measure.map(f64::from))];
            if self.price_base().is_some() {
                cells.push(cell(push.price.map(f64::from)));
            }
            table = table.row(cells);
        }
        let mut note = format!(
            "the {} is {} without a push, and was to cross {}; strengths up to {} were tried",
            self.metric,
            number(self.base().into()),
            number(self.threshold.into()),
            number(self.most)
        );
        if let Some(loss) = self.price_base() {
            note += &format!("; the loss on other text is {} without a push", number(loss.into()));
        }
        table.note(note)
    }
}

/// A table: strength, what was written, its sentiment.
impl Show for SteeredTexts {
    fn bundle(&self) -> Bundle {
        let differ = |of: fn(&crate::analysis::steering::SteeredText) -> &str| {
            self.texts().iter().any(|text| of(text) != of(&self.texts()[0]))
        };
        let (layers, prompts) = (differ(|text| &text.layer), differ(|text| &text.prompt));
        let mut headers = Vec::new();
        headers.extend(layers.then_some("layer"));
        headers.push("strength");
        headers.extend(prompts.then_some("prompt"));
        headers.push("continuation");
        headers.extend(self.words().map(|_| "sentiment"));
        let mut table = Table::new(headers);
        if let (false, Some(text)) = (prompts, self.texts().first()) {
            table = table.title(format!("After '{}'", text.prompt));
        }
        for text in self.texts() {
            let mut cells = Vec::new();
            cells.extend(layers.then(|| text.layer.clone()));
            cells.push(number(text.strength));
            cells.extend(prompts.then(|| text.prompt.clone()));
            cells.push(text.continuation.clone());
            cells.extend(self.words().map(|words| format!("{:+.2}", words.score(&text.continuation))));
            table = table.row(cells);
        }
        table.bundle()
    }
}
