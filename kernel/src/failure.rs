//! Why a cell failed, in the words and with the lines that the person wrote.

use std::fmt::Write;

use evcxr::{CompilationError, Error};

use crate::session::Failure;

/// evcxr's own errors: mostly the compiler's.
pub fn of_error(code: &str, error: &Error) -> Failure {
    match error {
        Error::CompilationErrors(errors) if !errors.is_empty() => {
            let mut details = Vec::new();
            for error in errors.iter().filter(|error| error.level() != "warning") {
                details.extend(report(code, error).lines().map(str::to_string));
                details.push(String::new());
            }
            details.pop();
            let first = errors.iter().find(|error| error.level() != "warning").unwrap_or(&errors[0]);
            failure("compile error", first.message(), details)
        }
        Error::SubprocessTerminated(_) => of_crash("it was stopped"),
        other => plain("error", other.to_string()),
    }
}

/// `text` is what the panic printed.
pub fn of_panic(text: &str) -> Failure {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE") && !line.trim().is_empty())
        .collect();
    let at = lines.iter().position(|line| line.starts_with("thread '") && line.contains("panicked at"));
    let message = match at {
        Some(at) => lines[at + 1..].join("\n"),
        None => lines.join("\n"),
    };
    let message = if message.is_empty() { "the cell panicked".to_string() } else { message };
    let mut details: Vec<String> = lines[..at.unwrap_or(0)].iter().map(|line| line.to_string()).collect();
    details.extend(format!("panic: {message}").lines().map(str::to_string));
    failure("panic", message, details)
}

/// `text` is the error that `?` returned.
pub fn of_question_mark(text: &str) -> Failure {
    let text = text.trim();
    plain("error", if text.is_empty() { "the cell ended with an error".to_string() } else { text.to_string() })
}

/// The process that ran the cells is gone; `why` continues "The process that ran this cell is gone: ".
pub fn of_crash(why: &str) -> Failure {
    let message = format!(
        "the process that ran this cell is gone: {}. All variables are lost; run the notebook again from the top",
        why.trim_end_matches('.')
    );
    plain("crash", message)
}

fn plain(name: &str, message: String) -> Failure {
    let details = format!("{name}: {message}").lines().map(str::to_string).collect();
    failure(name, message, details)
}

fn failure(name: &str, message: String, details: Vec<String>) -> Failure {
    Failure { name: name.to_string(), message, details }
}

/// One error of the compiler, with the cell's own lines and what the compiler says about them.
fn report(code: &str, error: &CompilationError) -> String {
    let mut text = match error.code() {
        Some(number) => format!("error[{number}]: {}", error.message()),
        None => format!("error: {}", error.message()),
    };
    let lines: Vec<&str> = code.lines().collect();
    for message in error.spanned_messages() {
        let Some(span) = message.span else {
            if !message.label.is_empty() {
                let _ = write!(text, "\n  {}", message.label);
            }
            continue;
        };
        let Some(line) = lines.get(span.start_line.saturating_sub(1)) else { continue };
        let end = if span.end_line == span.start_line { span.end_column } else { line.chars().count() + 1 };
        let marks = "^".repeat(end.saturating_sub(span.start_column).max(1));
        let number = span.start_line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(span.start_column.saturating_sub(1));
        let _ = write!(text, "\n{number} | {line}\n{margin} | {indent}{marks} {}", message.label);
        text.truncate(text.trim_end().len());
    }
    for help in error.help() {
        let _ = write!(text, "\nhelp: {}", help.trim_end());
    }
    if let Some(hint) = error.evcxr_extra_hint() {
        let _ = write!(text, "\nhelp: {}", hint.replace("Evcxr", "a notebook"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_without_the_threads_name() {
        let text = "\nthread 'main' (4711) panicked at src/lib.rs:30:5:\nno such layer: 9\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        let failure = of_panic(text);
        assert_eq!(failure.message, "no such layer: 9");
        assert_eq!(failure.details, ["panic: no such layer: 9"]);
    }

    #[test]
    fn a_crash_says_what_is_lost() {
        let failure = of_crash("it aborted.");
        assert!(failure.message.contains("it aborted. All variables are lost"), "{}", failure.message);
    }
}
