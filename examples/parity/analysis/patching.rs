//! Entries about interventions: patching and ablation.

use candlescope::Result;
use candlescope::prelude::*;

use super::Context;

pub fn ours(context: &Context, entry: &str) -> Result<Option<Tensor>> {
    if entry == "zero_ablate_v.layer1.head2" {
        return ablated(context).map(Some);
    }
    let Some(kind) = entry.strip_prefix("patch.") else { return Ok(None) };
    let patch = match kind {
        "resid_pre" => patching::resid_pre,
        "resid_mid" => patching::resid_mid,
        "attn_out" => patching::attn_out,
        "mlp_out" => patching::mlp_out,
        "attn_head_out_by_pos" => patching::head_out_by_pos,
        "attn_head_q_by_pos" => patching::head_q_by_pos,
        "attn_head_k_by_pos" => patching::head_k_by_pos,
        "attn_head_v_by_pos" => patching::head_v_by_pos,
        "attn_head_pattern_by_pos" => patching::head_pattern_by_pos,
        "attn_head_out_all_pos" => patching::head_out_all_pos,
        "attn_head_v_all_pos" => patching::head_v_all_pos,
        "attn_head_pattern_all_pos" => patching::head_pattern_all_pos,
        "block_every" => patching::block_every,
        "attn_head_all_pos_every" => patching::head_all_pos_every,
        "attn_head_by_pos_every" => patching::head_by_pos_every,
        _ => return Ok(None),
    };
    let metric = logit_diff(context.answers.0, context.answers.1);
    let values = patch(&context.model, &context.corrupted, &context.clean_cache, &metric)?.values().tensor().clone();
    // TransformerLens has 0 for the key and value heads that a grouped attention lacks, we NaN.
    let there = values.eq(&values)?;
    Ok(Some(there.where_cond(&values, &values.zeros_like()?)?))
}

/// The logits when head 2's values in layer 1 are zero (the last key head's, where there are fewer).
fn ablated(context: &Context) -> Result<Tensor> {
    let head = 2.min(context.model.cfg().n_key_value_heads - 1);
    let hooks = Hooks::new().edit(v(1), move |v, _| {
        let keep: Vec<f32> = (0..v.dim(2)?).map(|h| if h == head { 0. } else { 1. }).collect();
        Ok(v.broadcast_mul(&Tensor::new(keep, v.device())?.unsqueeze(1)?)?)
    });
    Ok(context.model.run_with_hooks(&context.clean, &hooks)?.tensor().clone())
}
