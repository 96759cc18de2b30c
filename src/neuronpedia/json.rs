//! Reading what others wrote: a field that is missing, null or of another type is just not there.

use serde_json::Value;

/// A text that is not blank.
pub(super) fn text(json: &Value, key: &str) -> Option<String> {
    json.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_string)
}

pub(super) fn real(json: &Value, key: &str) -> Option<f64> {
    json.get(key)?.as_f64()
}

/// A count, written as a number or, as Neuronpedia does, in quotes.
pub(super) fn index(json: &Value, key: &str) -> Option<usize> {
    match json.get(key)? {
        Value::String(digits) => digits.parse().ok(),
        Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
        _ => None,
    }
}

pub(super) fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Numbers; what is none stays as NaN, so that the others keep their places.
pub(super) fn reals(json: &Value, key: &str) -> Vec<f64> {
    list(json, key).iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

/// Texts; what is none stays as an empty one.
pub(super) fn texts(json: &Value, key: &str) -> Vec<String> {
    list(json, key).iter().map(|value| value.as_str().unwrap_or_default().to_string()).collect()
}
