//! How a sweep's result looks.

use super::{Bundle, Show, number};
use crate::Result;
use crate::analysis::{LabelledTensor, SweepResult};

/// The restored part where the changes come from another run, else the change of the metric: red where it falls, blue
/// where it rises.
impl Show for SweepResult {
    fn bundle(&self) -> Bundle {
        let note = match self.source() {
            Some(source) => {
                format!("0 is the base run ({}), 1 the source ({})", number(self.base().into()), number(source.into()))
            }
            None => format!("the run without a change has {}", number(self.base().into())),
        };
        match self.shown() {
            Ok(shown) => match shown.axes().len() {
                2 => shown.heatmap().map(|view| view.diverging().note(note)).bundle(),
                3.. => Bundle::stack(&[shown.facets().map(|view| view.diverging()).bundle(), Bundle::text(note)]),
                _ => Bundle::stack(&[shown.bundle(), Bundle::text(note)]),
            },
            Err(error) => Err::<(), _>(error).bundle(),
        }
    }

    fn svg(&self) -> Option<String> {
        self.shown().ok().and_then(|shown| shown.svg())
    }
}

impl SweepResult {
    fn shown(&self) -> Result<LabelledTensor> {
        self.normalized().or_else(|_| self.change())
    }
}
