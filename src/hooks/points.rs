//! The hook points of a decoder, as functions of the layer: `pattern(5)` is `blocks.5.attn.hook_pattern`.

use super::HookPoint;

macro_rules! block_points {
    ($($(#[$doc:meta])* $function:ident => $tail:literal;)*) => {$(
        $(#[$doc])*
        pub fn $function(layer: usize) -> HookPoint {
            HookPoint::new(format!(concat!("blocks.{}.", $tail), layer))
        }
    )*};
}

macro_rules! model_points {
    ($($(#[$doc:meta])* $function:ident => $name:literal;)*) => {$(
        $(#[$doc])*
        pub fn $function() -> HookPoint {
            HookPoint::new($name)
        }
    )*};
}

block_points! {
    /// The residual stream entering the block, `[batch, pos, d_model]`.
    resid_pre => "hook_resid_pre";
    /// The residual stream between attention and MLP, `[batch, pos, d_model]`.
    resid_mid => "hook_resid_mid";
    /// The residual stream leaving the block, `[batch, pos, d_model]`.
    resid_post => "hook_resid_post";
    /// What the attention adds to the residual stream, `[batch, pos, d_model]`.
    attn_out => "hook_attn_out";
    /// What the MLP adds to the residual stream, `[batch, pos, d_model]`.
    mlp_out => "hook_mlp_out";
    /// The residual stream, once per head, on its way to the attention, `[batch, pos, head, d_model]`; on request.
    attn_in => "hook_attn_in";
    /// The input of the queries, once per head, before the norm, `[batch, pos, head, d_model]`; on request.
    q_input => "hook_q_input";
    /// The input of the keys, once per key head, before the norm, `[batch, pos, kv_head, d_model]`; on request.
    k_input => "hook_k_input";
    /// The input of the values, once per value head, before the norm, `[batch, pos, kv_head, d_model]`; on request.
    v_input => "hook_v_input";
    /// The residual stream on its way to the MLP, before the norm, `[batch, pos, d_model]`; on request.
    mlp_in => "hook_mlp_in";
    /// Queries, before rotary positions, `[batch, pos, head, d_head]`.
    q => "attn.hook_q";
    /// Keys, before rotary positions, `[batch, pos, kv_head, d_head]`.
    k => "attn.hook_k";
    /// Values, `[batch, pos, kv_head, d_head]`.
    v => "attn.hook_v";
    /// Queries after rotary positions, `[batch, pos, head, d_head]`.
    rot_q => "attn.hook_rot_q";
    /// Keys after rotary positions, `[batch, pos, kv_head, d_head]`.
    rot_k => "attn.hook_rot_k";
    /// Attention scores with the mask applied (-inf), `[batch, head, query, key]`.
    attn_scores => "attn.hook_attn_scores";
    /// Attention pattern, `[batch, head, query, key]`; rows sum to one.
    pattern => "attn.hook_pattern";
    /// The values that each head gathered, `[batch, pos, head, d_head]`.
    z => "attn.hook_z";
    /// What each head writes to the residual stream, without b_O, `[batch, pos, head, d_model]`; on request.
    result => "attn.hook_result";
    /// MLP before the activation function (the gate where there is one), `[batch, pos, d_mlp]`.
    pre => "mlp.hook_pre";
    /// The linear branch of a gated MLP, `[batch, pos, d_mlp]`.
    pre_linear => "mlp.hook_pre_linear";
    /// MLP after the activation function, `[batch, pos, d_mlp]`.
    post => "mlp.hook_post";
    /// The divisor of the norm before the attention, `[batch, pos, 1]`.
    ln1_scale => "ln1.hook_scale";
    /// The norm before the attention, without its weights, `[batch, pos, d_model]`.
    ln1_normalized => "ln1.hook_normalized";
    /// The divisor of the norm before the MLP, `[batch, pos, 1]`.
    ln2_scale => "ln2.hook_scale";
    /// The norm before the MLP, without its weights, `[batch, pos, d_model]`.
    ln2_normalized => "ln2.hook_normalized";
}

model_points! {
    /// Token embeddings, `[batch, pos, d_model]`.
    embed => "hook_embed";
    /// Position embeddings, `[batch, pos, d_model]`; learned positions only.
    pos_embed => "hook_pos_embed";
    /// The divisor of the last norm, `[batch, pos, 1]`.
    ln_final_scale => "ln_final.hook_scale";
    /// The last norm, without its weights, `[batch, pos, d_model]`.
    ln_final_normalized => "ln_final.hook_normalized";
    /// What the unembedding reads, `[batch, pos, d_model]`; on request.
    unembed_in => "unembed.hook_in";
    /// The logits, `[batch, pos, d_vocab]`; on request.
    unembed_out => "unembed.hook_out";
}
