//! OLMo 3 (OLMo Team 2025): OLMo 2 with three sliding layers to one that sees everything.

use super::{ConfigJson, Family, olmo2};
use crate::Result;
use crate::model::{ModelConfig, RopeScaling};

pub(super) static FAMILY: Family = Family { model_type: "olmo3", config, weights: olmo2::weights };

fn config(json: &ConfigJson) -> Result<ModelConfig> {
    let cfg = olmo2::config(json)?;
    let window = json.size_or("sliding_window", 4096)?;
    let windows = json.windows(cfg.n_layers, Some(window), |layer| !(layer + 1).is_multiple_of(4))?;
    let mut cfg = cfg.with_windows(windows);
    for layer in &mut cfg.layers {
        let kind = if layer.window.is_some() { "sliding_attention" } else { "full_attention" };
        match (json.rotary_of(kind, cfg.d_head, 500_000.0)?, &mut layer.rotary) {
            (Some(rotary), _) => layer.rotary = Some(rotary),
            // In older files a scaling is that of the layers which see everything.
            (None, Some(rotary)) if layer.window.is_some() => rotary.scaling = RopeScaling::None,
            _ => {}
        }
    }
    Ok(cfg)
}
