//! How singular vectors look: a table of the tokens at both ends of each.

use crate::Result;
use crate::analysis::{Circuit, Side, SingularVectors};
use crate::display::{Bundle, Show, Table, number};
use crate::tokens::visible;

/// Tokens that are shown at each end of a vector.
const TOP: usize = 8;

/// A table: for each vector its singular value, and the top tokens (or neurons) of both sides at both ends.
impl Show for SingularVectors {
    fn bundle(&self) -> Bundle {
        self.table(TOP).bundle()
    }
}

impl SingularVectors {
    /// The table with `k` tokens at each end.
    ///
    /// # Errors
    /// When the numbers can't be read.
    pub fn table(&self, k: usize) -> Result<Table> {
        let (title, reads, writes) = match self.circuit() {
            Circuit::Ov { layer, head } => (format!("OV of L{layer}H{head}"), "reads", "writes"),
            Circuit::Qk { layer, head } => (format!("QK of L{layer}H{head}"), "query reads", "key reads"),
            Circuit::WIn { layer } => (format!("W_in of layer {layer}"), "reads", "neurons"),
            Circuit::WGate { layer } => (format!("W_gate of layer {layer}"), "reads", "neurons"),
            Circuit::WOut { layer } => (format!("W_out of layer {layer}"), "neurons", "writes"),
        };
        let values: Vec<f32> = self.singular_values().to_vec1()?;
        let mut table = Table::new(["", "σ", "end", reads, writes]).title(format!("Singular vectors: {title}"));
        for (vector, value) in values.into_iter().enumerate() {
            for (sign, end) in [(1, "+"), (-1, "−")] {
                let names = |side: Side| -> Result<String> {
                    let top = self.top(side, vector, k, sign)?;
                    Ok(top.iter().map(|(name, _)| visible(name)).collect::<Vec<_>>().join(" "))
                };
                let (number_of, value) =
                    if sign == 1 { (vector.to_string(), number(f64::from(value))) } else { Default::default() };
                table = table.row([number_of, value, end.to_string(), names(Side::Reads)?, names(Side::Writes)?]);
            }
        }
        Ok(table.note("A vector has no sign of its own: what is read at one end is written at the same end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::singular_vectors;
    use crate::model::HookedTransformer;

    #[test]
    fn every_circuit_has_a_table() {
        let model = HookedTransformer::from_pretrained("tiny").unwrap();
        let (layer, head) = (1, 0);
        for (circuit, word) in [
            (Circuit::Ov { layer, head }, "writes"),
            (Circuit::Qk { layer, head }, "key reads"),
            (Circuit::WIn { layer }, "W_in"),
            (Circuit::WOut { layer }, "neurons"),
        ] {
            let vectors = singular_vectors(&model, circuit, 3).unwrap();
            let bundle = vectors.bundle();
            assert!(bundle.text.contains(word), "{}", bundle.text);
            let best = &vectors.top(Side::Reads, 0, 1, 1).unwrap()[0].0;
            assert!(bundle.text.contains(&visible(best)), "{best:?} is missing in {}", bundle.text);
            assert!(bundle.png.is_some() && bundle.html.is_some());
        }
    }
}
