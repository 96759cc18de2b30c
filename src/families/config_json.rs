//! Reading `config.json`: every value typed, every mistake a sentence with the file and the key.

use serde_json::Value;

use crate::model::{Activation, RopeScaling, Rotary};
use crate::{Error, Result};

/// A model's config.json.
pub(crate) struct ConfigJson {
    values: Value,
    origin: String,
}

impl ConfigJson {
    /// `origin` is the file's name, for messages.
    pub(crate) fn parse(bytes: &[u8], origin: &str) -> Result<Self> {
        let bad = |why: String| Error::BadConfig { origin: origin.to_string(), why };
        let values: Value = serde_json::from_slice(bytes).map_err(|e| bad(format!("is not valid JSON ({e})")))?;
        if !values.is_object() {
            return Err(bad("holds no JSON object".to_string()));
        }
        Ok(Self { values, origin: origin.to_string() })
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// An error about this file.
    pub(crate) fn error(&self, why: impl Into<String>) -> Error {
        Error::BadConfig { origin: self.origin.clone(), why: why.into() }
    }

    /// A value that may be absent or null.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, key: &str) -> Result<String> {
        let value = self.required(key)?;
        value.as_str().map(str::to_string).ok_or_else(|| self.wrong(key, "a string", value))
    }

    /// A size: a whole number of at least one.
    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        let value = self.required(key)?;
        let size = value.as_u64().filter(|size| (1..=1 << 32).contains(size));
        size.map(|size| size as usize).ok_or_else(|| self.wrong(key, "a whole number of at least 1", value))
    }

    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.value(key).is_some() { self.size(key) } else { Ok(default) }
    }

    /// A size under the first of these keys that is there: families renamed their keys.
    pub(crate) fn size_of(&self, keys: &[&str]) -> Result<usize> {
        self.size(keys.iter().find(|key| self.value(key).is_some()).unwrap_or(&keys[0]))
    }

    pub(crate) fn size_of_or(&self, keys: &[&str], default: usize) -> Result<usize> {
        if keys.iter().any(|key| self.value(key).is_some()) { self.size_of(keys) } else { Ok(default) }
    }

    pub(crate) fn string_or(&self, key: &str, default: &str) -> Result<String> {
        if self.value(key).is_some() { self.string(key) } else { Ok(default.to_string()) }
    }

    /// The object under a key; an empty one where there is none.
    pub(crate) fn nested(&self, key: &str) -> Result<Self> {
        let values = match self.value(key) {
            Some(values) if values.is_object() => values.clone(),
            Some(other) => return Err(self.wrong(key, "an object", other)),
            None => Value::Object(Default::default()),
        };
        Ok(Self { values, origin: self.origin.clone() })
    }

    pub(crate) fn activation_or(&self, key: &str, default: Activation) -> Result<Activation> {
        if self.value(key).is_some() { self.activation(key) } else { Ok(default) }
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64> {
        let value = self.required(key)?;
        value.as_f64().filter(|n| n.is_finite()).ok_or_else(|| self.wrong(key, "a number", value))
    }

    pub(crate) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.value(key).is_some() { self.number(key) } else { Ok(default) }
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.value(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value)),
            None => Ok(default),
        }
    }

    /// An activation function by Hugging Face's name.
    pub(crate) fn activation(&self, key: &str) -> Result<Activation> {
        let name = self.string(key)?;
        Activation::parse(&name).map_err(|e| self.error(format!("'{key}': {e}")))
    }

    /// An error if a switch is set that this family's forward pass doesn't have: better than a silently different model.
    pub(crate) fn refuse_if(&self, set: bool, key: &str) -> Result<()> {
        if set { Err(self.error(format!("'{key}' is set, and candlescope does not support that yet"))) } else { Ok(()) }
    }

    /// A quotient that must come out whole, such as d_model / n_heads.
    pub(crate) fn divide(&self, what: &str, dividend: usize, divisor: usize) -> Result<usize> {
        if dividend.is_multiple_of(divisor) {
            Ok(dividend / divisor)
        } else {
            Err(self.error(format!("{what}: {dividend} is not a multiple of {divisor}")))
        }
    }

    /// The rotary positions of a model: `rope_parameters`, or `rope_theta` and `rope_scaling` in older files.
    pub(crate) fn rotary(&self, d_head: usize, default_fraction: f64, default_base: f64) -> Result<Rotary> {
        let nested = self.value("rope_parameters").or_else(|| self.value("rope_scaling")).cloned();
        let nested =
            Self { values: nested.unwrap_or_else(|| Value::Object(Default::default())), origin: self.origin.clone() };
        let either = |keys: &[&str], default: f64| -> Result<f64> {
            for key in keys {
                for config in [&nested, self] {
                    if config.value(key).is_some() {
                        return config.number(key);
                    }
                }
            }
            Ok(default)
        };
        let base = either(&["rope_theta", "rotary_emb_base"], default_base)?;
        let fraction = either(&["partial_rotary_factor", "rotary_pct"], default_fraction)?;
        let rotary_dim = (d_head as f64 * fraction) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > d_head {
            return Err(self.error(format!("rotary positions turn {rotary_dim} of {d_head} head dimensions; an even number from 2 to {d_head} is needed")));
        }
        let kind = match nested.value("rope_type").or_else(|| nested.value("type")) {
            Some(kind) => kind.as_str().ok_or_else(|| self.wrong("rope_type", "a string", kind))?,
            None => "default",
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: nested.number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: nested.number("factor")?,
                low_freq_factor: nested.number("low_freq_factor")?,
                high_freq_factor: nested.number("high_freq_factor")?,
                original_n_ctx: nested.number("original_max_position_embeddings")?,
            },
            other => {
                return Err(
                    self.error(format!("rope_type '{other}' is not supported yet; known: default, linear, llama3"))
                );
            }
        };
        Ok(Rotary { scaling, ..Rotary::new(rotary_dim, base) })
    }

    fn required(&self, key: &str) -> Result<&Value> {
        self.value(key).ok_or_else(|| self.error(format!("'{key}' is missing")))
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.error(format!("'{key}' is {found}, and {expected} was expected"))
    }
}
