//! The one error type: every variant is a sentence that says what was expected, what was found, and what to do.

use std::fmt;
use std::path::PathBuf;

/// What every fallible function of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong, as a sentence.
///
/// `Debug` prints the same sentence as `Display`, so that an `unwrap` or a notebook cell shows text meant for people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("there is no model named '{name}': {looked}{}", did_you_mean(.near))]
    UnknownModel { name: String, looked: String, near: Vec<String> },

    #[error("{what} was not found: looked for {} ({hint})", .path.display())]
    MissingFile { what: String, path: PathBuf, hint: String },

    #[error("{} can't be read as {what}: {why}", .path.display())]
    BadFile { what: String, path: PathBuf, why: String },

    #[error("{origin}: {why}")]
    BadConfig { origin: String, why: String },

    #[error("model_type '{model_type}' (in {origin}) is not a family that candlescope knows; known: {}{}", .known.join(", "), did_you_mean(.near))]
    UnknownModelType { model_type: String, origin: String, known: Vec<String>, near: Vec<String> },

    #[error("the weights lack the tensor '{name}' ({origin}){}", did_you_mean(.near))]
    MissingTensor { name: String, origin: String, near: Vec<String> },

    #[error("the tensor '{name}' has shape {found:?}, but {expected} was expected")]
    WrongShape { name: String, expected: String, found: Vec<usize> },

    #[error("there is no hook point '{name}' in this model{}; model.hook_points() lists all of them", did_you_mean(.near))]
    UnknownHook { name: String, near: Vec<String> },

    #[error("the hook point '{name}' can't fire here: {why}")]
    HookCannotFire { name: String, why: String },

    #[error(
        "the hook on '{name}' returned shape {found:?}; the activation has shape {expected:?}, and a hook must keep it"
    )]
    HookShape { name: String, expected: Vec<usize>, found: Vec<usize> },

    #[error("the hook on '{name}' failed: {source}")]
    HookFailed { name: String, source: Box<Error> },

    #[error("'{name}' is not in this cache{}; it holds {held} activations", did_you_mean(.near))]
    NotCached { name: String, near: Vec<String>, held: usize },

    #[error("the prompt has {found} tokens, and the model's context is {n_ctx}; shorten the prompt")]
    PromptTooLong { found: usize, n_ctx: usize },

    #[error(
        "the prompt is empty: give at least one token (with prepend_bos the beginning-of-sequence token counts as one)"
    )]
    EmptyPrompt,

    #[error("token id {id} at position {position} is out of range: this model's vocabulary has {d_vocab} entries (0 to {})", .d_vocab - 1)]
    TokenOutOfRange { id: u32, position: usize, d_vocab: usize },

    #[error("'{text}' is {} tokens for this tokenizer ({}), and a single one was asked for; mind the leading space", .pieces.len(), .pieces.join(", "))]
    NotOneToken { text: String, pieces: Vec<String> },

    #[error("this model has no tokenizer: {why}; give token ids, or set one with model.with_tokenizer(..)")]
    NoTokenizer { why: String },

    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),

    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{0}")]
    Candle(#[from] candle_core::Error),

    #[error("{0}")]
    Message(String),
}

impl Error {
    /// An error that is just a sentence.
    pub fn msg(sentence: impl fmt::Display) -> Self {
        Self::Message(sentence.to_string())
    }

    /// Wraps an input-output error with the path that it happened at.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!("; did you mean '{one}'?"),
        many => format!("; did you mean one of '{}'?", many.join("', '")),
    }
}

/// Up to three of `names` that a typo of `wanted` may have meant, nearest first.
pub(crate) fn near_misses<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (edit_distance(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, name)| name.to_string()).collect()
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_come_nearest_first() {
        let names = ["hook_pattern", "hook_patterns", "hook_q"];
        assert_eq!(near_misses("hook_patern", names), ["hook_pattern", "hook_patterns"]);
        assert!(near_misses("completely else", names).is_empty());
    }

    #[test]
    fn debug_is_the_sentence() {
        let error = Error::EmptyPrompt;
        assert_eq!(format!("{error:?}"), format!("{error}"));
    }
}
