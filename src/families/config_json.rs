//! Reading `config.json`: every value typed, every mistake a sentence with the file and the key.

use serde_json::Value;

use crate::model::Activation;
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
        let read = serde_json::from_slice(bytes);
        let read = read.or_else(|e| serde_json::from_slice(&with_infinity_as_string(bytes)).map_err(|_| e));
        let values: Value = read.map_err(|e| bad(format!("is not valid JSON ({e})")))?;
        if !values.is_object() {
            return Err(bad("holds no JSON object".to_string()));
        }
        Ok(Self { values, origin: origin.to_string() })
    }

    /// Takes over what `other` has under these keys and this does not.
    pub(crate) fn inherit(&mut self, other: &Self, keys: &[&str]) {
        for key in keys {
            let missing = self.value(key).is_none();
            if let (true, Some(value), Some(own)) = (missing, other.value(key), self.values.as_object_mut()) {
                own.insert(key.to_string(), value.clone());
            }
        }
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

    /// Whether a key is there with null for its value.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    pub(crate) fn string(&self, key: &str) -> Result<String> {
        let value = self.required(key)?;
        value.as_str().map(str::to_string).ok_or_else(|| self.wrong(key, "a string", value))
    }

    /// A size: a whole number of at least one. Something is allocated for each layer before its weights are seen to be
    /// there, so a number of layers has a bound.
    pub(crate) fn size(&self, key: &str) -> Result<usize> {
        let value = self.required(key)?;
        let most: u64 = if key.contains("layer") { 1 << 14 } else { 1 << 32 };
        let size = value.as_u64().filter(|size| (1..=most).contains(size));
        size.map(|size| size as usize)
            .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {most}"), value))
    }

    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.value(key).is_some() { self.size(key) } else { Ok(default) }
    }

    /// A whole number that may be zero.
    pub(crate) fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let count = value.as_u64().filter(|count| *count <= 1 << 32);
        count.map(|count| count as usize).ok_or_else(|| self.wrong(key, "a whole number", value))
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

    /// A list of positive numbers of this length.
    pub(crate) fn numbers(&self, key: &str, length: usize) -> Result<Vec<f64>> {
        let value = self.required(key)?;
        let list = value.as_array().map(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
        match list.flatten() {
            Some(list) if list.len() == length && list.iter().all(|n| *n > 0.0 && n.is_finite()) => Ok(list),
            _ => Err(self.wrong(key, &format!("a list of {length} positive numbers"), value)),
        }
    }

    /// The sliding windows by `layer_types` ("sliding_attention" or "full_attention" for each layer), or, where the file
    /// has no such list, by `default`, which says of a layer whether it slides.
    pub(crate) fn windows(
        &self,
        n_layers: usize,
        window: Option<usize>,
        default: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<usize>>> {
        let slides = match self.value("layer_types") {
            None => (0..n_layers).map(default).collect::<Vec<_>>(),
            Some(types) => {
                let kinds = types.as_array().filter(|kinds| kinds.len() == n_layers);
                let kinds = kinds.ok_or_else(|| self.wrong("layer_types", &format!("a list of {n_layers}"), types))?;
                let slides = |kind: &Value| match kind.as_str() {
                    Some("sliding_attention") => Ok(true),
                    Some("full_attention") => Ok(false),
                    _ => Err(self.wrong("layer_types", "'sliding_attention' or 'full_attention'", kind)),
                };
                kinds.iter().map(slides).collect::<Result<_>>()?
            }
        };
        if window.is_none() && slides.contains(&true) {
            return Err(
                self.error("a layer slides, and 'sliding_window' (or 'use_sliding_window') says there is no window")
            );
        }
        Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
    }

    /// A size that may be absent or null.
    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        self.value(key).map(|_| self.size(key)).transpose()
    }

    /// A number that may be absent or null.
    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        self.value(key).map(|_| self.number(key)).transpose()
    }

    /// A token's id.
    pub(crate) fn token(&self, key: &str) -> Result<u32> {
        let value = self.required(key)?;
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.wrong(key, "a token's id, a whole number of at least 0", value))
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

    pub(super) fn required(&self, key: &str) -> Result<&Value> {
        self.value(key).ok_or_else(|| self.error(format!("'{key}' is missing")))
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.error(format!("'{key}' is {found}, and {expected} was expected"))
    }
}

/// Python writes infinite numbers as bare words (`[0.0, Infinity]` in Mamba-2's files), which JSON does not know: the same
/// bytes with those words in quotes.
fn with_infinity_as_string(bytes: &[u8]) -> Vec<u8> {
    const WORD: &[u8] = b"Infinity";
    let (mut out, mut rest, mut in_string) = (Vec::with_capacity(bytes.len()), bytes, false);
    while let Some((&byte, after)) = rest.split_first() {
        let word = if byte == b'-' { 1 + WORD.len() } else { WORD.len() };
        match rest.get(..word) {
            Some(found) if !in_string && found.ends_with(WORD) => {
                out.push(b'"');
                out.extend_from_slice(found);
                out.push(b'"');
                rest = &rest[word..];
                continue;
            }
            _ => {}
        }
        out.push(byte);
        rest = after;
        match (byte, rest.split_first()) {
            (b'"', _) => in_string = !in_string,
            (b'\\', Some((&escaped, after))) if in_string => {
                out.push(escaped);
                rest = after;
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod infinity {
    use super::*;

    #[test]
    fn bare_infinities_are_read_and_words_in_strings_stay() -> Result<()> {
        let json = ConfigJson::parse(br#"{"a \"Infinity": [0.0, Infinity, -Infinity], "b": "Infinity"}"#, "x")?;
        let list = json.value("a \"Infinity").map(Value::to_string);
        assert_eq!(list.as_deref(), Some(r#"[0.0,"Infinity","-Infinity"]"#));
        assert_eq!(json.string("b")?, "Infinity");
        assert!(ConfigJson::parse(b"{\"a\": Infinit", "x").is_err());
        Ok(())
    }
}
