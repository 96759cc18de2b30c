//! Entries about weights: circuits, composition scores, singular vectors.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

pub fn ours(context: &Context, entry: &str) -> Result<Option<Tensor>> {
    let model = &context.model;
    if let Some(composition) = entry.strip_prefix("composition.") {
        let composition = match composition {
            "Q" => Composition::Q,
            "K" => Composition::K,
            "V" => Composition::V,
            _ => return Ok(None),
        };
        return Ok(Some(model.all_composition_scores(composition)?.tensor().clone()));
    }
    if let Some(what) = entry.strip_prefix("svd.") {
        let circuit = match what {
            "OV.layer1.head2" => Circuit::Ov { layer: 1, head: 2 },
            "w_in.layer1" => Circuit::WIn { layer: 1 },
            _ => return Ok(None),
        };
        return Ok(Some(singular_vectors(model, circuit, 4)?.logits()?.unsqueeze(1)?));
    }
    let circuit = match entry.split_once('.') {
        Some(("OV", _)) => model.ov()?,
        Some(("QK", _)) => model.qk()?,
        _ => return Ok(None),
    };
    Ok(match entry.split_once('.') {
        Some((_, "singular_values")) => Some(circuit.singular_values()?),
        Some((_, "norm")) => Some(circuit.norm()?),
        Some((_, "eigenvalues")) => {
            let found = circuit.eigenvalues()?;
            Some(Tensor::stack(&[found.re, found.im], D::Minus1)?)
        }
        _ => None,
    })
}
