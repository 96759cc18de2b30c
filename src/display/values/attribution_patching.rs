//! How the agreement of predicted with true changes, scores of edges, and circuits look.

use crate::Result;
use crate::analysis::{Agreement, CircuitGraph, Edge, EdgeScores};
use crate::display::draw::number::number;
use crate::display::{Bundle, Scatter, Show, Table};

/// How many edges a table shows unless told otherwise.
const EDGES: usize = 20;

impl Show for Agreement {
    fn bundle(&self) -> Bundle {
        let numbers = [("Pearson", self.pearson), ("Spearman", self.spearman), ("same sign", self.same_sign)];
        let numbers: Vec<String> = numbers.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        let errors = format!("largest error {}, mean error {}", number(self.max_error), number(self.mean_error));
        let k = self.truth().len().min(10);
        let top = format!("{:.0} % of the {k} largest are found", 100.0 * self.top_overlap(k));
        let note = format!("{}; {errors}; {top}", numbers.join(", "));
        Bundle::stack(&[self.scatter().bundle(), Bundle::text(note)])
    }
}

impl Agreement {
    /// The places as points, with the diagonal on which both changes are the same.
    pub fn scatter(&self) -> Result<Scatter> {
        Ok(Scatter::new(self.predicted().iter().copied(), self.truth().iter().copied())?
            .labels(self.labels())
            .diagonal()
            .title(self.title())
            .x_title("predicted")
            .y_title("true"))
    }
}

/// The strongest edges, and all of them as a heatmap.
impl Show for EdgeScores {
    fn bundle(&self) -> Bundle {
        let heatmap = self.matrix().heatmap().map(|view| view.diverging()).bundle();
        Bundle::stack(&[self.table(EDGES).bundle(), heatmap])
    }
}

impl EdgeScores {
    /// The `k` strongest edges as a table.
    pub fn table(&self, k: usize) -> Table {
        let all = self.all_edges().len();
        edges(&self.top_k(k))
            .title(format!("Edges by the predicted change of the {}", self.metric()))
            .note(format!("the {} strongest of {all} edges", k.min(all)))
    }
}

/// What each node of the circuit reads.
impl Show for CircuitGraph {
    fn bundle(&self) -> Bundle {
        let title =
            format!("Circuit for the {}: {} nodes, {} edges", self.metric(), self.nodes().len(), self.edges().len());
        let table = edges(self.edges()).title(title);
        match self.dropped() {
            0 => table.bundle(),
            n => table.note(format!("{n} more edges lie on no path from the embedding to the logits")).bundle(),
        }
    }
}

fn edges(edges: &[Edge]) -> Table {
    let row = |edge: &Edge| [edge.from.to_string(), edge.to.to_string(), number(edge.score.into())];
    Table::new(["from", "to", "score"]).rows(edges.iter().map(row))
}
