//! SmolLM3 (Hugging Face 2025): Llama, with no rotation in every fourth layer.

use super::{ConfigJson, Family, llama};
use crate::Result;
use crate::model::ModelConfig;

pub(super) static FAMILY: Family = Family { model_type: "smollm3", config, weights: llama::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let defaults = llama::Defaults { rope_theta: 2e6, tied: true, ..Default::default() };
    let mut cfg = ModelConfig { default_prepend_bos: false, ..llama::config_with(json, defaults)? };
    let interval = json.size_or("no_rope_layer_interval", 4)?;
    let rotates: Vec<bool> = match json.value("no_rope_layers") {
        None => (0..cfg.n_layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect(),
        // Against its name, the list has a 1 for a layer that does rotate.
        Some(list) => {
            let flags = list.as_array().map(|list| list.iter().map(|flag| flag.as_u64().map(|n| n != 0)).collect());
            let flags: Option<Vec<bool>> = flags.flatten();
            let flags = flags.filter(|flags| flags.len() == cfg.n_layers);
            flags.ok_or_else(|| {
                json.wrong("no_rope_layers", &format!("a list of {} zeros and ones", cfg.n_layers), list)
            })?
        }
    };
    if json.flag_or("use_sliding_window", false)? {
        let window = json.optional_size("sliding_window")?;
        let windows = json.windows(cfg.n_layers, window, |layer| window.is_some() && !rotates[layer])?;
        cfg = cfg.with_windows(windows);
    }
    for (layer, rotates) in cfg.layers.iter_mut().zip(rotates) {
        layer.rotary = layer.rotary.take().filter(|_| rotates);
    }
    Ok(cfg)
}
