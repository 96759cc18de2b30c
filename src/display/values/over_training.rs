//! How a measurement over the training looks: lines over the checkpoints.

use crate::analysis::OverTraining;
use crate::analysis::over_checkpoints::Series;
use crate::display::{Bundle, LineChart, MAX_SERIES, Show};

impl Show for OverTraining {
    fn bundle(&self) -> Bundle {
        self.chart().bundle()
    }
}

impl OverTraining {
    /// The picture that a notebook shows, to be changed before it is shown: the numbers that change most, over the
    /// checkpoints on a logarithmic axis. Checkpoint 0 stands at the left, where half a step would be.
    pub fn chart(&self) -> LineChart {
        let mut series = self.series();
        let range = |series: &Series| {
            let (low, high) = series.values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            high - low
        };
        series.sort_by(|a, b| range(b).total_cmp(&range(a)));
        let axes = self.axes();
        let all = series.len();
        let first = self.steps().iter().copied().find(|step| *step > 0).unwrap_or(1) as f64;
        let x = |step: u64| if step == 0 { first / 2.0 } else { step as f64 };
        let mut chart = LineChart::new();
        for series in series.into_iter().take(MAX_SERIES) {
            let names: Vec<&str> = axes[1..].iter().map(|axis| axis.name()).collect();
            let name = match (names.as_slice(), series.labels.as_slice()) {
                (["layer", "head"], [layer, head]) => format!("L{layer}H{head}"),
                _ => series.labels.join(", "),
            };
            let points = self.steps().iter().zip(&series.values).map(|(step, value)| (x(*step), f64::from(*value)));
            chart = chart.points(name, points.collect::<Vec<_>>());
        }
        let most =
            if all > MAX_SERIES { format!(": the {MAX_SERIES} of {all} that change most") } else { String::new() };
        chart
            .title(format!("{}{most}", self.title()))
            .x_title(format!("{} (0 at the left)", axes[0].name()))
            .y_title(self.title())
            .log_x()
            .markers(true)
    }
}
