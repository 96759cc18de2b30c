//! How a training looks: the loss over the steps.

use crate::display::{Bundle, LineChart, Show};
use crate::training::{Trainer, TrainingCurve};

/// As many points as a line needs; more steps are drawn as means.
const POINTS: usize = 300;

impl Show for TrainingCurve {
    fn bundle(&self) -> Bundle {
        match self.losses().is_empty() {
            true => Bundle::text("no step of training was taken yet"),
            false => self.chart().bundle(),
        }
    }
}

impl TrainingCurve {
    /// The picture that a notebook shows, to be changed before it is shown.
    pub fn chart(&self) -> LineChart {
        let steps = self.losses().len();
        let each = steps.div_ceil(POINTS).max(1);
        let points = self.means(each).into_iter().map(|(step, loss)| (step as f64, f64::from(loss)));
        let y_title = if each == 1 { "loss (nats)".to_string() } else { format!("loss (nats), mean of {each} steps") };
        let last = self.recent(20).map_or(String::new(), |loss| format!(", now {loss:.3}"));
        LineChart::new()
            .points("", points)
            .title(format!("training loss after {steps} steps{last}"))
            .x_title("step")
            .y_title(y_title)
            .markers(false)
    }
}

impl Show for Trainer {
    fn bundle(&self) -> Bundle {
        match self.steps_done() {
            0 => Bundle::text(format!("{self:?}")),
            _ => self.curve().bundle(),
        }
    }
}
