//! A session: cells evaluated one after the other, by evcxr, against the session library.
//!
//! `candlescope run` and the Jupyter kernel both use it. What a cell says and shows arrives as [`Output`]s while it
//! runs; how it ended is the return value. evcxr calls a cell that panicked, or that `?` ended, a success; the relay
//! tells them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::Receiver;
use evcxr::{CommandContext, Completions, EvalContext, EvalContextOutputs, EvalOutputs};

use crate::bar::Bar;
use crate::cell::Cell;
use crate::failure;
use crate::folder::SessionFolder;
use crate::interrupt::{self, Interrupter, Switch};
use crate::library::{Library, Source};
use crate::loader;
use crate::relay::{self, Event};

/// How long events may lag behind evcxr's own answer.
const EVENT_LAG: Duration = Duration::from_secs(2);
/// A cell that has not listened to an interrupt for this long is said not to.
const DEAF_AFTER: Duration = Duration::from_millis(1500);

/// What every session begins with: prints that keep the order of the two streams, and, so that the first cell with a `?` needs no
/// second compilation, evcxr's readiness for one.
const BEGINNING: &str = "use candlescope::cell::{dbg, eprint, eprintln, print, println};\ncandlescope::keep_memory();\nOk::<(), String>(())?;";

/// Something a cell says or shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Stdout(String),
    Stderr(String),
    /// A picture or text in the middle of the cell: data by mime type.
    Display(BTreeMap<String, String>),
    /// How far something long is.
    Progress(Bar),
    /// A picture that takes the place of the last one with this id.
    Live {
        id: u64,
        data: BTreeMap<String, String>,
        last: bool,
    },
    /// The value that the cell ends with.
    Result(BTreeMap<String, String>),
}

/// What a display carries that is drawn anew in place: its id, and whether it is the last of them.
const LIVE: &str = "candlescope/live";

impl Output {
    /// A display; `ends_cell` says that it is what the cell ends with.
    fn of_display(mut data: BTreeMap<String, String>, ends_cell: bool) -> Self {
        let live = data.remove(LIVE);
        match live
            .as_deref()
            .and_then(|live| live.split_once(' '))
            .and_then(|(id, which)| Some((id.parse().ok()?, which)))
        {
            Some((id, which)) => Self::Live { id, data, last: which == "last" },
            None if ends_cell => Self::Result(data),
            None => Self::Display(data),
        }
    }
}

/// Why a cell did not end well.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What kind: `compile error`, `panic`, `error`, `interrupt`, `crash`.
    pub name: String,
    /// One line, or a few.
    pub message: String,
    /// For people, line by line; ends with the message.
    pub details: Vec<String>,
}

impl Failure {
    /// The details, with the name of the failure in red, as Jupyter's own kernels do.
    pub fn coloured(&self) -> Vec<String> {
        let mark = |line: &String| match line.split_once(": ") {
            Some((name, rest)) if line.starts_with("error") || line.starts_with(self.name.as_str()) => {
                format!("\u{1b}[1;31m{name}\u{1b}[0m: {rest}")
            }
            _ => line.clone(),
        };
        self.details.iter().map(mark).collect()
    }
}

/// One sequence of cells that share variables.
pub struct Session {
    // Before the folder: evcxr's processes end before their files go.
    context: CommandContext,
    outputs: EvalContextOutputs,
    interrupter: Interrupter,
    library: Library,
    /// The cell that every session begins with.
    beginning: String,
    /// The library's source when the session began.
    source: Source,
    _folder: SessionFolder,
}

impl Session {
    /// Starts a session whose cells run in the folder `home`; the library must be built. evcxr reads its settings from
    /// the current folder, so this changes it for a moment, and sets it to `home` then.
    pub fn start(library: &Library, home: &Path) -> Result<Self> {
        let source = library.source_state();
        let folder = library.session_folder()?;
        let settings = format!("[evcxr]\ntmpdir = '{}'\n", folder.crate_folder().display());
        fs::write(folder.path().join("evcxr.toml"), settings).context("the session's folder can't be written")?;
        let lock_file = folder.crate_folder().join("Cargo.lock");
        let versions = fs::read(&lock_file).ok();
        let switch = Switch::create(folder.path().join("interrupt"))?;

        let mut command = relay::command(&switch, &library.shared_library(&folder.crate_folder()))
            .context("candlescope can't find its own program file")?;
        command.current_dir(home).env(loader::variable(), loader::value(library.loader_path(&folder.crate_folder())?)?);
        std::env::set_current_dir(folder.path()).context("the session's folder can't be entered")?;
        let started = EvalContext::with_subprocess_command(command);
        std::env::set_current_dir(home).with_context(|| format!("{} can't be entered", home.display()))?;
        let (context, outputs) = started.map_err(|error| anyhow!("the session can't start: {error}"))?;

        // Where cargo compiled evcxr's first trial, which has no dependencies, it forgot their versions.
        if let Some(versions) = versions.filter(|versions| fs::read(&lock_file).is_ok_and(|now| now != *versions)) {
            fs::write(&lock_file, versions).context("the session's folder can't be written")?;
        }
        let beginning = beginning(library, &switch);
        let interrupter = Interrupter::new(switch, context.process_handle());
        let mut session = Self {
            context: CommandContext::with_eval_context(context),
            outputs,
            interrupter,
            library: library.clone(),
            beginning: beginning.clone(),
            source,
            _folder: folder,
        };
        session
            .execute(&beginning, &mut |_| {})
            .map_err(|failure| anyhow!("the session can't start: {}", failure.details.join("\n")))?;
        Ok(session)
    }

    /// Runs one cell. `Err` says why it failed; the session goes on either way.
    pub fn execute(&mut self, code: &str, show: &mut (dyn FnMut(Output) + Send)) -> Result<(), Failure> {
        match code.trim() {
            ":clear" | ":restart" => return self.restart(),
            _ if code.lines().any(|line| [":clear", ":restart"].contains(&line.trim())) => {
                return Err(failure::of_company());
            }
            _ => {}
        }
        if self.library.source_state() != self.source {
            return Err(failure::of_changed_source());
        }
        let before = self.variables();
        let names: BTreeSet<&str> = before.keys().map(String::as_str).collect();
        let cell = Cell::new(code, &names);
        let (result, heard) = self.run(&cell.code, &names, show)?;
        if heard.ended.is_none() && (result.is_err() || heard.panicked.is_some() || heard.failed.is_some()) {
            self.restore(&cell.redefined, &before);
        }
        let after = self.variables();
        let lost: Vec<&str> = names.into_iter().filter(|name| !after.contains_key(*name)).collect();
        match result {
            _ if heard.ended.is_some() && self.interrupter.was_killed() => Err(failure::of_killed(&lost)),
            _ if heard.ended.is_some() => Err(failure::of_crash(&heard.ended.unwrap_or_default(), &lost)),
            _ if heard.interrupted => Err(failure::of_interrupt(&lost)),
            Err(error) => Err(failure::of_error(code, &cell, &error)),
            Ok(_) if heard.panicked.is_some() => Err(failure::of_panic(&heard.panicked.unwrap_or_default(), &lost)),
            Ok(_) if heard.failed.is_some() => Err(failure::of_question_mark(&heard.failed.unwrap_or_default(), &lost)),
            Ok(_) => Ok(()),
        }
    }

    /// Has evcxr compile and run code, and listens meanwhile. `names` are the variables that are there.
    fn run(
        &mut self,
        code: &str,
        names: &BTreeSet<&str>,
        show: &mut (dyn FnMut(Output) + Send),
    ) -> Result<(Result<EvalOutputs, evcxr::Error>, Heard), Failure> {
        self.interrupter.begin().map_err(|error| failure::of_crash(&format!("{error:#}"), &[]))?;
        let (events, context, interrupter) = (&self.outputs.stderr, &mut self.context, &self.interrupter);
        let (answered, answer) = crossbeam_channel::bounded(1);
        let (result, mut heard) = std::thread::scope(|scope| {
            let listener = scope.spawn(move || Listener { events, interrupter, names }.listen(&answer, show));
            let result = context.execute(code);
            let _ = answered.send(Answer::of(&result));
            (result, listener.join().unwrap_or_default())
        });
        self.interrupter.runs(false);
        // Ctrl-C in a terminal ends cargo, too, whatever that says then.
        heard.interrupted = self.interrupter.was_heard() || result.is_err() && self.interrupter.was_asked();
        Ok((result, heard))
    }

    /// Gives variables that a cell was about to define anew what they were before it failed. evcxr has dropped them.
    fn restore(&mut self, redefined: &[String], before: &BTreeMap<String, String>) {
        for name in redefined {
            let (Some(of_type), false) = (before.get(name), self.variables().contains_key(name)) else { continue };
            let code = format!("let mut {name}: {of_type} = candlescope::cell::take_kept(stringify!({name}))?;");
            // What can't be restored is told as lost.
            let _ = self.run(&code, &BTreeSet::new(), &mut |_| {});
        }
    }

    /// A new process without variables, as evcxr's `:clear` makes one, that knows the library again.
    fn restart(&mut self) -> Result<(), Failure> {
        let nobody = BTreeSet::new();
        for code in [":clear", &self.beginning.clone()] {
            if let (Err(error), _) = self.run(code, &nobody, &mut |_| {})? {
                return Err(failure::of_error(code, &Cell::default(), &error));
            }
        }
        Ok(())
    }

    /// For interrupting a running cell from another thread.
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// The variables and their types.
    fn variables(&self) -> BTreeMap<String, String> {
        self.context.variables_and_types().map(|(name, of_type)| (name.to_string(), of_type.to_string())).collect()
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
}

/// The cell that names the library to evcxr, and has it compile once.
fn beginning(library: &Library, switch: &Switch) -> String {
    // Another linker than the one that built the library would mean other flags, and so another library.
    let linker = library.linker().name();
    let interrupt = format!(":build_env {}={}", interrupt::FILE, switch.path().display());
    format!(":linker {linker}\n{interrupt}\n{}\n{BEGINNING}", library.dependency())
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
    interrupted: bool,
}

/// Listens to a cell while it is compiled and runs.
struct Listener<'a> {
    events: &'a Receiver<String>,
    interrupter: &'a Interrupter,
    /// The variables that end with the cell's process.
    names: &'a BTreeSet<&'a str>,
}

impl Listener<'_> {
    /// Hands on events until the cell is over and its last event was heard.
    fn listen(&self, answer: &Receiver<Answer>, show: &mut (dyn FnMut(Output) + Send)) -> Heard {
        let mut heard = Heard::default();
        let mut finished = 0;
        let mut answered: Option<(Answer, Instant)> = None;
        let mut deaf = false;
        loop {
            let over = match &answered {
                None => false,
                Some((Answer::Nothing | Answer::Shown(None, _), _)) => self.events.is_empty(),
                Some((Answer::Run(run) | Answer::Shown(Some(run), _), _)) => finished >= *run,
                Some((Answer::Died, _)) => heard.ended.is_some(),
            };
            let late = answered.as_ref().is_some_and(|(_, since)| since.elapsed() > EVENT_LAG);
            if over || late {
                break;
            }
            match self.next(answer, &mut answered) {
                Some(Event::Stdout(text)) => show(Output::Stdout(text)),
                Some(Event::Stderr(text)) => show(Output::Stderr(text)),
                Some(Event::Display { data, last }) => show(Output::of_display(data, last)),
                Some(Event::Progress(bar)) => show(Output::Progress(bar)),
                Some(Event::Started) => self.interrupter.runs(true),
                Some(Event::Panicked(text)) => heard.panicked = Some(text),
                Some(Event::Failed(text)) => heard.failed = Some(text),
                Some(Event::Finished(run)) => finished = run,
                Some(Event::Ended(why)) => heard.ended = Some(why),
                None => {}
            }
            if !deaf && self.interrupter.unheard().is_some_and(|since| since > DEAF_AFTER) {
                deaf = true;
                show(Output::Stderr(failure::deaf(self.names)));
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
    fn next(&self, answer: &Receiver<Answer>, answered: &mut Option<(Answer, Instant)>) -> Option<Event> {
        let line = if answered.is_some() {
            self.events.recv_timeout(Duration::from_millis(20)).ok()
        } else {
            crossbeam_channel::select! {
                recv(self.events) -> line => line.ok(),
                recv(answer) -> message => {
                    *answered = Some((message.unwrap_or(Answer::Nothing), Instant::now()));
                    None
                }
                default(Duration::from_millis(250)) => None,
            }
        }?;
        Some(serde_json::from_str(&line).unwrap_or(Event::Stderr(line + "\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_failure_is_red() {
        let details = ["panic: no: such".to_string(), "help: none".to_string()];
        let failure = Failure { name: "panic".into(), message: "no: such".into(), details: details.to_vec() };
        assert_eq!(failure.coloured(), ["\u{1b}[1;31mpanic\u{1b}[0m: no: such", "help: none"]);
    }
}
