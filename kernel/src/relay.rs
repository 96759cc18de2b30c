//! The process between evcxr and the process that runs the cells.
//!
//! evcxr reads its child's standard output line by line and looks for marker lines in it. A flushed line without its
//! newline hides the marker behind it, and the cell hangs; a panic or an error through `?` is swallowed; several
//! displays become one. So evcxr starts this relay as its child, the relay starts the real one, and everything that the
//! real one says is told to the session as an [`Event`] (one JSON line each, on the relay's standard error, which evcxr
//! hands on untouched), in order. evcxr itself gets only the markers that it needs.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Set in the environment of the relay.
const RELAY: &str = "CANDLESCOPE_RELAY";
/// Set in the environment of the process that runs the cells: the relay's process id.
const RELAY_PID: &str = "CANDLESCOPE_RELAY_PID";
/// The mime type under which a run's number reaches the session through evcxr's own result.
pub const RUN_NUMBER: &str = "candlescope/run";

/// evcxr's markers.
const BEGIN_CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
const END_CONTENT: &str = "EVCXR_END_CONTENT";
const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
const PANICKED: &str = "EVCXR_PANIC_NOTIFICATION";
const USER_ERROR: &str = "EVCXR_ERROR_OCCURRED";
const INPUT: &str = "EVCXR_INPUT_REQUEST";
const TYPE_CHANGED: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
const MARKER_START: &str = "EVCXR_";

/// Text without its newline is shown after this time without more.
const PARTIAL_LINE: Duration = Duration::from_millis(100);
/// A display that nothing follows for this long is shown without waiting for the end of the cell.
const LONELY_DISPLAY: Duration = Duration::from_millis(200);
/// Standard error is collected this long, so that the message of an error stays in one piece.
const ERROR_TEXT: Duration = Duration::from_millis(50);
/// How long standard error may lag behind a marker on standard output.
const ERROR_LAG: Duration = Duration::from_millis(8);

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
    /// The cell panicked; the text is what standard error said.
    Panicked(String),
    /// A `?` ended the cell; the text is the error's.
    Failed(String),
    /// Run number so-and-so is over.
    Finished(u64),
    /// The process that runs the cells is gone, and why.
    Ended(String),
}

/// The command that evcxr is to start as its child.
pub fn command() -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(RELAY, "1");
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
    if let Some(stdin) = child.stdin.take() {
        forward_input(stdin, runs.clone(), sender);
    }
    Relay::new(messages, runs).run(&mut child)
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

fn forward_input(mut stdin: impl Write + Send + 'static, runs: Arc<AtomicU64>, to: Sender<Message>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if line.starts_with("LOAD_AND_RUN ") {
                runs.fetch_add(1, Ordering::SeqCst);
            }
            if writeln!(stdin, "{line}").and_then(|()| stdin.flush()).is_err() {
                return;
            }
        }
        drop(stdin);
        let _ = to.send(Message::Closed);
    });
}

struct Relay {
    messages: Receiver<Message>,
    /// Output that came while standard error was being waited for.
    waiting: VecDeque<Message>,
    runs: Arc<AtomicU64>,
    line: Vec<u8>,
    line_since: Instant,
    content: Option<(String, String)>,
    bundle: BTreeMap<String, String>,
    bundle_since: Instant,
    errors: Vec<u8>,
    errors_since: Instant,
}

impl Relay {
    fn new(messages: Receiver<Message>, runs: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self {
            messages,
            waiting: VecDeque::new(),
            runs,
            line: Vec::new(),
            line_since: now,
            content: None,
            bundle: BTreeMap::new(),
            bundle_since: now,
            errors: Vec::new(),
            errors_since: now,
        }
    }

    fn run(&mut self, child: &mut Child) -> std::io::Result<i32> {
        loop {
            match self.next(Duration::from_millis(25)) {
                Ok(Message::Out(bytes)) => self.take_output(&bytes),
                Ok(Message::Err(bytes)) => self.take_errors(&bytes),
                Ok(Message::ErrEnded) => {}
                Ok(Message::OutEnded) | Err(RecvTimeoutError::Disconnected) => return self.end(child),
                Ok(Message::Closed) => return close(child),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.show_what_waits();
        }
    }

    fn next(&mut self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        match self.waiting.pop_front() {
            Some(message) => Ok(message),
            None => self.messages.recv_timeout(timeout),
        }
    }

    /// Emits what has waited long enough for company.
    fn show_what_waits(&mut self) {
        if !self.errors.is_empty() && (self.errors_since.elapsed() > ERROR_TEXT || self.errors.len() > 1 << 16) {
            self.show_errors();
        }
        if !self.bundle.is_empty() && self.content.is_none() && self.bundle_since.elapsed() > LONELY_DISPLAY {
            self.show_bundle(false);
        }
        if !self.line.is_empty() && self.content.is_none() && self.line_since.elapsed() > PARTIAL_LINE {
            let complete = complete_characters(&self.line);
            let text = String::from_utf8_lossy(&self.line[..complete]).into_owned();
            if complete > 0 && !may_hold_marker(&text) {
                self.line.drain(..complete);
                self.show_text(text);
            }
        }
    }

    fn take_errors(&mut self, bytes: &[u8]) {
        if self.errors.is_empty() {
            self.errors_since = Instant::now();
        }
        self.errors.extend_from_slice(bytes);
    }

    fn take_output(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            self.take_line(line);
        }
        if !rest.is_empty() {
            self.line.extend_from_slice(rest);
            self.line_since = Instant::now();
        }
    }

    fn take_line(&mut self, line: String) {
        if let Some((mime, content)) = &mut self.content {
            if line == END_CONTENT {
                let (mime, content) = (std::mem::take(mime), std::mem::take(content));
                self.content = None;
                self.add_content(mime, content);
                return;
            }
            if !line.ends_with(PANICKED) {
                if !content.is_empty() {
                    content.push('\n');
                }
                content.push_str(&line);
                return;
            }
            self.content = None;
        }
        if let Some((before, mime)) = line.split_once(BEGIN_CONTENT) {
            if !before.is_empty() {
                self.show_text(before.to_string());
            }
            self.content = Some((mime.to_string(), String::new()));
        } else if let Some(before) = line.strip_suffix(COMPLETE) {
            self.show_rest(before);
            self.finish();
        } else if let Some(before) = line.strip_suffix(PANICKED) {
            self.show_rest(before);
            let text = self.take_message();
            tell(&Event::Panicked(text));
            say(PANICKED);
        } else if let Some(before) = line.strip_suffix(USER_ERROR) {
            self.show_rest(before);
            let text = self.take_message();
            tell(&Event::Failed(text));
            say(USER_ERROR);
        } else if line.starts_with(TYPE_CHANGED) || line.starts_with(INPUT) {
            say(&line);
        } else {
            self.show_text(line + "\n");
        }
    }

    fn add_content(&mut self, mime: String, content: String) {
        if self.bundle.contains_key(&mime) {
            self.show_bundle(false);
        }
        self.bundle.insert(mime, content);
        self.bundle_since = Instant::now();
    }

    fn finish(&mut self) {
        self.wait_for_errors();
        self.show_errors();
        self.show_bundle(true);
        let run = self.runs.load(Ordering::SeqCst);
        tell(&Event::Finished(run));
        say(&format!("{BEGIN_CONTENT}{RUN_NUMBER}\n{run}\n{END_CONTENT}\n{COMPLETE}"));
    }

    /// What standard error said just before a marker: the message of a panic or an error.
    fn take_message(&mut self) -> String {
        self.show_bundle(false);
        self.wait_for_errors();
        String::from_utf8_lossy(&std::mem::take(&mut self.errors)).into_owned()
    }

    /// The two streams are separate pipes: gives standard error a moment to catch up.
    fn wait_for_errors(&mut self) {
        let mut later = VecDeque::new();
        while let Ok(message) = self.next(ERROR_LAG) {
            match message {
                Message::Err(bytes) => self.take_errors(&bytes),
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

    fn show_rest(&mut self, before: &str) {
        if !before.is_empty() {
            self.show_text(before.to_string());
        }
    }

    fn show_text(&mut self, text: String) {
        self.show_bundle(false);
        tell(&Event::Stdout(text));
    }

    fn show_errors(&mut self) {
        if !self.errors.is_empty() {
            let text = String::from_utf8_lossy(&std::mem::take(&mut self.errors)).into_owned();
            tell(&Event::Stderr(text));
        }
    }

    fn show_bundle(&mut self, last: bool) {
        let data = std::mem::take(&mut self.bundle);
        // A cell that ends in a loop or a block has the value `()`, which nobody wants to see.
        let unit = data.len() == 1 && data.get("text/plain").is_some_and(|text| text == "()");
        if !data.is_empty() && !unit {
            tell(&Event::Display { data, last });
        }
    }

    /// The process that runs the cells closed its output: it is gone.
    fn end(&mut self, child: &mut Child) -> std::io::Result<i32> {
        self.wait_for_errors();
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        self.show_rest(&line);
        self.show_bundle(false);
        self.show_errors();
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

/// Length of the part that ends on a whole character.
fn complete_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => bytes.len(),
    }
}

/// Whether a marker is in the text, or may begin at its end.
fn may_hold_marker(text: &str) -> bool {
    text.contains(MARKER_START) || (1..MARKER_START.len()).any(|n| text.ends_with(&MARKER_START[..n]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_may_begin_at_the_end() {
        assert!(may_hold_marker("text EVC"));
        assert!(may_hold_marker("EVCXR_EXEC"));
        assert!(!may_hold_marker("50 %"));
    }

    #[test]
    fn half_a_character_waits() {
        let bytes = "aé".as_bytes();
        assert_eq!(complete_characters(&bytes[..2]), 1);
        assert_eq!(complete_characters(bytes), 3);
        assert_eq!(complete_characters(&[0xff, b'a']), 2);
    }

    #[test]
    fn events_survive_the_pipe() {
        let event = Event::Display { data: BTreeMap::from([("text/plain".into(), "a\nb".into())]), last: true };
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
