//! How attributions and decompositions look.

use crate::Result;
use crate::analysis::DirectLogitAttribution;
use crate::cache::Decomposition;
use crate::display::{BarChart, Bundle, Show, Table};

/// Labels that a decomposition's text names.
const NAMED: usize = 60;

/// Components as bars, and heads as a heatmap.
impl Show for DirectLogitAttribution {
    fn bundle(&self) -> Bundle {
        let components: Result<_> = self.by_component();
        match self.by_head() {
            Ok(heads) => Bundle::stack(&[components.bundle(), heads.with_title("The same by head").bundle()]),
            Err(_) => components.bundle(),
        }
    }
}

impl DirectLogitAttribution {
    /// The `k` heads that add or take away most, as bars.
    ///
    /// # Errors
    /// A model without attention of the usual kind; a batch of several rows.
    pub fn top_heads(&self, k: usize) -> Result<BarChart> {
        let heads = self.by_head()?;
        let heads = if heads.axes().len() > 2 { heads.mean_over("batch")? } else { heads };
        let (labels, values): (Vec<_>, Vec<f32>) = heads.top_k(k).into_iter().unzip();
        let labels = labels.into_iter().map(|place: Vec<String>| format!("L{}H{}", place[0], place[1]));
        Ok(BarChart::new(labels, values)?.title(self.title()))
    }
}

/// What the parts are: their number, and the first labels.
impl Show for Decomposition {
    fn bundle(&self) -> Bundle {
        let labels = self.labels();
        let title = format!("{} parts of the residual stream ({:?})", labels.len(), self.place());
        Table::new(["component"]).rows(labels.into_iter().map(|label| [label])).title(title).max_rows(NAMED).bundle()
    }
}
