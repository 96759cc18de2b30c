//! A GGUF file's metadata as the config.json that the model had before llama.cpp's converter.

use serde_json::{Map, Value, json};

use crate::formats::gguf::Gguf;
use crate::{Error, Result};

/// The architectures whose names and layouts are known.
const KNOWN: &[&str] = &["gemma", "gemma2", "gpt2", "llama", "phi3", "qwen2", "qwen3"];

/// Switches that llama.cpp has, for other architectures than these: a file that sets one computes something else.
const SWITCHES: &[&str] = &[
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.scale",
    "attention.shared_kv_layers",
    "attention.temperature_scale",
    "embedding_scale",
    "logit_scale",
    "residual_scale",
    "rope.freq_base_swa",
    "rope.scaling.alpha",
    "use_parallel_residual",
];

/// The architecture that a file says it is of.
pub(crate) fn architecture(gguf: &Gguf) -> Result<&str> {
    let key = "general.architecture";
    let arch = gguf
        .text(key)?
        .ok_or_else(|| gguf.error(key, "is missing; it may be a later part of a split model, so give the first"))?;
    if !KNOWN.contains(&arch) {
        let why = format!(
            "is '{arch}', and candlescope reads GGUF files of: {}; use the model's safetensors",
            KNOWN.join(", ")
        );
        return Err(gguf.error(key, &why));
    }
    Ok(arch)
}

/// The file's configuration, in Hugging Face's keys.
///
/// # Errors
/// An architecture that is not known, missing sizes, or a part that the translation would lose.
pub(crate) fn config_json(gguf: &Gguf) -> Result<Value> {
    let arch = architecture(gguf)?;
    let meta = Meta { gguf, arch };
    if meta.size("expert_count")?.unwrap_or(0) > 0 {
        return Err(meta
            .error("expert_count", "is set: mixtures of experts are not read from GGUF; use the model's safetensors"));
    }
    let embedding = gguf.tensors().get("token_embd.weight").map(|entry| entry.shape.as_slice());
    let Some([vocab_size, _]) = embedding else {
        return Err(Error::BadConfig {
            origin: gguf.label().to_string(),
            why: "the tensor 'token_embd.weight' is missing, which tells the vocabulary's size".to_string(),
        });
    };
    for key in SWITCHES {
        if meta.is_set(key)? {
            return Err(
                meta.error(key, "is set, and candlescope does not read that from GGUF; use the model's safetensors")
            );
        }
    }
    let mut config = Map::new();
    config.insert("model_type".into(), json!(arch));
    config.insert("vocab_size".into(), json!(vocab_size));
    config.insert("tie_word_embeddings".into(), json!(!gguf.tensors().contains_key("output.weight")));
    for (ours, theirs) in
        [("bos_token_id", "tokenizer.ggml.bos_token_id"), ("eos_token_id", "tokenizer.ggml.eos_token_id")]
    {
        config.insert(ours.into(), json!(gguf.size(theirs)?));
    }
    if arch == "gpt2" {
        gpt2(&meta, &mut config)?
    } else {
        llama_like(&meta, &mut config)?
    }
    // A key that is absent has Hugging Face's default, which null would not have.
    config.retain(|_, value| !value.is_null());
    Ok(Value::Object(config))
}

fn gpt2(meta: &Meta, config: &mut Map<String, Value>) -> Result<()> {
    config.insert("n_layer".into(), json!(meta.needed("block_count")?));
    config.insert("n_embd".into(), json!(meta.needed("embedding_length")?));
    config.insert("n_head".into(), json!(meta.needed("attention.head_count")?));
    config.insert("n_positions".into(), json!(meta.needed("context_length")?));
    config.insert("n_inner".into(), json!(meta.size("feed_forward_length")?));
    config.insert("layer_norm_epsilon".into(), json!(meta.number("attention.layer_norm_epsilon")?));
    config.insert("activation_function".into(), json!("gelu_new"));
    Ok(())
}

fn llama_like(meta: &Meta, config: &mut Map<String, Value>) -> Result<()> {
    let (d_model, layers) = (meta.needed("embedding_length")?, meta.needed("block_count")?);
    let heads = meta.needed("attention.head_count")?;
    let key_length = meta.size("attention.key_length")?;
    if key_length != meta.size("attention.value_length")? {
        return Err(meta.error("attention.value_length", "differs from attention.key_length, which is not supported"));
    }
    let d_head = key_length.or_else(|| d_model.checked_div(heads)).unwrap_or(0);
    let has = |tensor: &str| meta.gguf.tensors().contains_key(tensor);
    let gemma = meta.arch.starts_with("gemma");
    let act = if gemma { "gelu_pytorch_tanh" } else { "silu" };
    for (key, value) in [
        ("hidden_size", json!(d_model)),
        ("num_hidden_layers", json!(layers)),
        ("num_attention_heads", json!(heads)),
        ("num_key_value_heads", json!(meta.size("attention.head_count_kv")?.unwrap_or(heads))),
        ("head_dim", json!(d_head)),
        ("intermediate_size", json!(meta.needed("feed_forward_length")?)),
        ("max_position_embeddings", json!(meta.needed("context_length")?)),
        ("rms_norm_eps", json!(meta.number("attention.layer_norm_rms_epsilon")?)),
        ("rope_theta", json!(meta.number("rope.freq_base")?.unwrap_or(10000.0))),
        ("hidden_act", json!(act)),
        ("hidden_activation", json!(gemma.then_some(act))),
        ("attention_bias", json!(has("blk.0.attn_q.bias"))),
        ("mlp_bias", json!(has("blk.0.ffn_up.bias"))),
    ] {
        config.insert(key.into(), value);
    }
    windows(meta, config)?;
    if meta.arch == "gemma2" {
        // The first files went without the caps, and llama.cpp takes these for every Gemma 2.
        for (key, cap) in [("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)] {
            config.insert(key.into(), json!(meta.number(key)?.unwrap_or(cap)));
        }
        // Not in the file. The one model (27B, 46 layers) whose scale is not the head's width is known by its depth.
        let scale = if layers == 46 { d_model.checked_div(heads).unwrap_or(d_head) } else { d_head };
        config.insert("query_pre_attn_scalar".into(), json!(scale));
    }
    let rotary_dim = meta.size("rope.dimension_count")?.unwrap_or(d_head);
    if meta.arch == "phi3" {
        config.insert("partial_rotary_factor".into(), json!(rotary_dim as f64 / d_head.max(1) as f64));
        let original = meta.size("rope.scaling.original_context_length")?;
        config.insert("original_max_position_embeddings".into(), json!(original));
    } else if rotary_dim != d_head {
        return Err(
            meta.error("rope.dimension_count", "is not the head's width, which is not supported for this architecture")
        );
    }
    config.insert("rope_scaling".into(), rope_scaling(meta, d_head)?);
    Ok(())
}

/// The sliding window, in the architectures that have one. Zero is how the converter writes that there is none.
fn windows(meta: &Meta, config: &mut Map<String, Value>) -> Result<()> {
    let key = "attention.sliding_window";
    let Some(window) = meta.size(key)?.filter(|window| *window > 0) else { return Ok(()) };
    match meta.arch {
        "gemma2" | "phi3" => {}
        // Mistral, which has no name of its own in llama.cpp.
        "llama" => drop(config.insert("model_type".into(), json!("mistral"))),
        _ => return Err(meta.error(key, "is set, and this architecture has no sliding windows in GGUF")),
    }
    config.insert("sliding_window".into(), json!(window));
    Ok(())
}

/// `rope_scaling` of config.json, or null.
fn rope_scaling(meta: &Meta, d_head: usize) -> Result<Value> {
    let vector = |name: &str| -> Result<Option<Vec<f32>>> {
        if !meta.gguf.tensors().contains_key(name) {
            return Ok(None);
        }
        Ok(Some(meta.gguf.load(name, &candle_core::Device::Cpu)?.flatten_all()?.to_vec1()?))
    };
    if let Some(factors) = vector("rope_freqs.weight")? {
        let base = meta.number("rope.freq_base")?.unwrap_or(10000.0);
        return llama3_scaling(&factors, base, d_head).ok_or_else(|| Error::BadConfig {
            origin: meta.gguf.label().to_string(),
            why: "the tensor 'rope_freqs.weight' scales the rotary positions in a way that is not Llama 3's; use the \
                  model's safetensors"
                .to_string(),
        });
    }
    if let (Some(long), Some(short)) = (vector("rope_factors_long.weight")?, vector("rope_factors_short.weight")?) {
        // What rotated queries and keys are multiplied by; absent, it follows from the two lengths.
        let stretch = meta.number("rope.scaling.attn_factor")?;
        return Ok(
            json!({"type": "longrope", "long_factor": long, "short_factor": short, "attention_factor": stretch}),
        );
    }
    let kind = meta.gguf.text(&meta.key("rope.scaling.type"))?.unwrap_or("none");
    let factor = meta.number("rope.scaling.factor")?;
    match kind {
        "none" => Ok(Value::Null),
        "linear" => Ok(json!({"type": "linear", "factor": factor})),
        "yarn" => {
            for (key, usual) in [("attn_factor", 1.0), ("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
                let key = format!("rope.scaling.{key}");
                if meta.number(&key)?.is_some_and(|number| number != usual) {
                    return Err(meta.error(&key, &format!("is not {usual}, which is not supported")));
                }
            }
            Ok(json!({
                "type": "yarn", "factor": factor,
                "original_max_position_embeddings": meta.size("rope.scaling.original_context_length")?,
                "beta_fast": meta.number("rope.scaling.yarn_beta_fast")?,
                "beta_slow": meta.number("rope.scaling.yarn_beta_slow")?,
            }))
        }
        other => Err(meta.error("rope.scaling.type", &format!("is '{other}'; known: none, linear, yarn"))),
    }
}

/// The parameters of Llama 3's scaling. The file has only the factors that came of them, one for each frequency; so
/// the customary parameters are tried, and those that give the same factors are right.
fn llama3_scaling(factors: &[f32], base: f64, d_head: usize) -> Option<Value> {
    let factor = factors.iter().copied().fold(0f32, f32::max);
    let (low, high) = (1.0, 4.0);
    (5..=20).map(|power| f64::from(1u32 << power)).find_map(|original| {
        let agrees = factors.iter().enumerate().all(|(index, found)| {
            let frequency = base.powf(-2.0 * index as f64 / d_head as f64);
            let turns = original * frequency / std::f64::consts::TAU;
            let expected = if turns > high {
                1.0
            } else if turns < low {
                f64::from(factor)
            } else {
                let smooth = (turns - low) / (high - low);
                1.0 / ((1.0 - smooth) / f64::from(factor) + smooth)
            };
            (expected - f64::from(*found)).abs() <= 1e-3 * expected
        });
        (agrees && factors.len() * 2 == d_head).then(|| {
            json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original as u64,
            })
        })
    })
}

/// The metadata under the architecture's own prefix.
struct Meta<'a> {
    gguf: &'a Gguf,
    arch: &'a str,
}

impl Meta<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        self.gguf.size(&self.key(key))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.gguf.number(&self.key(key))
    }

    /// Whether a switch is there and not off: a number other than 0, or true.
    fn is_set(&self, key: &str) -> Result<bool> {
        let key = self.key(key);
        match self.gguf.flag(&key) {
            Ok(flag) => Ok(flag.unwrap_or(false)),
            Err(_) => Ok(self.gguf.number(&key)?.is_some_and(|number| number != 0.0)),
        }
    }

    fn error(&self, key: &str, why: &str) -> Error {
        self.gguf.error(&self.key(key), why)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::gguf_file::{self, Value as Meta};
    use candle_core::quantized::{GgmlDType, QTensor};

    use super::{Gguf, Value, config_json, json, llama3_scaling};
    use crate::hub::FileData;

    #[test]
    fn llama_3s_scaling_is_found_from_its_factors() {
        // The formula as it is published, for Llama 3.1: factor 8, 8192 tokens.
        let (base, d_head, factor, original) = (500000f64, 128usize, 8f64, 8192f64);
        let factors: Vec<f32> = (0..d_head / 2)
            .map(|i| {
                let wavelength = std::f64::consts::TAU * base.powf(2.0 * i as f64 / d_head as f64);
                if wavelength < original / 4.0 {
                    1.0
                } else if wavelength > original {
                    factor as f32
                } else {
                    let smooth = (original / wavelength - 1.0) / 3.0;
                    (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
                }
            })
            .collect();
        let found = llama3_scaling(&factors, base, d_head).unwrap();
        assert_eq!(found["factor"], 8.0);
        assert_eq!(found["original_max_position_embeddings"], 8192);
        assert!(llama3_scaling(&[1.0, 2.0, 1.0], base, 6).is_none());
    }

    /// The configuration of a file with this metadata, and vectors of ones under these names.
    fn config(test: &str, metadata: &[(&str, Meta)], vectors: &[(&str, usize)]) -> Value {
        let path = std::env::temp_dir().join(format!("candlescope-config-{test}-{}.gguf", std::process::id()));
        let one = |rows: usize, columns: usize| {
            let ones = candle_core::Tensor::ones((rows, columns), candle_core::DType::F32, &candle_core::Device::Cpu);
            QTensor::quantize(&ones.unwrap(), GgmlDType::F32).unwrap()
        };
        let mut tensors = vec![("token_embd.weight", one(10, 8))];
        tensors.extend(vectors.iter().map(|(name, length)| (*name, one(1, *length))));
        let metadata: Vec<(&str, &Meta)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
        gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, &tensors).unwrap();
        let config = config_json(&Gguf::open(&FileData::from(path.clone())).unwrap());
        let _ = std::fs::remove_file(path);
        config.unwrap()
    }

    #[test]
    fn gemma_2_gets_the_keys_of_its_config() {
        let config = config(
            "gemma2",
            &[
                ("general.architecture", Meta::String("gemma2".into())),
                ("gemma2.context_length", Meta::U32(8192)),
                ("gemma2.embedding_length", Meta::U32(4608)),
                ("gemma2.block_count", Meta::U32(46)),
                ("gemma2.feed_forward_length", Meta::U32(36864)),
                ("gemma2.attention.head_count", Meta::U32(32)),
                ("gemma2.attention.head_count_kv", Meta::U32(16)),
                ("gemma2.attention.layer_norm_rms_epsilon", Meta::F32(1e-6)),
                ("gemma2.attention.key_length", Meta::U32(128)),
                ("gemma2.attention.value_length", Meta::U32(128)),
                ("gemma2.attn_logit_softcapping", Meta::F32(50.0)),
                ("gemma2.final_logit_softcapping", Meta::F32(30.0)),
                ("gemma2.attention.sliding_window", Meta::U32(4096)),
            ],
            &[],
        );
        // The published config.json of gemma-2-27b.
        for (key, expected) in [
            ("model_type", json!("gemma2")),
            ("hidden_size", json!(4608)),
            ("head_dim", json!(128)),
            ("query_pre_attn_scalar", json!(144)),
            ("attn_logit_softcapping", json!(50.0)),
            ("final_logit_softcapping", json!(30.0)),
            ("sliding_window", json!(4096)),
            ("hidden_activation", json!("gelu_pytorch_tanh")),
            ("tie_word_embeddings", json!(true)),
            ("vocab_size", json!(10)),
        ] {
            assert_eq!(config[key], expected, "{key}");
        }
    }

    #[test]
    fn phi_3_gets_its_long_factors() {
        let config = config(
            "phi3",
            &[
                ("general.architecture", Meta::String("phi3".into())),
                ("phi3.context_length", Meta::U32(131072)),
                ("phi3.rope.scaling.original_context_length", Meta::U32(4096)),
                ("phi3.embedding_length", Meta::U32(64)),
                ("phi3.feed_forward_length", Meta::U32(128)),
                ("phi3.block_count", Meta::U32(2)),
                ("phi3.attention.head_count", Meta::U32(4)),
                ("phi3.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
                ("phi3.rope.dimension_count", Meta::U32(12)),
                ("phi3.rope.freq_base", Meta::F32(10000.0)),
                ("phi3.attention.sliding_window", Meta::U32(0)),
            ],
            &[("rope_factors_long.weight", 6), ("rope_factors_short.weight", 6), ("output.weight", 8)],
        );
        assert_eq!(config["rope_scaling"]["type"], "longrope");
        assert_eq!(config["rope_scaling"]["long_factor"], json!([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]));
        assert_eq!(config["original_max_position_embeddings"], 4096);
        assert_eq!(config["partial_rotary_factor"], 0.75);
        assert_eq!(config["tie_word_embeddings"], false);
        assert!(config.get("sliding_window").is_none(), "0 means none");
    }
}
