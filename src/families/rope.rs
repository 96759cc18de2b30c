//! Reading rotary positions from config.json: `rope_parameters`, or `rope_theta` and `rope_scaling` in older files.

use super::ConfigJson;
use crate::Result;
use crate::model::{RopeScaling, Rotary};

const KNOWN: &str = "default, linear, dynamic, llama3, yarn, longrope";

impl ConfigJson {
    /// The rotary positions of all layers.
    pub(crate) fn rotary(&self, d_head: usize, default_fraction: f64, default_base: f64) -> Result<Rotary> {
        let key = if self.value("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
        self.rotary_under(&self.nested(key)?, d_head, default_fraction, default_base)
    }

    /// The rotary positions of the layers of a kind (`full_attention`, `sliding_attention`), for which newer files have
    /// parameters of their own; none where this file has the same for all layers.
    pub(crate) fn rotary_of(&self, kind: &str, d_head: usize, default_base: f64) -> Result<Option<Rotary>> {
        let parameters = self.nested("rope_parameters")?;
        match parameters.value(kind) {
            Some(_) => self.rotary_under(&parameters.nested(kind)?, d_head, 1.0, default_base).map(Some),
            None => Ok(None),
        }
    }

    fn rotary_under(&self, parameters: &Self, d_head: usize, fraction: f64, base: f64) -> Result<Rotary> {
        let either = |keys: &[&str], default: f64| -> Result<f64> {
            let places = keys.iter().flat_map(|key| [(parameters, *key), (self, *key)]);
            match places.into_iter().find(|(config, key)| config.value(key).is_some()) {
                Some((config, key)) => config.number(key),
                None => Ok(default),
            }
        };
        let base = either(&["rope_theta", "rotary_emb_base"], base)?;
        if base <= 0.0 {
            return Err(self.error(format!("the base of the rotary positions is {base}; it must be positive")));
        }
        let fraction = either(&["partial_rotary_factor", "rotary_pct"], fraction)?;
        let rotary_dim = (d_head as f64 * fraction) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > d_head {
            return Err(self.error(format!(
                "rotary positions turn {rotary_dim} of {d_head} head dimensions; an even number from 2 to {d_head} is needed"
            )));
        }
        let scaling = self.rope_scaling(parameters, rotary_dim)?;
        Ok(Rotary { scaling, ..Rotary::new(rotary_dim, base) })
    }

    fn rope_scaling(&self, parameters: &Self, rotary_dim: usize) -> Result<RopeScaling> {
        let kind = match parameters.value("rope_type").or_else(|| parameters.value("type")) {
            Some(kind) => kind.as_str().ok_or_else(|| self.wrong("rope_type", "a string", kind))?,
            None => "default",
        };
        let n_ctx = || self.size("max_position_embeddings").map(|n_ctx| n_ctx as f64);
        let original = || match parameters.optional_number("original_max_position_embeddings")? {
            Some(original) => Ok(original),
            None => match self.optional_number("original_max_position_embeddings")? {
                Some(original) => Ok(original),
                None => n_ctx(),
            },
        };
        let factor = || positive(self, "factor", parameters.number("factor")?);
        Ok(match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor()? },
            // Hugging Face's counts from the whole context here, not from the trained one.
            "dynamic" => RopeScaling::Dynamic { factor: factor()?, original_n_ctx: n_ctx()? },
            "llama3" => RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: parameters.number("low_freq_factor")?,
                high_freq_factor: parameters.number("high_freq_factor")?,
                original_n_ctx: parameters.number("original_max_position_embeddings")?,
            },
            "yarn" => {
                let original_n_ctx = original()?;
                let factor = match parameters.optional_number("factor")? {
                    Some(factor) => positive(self, "factor", factor)?,
                    None => n_ctx()? / original_n_ctx,
                };
                RopeScaling::Yarn {
                    factor,
                    beta_fast: parameters.number_or("beta_fast", 32.0)?,
                    beta_slow: parameters.number_or("beta_slow", 1.0)?,
                    original_n_ctx,
                    truncate: parameters.flag_or("truncate", true)?,
                    attention_factor: yarn_attention_factor(parameters, factor)?,
                }
            }
            "longrope" | "su" => {
                let original_n_ctx = original()?;
                let factor = match parameters.optional_number("factor")? {
                    Some(factor) => positive(self, "factor", factor)?,
                    None => n_ctx()? / original_n_ctx,
                };
                let stretched = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original_n_ctx.ln()).sqrt() };
                RopeScaling::LongRope {
                    short: parameters.numbers("short_factor", rotary_dim / 2)?,
                    long: parameters.numbers("long_factor", rotary_dim / 2)?,
                    original_n_ctx,
                    attention_factor: parameters.number_or("attention_factor", stretched)?,
                }
            }
            other => return Err(self.error(format!("rope_type '{other}' is not supported yet; known: {KNOWN}"))),
        })
    }
}

/// What YaRN multiplies queries and keys by: given, or from the factor, and from two factors where DeepSeek gives them.
fn yarn_attention_factor(parameters: &ConfigJson, factor: f64) -> Result<f64> {
    if let Some(given) = parameters.optional_number("attention_factor")? {
        return Ok(given);
    }
    let stretch = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let scale = |key| Ok::<_, crate::Error>(parameters.optional_number(key)?.filter(|scale| *scale != 0.0));
    match (scale("mscale")?, scale("mscale_all_dim")?) {
        (Some(scale), Some(all)) => Ok(stretch(scale) / stretch(all)),
        _ => Ok(stretch(1.0)),
    }
}

fn positive(json: &ConfigJson, key: &str, number: f64) -> Result<f64> {
    if number > 0.0 { Ok(number) } else { Err(json.error(format!("'{key}' is {number}; it must be positive"))) }
}
