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

    #[error("token id {id} at position {position} is out of range: this model's vocabulary has {d_vocab} entries (0 to {})", .d_vocab.saturating_sub(1))]
    TokenOutOfRange { id: u32, position: usize, d_vocab: usize },

    #[error("'{text}' is {} tokens for this tokenizer ({}), and a single one was asked for; mind the leading space", .pieces.len(), .pieces.join(", "))]
    NotOneToken { text: String, pieces: Vec<String> },

    #[error("this model has no tokenizer: {why}; give token ids, or set one with model.with_tokenizer(..)")]
    NoTokenizer { why: String },

    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),

    #[error(
        "this tokenizer has no chat template: its model is a base model, or the template was left out of its files; \
         give plain text to to_tokens(..), or set a template with tokenizer.with_chat_template(..)"
    )]
    NoChatTemplate,

    #[error("the chat template {0}")]
    ChatTemplate(String),

    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("the work was interrupted; what was there before it is kept")]
    Interrupted,

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

    /// Whether an interrupt was the reason, in a hook too.
    pub fn is_interrupt(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::HookFailed { source, .. } => source.is_interrupt(),
            _ => false,
        }
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

/// Up to three of `names` that a typo of `wanted` may have meant: those that lie nearest.
pub(crate) fn near_misses<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (edit_distance(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    scored.sort();
    scored.dedup();
    let nearest = scored.first().map_or(0, |(distance, _)| *distance);
    scored
        .into_iter()
        .take_while(|(distance, _)| *distance == nearest)
        .take(3)
        .map(|(_, name)| name.to_string())
        .collect()
}

/// Edit distance in characters; two swapped neighbours are one edit.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut before_row = row.clone();
    let mut before_ca = None;
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (row[j] + usize::from(ca != *cb)).min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && before_ca == Some(*cb) && b[j - 1] == ca {
                best = best.min(before_row[j - 1] + 1);
            }
            next.push(best);
        }
        before_row = std::mem::replace(&mut row, next);
        before_ca = Some(ca);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_the_nearest() {
        let names = ["hook_patterns", "hook_pattern", "hook_q"];
        assert_eq!(near_misses("hook_patern", names), ["hook_pattern"]);
        assert_eq!(near_misses("hook_pattenr", names), ["hook_pattern"]);
        assert!(near_misses("completely else", names).is_empty());
    }

    #[test]
    fn distances() {
        for (a, b, distance) in
            [("gtp2", "gpt2", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0), ("ba", "abc", 2)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn debug_is_the_sentence() {
        let error = Error::EmptyPrompt;
        assert_eq!(format!("{error:?}"), format!("{error}"));
    }
}
