//! A model of GPT-2's kind as Hugging Face lays it out, so that Python's transformers reads it, too.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use candle_core::{DType, Tensor};
use candlescope::model::HookedTransformer;
use candlescope::weights::{AttentionWeights, FeedForwardWeights, MixerWeights, NormWeights};

/// Writes config.json, model.safetensors (f16) and the tokenizer.
pub fn save(model: &HookedTransformer, folder: &Path) -> Result<(), Box<dyn Error>> {
    let tokenizer = model.tokenizer()?;
    tokenizer.save(folder)?;
    let cfg = model.cfg();
    let end = tokenizer.eos_id();
    let config = serde_json::json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
        "initializer_range": 0.02,
        "layer_norm_epsilon": cfg.eps,
        "n_ctx": cfg.n_ctx, "n_positions": cfg.n_ctx,
        "n_embd": cfg.d_model, "n_head": cfg.n_heads, "n_layer": cfg.n_layers,
        "n_inner": serde_json::Value::Null,
        "tie_word_embeddings": true,
        "torch_dtype": "float16",
        "vocab_size": cfg.d_vocab,
    });
    fs::write(folder.join("config.json"), format!("{config:#}\n"))?;
    candle_core::safetensors::save(&tensors(model)?, folder.join("model.safetensors"))?;
    Ok(())
}

fn tensors(model: &HookedTransformer) -> Result<HashMap<String, Tensor>, Box<dyn Error>> {
    let weights = model.weights();
    let mut found: Vec<(String, Tensor)> = vec![("wte.weight".into(), weights.w_e)];
    found.extend(weights.w_pos.map(|w_pos| ("wpe.weight".to_string(), w_pos)));
    for (layer, block) in weights.blocks.into_iter().enumerate() {
        let mut add = |name: &str, w: Tensor, b: Option<Tensor>| -> Result<(), Box<dyn Error>> {
            found.push((format!("h.{layer}.{name}.weight"), w));
            found.push((format!("h.{layer}.{name}.bias"), b.ok_or(format!("{name} has no bias"))?));
            Ok(())
        };
        for (name, norm) in [("ln_1", block.ln1), ("ln_2", block.ln2)] {
            let NormWeights { w, b } = norm.ok_or("a block has no norm")?;
            add(name, w.ok_or("a norm has no factor")?, b)?;
        }
        let MixerWeights::Attention(AttentionWeights { w_q, b_q, w_k, b_k, w_v, b_v, w_o, b_o, .. }) = block.mixer
        else {
            return Err("a block has no attention".into());
        };
        // [head, d_model, d_head] to [d_model, head * d_head].
        let wide = |w: &Tensor| w.transpose(0, 1)?.flatten_from(1);
        let biases = [b_q, b_k, b_v].map(|b| b.ok_or("no bias").and_then(|b| b.flatten_all().map_err(|_| "no bias")));
        let [b_q, b_k, b_v] = biases;
        add(
            "attn.c_attn",
            Tensor::cat(&[wide(&w_q)?, wide(&w_k)?, wide(&w_v)?], 1)?,
            Some(Tensor::cat(&[b_q?, b_k?, b_v?], 0)?),
        )?;
        add("attn.c_proj", w_o.flatten(0, 1)?, b_o)?;
        let Some(FeedForwardWeights::Mlp(mlp)) = block.feed_forward else { return Err("a block has no MLP".into()) };
        add("mlp.c_fc", mlp.w_in, mlp.b_in)?;
        add("mlp.c_proj", mlp.w_out, mlp.b_out)?;
    }
    let NormWeights { w: Some(w), b: Some(b) } = weights.ln_final.ok_or("no last norm")? else {
        return Err("the last norm has no weights".into());
    };
    found.extend([("ln_f.weight".to_string(), w), ("ln_f.bias".to_string(), b)]);
    let half = |(name, tensor): (String, Tensor)| -> Result<(String, Tensor), Box<dyn Error>> {
        Ok((format!("transformer.{name}"), tensor.to_dtype(DType::F16)?.contiguous()?))
    };
    found.into_iter().map(half).collect()
}
