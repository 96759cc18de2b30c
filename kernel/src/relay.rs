//! The process between evcxr and the process that runs the cells.
//!
//! evcxr reads its child's standard output line by line and looks for marker lines in it. A flushed line without its
//! newline hides the marker behind it, and the cell hangs; a panic or an error through `?` is swallowed; several
//! displays become one. So evcxr starts this relay as its child, the relay starts the real one, and everything that the
//! real one says is told to the session as an [`Event`] (one JSON line each, on the relay's standard error, which evcxr
//! hands on untouched), in order. evcxr itself gets only the markers that it needs.

mod sort;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::bar::Bar;
use crate::interrupt::{State, Switch};
use crate::toolchain::Toolchain;
use sort::{Marker, Said, Sorter};

/// Set in the environment of the relay.
const RELAY: &str = "CANDLESCOPE_RELAY";
/// Set in the environment of the process that runs the cells: the relay's process id.
const RELAY_PID: &str = "CANDLESCOPE_RELAY_PID";
/// Set for both by the session: the session library's file, and that this kernel is there.
const LIBRARY: &str = "CANDLESCOPE_LIBRARY";
const KERNEL: &str = "CANDLESCOPE_KERNEL";
/// The function of the session library that is called behind each cell.
const AFTER_CELL: &str = "candlescope_after_cell";
/// The mime type under which a run's number reaches the session through evcxr's own result.
pub const RUN_NUMBER: &str = "candlescope/run";

/// How long standard error may lag behind a marker on standard output.
const ERROR_LAG: Duration = Duration::from_millis(8);
/// How long the message of a panic may lag, on a machine that is very busy.
const PANIC_LAG: Duration = Duration::from_millis(500);

/// Something that happened while a cell ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Stdout(String),
    Stderr(String),
    /// Data by mime type; `last` when it ended the cell, which makes it the cell's result.
    Display {
        data: BTreeMap<String, String>,
        last: bool,
    },
    /// How far a long piece of work is.
    Progress(Bar),
    /// The cell is compiled, and runs now.
    Started,
    /// The cell panicked; the text is what standard error said.
    Panicked(String),
    /// A `?` ended the cell; the text is the error's.
    Failed(String),
    /// Run number so-and-so is over.
    Finished(u64),
    /// The process that runs the cells is gone, and why.
    Ended(String),
}

/// The command that evcxr is to start as its child, which finds the session library in the file `library`.
pub fn command(switch: &Switch, library: &Path) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(RELAY, "1")
        .env(KERNEL, env!("CARGO_PKG_VERSION"))
        .env(LIBRARY, library)
        .env(crate::interrupt::FILE, switch.path());
    Toolchain::restore(&mut command);
    // Ctrl-C in a terminal is for the session, which asks the cell to stop; it must not end the cell's process.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    #[cfg(windows)]
    {
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        std::os::windows::process::CommandExt::creation_flags(&mut command, CREATE_NEW_PROCESS_GROUP);
    }
    Ok(command)
}

/// Becomes the relay, or the process that runs the cells, when started as one; returns otherwise. First thing in `main`.
pub fn hook() {
    if std::env::var_os(RELAY).is_some() {
        let code = relay().unwrap_or_else(|error| {
            eprintln!("the process for the cells can't be started: {error}");
            1
        });
        std::process::exit(code);
    }
    if let Some(relay) = std::env::var(RELAY_PID).ok().and_then(|pid| pid.parse().ok()) {
        end_with_relay(relay);
    }
    evcxr::runtime_hook();
}

/// Ends this process when the relay is gone, however busy the cell is.
fn end_with_relay(relay: u32) {
    #[cfg(unix)]
    std::thread::spawn(move || {
        while std::os::unix::process::parent_id() == relay {
            std::thread::sleep(Duration::from_millis(100));
        }
        std::process::exit(1);
    });
    #[cfg(not(unix))]
    let _ = relay;
}

/// What the threads tell the relay's loop.
enum Message {
    Out(Vec<u8>),
    Err(Vec<u8>),
    OutEnded,
    ErrEnded,
    /// A cell that was interrupted before it began; it does not run.
    Refused,
    /// evcxr closed our standard input: the session is over.
    Closed,
}

fn relay() -> std::io::Result<i32> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env_remove(RELAY)
        .env(RELAY_PID, std::process::id().to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (sender, messages) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        pump(stdout, sender.clone(), Message::Out, Message::OutEnded);
    }
    if let Some(stderr) = child.stderr.take() {
        pump(stderr, sender.clone(), Message::Err, Message::ErrEnded);
    }
    let runs = Arc::new(AtomicU64::new(0));
    let input = Arc::new(Mutex::new(child.stdin.take()));
    forward_input(input.clone(), runs.clone(), sender);
    Relay { messages, waiting: VecDeque::new(), runs, input, sorter: Sorter::new(), cleans_up: false }.run(&mut child)
}

fn pump(mut from: impl Read + Send + 'static, to: Sender<Message>, wrap: fn(Vec<u8>) -> Message, ended: Message) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.send(wrap(buffer[..n].to_vec())).is_err() {
                return;
            }
        }
        let _ = to.send(ended);
    });
}

/// The way to the process of the cells; none when it is closed.
type Input = Arc<Mutex<Option<ChildStdin>>>;

fn forward_input(input: Input, runs: Arc<AtomicU64>, to: Sender<Message>) {
    let switch = Switch::from_environment();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if line.starts_with("LOAD_AND_RUN ") {
                runs.fetch_add(1, Ordering::SeqCst);
                if let Some(switch) = switch.as_ref().filter(|switch| switch.state() != State::Off) {
                    let refused = switch.set(State::Heard).is_ok() && to.send(Message::Refused).is_ok();
                    if refused {
                        continue;
                    }
                }
                tell(&Event::Started);
            }
            if write_line(&input, &line).is_err() {
                return;
            }
        }
        input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = to.send(Message::Closed);
    });
}

fn write_line(input: &Input, line: &str) -> std::io::Result<()> {
    match input.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(stdin) => writeln!(stdin, "{line}").and_then(|()| stdin.flush()),
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

struct Relay {
    messages: Receiver<Message>,
    /// Output that came while standard error was being waited for.
    waiting: VecDeque<Message>,
    runs: Arc<AtomicU64>,
    input: Input,
    sorter: Sorter,
    /// Whether what runs now is the session library's function behind a cell.
    cleans_up: bool,
}

impl Relay {
    fn run(&mut self, child: &mut Child) -> std::io::Result<i32> {
        loop {
            match self.next(Duration::from_millis(25)) {
                Ok(Message::Out(bytes)) => self.sorter.output(&bytes),
                Ok(Message::Err(bytes)) => self.sorter.errors(&bytes),
                Ok(Message::ErrEnded) => {}
                Ok(Message::Refused) => {
                    say(&Marker::Failed(None).text(0));
                    self.finish();
                }
                Ok(Message::OutEnded) | Err(RecvTimeoutError::Disconnected) => return self.end(child),
                Ok(Message::Closed) => return close(child),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.sorter.time_passes();
            for said in self.sorter.take() {
                match said {
                    Said::Event(event) => tell(&event),
                    Said::Marker(marker) => self.hand_on(marker),
                }
            }
        }
    }

    fn next(&mut self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        match self.waiting.pop_front() {
            Some(message) => Ok(message),
            None => self.messages.recv_timeout(timeout),
        }
    }

    fn hand_on(&mut self, marker: Marker) {
        match &marker {
            Marker::Complete => {
                self.cleans_up = !self.cleans_up && self.clean_up();
                if !self.cleans_up {
                    self.finish();
                }
                return;
            }
            Marker::Panicked => {
                // Its message was written before the marker, to the other pipe.
                let until = Instant::now() + PANIC_LAG;
                self.wait_for_errors();
                while !self.sorter.has_errors() && Instant::now() < until {
                    self.wait_for_errors();
                }
                tell(&Event::Panicked(self.sorter.take_errors()));
            }
            Marker::Failed(message) => {
                let message = message.clone().unwrap_or_else(|| {
                    self.wait_for_errors();
                    self.sorter.take_errors()
                });
                tell(&Event::Failed(message));
            }
            Marker::Line(_) => {}
        }
        say(&marker.text(0));
    }

    /// Has the session library write out what still waits in its buffers; `false` when it can't.
    fn clean_up(&self) -> bool {
        // What can't be loaded would end the process.
        std::env::var(LIBRARY).is_ok_and(|library| {
            Path::new(&library).is_file()
                && write_line(&self.input, &format!("LOAD_AND_RUN {library} {AFTER_CELL}")).is_ok()
        })
    }

    /// The cell is over.
    fn finish(&mut self) {
        self.wait_for_errors();
        self.sorter.finish();
        for said in self.sorter.take() {
            if let Said::Event(event) = said {
                tell(&event);
            }
        }
        let run = self.runs.load(Ordering::SeqCst);
        tell(&Event::Finished(run));
        say(&Marker::Complete.text(run));
    }

    /// The two streams are separate pipes: gives standard error a moment to catch up.
    fn wait_for_errors(&mut self) {
        let mut later = VecDeque::new();
        while let Ok(message) = self.next(ERROR_LAG) {
            match message {
                Message::Err(bytes) => self.sorter.errors(&bytes),
                Message::ErrEnded => break,
                other => later.push_back(other),
            }
            if later.len() > 64 {
                break;
            }
        }
        later.append(&mut self.waiting);
        self.waiting = later;
    }

    /// The process that runs the cells closed its output: it is gone.
    fn end(&mut self, child: &mut Child) -> std::io::Result<i32> {
        self.wait_for_errors();
        self.sorter.end();
        for said in self.sorter.take() {
            if let Said::Event(event) = said {
                tell(&event);
            }
        }
        let status = child.wait()?;
        tell(&Event::Ended(describe(status)));
        Ok(status.code().filter(|code| *code != 0).unwrap_or(1))
    }
}

/// Lets an idle process end by itself and ends a busy one.
fn close(child: &mut Child) -> std::io::Result<i32> {
    for _ in 0..20 {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().unwrap_or(1));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(1)
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match signal {
            4 | 7 | 11 => format!("it crashed with signal {signal}: memory was misused, or the stack overflowed"),
            6 => "it aborted (signal 6): a panic inside a panic, a stack overflow, or a call of abort()".to_string(),
            9 => "it was killed (signal 9); when nobody did that, the machine ran out of memory".to_string(),
            other => format!("signal {other} ended it"),
        };
    }
    match status.code() {
        Some(code) => format!("it exited with status {code}"),
        None => "it ended".to_string(),
    }
}

/// To the session.
fn tell(event: &Event) {
    if let Ok(mut line) = serde_json::to_string(event) {
        line.push('\n');
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// To evcxr.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_pipe() {
        let event = Event::Display { data: BTreeMap::from([("text/plain".into(), "a\nb".into())]), last: true };
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
