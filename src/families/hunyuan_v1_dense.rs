//! Hunyuan dense (Tencent 2025): Llama with norms on rotated queries and keys.

use super::{ConfigJson, Family, layout, llama};
use crate::Result;
use crate::model::{ModelConfig, QkNorm, Rotary};
use crate::weights::{BlockWeights, MixerWeights, WeightSource, Weights};

pub(super) static FAMILY: Family = Family { model_type: "hunyuan_v1_dense", config, weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = llama::config_with(json, llama::Defaults { eps: 1e-5, ..Default::default() })?;
    let cfg = ModelConfig { qk_norm: Some(QkNorm { after_rotary: true, ..layout::QK_RMS_NORM }), ..cfg };
    let key = if json.value("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let rope = json.nested(key)?;
    // Its "dynamic" scaling is a larger base, fixed by a number of its own.
    let kind = rope.string_or("rope_type", &rope.string_or("type", "default")?)?;
    match rope.optional_number("alpha")?.filter(|_| kind == "dynamic") {
        Some(alpha) => {
            let base = rope.number_or("rope_theta", json.number_or("rope_theta", 10000.0)?)?;
            let dim = cfg.d_head as f64;
            let rotary = Rotary::new(cfg.d_head, base * alpha.powf(dim / (dim - 2.0)));
            Ok(cfg.with_rotary(rotary))
        }
        None => Ok(cfg),
    }
}

fn weights(cfg: &ModelConfig, source: &WeightSource) -> Result<Weights> {
    layout::llama_like(cfg, source, |cfg, source, layer| -> Result<BlockWeights> {
        let mut block = llama::block(cfg, source, layer)?;
        let norms = ["query_layernorm", "key_layernorm"];
        block.mixer = MixerWeights::Attention(layout::qk_normed_attention(cfg, source, layer, norms)?);
        Ok(block)
    })
}
