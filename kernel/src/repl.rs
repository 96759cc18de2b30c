//! `candlescope repl`: cells typed into a terminal, or read from standard input.

mod cells;
mod editor;
mod interrupt;
mod pictures;
mod screen;
mod words;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::library::Library;
use crate::progress;
use crate::session::{Failure, Output, Session};
use cells::Cells;
use editor::{Editor, Input};
use pictures::Pictures;
use screen::Screen;
use words::Word;

/// What the session links, and how it shows pictures.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How to draw pictures [default: as this terminal can, if it can]
    #[arg(long, value_enum)]
    pictures: Option<Pictures>,
    /// Features of the session library
    #[arg(long, value_delimiter = ',', value_name = "cuda|metal")]
    features: Vec<String>,
}

/// Evaluates cells until there are no more. `Ok(false)` when a cell from standard input failed; that was said already.
pub fn run(options: &Options) -> Result<bool> {
    let home = std::env::current_dir().context("the current folder is gone")?;
    let library = Library::locate(&options.features)?;
    progress::build(&library)?;
    let screen = Screen::new(options.pictures.unwrap_or_else(Pictures::of_this_terminal));
    let person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if person {
        println!("candlescope {}; :help shows what there is, :quit or Ctrl-D leaves", env!("CARGO_PKG_VERSION"));
    }
    let session = Shared::new(Session::start(&library, &home)?);
    let repl = Repl { session, screen };
    if person { repl.talk() } else { repl.read() }
}

/// The session, for the cells and for the editor's completions.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Session>>);

impl Shared {
    fn new(session: Session) -> Self {
        Self(Arc::new(Mutex::new(session)))
    }

    /// Waits until nobody else uses it.
    pub fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an input.
#[derive(PartialEq)]
enum Ending {
    Well,
    Failed,
    Quit,
}

struct Repl {
    session: Shared,
    screen: Screen,
}

impl Repl {
    /// With a person at the terminal, who goes on after a failure.
    fn talk(mut self) -> Result<bool> {
        // Only where a person may press Ctrl-C for a cell; elsewhere it ends candlescope.
        interrupt::listen(self.session.lock().interrupter())?;
        let mut editor = Editor::new(self.session.clone())?;
        warm(self.session.clone());
        let mut number = 1;
        loop {
            self.screen.start_line()?;
            match editor.read(number)? {
                Input::Cell(code) => {
                    number += 1;
                    if self.evaluate(&code)? == Ending::Quit {
                        break;
                    }
                }
                Input::Nothing => {}
                Input::End => break,
            }
        }
        Ok(true)
    }

    /// From a file or another program: the first failure ends it.
    fn read(mut self) -> Result<bool> {
        for code in Cells::of(std::io::stdin().lock()) {
            match self.evaluate(&code.context("standard input can't be read")?)? {
                Ending::Well => {}
                Ending::Failed => return Ok(false),
                Ending::Quit => break,
            }
        }
        Ok(true)
    }

    fn evaluate(&mut self, code: &str) -> Result<Ending> {
        match words::word(code) {
            Some(Word::Quit) => Ok(Ending::Quit),
            Some(Word::Help) => {
                self.screen.show(Output::Stdout(words::HELP.to_string()));
                self.execute(":help")
            }
            Some(Word::Inspect(name)) => self.inspect(name),
            None => self.execute(code),
        }
    }

    fn execute(&mut self, code: &str) -> Result<Ending> {
        let mut session = self.session.lock();
        let screen = &mut self.screen;
        let result = session.execute(code, &mut |output| screen.show(output));
        if let Err(failure) = &result {
            self.screen.fail(failure);
        }
        self.screen.flush()?;
        Ok(if result.is_ok() { Ending::Well } else { Ending::Failed })
    }

    fn inspect(&mut self, name: &str) -> Result<Ending> {
        let found = self.session.lock().inspect(name, name.len());
        let ending = match found {
            Ok((text, _)) => {
                self.screen.show(Output::Stdout(text + "\n"));
                Ending::Well
            }
            Err(error) => {
                let message = format!("rust-analyzer can't say what {name} is: {error:#}");
                self.screen.fail(&Failure {
                    name: "error".into(),
                    details: vec![format!("error: {message}")],
                    message,
                });
                Ending::Failed
            }
        };
        self.screen.flush()?;
        Ok(ending)
    }
}

/// Has rust-analyzer read the libraries while the first line is being typed.
fn warm(session: Shared) {
    std::thread::spawn(move || {
        if let Err(error) = session.lock().warm() {
            eprintln!("rust-analyzer is not ready: {error:#}");
        }
    });
}
