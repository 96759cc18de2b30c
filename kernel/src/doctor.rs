//! `candlescope doctor`: what is there of what notebooks need, and what to do where something is missing.

use std::io::Write;

use anyhow::{Context, Result};

use crate::cached;
use crate::jupyter;
use crate::library;
use crate::toolchain::Toolchain;

mod disk;
mod gpu;
mod linker;
mod notebooks;
mod rust;
mod session_library;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Ok,
    /// Worth knowing; notebooks work.
    Note,
    /// Keeps notebooks from working.
    Problem,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub mark: Mark,
    /// What was looked at.
    pub what: &'static str,
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { mark: Mark::Ok, what, found: found.into(), advice: None }
    }

    fn note(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { mark: Mark::Note, what, found: found.into(), advice: Some(advice.into()) }
    }

    fn problem(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { mark: Mark::Problem, what, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything and prints the report. `Ok(false)` when something keeps notebooks from working.
pub fn doctor() -> Result<bool> {
    let checks = checks();
    let lines: String = checks.iter().map(|check| line(check) + "\n").collect();
    // This leaves the colours out where the output is no terminal.
    write!(anstream::stdout(), "{lines}\n{}\n", conclusion(&checks)).context("the report can't be written")?;
    Ok(checks.iter().all(|check| check.mark != Mark::Problem))
}

fn checks() -> Vec<Check> {
    let toolchain = Toolchain::find();
    let kernels = jupyter::registrations();
    let mut checks = Vec::new();
    match &toolchain {
        Ok(toolchain) => checks.extend(rust::check(toolchain)),
        Err(error) => checks.push(rust::missing(error)),
    }
    checks.extend(linker::check(toolchain.as_ref().ok()));
    let source = library::source();
    checks.push(match &source {
        Ok(source) => Check::ok("source", library::clone_of(source).unwrap_or(source).display().to_string()),
        Err(error) => session_library::no_source(error),
    });
    // Where this is an error, the lines above told it.
    let wanted = cached::wanted(&kernels).unwrap_or_default();
    checks.extend(session_library::check(&kernels, &wanted));
    checks.extend(disk::check(&wanted));
    checks.push(notebooks::jupyter());
    checks.extend(notebooks::kernels(&kernels));
    checks.push(gpu::check());
    checks
}

/// The advice stands below what it is about.
fn line(check: &Check) -> String {
    let (mark, colour) = match check.mark {
        Mark::Ok => ("ok", 32),
        Mark::Note => ("note", 33),
        Mark::Problem => ("problem", 31),
    };
    let line = format!("\u{1b}[{colour}m{mark:<7}\u{1b}[0m  {:<16}  {}", check.what, check.found);
    match &check.advice {
        Some(advice) => format!("{line}\n{:27}-> {advice}", ""),
        None => line,
    }
}

fn conclusion(checks: &[Check]) -> String {
    let count = |mark| checks.iter().filter(|check| check.mark == mark).count();
    match (count(Mark::Problem), count(Mark::Note)) {
        (0, 0) => "All is well.".to_string(),
        (0, 1) => "Notebooks work; there is 1 note.".to_string(),
        (0, notes) => format!("Notebooks work; there are {notes} notes."),
        (1, _) => "1 problem keeps notebooks from working.".to_string(),
        (problems, _) => format!("{problems} problems keep notebooks from working."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sentence_counts() {
        let (ok, note, problem) =
            (Check::ok("a", "b"), Check::note("a", "b", "do this"), Check::problem("a", "b", "do that"));
        assert_eq!(conclusion(std::slice::from_ref(&ok)), "All is well.");
        assert_eq!(conclusion(&[ok.clone(), note.clone()]), "Notebooks work; there is 1 note.");
        assert_eq!(conclusion(&[note, problem.clone()]), "1 problem keeps notebooks from working.");
        assert_eq!(conclusion(&[problem.clone(), problem]), "2 problems keep notebooks from working.");
    }

    #[test]
    fn advice_stands_below_what_was_found() {
        let text = anstream::adapter::strip_str(&line(&Check::note("linker", "none", "install one"))).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, ["note     linker            none", "                           -> install one"]);
    }
}
