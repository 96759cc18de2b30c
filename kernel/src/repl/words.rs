//! What the REPL understands besides Rust and evcxr's commands.

/// Told by `:help`, before evcxr's own commands.
pub const HELP: &str = "\
?name or name?    Documentation of what has this name; `f()?` and `name?;` are Rust
Tab               Complete
Ctrl-C            Interrupt the cell that runs, or clear what was typed
Ctrl-D or :quit   Leave

";

#[derive(Debug, PartialEq)]
pub enum Word<'a> {
    Quit,
    Help,
    /// Show the documentation of this name.
    Inspect(&'a str),
}

/// The word that the input consists of, if it is none for evcxr.
pub fn word(code: &str) -> Option<Word<'_>> {
    let code = code.trim();
    match code {
        ":quit" | ":q" => return Some(Word::Quit),
        ":help" | ":h" => return Some(Word::Help),
        _ => {}
    }
    let name = code.strip_prefix('?').or_else(|| code.strip_suffix('?'))?.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_:.!".contains(c));
    is_name.then_some(Word::Inspect(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_question_mark_asks_for_documentation() {
        assert_eq!(word("?model"), Some(Word::Inspect("model")));
        assert_eq!(word(" model.run_with_cache? "), Some(Word::Inspect("model.run_with_cache")));
        assert_eq!(word("candlescope::Hooks?"), Some(Word::Inspect("candlescope::Hooks")));
    }

    #[test]
    fn the_question_mark_of_rust_stays() {
        for code in ["f()?", "x?;", "a + b?", "?", "x"] {
            assert_eq!(word(code), None, "{code}");
        }
    }

    #[test]
    fn only_a_command_alone_is_a_word() {
        assert_eq!(word(":quit\n"), Some(Word::Quit));
        assert_eq!(word(":help"), Some(Word::Help));
        assert_eq!(word(":vars"), None);
        assert_eq!(word("let a = \":quit\";"), None);
    }
}
