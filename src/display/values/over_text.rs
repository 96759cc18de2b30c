//! How results over text look: statistics, examples as coloured tokens, losses.

use crate::Result;
use crate::analysis::LabelledTensor;
use crate::analysis::over_text::{
    Example, Histogram, RowLoss, Statistics, TextBatch, TextLoss, TopExamples, UnitExamples,
};
use crate::display::{
    BarChart, Bundle, Card, HistogramChart, LineChart, Scale, Show, Table, TokenBoxes, count, number,
};

/// Examples that are shown of a unit.
const SHOWN: usize = 10;
/// Tokens before and after that a table's cell shows.
const BESIDE: usize = 4;
/// Tokens that a text's hardest are shown in.
const HARDEST: usize = 10;

/// Its tokens, coloured by their values, the one that is meant in a thick frame.
impl Show for Example {
    fn bundle(&self) -> Bundle {
        self.boxes("value").bundle()
    }
}

impl Example {
    /// Its tokens as boxes, to be changed before they are shown; the name says what the values are.
    pub fn boxes(&self, value_name: &str) -> TokenBoxes {
        let title = format!(
            "{} at {}, row {}, position {}",
            number(self.value().into()),
            crate::display::escape::visible(&self.token()),
            self.row(),
            self.pos()
        );
        TokenBoxes::new(self.tokens())
            .values(value_name, self.values().iter().copied())
            .mark(self.marked())
            .title(title)
    }

    /// The tokens next to it on one line, itself in brackets.
    fn line(&self) -> String {
        let from = self.marked().saturating_sub(BESIDE);
        let tokens = self.tokens().into_iter().enumerate().skip(from).take(self.marked() - from + BESIDE + 1);
        tokens.map(|(i, token)| if i == self.marked() { format!("»{token}«") } else { token }).collect()
    }
}

/// The examples as coloured tokens on one scale, and how the values are spread.
impl Show for UnitExamples {
    fn bundle(&self) -> Bundle {
        let all: Vec<f32> = self.examples().iter().flat_map(|example| example.values().iter().copied()).collect();
        let boxes = |example: &Example| example.boxes("activation").scale(Scale::fit(&all)).bundle();
        let card = Card::new(self.name())
            .row("tokens", count(self.histogram().total() as usize))
            .row("mean", number(self.mean()))
            .row("above zero", format!("{} %", number(100.0 * self.fraction_positive())));
        let mut parts = vec![card.bundle()];
        parts.extend(self.examples().iter().take(SHOWN).map(boxes));
        parts.push(self.histogram().bundle());
        Bundle::stack(&parts)
    }
}

/// The examples of a unit, or a table of several units with the strongest of each.
impl Show for TopExamples {
    fn bundle(&self) -> Bundle {
        match self.units() {
            [one] => one.bundle(),
            _ => self.table().bundle(),
        }
    }
}

impl TopExamples {
    /// A row for each unit: its strongest example, mean, and how often it is above zero.
    pub fn table(&self) -> Table {
        let row = |unit: &UnitExamples| {
            let best = unit.examples().first();
            let strongest: Vec<String> = unit.examples().iter().take(5).map(Example::token).collect();
            [
                unit.unit().to_string(),
                best.map_or_else(String::new, |best| number(best.value().into())),
                number(unit.mean()),
                number(100.0 * unit.fraction_positive()),
                best.map_or_else(String::new, Example::line),
                strongest.join("|"),
            ]
        };
        Table::new(["unit", "strongest", "mean", "% above zero", "there", "strongest tokens"])
            .rows(self.units().iter().map(row))
            .title(format!("Top examples of {}", self.point()))
            .note(".unit(number)? shows one with its text")
    }
}

/// Bars of how often each size was seen.
impl Show for Histogram {
    fn bundle(&self) -> Bundle {
        self.chart().bundle()
    }
}

impl Histogram {
    /// Its bins as bars; the counts are on a logarithmic axis where they differ by far.
    pub fn chart(&self) -> HistogramChart {
        let bins = self.bins();
        let most = bins.iter().map(|bin| bin.2).max().unwrap_or(0);
        let title = format!("{} values", count(self.total() as usize));
        let chart = HistogramChart::from_bins(bins).title(title).x_title("value");
        if most > 1000 { chart.log_y() } else { chart }
    }
}

/// A table: each quantity, with the elements where it is lowest and highest.
impl Show for Statistics {
    fn bundle(&self) -> Bundle {
        self.table().bundle()
    }
}

impl Statistics {
    /// A row for each quantity: its lowest, median and highest value over the elements, and which those are.
    ///
    /// # Errors
    /// When a tensor can't be made.
    pub fn table(&self) -> Result<Table> {
        let quantities = [
            ("mean", self.mean()?),
            ("standard deviation", self.std()?),
            ("minimum", self.min()?),
            ("maximum", self.max()?),
            ("second moment", self.second_moment()?),
            ("part above zero", self.fraction_positive()?),
        ];
        let names: Vec<&str> = self.axes().iter().map(|axis| axis.name()).collect();
        let table = match names.is_empty() {
            true => Table::new(["", "value"]),
            false => Table::new(["", "lowest", "at", "median", "highest", "at"]),
        };
        let seen = self.count()?.values().into_iter().fold(0f32, f32::max);
        let table = quantities.iter().fold(table, |table, (name, values)| table.row(extremes(name, values)));
        let over = if names.is_empty() { String::new() } else { format!(" over {}", names.join(", ")) };
        Ok(table
            .title(format!("{}: {} numbers for each element{over}", self.point(), count(seen as usize)))
            .note("also as tensors: .mean()?, .variance()?, .std()?, .min()?, .max()?, .second_moment()?"))
    }
}

fn extremes(name: &str, values: &LabelledTensor) -> Vec<String> {
    let numbers = values.values();
    let mut order: Vec<usize> = (0..numbers.len()).filter(|&i| !numbers[i].is_nan()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let place = |mut at: usize| {
        let mut labels: Vec<String> = Vec::new();
        for axis in values.axes().iter().rev() {
            labels.insert(0, axis.labels()[at % axis.len()].clone());
            at /= axis.len();
        }
        labels.join(", ")
    };
    let shown = |i: usize| number(numbers[i].into());
    match (&order[..], values.axes().is_empty()) {
        ([], _) => vec![name.to_string()],
        ([only, ..], true) => vec![name.to_string(), shown(*only)],
        ([low, .., high], false) => {
            let middle = order[order.len() / 2];
            vec![name.to_string(), shown(*low), place(*low), shown(middle), shown(*high), place(*high)]
        }
        ([only], false) => vec![name.to_string(), shown(*only), place(*only)],
    }
}

/// Mean and perplexity, the loss by position, and the hardest tokens.
impl Show for TextLoss {
    fn bundle(&self) -> Bundle {
        let card = Card::new("Loss over text")
            .row("tokens", count(self.count()))
            .row("mean loss", format!("{} ± {} nats", number(self.mean()), number(self.standard_error())))
            .row("perplexity", number(self.perplexity()));
        let mut hardest = Table::new(["loss", "token", "there", "row", "position"]).title("Tokens of highest loss");
        for example in self.highest(HARDEST) {
            let value = number(example.value().into());
            hardest = hardest.row([
                value,
                example.token(),
                example.line(),
                example.row().to_string(),
                example.pos().to_string(),
            ]);
        }
        let first = self.row(0).map(|row| row.boxes("loss").title("The first row, coloured by loss"));
        Bundle::stack(&[card.bundle(), self.curve().bundle(), hardest.bundle(), first.bundle()])
    }
}

impl TextLoss {
    fn curve(&self) -> Result<LineChart> {
        let means = self.by_position()?.values();
        let points = means.iter().enumerate().map(|(i, &loss)| (i as f64 + 1.0, f64::from(loss)));
        let chart = LineChart::new().points("", points).title("Mean loss of the tokens at each position");
        Ok(chart.x_title("position").y_title("nats"))
    }

    /// The tokens of the vocabulary of highest mean loss, among those that came at least `min_count` times, as bars.
    ///
    /// # Errors
    /// When no token came so often.
    pub fn token_bars(&self, min_count: usize) -> Result<BarChart> {
        let tokens = self.by_token(min_count);
        if tokens.is_empty() {
            return Err(crate::Error::msg(format!("no token was predicted {min_count} times")));
        }
        let bars = BarChart::new(tokens.iter().map(|token| token.text.clone()), tokens.iter().map(|token| token.mean))?;
        Ok(bars.title(format!("Mean loss of tokens that came {min_count} times or more")).x_title("nats"))
    }
}

impl Show for RowLoss {
    fn bundle(&self) -> Bundle {
        let mean = self.losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / self.losses.len() as f64;
        Bundle::text(format!("{} tokens, mean loss {}", self.ids.len(), number(mean)))
    }
}

/// Its tokens.
impl Show for TextBatch {
    fn bundle(&self) -> Bundle {
        self.tokens().bundle()
    }
}
