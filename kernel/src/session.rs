//! A session: cells evaluated one after the other, by evcxr, against the session library.
//!
//! `candlescope run` and the Jupyter kernel both use it. What a cell says and shows arrives as [`Output`]s while it
//! runs; how it ended is the return value. evcxr calls a cell that panicked, or that `?` ended, a success; the relay
//! tells them apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::Receiver;
use evcxr::{CommandContext, Completions, EvalContext, EvalContextOutputs, EvalOutputs};

use crate::failure;
use crate::folder::SessionFolder;
use crate::library::Library;
use crate::loader;
use crate::relay::{self, Event};

/// How long events may lag behind evcxr's own answer.
const EVENT_LAG: Duration = Duration::from_secs(2);

/// Something a cell says or shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Stdout(String),
    Stderr(String),
    /// A picture or text in the middle of the cell: data by mime type.
    Display(BTreeMap<String, String>),
    /// The value that the cell ends with.
    Result(BTreeMap<String, String>),
}

/// Why a cell did not end well.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What kind: `compile error`, `panic`, `error`, `crash`.
    pub name: String,
    /// One line, or a few.
    pub message: String,
    /// For people, line by line; ends with the message.
    pub details: Vec<String>,
}

/// Ends the running cell from another thread. The variables are lost with it.
#[derive(Clone)]
pub struct Stopper(Arc<Mutex<Child>>);

impl Stopper {
    pub fn stop(&self) -> Result<()> {
        let mut child = self.0.lock().map_err(|_| anyhow!("the cell's process can't be reached"))?;
        child.kill().context("the cell's process can't be ended")
    }
}

/// One sequence of cells that share variables.
pub struct Session {
    // Before the folder: evcxr's processes end before their files go.
    context: CommandContext,
    outputs: EvalContextOutputs,
    dependency: String,
    _folder: SessionFolder,
}

impl Session {
    /// Starts a session whose cells run in the folder `home`; the library must be built. evcxr reads its settings from
    /// the current folder, so this changes it for a moment, and sets it to `home` then.
    pub fn start(library: &Library, home: &Path) -> Result<Self> {
        let folder = library.session_folder()?;
        let settings = format!("[evcxr]\ntmpdir = '{}'\n", folder.crate_folder().display());
        fs::write(folder.path().join("evcxr.toml"), settings).context("the session's folder can't be written")?;
        let lock_file = folder.crate_folder().join("Cargo.lock");
        let versions = fs::read(&lock_file).ok();

        let mut command = relay::command().context("candlescope can't find its own program file")?;
        command.current_dir(home).env(loader::variable(), loader::value(library.loader_path(&folder.crate_folder())?)?);
        std::env::set_current_dir(folder.path()).context("the session's folder can't be entered")?;
        let started = EvalContext::with_subprocess_command(command);
        std::env::set_current_dir(home).with_context(|| format!("{} can't be entered", home.display()))?;
        let (context, outputs) = started.map_err(|error| anyhow!("the session can't start: {error}"))?;

        // evcxr's first trial has no dependencies, so cargo forgot their versions.
        if let Some(versions) = versions {
            fs::write(&lock_file, versions).context("the session's folder can't be written")?;
        }
        let dependency = library.dependency();
        let mut session =
            Self { context: CommandContext::with_eval_context(context), outputs, dependency, _folder: folder };
        session.prepare()?;
        Ok(session)
    }

    /// Runs one cell. `Err` says why it failed; the session goes on either way.
    pub fn execute(&mut self, code: &str, show: &mut (dyn FnMut(Output) + Send)) -> Result<(), Failure> {
        let events = &self.outputs.stderr;
        let context = &mut self.context;
        let (answered, answer) = crossbeam_channel::bounded(1);
        let (result, heard) = std::thread::scope(|scope| {
            let listener = scope.spawn(move || listen(events, &answer, show));
            let result = context.execute(code);
            let _ = answered.send(Answer::of(&result));
            (result, listener.join().unwrap_or_default())
        });
        match result {
            _ if heard.ended.is_some() => Err(failure::of_crash(&heard.ended.unwrap_or_default())),
            Err(error) => Err(failure::of_error(code, &error)),
            Ok(_) if heard.panicked.is_some() => Err(failure::of_panic(&heard.panicked.unwrap_or_default())),
            Ok(_) if heard.failed.is_some() => Err(failure::of_question_mark(&heard.failed.unwrap_or_default())),
            Ok(_) => Ok(()),
        }
    }

    /// For ending a running cell from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.context.process_handle())
    }

    /// What could stand at the byte `position` of `code`.
    pub fn completions(&mut self, code: &str, position: usize) -> Result<Completions> {
        self.context.completions(code, position)
    }

    /// Documentation (plain, HTML) of what stands before the byte `position` of `code`.
    pub fn inspect(&mut self, code: &str, position: usize) -> Result<(String, String)> {
        self.context.hover_at(code, position)
    }

    /// Lets rust-analyzer read the libraries now, so that the first `let` need not wait for it.
    pub fn warm(&mut self) -> Result<()> {
        let code = "let warm = candlescope::candle_core::Device::Cpu; warm.is_";
        self.context.completions(code, code.len()).map(|_| ())
    }

    /// Names the library to evcxr, and has it compile once.
    fn prepare(&mut self) -> Result<()> {
        // Another linker than rustc's own would mean other flags, and so another session library; mold needs no flag.
        let linker = if uses_mold() { "" } else { ":linker system\n" };
        let cell = format!("{linker}{}", self.dependency);
        self.execute(&cell, &mut |_| {}).map_err(|failure| anyhow!("the session can't start: {}", failure.message))
    }
}

fn uses_mold() -> bool {
    !cfg!(target_os = "macos")
        && std::process::Command::new("mold").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// What evcxr's return tells the listener.
enum Answer {
    /// This run's last event is still to come, or was heard.
    Run(u64),
    /// The process died: its last event is still to come, or was heard.
    Died,
    /// Nothing ran. The data is what commands such as `:vars` showed.
    Nothing,
    Shown(Option<u64>, BTreeMap<String, String>),
}

impl Answer {
    fn of(result: &Result<EvalOutputs, evcxr::Error>) -> Self {
        match result {
            Ok(outputs) => {
                let mut data: BTreeMap<String, String> =
                    outputs.content_by_mime_type.iter().map(|(mime, text)| (mime.clone(), text.clone())).collect();
                let run = data.remove(relay::RUN_NUMBER).and_then(|run| run.trim().parse().ok());
                match (run, data.is_empty()) {
                    (Some(run), true) => Self::Run(run),
                    (None, true) => Self::Nothing,
                    (run, false) => Self::Shown(run, data),
                }
            }
            Err(evcxr::Error::SubprocessTerminated(_)) => Self::Died,
            Err(_) => Self::Nothing,
        }
    }
}

/// What the listener heard besides outputs.
#[derive(Default)]
struct Heard {
    panicked: Option<String>,
    failed: Option<String>,
    ended: Option<String>,
}

/// Hands on events until the cell is over and its last event was heard.
fn listen(events: &Receiver<String>, answer: &Receiver<Answer>, show: &mut (dyn FnMut(Output) + Send)) -> Heard {
    let mut heard = Heard::default();
    let mut finished = 0;
    let mut answered: Option<(Answer, Instant)> = None;
    loop {
        let over = match &answered {
            None => false,
            Some((Answer::Nothing | Answer::Shown(None, _), _)) => events.is_empty(),
            Some((Answer::Run(run) | Answer::Shown(Some(run), _), _)) => finished >= *run,
            Some((Answer::Died, _)) => heard.ended.is_some(),
        };
        let late = answered.as_ref().is_some_and(|(_, since)| since.elapsed() > EVENT_LAG);
        if over || late {
            break;
        }
        match next(events, answer, &mut answered) {
            Some(Event::Stdout(text)) => show(Output::Stdout(text)),
            Some(Event::Stderr(text)) => show(Output::Stderr(text)),
            Some(Event::Display { data, last: false }) => show(Output::Display(data)),
            Some(Event::Display { data, last: true }) => show(Output::Result(data)),
            Some(Event::Panicked(text)) => heard.panicked = Some(text),
            Some(Event::Failed(text)) => heard.failed = Some(text),
            Some(Event::Finished(run)) => finished = run,
            Some(Event::Ended(why)) => heard.ended = Some(why),
            None => {}
        }
    }
    match answered {
        Some((Answer::Shown(_, data), _)) => show(Output::Result(data)),
        Some((Answer::Died, _)) if heard.ended.is_none() => heard.ended = Some("it was stopped".to_string()),
        _ => {}
    }
    heard
}

/// The next event, if one comes soon; takes the answer when that comes first.
fn next(
    events: &Receiver<String>,
    answer: &Receiver<Answer>,
    answered: &mut Option<(Answer, Instant)>,
) -> Option<Event> {
    let line = if answered.is_some() {
        events.recv_timeout(Duration::from_millis(20)).ok()
    } else {
        crossbeam_channel::select! {
            recv(events) -> line => line.ok(),
            recv(answer) -> message => {
                *answered = Some((message.unwrap_or(Answer::Nothing), Instant::now()));
                None
            }
        }
    }?;
    Some(serde_json::from_str(&line).unwrap_or(Event::Stderr(line + "\n")))
}
