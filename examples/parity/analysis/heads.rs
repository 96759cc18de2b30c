//! Entries about what attention heads look at.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

/// TransformerLens gives the measure "abs" as 1 - round(difference, 3), and we don't round: so far the two may lie apart.
pub const ROUNDING: f32 = 5e-4;

pub fn ours(context: &Context, entry: &str) -> Result<Option<Tensor>> {
    if entry == "induction_scores" {
        // Behind BOS: n random tokens, and the same once more.
        let n = (context.repeated.shape().1 - 1) / 2;
        let heads = HeadAttention::run(&context.model, &context.repeated)?;
        return Ok(Some(heads.at_distance(n as i64 - 1)?.tensor().clone()));
    }
    let Some((kind, measure)) = entry.strip_prefix("detect.").and_then(|rest| rest.split_once('.')) else {
        return Ok(None);
    };
    let pattern = match kind {
        "previous_token_head" => HeadPattern::PreviousToken,
        "duplicate_token_head" => HeadPattern::DuplicateToken,
        "induction_head" => HeadPattern::Induction,
        _ => return Ok(None),
    };
    let first = Tokens::from_ids(vec![context.repeated.row(0)?.to_vec()])?;
    let scores = |measure| -> Result<Tensor> {
        let options = DetectOptions::new().measure(measure);
        Ok(detect_head_with(&context.model, &first, pattern, &options)?.tensor().clone())
    };
    match measure {
        "mul" => scores(Measure::Mul).map(Some),
        "abs" => scores(Measure::Abs).map(Some),
        _ => Ok(None),
    }
}
