//! How a learned subspace looks.

use crate::analysis::{LearnedSubspace, Subspace};
use crate::display::{Bundle, LineChart, Show};

/// The loss at each step.
impl Show for LearnedSubspace {
    fn bundle(&self) -> Bundle {
        let subspace = self.subspace();
        let note = format!(
            "{} dimensions of {}; interchange accuracy {:.0} % on the pairs that it was learned from",
            subspace.dim(),
            subspace.width(),
            100.0 * self.accuracy()
        );
        Bundle::stack(&[self.curve().bundle(), Bundle::text(note)])
    }
}

impl LearnedSubspace {
    /// The loss at each step as a curve.
    pub fn curve(&self) -> LineChart {
        LineChart::new()
            .series("loss", self.losses().iter().copied())
            .title("Learning the subspace")
            .x_title("step")
            .y_title(self.objective())
    }
}

impl Show for Subspace {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("Subspace of {} dimensions of {}", self.dim(), self.width()))
    }
}
