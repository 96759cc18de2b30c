//! Entries that ActivationCache gives: residual stacks, attribution.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

pub fn ours(context: &Context, entry: &str) -> Result<Option<Tensor>> {
    let cache = &context.clean_cache;
    let last = || cache.at_pos(-1);
    let n_layers = context.model.cfg().n_layers;
    if context.model.cfg().model_type == "gemma2"
        && let Some(theirs) = before_the_norms(context, entry)?
    {
        return Ok(Some(theirs));
    }
    let stack = match entry {
        "accumulated_resid" => cache.accumulated_resid(None, true)?,
        "accumulated_resid.ln_final" => last()?.accumulated_resid(None, true)?.apply_ln_anew()?,
        "decompose_resid" => cache.decompose_resid(None)?,
        "decompose_resid.attn_only" => cache.decompose_resid(None)?.without_mlps()?,
        "stack_head_results" => cache.stack_head_results(None)?.with_remainder()?,
        "stack_head_results.ln_final.last" => last()?.stack_head_results(None)?.apply_ln()?,
        "stack_neuron_results.layer1.last" => last()?.stack_neuron_results(1)?.stack()?,
        "full_resid_decomposition.last" => last()?.full_resid_decomposition(n_layers, false)?.apply_ln()?.stack()?,
        "logit_attrs" => {
            let (right, wrong) = context.answers;
            let attrs = cache.logit_attrs(&cache.decompose_resid(None)?, right, wrong)?;
            // The reference asks TransformerLens for all positions with pos_slice = -1, which slices the scale alone: all
            // positions are divided by the scale of the last.
            let scale = cache.get(ln_final_scale())?.squeeze(2)?;
            let rescaled = attrs.broadcast_mul(&scale)?.broadcast_div(&scale.narrow(1, scale.dim(1)? - 1, 1)?)?;
            return Ok(Some(rescaled));
        }
        "residual_directions" => {
            let (right, wrong) = context.answers;
            return context.model.tokens_to_residual_directions([right, wrong]).map(Some);
        }
        _ => return Ok(None),
    };
    Ok(Some(stack.tensor().clone()))
}

/// TransformerLens takes heads and neurons as they are before the norms that follow Gemma 2's attention and MLP, so that
/// its heads do not add up to `attn_out`, nor its full decomposition to the stream. Ours are behind these norms; here they
/// are put together as TransformerLens does.
fn before_the_norms(context: &Context, entry: &str) -> Result<Option<Tensor>> {
    let model = &context.model;
    let last = context.clean_cache.at_pos(-1)?;
    let heads = || -> Result<Tensor> {
        let (_, cache) = model.run_with_cache_of(&context.clean, "result")?;
        // [layer, batch, pos, head, d_model] to [layer * head, batch, pos, d_model].
        Ok(cache.stack_activation("result")?.permute((0, 3, 1, 2, 4))?.contiguous()?.flatten(0, 1)?)
    };
    let at_last = |stack: Tensor| -> Result<Tensor> { Ok(stack.i((.., .., 7))?.contiguous()?) };
    let scale = || -> Result<Tensor> { Ok(last.get(ln_final_scale())?.unsqueeze(0)?) };
    Ok(Some(match entry {
        "stack_head_results" => {
            let heads = heads()?;
            let stream = context.clean_cache.get(resid_post(model.cfg().n_layers - 1))?;
            Tensor::cat(&[&heads, &(stream - heads.sum(0)?)?.unsqueeze(0)?], 0)?
        }
        "stack_head_results.ln_final.last" => at_last(heads()?)?.broadcast_div(&scale()?)?,
        "stack_neuron_results.layer1.last" => {
            let neurons = last.get(post(0))?.t()?.unsqueeze(2)?;
            neurons.broadcast_mul(&model.w_out()?.i(0)?.unsqueeze(1)?)?
        }
        "full_resid_decomposition.last" => {
            let others = last.full_resid_decomposition(None, false)?.stack()?.keep(|label| !label.starts_with('L'))?;
            Tensor::cat(&[&at_last(heads()?)?, others.tensor()], 0)?.broadcast_div(&scale()?)?
        }
        _ => return Ok(None),
    }))
}
