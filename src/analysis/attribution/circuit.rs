//! A part of a model: the edges that are kept, and the nodes that they connect.

use std::collections::HashSet;

use super::edges::Edge;
use super::stream::parts_of;
use crate::analysis::path_patching::{Receiver, Sender};

/// The edges that are kept of a model, each on a path from the embedding to the logits. In a notebook it shows what each node
/// reads; [`to_dot`](Self::to_dot) is a drawing for Graphviz.
#[derive(Clone, Debug)]
pub struct CircuitGraph {
    metric: String,
    edges: Vec<Edge>,
    dropped: usize,
    share: usize,
}

impl CircuitGraph {
    /// Of these edges, those on a path from the embedding to the logits; `share` query heads share a key head.
    pub(super) fn new(metric: &str, edges: Vec<Edge>, share: usize) -> Self {
        let reached =
            |edge: &Edge, nodes: &HashSet<Sender>| parts_of(edge.to, share).iter().any(|node| nodes.contains(node));
        let mut from_embed = HashSet::from([Sender::Embed]);
        grow(&mut from_embed, &edges, |edge, nodes| match nodes.contains(&edge.from) {
            true => parts_of(edge.to, share),
            false => Vec::new(),
        });
        let mut to_logits = HashSet::new();
        grow(&mut to_logits, &edges, |edge, nodes| match edge.to == Receiver::Logits || reached(edge, nodes) {
            true => vec![edge.from],
            false => Vec::new(),
        });
        let alive: HashSet<Sender> = from_embed.intersection(&to_logits).copied().collect();
        let strong = edges.len();
        let on_a_path =
            |edge: &Edge| alive.contains(&edge.from) && (edge.to == Receiver::Logits || reached(edge, &alive));
        let mut edges: Vec<Edge> = edges.into_iter().filter(on_a_path).collect();
        edges.sort_by_key(|edge| (depth(edge.to), edge.to, edge.from));
        Self { metric: metric.to_string(), dropped: strong - edges.len(), edges, share }
    }

    /// The edges, by what they lead to, in the order of the layers.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The nodes that write, in the order of the layers.
    pub fn nodes(&self) -> Vec<Sender> {
        let mut nodes: Vec<Sender> = self.edges.iter().map(|edge| edge.from).collect();
        nodes.sort_by_key(|node| match *node {
            Sender::Embed | Sender::PosEmbed => (0, 0, 0),
            Sender::Attn(layer) => (layer + 1, 0, 0),
            Sender::Head(layer, head) => (layer + 1, 0, head),
            Sender::Mlp(layer) => (layer + 1, 1, 0),
        });
        nodes.dedup();
        nodes
    }

    /// How many edges were strong enough and lie on no path from the embedding to the logits.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// What the scores are predicted changes of.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// The graph in Graphviz' language (`dot -Tsvg`): blue edges raise the metric, red ones lower it. Keys and values that
    /// heads share lead to each of them that is kept.
    pub fn to_dot(&self) -> String {
        let kept = self.nodes();
        let mut lines = vec!["digraph circuit {".to_string(), "  rankdir=BT;".to_string()];
        for edge in &self.edges {
            let to: Vec<String> = match edge.to {
                Receiver::Logits => vec!["logits".to_string()],
                to => {
                    parts_of(to, self.share).iter().filter(|node| kept.contains(node)).map(Sender::to_string).collect()
                }
            };
            let label = match edge.to {
                Receiver::Q(..) => "q ",
                Receiver::K(..) => "k ",
                Receiver::V(..) => "v ",
                Receiver::Mlp(_) | Receiver::Logits => "",
            };
            let color = if edge.score < 0.0 { "#b2182b" } else { "#2166ac" };
            for to in to {
                lines.push(format!(
                    "  \"{}\" -> \"{to}\" [label=\"{label}{:.3}\", color=\"{color}\"];",
                    edge.from, edge.score
                ));
            }
        }
        lines.push("}".to_string());
        lines.join("\n")
    }
}

/// Adds what edges lead to until nothing is new.
fn grow(nodes: &mut HashSet<Sender>, edges: &[Edge], next: impl Fn(&Edge, &HashSet<Sender>) -> Vec<Sender>) {
    loop {
        let new: Vec<Sender> =
            edges.iter().flat_map(|edge| next(edge, nodes)).filter(|node| !nodes.contains(node)).collect();
        if new.is_empty() {
            return;
        }
        nodes.extend(new);
    }
}

/// The order in which receivers read.
fn depth(to: Receiver) -> (usize, usize) {
    match to {
        Receiver::Q(layer, head) | Receiver::K(layer, head) | Receiver::V(layer, head) => (2 * layer, head),
        Receiver::Mlp(layer) => (2 * layer + 1, 0),
        Receiver::Logits => (usize::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_no_path_is_left_out() {
        let head = Sender::Head;
        let edge = |from, to| Edge { from, to, score: 1.0 };
        let edges = vec![
            edge(head(1, 3), Receiver::Logits),
            // Key head 1 of two is shared by heads 2 and 3.
            edge(head(0, 0), Receiver::K(1, 1)),
            edge(Sender::Embed, Receiver::V(0, 0)),
            // No way on, and no way there.
            edge(Sender::Embed, Receiver::Mlp(0)),
            edge(head(0, 3), Receiver::Logits),
        ];
        let circuit = CircuitGraph::new("metric", edges, 2);
        let names: Vec<String> = circuit.edges().iter().map(|edge| format!("{} {}", edge.from, edge.to)).collect();
        assert_eq!(names, ["embed L0H0 V", "L0H0 L1H1 K", "L1H3 logits"]);
        assert_eq!(circuit.dropped(), 2);
        assert_eq!(circuit.nodes().iter().map(Sender::to_string).collect::<Vec<_>>(), ["embed", "L0H0", "L1H3"]);
        let dot = circuit.to_dot();
        assert!(dot.contains("\"L0H0\" -> \"L1H3\" [label=\"k 1.000\"") && !dot.contains("L1H2"), "{dot}");
    }

    #[test]
    fn without_a_path_nothing_is_left() {
        let lone = Edge { from: Sender::Mlp(0), to: Receiver::Logits, score: -2.0 };
        let circuit = CircuitGraph::new("metric", vec![lone], 1);
        assert!(circuit.edges().is_empty() && circuit.nodes().is_empty());
    }
}
