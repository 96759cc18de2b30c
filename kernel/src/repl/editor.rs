//! Typing a cell: lines with history and completion, until the cell is complete.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Helper};

use super::Shared;
use crate::is_complete::missing_end;
use crate::library;

/// How many cells are remembered from one time to the next.
const REMEMBERED: usize = 10_000;
const INDENTATION: &str = "    ";

/// What a person typed.
#[derive(Debug, PartialEq)]
pub enum Input {
    Cell(String),
    /// An empty line, or one that was given up.
    Nothing,
    /// Ctrl-D: no more will come.
    End,
}

/// Reads cells from the terminal.
pub struct Editor {
    editor: rustyline::Editor<Completions, FileHistory>,
    /// None when it can't be used, which was said.
    history: Option<PathBuf>,
}

impl Editor {
    pub fn new(session: Shared) -> Result<Self> {
        let config = Config::builder()
            .max_history_size(REMEMBERED)
            .and_then(|config| config.history_ignore_dups(true))
            .context(CANNOT_READ)?
            .completion_type(CompletionType::List)
            .build();
        let history = FileHistory::with_config(&config);
        let mut editor = rustyline::Editor::with_history(config, history).context(CANNOT_READ)?;
        editor.set_helper(Some(Completions { session, before: String::new() }));
        let mut editor = Self { editor, history: Some(library::cache()?.join("repl-history")) };
        editor.recall();
        Ok(editor)
    }

    /// The next cell; its prompt shows the number.
    pub fn read(&mut self, number: usize) -> Result<Input> {
        let mut cell = String::new();
        let mut prompt = format!("[{number}] ");
        let mut indentation = String::new();
        loop {
            if let Some(helper) = self.editor.helper_mut() {
                helper.before.clone_from(&cell);
            }
            let styled = format!("\u{1b}[1;36m{prompt}\u{1b}[0m");
            let line = self.editor.readline_with_initial(&(prompt.as_str(), styled.as_str()), (&indentation, ""));
            match line {
                Ok(line) => cell += &line,
                Err(ReadlineError::Interrupted) => return Ok(Input::Nothing),
                Err(ReadlineError::Eof) => return Ok(Input::End),
                Err(error) => return Err(error).context(CANNOT_READ),
            }
            if cell.trim().is_empty() {
                return Ok(Input::Nothing);
            }
            let Some(next) = missing_end(&cell) else { break };
            cell.push('\n');
            indentation = next;
            prompt = format!("{:.<width$} ", "", width = prompt.len() - 1);
        }
        self.remember(&cell);
        Ok(Input::Cell(cell))
    }

    fn recall(&mut self) {
        let Some(path) = &self.history else { return };
        match self.editor.load_history(path) {
            Ok(()) => {}
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.forget(&error),
        }
    }

    /// At once, so that a crash loses nothing.
    fn remember(&mut self, cell: &str) {
        let Some(path) = &self.history else { return };
        let kept = self.editor.add_history_entry(cell).and_then(|_| self.editor.append_history(path));
        if let Err(error) = kept {
            self.forget(&error);
        }
    }

    fn forget(&mut self, error: &ReadlineError) {
        if let Some(path) = self.history.take() {
            eprintln!("what you type is not kept: {} can't be used: {error}", path.display());
        }
    }
}

const CANNOT_READ: &str = "the terminal can't be read; pipe the cells into candlescope repl instead";

/// What Tab offers.
struct Completions {
    session: Shared,
    /// The lines of the cell above the one that is being typed.
    before: String,
}

impl Completer for Completions {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        if line[..position].rsplit('\n').next().is_none_or(|line| line.trim().is_empty()) {
            let indentation = Pair { display: INDENTATION.to_string(), replacement: INDENTATION.to_string() };
            return Ok((position, vec![indentation]));
        }
        let code = format!("{}{}", self.before, without_question(line));
        let found = self.session.lock().completions(&code, self.before.len() + position);
        // Where rust-analyzer finds nothing it may as well say so by an error: there is nothing to offer.
        let Ok(found) = found else { return Ok((position, Vec::new())) };
        let Some(start) = found.start_offset.checked_sub(self.before.len()) else { return Ok((position, Vec::new())) };
        let offers = found.completions.into_iter().map(|offer| Pair { display: offer.label, replacement: offer.code });
        Ok((start, offers.collect()))
    }
}

/// `?name` without its question mark, everything else where it was.
fn without_question(line: &str) -> String {
    match line.strip_prefix('?') {
        Some(name) => format!(" {name}"),
        None => line.to_string(),
    }
}

impl Hinter for Completions {
    type Hint = String;
}
impl Highlighter for Completions {}
impl Validator for Completions {}
impl Helper for Completions {}
