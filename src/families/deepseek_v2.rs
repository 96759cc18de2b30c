//! DeepSeek V2, V2-Lite and Coder-V2 (DeepSeek-AI 2024, arXiv 2405.04434), and what V3 shares with them.

use super::{ConfigJson, Family, experts, layout};
use crate::Result;
use crate::model::{
    Activation, ExpertGroups, Experts, GroupScore, LatentAttention, ModelConfig, Normalization, Routing, Sizes,
};
use crate::weights::{ExpertsWeights, LatentWeights, MixerWeights, PROJ, WeightSource, Weights, heads_in, heads_out};

pub(super) static FAMILY: Family = Family { model_type: "deepseek_v2", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    // Pairs lie next to each other, and stay there.
    let cfg = latent_config(json, false)?;
    let cfg = layout::in_adjacent_pairs(cfg);
    // DeepSeek's own code divides by the sum then, Hugging Face's does not.
    json.refuse_if(json.flag_or("norm_topk_prob", false)?, "norm_topk_prob")?;
    let groups = match json.string_or("topk_method", "greedy")?.as_str() {
        "greedy" => None,
        "group_limited_greedy" => {
            let (n_groups, kept) = (json.size("n_group")?, json.size("topk_group")?);
            Some(ExpertGroups { n_groups, kept, by: GroupScore::Best })
        }
        other => {
            let known = "greedy and group_limited_greedy";
            return Err(json.error(format!("'topk_method' is '{other}', and {known} are known here")));
        }
    };
    let routing = Routing {
        groups,
        scale: json.number_or("routed_scaling_factor", 1.0)?,
        ..Routing::new(json.size("num_experts_per_tok")?)
    };
    with_experts(json, cfg, routing, [0, 64, 1407, 2])
}

/// A model with latent attention. `reorders_pairs` as in [`LatentAttention`].
pub(super) fn latent_config(json: &ConfigJson, reorders_pairs: bool) -> Result<ModelConfig> {
    let latent = LatentAttention {
        q_rank: if json.is_null("q_lora_rank") { None } else { Some(json.size_or("q_lora_rank", 1536)?) },
        kv_rank: json.size_or("kv_lora_rank", 512)?,
        d_nope: json.size_or("qk_nope_head_dim", 128)?,
        d_rope: json.size_or("qk_rope_head_dim", 64)?,
        d_v: json.size_or("v_head_dim", 128)?,
        reorders_pairs,
        // Hugging Face's default, which rms_norm_eps does not reach.
        eps: 1e-6,
    };
    let sizes = Sizes {
        n_layers: json.size("num_hidden_layers")?,
        d_model: json.size("hidden_size")?,
        n_ctx: json.size("max_position_embeddings")?,
        n_heads: json.size("num_attention_heads")?,
        d_head: latent.d_nope + latent.d_rope,
        d_mlp: json.size("intermediate_size")?,
        d_vocab: json.size("vocab_size")?,
    };
    let rotary = json.rotary(latent.d_rope, 1.0, 10_000.0)?;
    let stretch = score_stretch(json)?;
    let act_fn = json.activation_or("hidden_act", Activation::Silu)?;
    Ok(ModelConfig {
        normalization: Normalization::Rms,
        eps: json.number_or("rms_norm_eps", 1e-6)?,
        gated_mlp: true,
        attn_scale: (sizes.d_head as f64).sqrt() / (stretch * stretch),
        tie_word_embeddings: json.flag_or("tie_word_embeddings", false)?,
        latent_attention: Some(latent),
        ..ModelConfig::new(&json.string("model_type")?, act_fn, sizes).with_rotary(rotary)
    })
}

/// What YaRN multiplies scores by, before it is squared: 0.1 · mscale_all_dim · ln(factor) + 1.
fn score_stretch(json: &ConfigJson) -> Result<f64> {
    let key = if json.value("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let rope = json.nested(key)?;
    let all = rope.number_or("mscale_all_dim", 0.0)?;
    let kind = rope.value("rope_type").or_else(|| rope.value("type")).and_then(|kind| kind.as_str());
    if all == 0.0 || matches!(kind, None | Some("default")) {
        return Ok(1.0);
    }
    let factor = rope.number("factor")?;
    Ok(if factor <= 1.0 { 1.0 } else { 0.1 * all * factor.ln() + 1.0 })
}

/// With experts behind the dense first layers; `defaults` of how many those are, experts, their width, shared ones.
pub(super) fn with_experts(
    json: &ConfigJson,
    cfg: ModelConfig,
    routing: Routing,
    [dense, n_experts, d_expert, shared]: [usize; 4],
) -> Result<ModelConfig> {
    let n_layers = cfg.n_layers;
    let dense = json.count_or("first_k_dense_replace", dense)?;
    let every = json.size_or("moe_layer_freq", 1)?;
    let n_experts = json.size_or("n_routed_experts", n_experts)?;
    let d_expert = json.size_or("moe_intermediate_size", d_expert)?;
    let shared = if json.is_null("n_shared_experts") { 0 } else { json.count_or("n_shared_experts", shared)? };
    let settings = Experts {
        d_shared: d_expert * shared,
        layers: (0..n_layers).map(|layer| layer >= dense && layer.is_multiple_of(every)).collect(),
        ..Experts::new(n_layers, n_experts, d_expert, routing)
    };
    experts::with_experts(json, cfg, settings)
}

pub(super) fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    // Layers behind the last predict further tokens, for training and speculation.
    source.ignore(&format!("model.layers.{}.", cfg.n_layers));
    experts::weights_with_mixer(cfg, source, attention, |cfg, source, layer, settings| {
        let module = format!("{layer}.mlp");
        let routed = ExpertsWeights::load(source, &module, "gate", PROJ, cfg.d_model, settings)?;
        if settings.d_shared == 0 {
            return Ok(routed);
        }
        let shared = experts::shared(cfg, source, &format!("{module}.shared_experts"), settings.d_shared)?;
        Ok(routed.with_shared(shared))
    })
}

fn attention(cfg: &ModelConfig, source: &WeightSource, layer: usize) -> Result<MixerWeights> {
    let missing = || crate::Error::msg("no sizes of the latent attention");
    let sizes = cfg.latent_attention.as_ref().ok_or_else(missing)?;
    let name = |part: &str| format!("layers.{layer}.self_attn.{part}");
    let (heads, d_model) = (cfg.n_heads, cfg.d_model);
    let q_width = heads * (sizes.d_nope + sizes.d_rope);
    let (q_a, q_norm, q) = match sizes.q_rank {
        Some(rank) => (
            Some(source.linear(&name("q_a_proj"), d_model, rank)?),
            Some(source.norm(&name("q_a_layernorm"), rank)?),
            source.linear(&name("q_b_proj"), rank, q_width)?,
        ),
        None => (None, None, source.linear(&name("q_proj"), d_model, q_width)?),
    };
    let kv_a = source.linear(&name("kv_a_proj_with_mqa"), d_model, sizes.kv_rank + sizes.d_rope)?;
    let kv = source.linear(&name("kv_b_proj"), sizes.kv_rank, heads * (sizes.d_nope + sizes.d_v))?;
    let o = source.linear(&name("o_proj"), heads * sizes.d_v, d_model)?;
    let (w_q_a, b_q_a) = q_a.map_or((None, None), |q_a| (Some(q_a.w), q_a.b));
    Ok(MixerWeights::Latent(LatentWeights {
        w_q_a,
        b_q_a,
        q_norm,
        w_q: heads_in(&q.w, heads)?,
        w_kv_a: kv_a.w,
        b_kv_a: kv_a.b,
        kv_norm: source.norm(&name("kv_a_layernorm"), sizes.kv_rank)?,
        w_kv: heads_in(&kv.w, heads)?,
        w_o: heads_out(&o.w, heads)?,
        b_o: o.b,
    }))
}
