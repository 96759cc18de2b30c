//! Entries of plain runs: loss, generation, partial runs.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

pub fn ours(context: &Context, entry: &str) -> Result<Option<Tensor>> {
    let (model, clean) = (&context.model, &context.clean);
    Ok(Some(match entry {
        "loss_per_token" => model.loss_per_token(clean)?,
        "generate.greedy" => {
            let options = GenerateOptions::greedy().max_new_tokens(6).stop_at_eos(false);
            let generated = model.generate(clean, &options)?;
            let rows = generated.prompts().iter().zip(generated.added());
            let ids: Vec<f32> =
                rows.flat_map(|(prompt, added)| prompt.iter().chain(added)).map(|&id| id as f32).collect();
            Tensor::from_vec(ids, (generated.prompts().len(), ()), &Device::Cpu)?
        }
        "logits.stop_at_layer_1" => model.run(clean, &RunOptions::new().stop_at_layer(1))?.resid,
        _ => return Ok(None),
    }))
}
