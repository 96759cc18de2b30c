//! Why a cell failed, in the words and with the lines that the person wrote.

use std::collections::BTreeSet;
use std::fmt::Write;

use evcxr::{CompilationError, Error};

use crate::cell::Cell;
use crate::session::Failure;

/// evcxr's own errors: mostly the compiler's.
pub fn of_error(code: &str, cell: &Cell, error: &Error) -> Failure {
    match error {
        Error::CompilationErrors(errors) if !errors.is_empty() => {
            let errors: Vec<&CompilationError> = errors.iter().filter(|error| error.level() != "warning").collect();
            if let Some(failure) = errors.iter().find_map(|error| not_shown(error)) {
                return failure;
            }
            // evcxr tries a cell in several ways, and may tell the same of each.
            let mut reports: Vec<String> = Vec::new();
            for error in &errors {
                let report = report(code, cell, error);
                if !reports.contains(&report) {
                    reports.push(report);
                }
            }
            let details = reports.join("\n\n").lines().map(str::to_string).collect();
            let message = errors.first().map_or_else(|| "the cell can't be compiled".into(), |error| error.message());
            failure("compile error", message, details)
        }
        Error::SubprocessTerminated(_) => of_crash("it was stopped", &[]),
        other => plain("error", other.to_string().replace("evcxr", "the notebook")),
    }
}

/// A last expression whose type has no way to be shown; the compiler would tell of traits that nobody wrote.
fn not_shown(error: &CompilationError) -> Option<Failure> {
    let message = error.message();
    if error.code() != Some("E0599") || !message.contains("`evcxr_display`") {
        return None;
    }
    let of = message.split_once("reference `&").and_then(|(_, rest)| rest.split_once('`')).map_or_else(
        || "the value of the last expression".to_string(),
        |(name, _)| format!("the last expression is of type `{name}`, which"),
    );
    let message = format!(
        "{of} can't be shown: it has neither a display nor Debug. Give it #[derive(Debug)], or end the line with a semicolon"
    );
    Some(plain("compile error", message))
}

/// `text` is what the panic printed.
pub fn of_panic(text: &str, lost: &[&str]) -> Failure {
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
    details.extend(price(lost));
    failure("panic", message, details)
}

/// `text` is the error that `?` returned.
pub fn of_question_mark(text: &str, lost: &[&str]) -> Failure {
    let text = text.trim();
    let mut failure =
        plain("error", if text.is_empty() { "the cell ended with an error".to_string() } else { text.to_string() });
    failure.details.extend(price(lost));
    failure
}

/// What a failed cell cost, if anything.
fn price(lost: &[&str]) -> Option<String> {
    (!lost.is_empty()).then(|| format!("(the cell had taken these variables over, and they are lost: {})", list(lost)))
}

/// The process that ran the cells is gone; `why` continues "The process that ran this cell is gone: ".
pub fn of_crash(why: &str, lost: &[&str]) -> Failure {
    let why = why.trim_end_matches('.');
    plain("crash", format!("the process that ran this cell is gone: {why}. A new one is there. {}", all_lost(lost)))
}

/// The person ended a cell that did not listen.
pub fn of_killed(lost: &[&str]) -> Failure {
    plain("interrupt", format!("the cell did not listen and was ended with its process. {}", all_lost(lost)))
}

/// The cell stopped when it was asked to.
pub fn of_interrupt(lost: &[&str]) -> Failure {
    let kept = match lost {
        [] => "every variable that was there before it is kept".to_string(),
        _ => format!("all variables are kept but those that it had taken over: {}", lost.join(", ")),
    };
    plain("interrupt", format!("the cell was interrupted; {kept}"))
}

/// What a person reads who waits for a cell that does not listen.
pub fn deaf(names: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = names.iter().copied().collect();
    let price = match &names[..] {
        [] => "no variables would be lost".to_string(),
        names => format!("that loses {}", list(names)),
    };
    format!(
        "[The cell has not listened to the interrupt yet. Interrupt again to end it with its process; {price}. Code of your own \
         listens by calling interrupt::check()?.]\n"
    )
}

/// The person did not want to wait for the build of the session library.
pub fn of_impatience() -> Failure {
    let message = "the cell was interrupted before it began; the session library is still being built, and the next cell shows \
                   how far it is";
    plain("interrupt", message.to_string())
}

/// `:clear` or `:restart` with more in the same cell.
pub fn of_company() -> Failure {
    plain("error", ":clear and :restart begin anew, so put them into a cell of their own".to_string())
}

/// The files of the library are not those that this session was started with.
pub fn of_changed_source() -> Failure {
    let message = "candlescope's own source was changed (by an update, or by hand) while this session ran, and cells can no \
                   longer be compiled against the library that is loaded; restart the kernel, which builds what changed";
    plain("error", message.to_string())
}

fn all_lost(lost: &[&str]) -> String {
    match lost {
        [] => "There were no variables to lose".to_string(),
        lost => format!("Lost: {}. Run the cells that made them again", list(lost)),
    }
}

/// The first of many names.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn plain(name: &str, message: String) -> Failure {
    let details = format!("{name}: {message}").lines().map(str::to_string).collect();
    failure(name, message, details)
}

fn failure(name: &str, message: String, details: Vec<String>) -> Failure {
    Failure { name: name.to_string(), message, details }
}

/// One error of the compiler, with the cell's own lines and what the compiler says about them.
fn report(code: &str, cell: &Cell, error: &CompilationError) -> String {
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
        let length = line.chars().count();
        let start = cell.column(span.start_line, span.start_column).min(length + 1);
        let end = match span.end_line == span.start_line {
            true => cell.column(span.end_line, span.end_column).min(length + 1),
            false => length + 1,
        };
        let marks = "^".repeat(end.saturating_sub(start).max(1));
        let number = span.start_line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(start.saturating_sub(1));
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
        let failure = of_panic(text, &[]);
        assert_eq!(failure.message, "no such layer: 9");
        assert_eq!(failure.details, ["panic: no such layer: 9"]);
    }

    #[test]
    fn a_crash_says_what_is_lost() {
        let failure = of_crash("it aborted.", &["cache", "model"]);
        assert!(failure.message.contains("it aborted. A new one is there. Lost: cache, model."), "{}", failure.message);
        let many: Vec<String> = (0..20).map(|i| format!("v{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(of_killed(&many).message.contains("v11 and 8 more"), "{}", of_killed(&many).message);
        assert!(of_killed(&[]).message.ends_with("no variables to lose"));
    }

    #[test]
    fn an_interrupt_says_what_is_kept() {
        assert!(of_interrupt(&[]).message.ends_with("every variable that was there before it is kept"));
        assert!(of_interrupt(&["cache"]).message.ends_with("taken over: cache"));
    }
}
