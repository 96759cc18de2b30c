//! How a sweep's result looks.

use crate::Result;
use crate::analysis::{LabelledTensor, SweepResult};
use crate::display::{Bundle, Scale, Show, number};

/// A restored part up to which no colour is full.
const PALE: f32 = 0.05;

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
                2 => shown.heatmap().map(|view| view.scale(self.scale(&shown)).note(note)).bundle(),
                3.. => {
                    let panels = shown.facets().map(|view| view.scale(self.scale(&shown)));
                    Bundle::stack(&[panels.bundle(), Bundle::text(note)])
                }
                _ => Bundle::stack(&[shown.bundle(), Bundle::text(note)]),
            },
            Err(error) => Err::<(), _>(error).bundle(),
        }
    }
}

impl SweepResult {
    fn shown(&self) -> Result<LabelledTensor> {
        self.normalized().or_else(|_| self.change())
    }

    /// Colours from the largest value to its negative; parts of a whole that are next to nothing stay pale.
    fn scale(&self, shown: &LabelledTensor) -> Scale {
        match Scale::diverging(&shown.values()) {
            Scale::Diverging { limit } if self.source().is_some() => Scale::Diverging { limit: limit.max(PALE) },
            scale => scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Metric;
    use crate::model::HookedTransformer;

    #[test]
    fn next_to_nothing_looks_like_nothing() {
        let model = HookedTransformer::from_pretrained("tiny").unwrap();
        let (_, cache) = model.run_with_cache("John gave a book to Mary.").unwrap();
        let metric = Metric::from_fn("the first logit", |logits| Ok(logits.at(0, -1)?.to_vec1::<f32>()?[0]));
        let sweep = |prompt: &str| model.sweep(prompt).at("q").by(["layer", "head"]).measure(&metric);
        let patched = sweep("John gave a book to Anna.").patch_from(&cache).run().unwrap();
        let largest = |result: &SweepResult| result.scale(&result.shown().unwrap()).limits().1;
        assert!(largest(&patched) >= PALE);
        let same = sweep("John gave a book to Mary.").edit(|q, _| Ok(q.clone())).run().unwrap();
        // Runs side by side round otherwise than one alone.
        assert!(same.shown().unwrap().values().iter().all(|value| value.abs() < 1e-5));
        assert!(same.bundle().png.is_some());
    }
}
