//! TransformerLens' own models (the toy models: attention-only, SoLU, GELU): a config.json in TransformerLens' words,
//! without a `model_type`, and weights under TransformerLens' names.

use candle_core::{D, Tensor};
use serde_json::{Value, json};

use super::{ConfigJson, Family};
use crate::model::{Activation, ModelConfig, Normalization, Positions, Rotary, Sizes};
use crate::weights::{
    AttentionWeights, BlockWeights, FeedForwardWeights, MixerWeights, MlpWeights, NormWeights, WeightSource, Weights,
};
use crate::{Error, Result};

pub(super) static FAMILY: Family = Family { model_type: "hooked_transformer", config, weights };

/// Whether a config.json without a `model_type` is in TransformerLens' words.
pub(super) fn wrote(json: &ConfigJson) -> bool {
    ["d_model", "n_layers", "n_ctx", "d_vocab"].iter().all(|key| json.value(key).is_some())
}

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    for key in ["use_local_attn", "use_hook_tokens", "post_embedding_ln", "use_normalization_before_and_after"] {
        json.refuse_if(json.flag_or(key, false)?, key)?;
    }
    json.refuse_if(json.size_or("num_experts", 1)? > 1, "num_experts")?;
    json.refuse_if(json.string_or("attention_dir", "causal")? != "causal", "attention_dir")?;
    let d_vocab = json.size("d_vocab")?;
    json.refuse_if(json.value("d_vocab_out").is_some_and(|out| out.as_u64() != Some(d_vocab as u64)), "d_vocab_out")?;

    let (d_model, d_head) = (json.size("d_model")?, json.size("d_head")?);
    let attn_only = json.flag_or("attn_only", false)?;
    let sizes = Sizes {
        n_layers: json.size("n_layers")?,
        d_model,
        n_ctx: json.size("n_ctx")?,
        n_heads: json.size_or("n_heads", d_model / d_head)?,
        d_head,
        d_mlp: if attn_only { 0 } else { json.size_or("d_mlp", 4 * d_model)? },
        d_vocab,
    };
    let normalization = normalization(json)?;
    let final_rms = json.flag_or("final_rms", false)?;
    let (act_fn, mlp_ln) = act_fn(json, attn_only)?;
    let scaled = json.flag_or("use_attn_scale", true)?;
    let cfg = positions(json, ModelConfig::new(FAMILY.model_type, act_fn, sizes))?;
    Ok(ModelConfig {
        n_key_value_heads: json.size_or("n_key_value_heads", cfg.n_heads)?,
        normalization,
        final_normalization: final_rms.then_some(Normalization::Rms),
        eps: json.number_or("eps", 1e-5)?,
        gated_mlp: json.flag_or("gated_mlp", false)?,
        parallel_attn_mlp: json.flag_or("parallel_attn_mlp", false)?,
        attn_scale: if scaled { json.number_or("attn_scale", cfg.attn_scale)? } else { 1.0 },
        scale_attn_by_inverse_layer_idx: json.flag_or("scale_attn_by_inverse_layer_idx", false)?,
        default_prepend_bos: json.flag_or("default_prepend_bos", true)?,
        tie_word_embeddings: false,
        mlp_ln,
        tokenizer_name: json.value("tokenizer_name").map(|_| json.string("tokenizer_name")).transpose()?,
        ..cfg
    })
}

/// A configuration in TransformerLens' words, from which [`config`] makes the same one again.
///
/// # Errors
/// What these words can't say.
pub(crate) fn json(cfg: &ModelConfig) -> Result<Value> {
    let norm = |kind| match kind {
        Normalization::LayerNorm => "LN",
        Normalization::Rms => "RMS",
        Normalization::None => "none",
    };
    let rotary = cfg.layers.first().and_then(|layer| layer.rotary.as_ref());
    let positions = match cfg.positions {
        Positions::Shortformer => "shortformer",
        Positions::Rotary => "rotary",
        _ => "standard",
    };
    let mut json = json!({
        "model_name": cfg.model_name,
        "n_layers": cfg.n_layers, "d_model": cfg.d_model, "n_ctx": cfg.n_ctx, "d_vocab": cfg.d_vocab,
        "n_heads": cfg.n_heads, "n_key_value_heads": cfg.n_key_value_heads, "d_head": cfg.d_head,
        "attn_only": cfg.d_mlp == 0,
        "normalization_type": norm(cfg.normalization),
        "final_rms": cfg.final_normalization == Some(Normalization::Rms),
        "eps": cfg.eps,
        "attn_scale": cfg.attn_scale,
        "scale_attn_by_inverse_layer_idx": cfg.scale_attn_by_inverse_layer_idx,
        "parallel_attn_mlp": cfg.parallel_attn_mlp,
        "positional_embedding_type": positions,
        "default_prepend_bos": cfg.default_prepend_bos,
    });
    if cfg.d_mlp > 0 {
        json["d_mlp"] = json!(cfg.d_mlp);
        json["act_fn"] = json!(format!("{}{}", cfg.act_fn.name(), if cfg.mlp_ln { "_ln" } else { "" }));
        json["gated_mlp"] = json!(cfg.gated_mlp);
    }
    if let Some(rotary) = rotary {
        json["rotary_dim"] = json!(rotary.rotary_dim);
        json["rotary_base"] = json!(rotary.base);
        json["rotary_adjacent_pairs"] = json!(rotary.adjacent_pairs);
    }
    let again = config(&ConfigJson::parse(json.to_string().as_bytes(), "config.json")?)?;
    // These are of how a model was loaded, or of no consequence to what it computes.
    let same = ModelConfig {
        model_name: cfg.model_name.clone(),
        model_type: cfg.model_type.clone(),
        act_fn: if cfg.d_mlp == 0 { cfg.act_fn } else { again.act_fn },
        tie_word_embeddings: cfg.tie_word_embeddings,
        processing: cfg.processing,
        tokenizer_name: cfg.tokenizer_name.clone(),
        checkpoint: cfg.checkpoint,
        logits_multiplier: cfg.logits_multiplier,
        ..again
    };
    match &same == cfg {
        true => Ok(json),
        false => Err(Error::msg(format!(
            "a model of the family {} has settings that TransformerLens' form has no words for, so it can't be saved in it",
            cfg.model_type
        ))),
    }
}

/// What a weight is called in the file.
///
/// # Errors
/// Weights that TransformerLens' own models don't have.
pub(crate) fn file_name(name: &str, shares_keys: bool) -> Result<String> {
    let part = match name.strip_prefix("blocks.") {
        Some(rest) => rest.split_once('.').map_or(rest, |(_, part)| part),
        None => name,
    };
    let known = [
        "embed.W_E",
        "pos_embed.W_pos",
        "unembed.W_U",
        "unembed.b_U",
        "ln_final.w",
        "ln_final.b",
        "ln1.w",
        "ln1.b",
        "ln2.w",
        "ln2.b",
        "attn.W_Q",
        "attn.b_Q",
        "attn.W_K",
        "attn.b_K",
        "attn.W_V",
        "attn.b_V",
        "attn.W_O",
        "attn.b_O",
        "mlp.W_in",
        "mlp.b_in",
        "mlp.W_gate",
        "mlp.b_gate",
        "mlp.W_out",
        "mlp.b_out",
        "mlp.ln.w",
        "mlp.ln.b",
    ];
    if !known.contains(&part) {
        return Err(Error::msg(format!(
            "TransformerLens' form has no name for the weight '{name}', so it can't be saved in it"
        )));
    }
    let shared = shares_keys && ["attn.W_K", "attn.b_K", "attn.W_V", "attn.b_V"].contains(&part);
    Ok(if shared { name.replace("attn.", "attn._") } else { name.to_string() })
}

/// `normalization_type`, or `normalization` in older files; "Pre" says that the weights were folded away.
fn normalization(json: &ConfigJson) -> Result<Normalization> {
    let key = if json.value("normalization").is_some() { "normalization" } else { "normalization_type" };
    match json.string_or(key, "none")?.as_str() {
        "LN" | "LNPre" => Ok(Normalization::LayerNorm),
        "RMS" | "RMSPre" => Ok(Normalization::Rms),
        "none" => Ok(Normalization::None),
        other => Err(json.error(format!("'{key}' is \"{other}\"; known: LN, LNPre, RMS, RMSPre"))),
    }
}

/// The activation function, and whether a norm follows it ("_ln" at the end of its name).
fn act_fn(json: &ConfigJson, attn_only: bool) -> Result<(Activation, bool)> {
    if attn_only {
        return Ok((Activation::Linear, false));
    }
    let name = json.string("act_fn")?;
    let plain = name.strip_suffix("_ln");
    let act_fn = Activation::parse(plain.unwrap_or(&name)).map_err(|e| json.error(format!("'act_fn': {e}")))?;
    Ok((act_fn, plain.is_some()))
}

fn positions(json: &ConfigJson, cfg: ModelConfig) -> Result<ModelConfig> {
    if json.flag_or("shortformer_pos", false)? {
        return Ok(ModelConfig { positions: Positions::Shortformer, ..cfg });
    }
    match json.string_or("positional_embedding_type", "standard")?.as_str() {
        "standard" => Ok(cfg),
        "shortformer" => Ok(ModelConfig { positions: Positions::Shortformer, ..cfg }),
        "rotary" => {
            let rotary = Rotary {
                adjacent_pairs: json.flag_or("rotary_adjacent_pairs", false)?,
                ..Rotary::new(json.size_or("rotary_dim", cfg.d_head)?, json.number_or("rotary_base", 10000.0)?)
            };
            if !rotary.rotary_dim.is_multiple_of(2) || rotary.rotary_dim > cfg.d_head {
                return Err(json.error(format!("'rotary_dim' is {}, of {} per head", rotary.rotary_dim, cfg.d_head)));
            }
            Ok(cfg.with_rotary(rotary))
        }
        other => {
            Err(json
                .error(format!("'positional_embedding_type' is \"{other}\"; supported: standard, shortformer, rotary")))
        }
    }
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    let file = File { source, old: Old::of(cfg, source) };
    let blocks = (0..cfg.n_layers).map(|layer| block(cfg, &file, layer)).collect::<Result<_>>()?;
    let w_e = file.tensor("embed.W_E", &[cfg.d_vocab, cfg.d_model])?;
    let w_u = file.tensor("unembed.W_U", &[cfg.d_model, cfg.d_vocab])?;
    let ln_final = file.norm("ln_final", cfg.d_model, cfg.final_normalization.unwrap_or(cfg.normalization))?;
    let mut weights = Weights::new(w_e, blocks, ln_final, w_u);
    weights.b_u = source.optional("unembed.b_U", &[cfg.d_vocab])?;
    if cfg.positions != Positions::Rotary {
        weights.w_pos = Some(file.tensor("pos_embed.W_pos", &[cfg.n_ctx, cfg.d_model])?);
    }
    Ok(weights)
}

fn block(cfg: &ModelConfig, file: &File, layer: usize) -> Result<BlockWeights> {
    let &ModelConfig { n_heads: heads, n_key_value_heads: groups, d_model, d_head, d_mlp, .. } = cfg;
    let name = |part: &str| format!("blocks.{layer}.{part}");
    // Shared key and value heads are stored under a name of their own.
    let shared = |part: &str| name(&format!("attn.{}{part}", if groups < heads { "_" } else { "" }));
    let attention = AttentionWeights {
        w_q: file.tensor(&name("attn.W_Q"), &[heads, d_model, d_head])?,
        b_q: file.source.optional(&name("attn.b_Q"), &[heads, d_head])?,
        w_k: file.tensor(&shared("W_K"), &[groups, d_model, d_head])?,
        b_k: file.source.optional(&shared("b_K"), &[groups, d_head])?,
        w_v: file.tensor(&shared("W_V"), &[groups, d_model, d_head])?,
        b_v: file.source.optional(&shared("b_V"), &[groups, d_head])?,
        q_norm: None,
        k_norm: None,
        sinks: None,
        w_o: file.tensor(&name("attn.W_O"), &[heads, d_head, d_model])?,
        b_o: file.source.optional(&name("attn.b_O"), &[d_model])?,
    };
    let mlp = || -> Result<FeedForwardWeights> {
        Ok(FeedForwardWeights::Mlp(MlpWeights {
            w_in: file.tensor(&name("mlp.W_in"), &[d_model, d_mlp])?,
            b_in: file.source.optional(&name("mlp.b_in"), &[d_mlp])?,
            w_gate: cfg.gated_mlp.then(|| file.tensor(&name("mlp.W_gate"), &[d_model, d_mlp])).transpose()?,
            b_gate: file.source.optional(&name("mlp.b_gate"), &[d_mlp])?,
            xielu: None,
            ln: if cfg.mlp_ln { file.norm(&name("mlp.ln"), d_mlp, Normalization::LayerNorm)? } else { None },
            w_out: file.tensor(&name("mlp.W_out"), &[d_mlp, d_model])?,
            b_out: file.source.optional(&name("mlp.b_out"), &[d_model])?,
        }))
    };
    Ok(BlockWeights {
        ln1: file.norm(&name("ln1"), d_model, cfg.normalization)?,
        mixer: MixerWeights::Attention(attention),
        ln1_post: None,
        ln2: if d_mlp == 0 { None } else { file.norm(&name("ln2"), d_model, cfg.normalization)? },
        feed_forward: if d_mlp == 0 { None } else { Some(mlp()?) },
        ln2_post: None,
        cross_attention: None,
        ln3: None,
    })
}

/// The tensors of a file, as TransformerLens has them today.
struct File<'a> {
    source: &'a WeightSource,
    old: Old,
}

/// What the first SoLU models' files have otherwise: norms are called norm, not ln; those of up to eight layers hold the
/// positions transposed, those of up to six all other weights too.
#[derive(Default)]
struct Old {
    names: bool,
    transposed_positions: bool,
    transposed_weights: bool,
}

impl Old {
    fn of(cfg: &ModelConfig, source: &WeightSource) -> Self {
        if !["norm.w", "blocks.0.norm1.w", "blocks.0.mlp.norm.w"].iter().any(|name| source.has(name)) {
            return Self::default();
        }
        Self { names: true, transposed_positions: cfg.n_layers <= 8, transposed_weights: cfg.n_layers <= 6 }
    }
}

impl File<'_> {
    /// A weight, in today's shape.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let transposed =
            if name.ends_with("W_pos") { self.old.transposed_positions } else { self.old.transposed_weights };
        match (transposed, shape) {
            (true, [front @ .., rows, columns]) => {
                let stored = [front, &[*columns, *rows]].concat();
                Ok(self.source.tensor(name, &stored)?.transpose(D::Minus2, D::Minus1)?.contiguous()?)
            }
            _ => self.source.tensor(name, shape),
        }
    }

    /// A norm of a kind: none if the kind is none, one without weights where those were folded away.
    fn norm(&self, name: &str, width: usize, kind: Normalization) -> Result<Option<NormWeights>> {
        if kind == Normalization::None {
            return Ok(None);
        }
        let name = match self.old.names {
            true if name == "ln_final" => "norm".to_string(),
            true => name.replace("ln", "norm"),
            false => name.to_string(),
        };
        let w = self.source.optional(&format!("{name}.w"), &[width])?;
        Ok(Some(NormWeights { w, b: self.source.optional(&format!("{name}.b"), &[width])? }))
    }
}
