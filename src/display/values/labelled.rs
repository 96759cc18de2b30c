//! How numbers on named axes look: bars, a heatmap, or several.

use crate::Result;
use crate::analysis::{Axis, LabelledTensor, unravel};
use crate::display::{BarChart, Bundle, Facets, Heatmap, Show};

/// Labels of leading axes are joined by this in the titles of panels.
const JOINED: &str = ", ";

/// Bars for one axis, a heatmap for two, several heatmaps for more.
impl Show for LabelledTensor {
    fn bundle(&self) -> Bundle {
        match self.axes() {
            [] => Bundle::text(format!("{}: {:?}", self.title(), self.values().first().copied().unwrap_or_default())),
            [_] => self.bars().bundle(),
            [_, _] => self.heatmap().bundle(),
            _ => self.facets().bundle(),
        }
    }
}

impl LabelledTensor {
    /// One axis as bars.
    ///
    /// # Errors
    /// When there are more axes, or none.
    pub fn bars(&self) -> Result<BarChart> {
        let [axis] = self.axes() else { return Err(self.wrong_rank("bars need one axis")) };
        Ok(BarChart::new(axis.labels(), self.values())?.title(self.title()).x_title(axis.name()))
    }

    /// Two axes as a heatmap, to be changed before it is shown (`.title(..)`, `.diverging()`).
    ///
    /// # Errors
    /// When there are more axes, or fewer.
    pub fn heatmap(&self) -> Result<Heatmap> {
        let [rows, cols] = self.axes() else { return Err(self.wrong_rank("a heatmap needs two axes")) };
        Ok(Heatmap::new(self.values(), rows.len(), cols.len())?
            .title(self.title())
            .y_labels(rows.labels())
            .x_labels(cols.labels())
            .y_title(rows.name())
            .x_title(cols.name()))
    }

    /// Three axes and more as heatmaps of the last two, one for each place of the others.
    ///
    /// # Errors
    /// When there are fewer than three axes.
    pub fn facets(&self) -> Result<Facets> {
        let [leading @ .., rows, cols] = self.axes() else {
            return Err(self.wrong_rank("facets need three axes or more"));
        };
        if leading.is_empty() {
            return Err(self.wrong_rank("facets need three axes or more"));
        }
        let values = self.values();
        let size = rows.len() * cols.len();
        let panels: usize = leading.iter().map(Axis::len).product();
        let panel = |i: usize| {
            let index = unravel(i, &leading.iter().map(Axis::len).collect::<Vec<_>>());
            let label = |(axis, &place): (&Axis, &usize)| {
                let label = &axis.labels()[place];
                // A bare number says little without its axis.
                if label.parse::<f64>().is_ok() { format!("{} {label}", axis.name()) } else { label.clone() }
            };
            let title = leading.iter().zip(&index).map(label).collect::<Vec<_>>().join(JOINED);
            (title, values[i * size..(i + 1) * size].to_vec(), rows.len(), cols.len())
        };
        Ok(Facets::new((0..panels).map(panel))?.title(self.title()).y_title(rows.name()).x_title(cols.name()))
    }

    fn wrong_rank(&self, need: &str) -> crate::Error {
        let names: Vec<&str> = self.axes().iter().map(Axis::name).collect();
        crate::Error::msg(format!(
            "{need}, and this has {} ({}); take a part with .at(axis, place)",
            names.len(),
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn every_number_of_axes_has_a_look() {
        let names = ["kind", "layer", "head", "pos"];
        for rank in 0..=4 {
            let tensor = Tensor::ones(vec![3; rank], DType::F32, &Device::Cpu).unwrap();
            let axes = names.iter().take(rank).map(|name| Axis::numbered(*name, 3));
            let labelled = LabelledTensor::new("scores", &tensor, axes).unwrap();
            let bundle = labelled.bundle();
            assert!(bundle.text.contains("scores"), "{}", bundle.text);
            assert_eq!(bundle.png.is_some(), rank > 0);
            assert_eq!(labelled.svg().is_some(), rank > 0);
            assert_eq!(labelled.heatmap().is_ok(), rank == 2);
        }
    }
}
