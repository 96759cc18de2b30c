//! The thread that builds the session library, owns the session, and runs the cells in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jupyter_protocol::{
    CompleteReply, CompleteRequest, DisplayData, ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest,
    ExecuteResult, ExecutionCount, InspectReply, InspectRequest, JupyterMessage, Media, ReplyError, ReplyStatus,
    Status, StreamContent, Transient, UpdateDisplayData,
};
use serde_json::{Map, Value};

use super::Outbox;
use crate::compile::Step;
use crate::library::Library;
use crate::notebook::mime_value;
use crate::session::{Failure, Output, Session, Stopper};

/// Between two updates of the build's progress in a notebook.
const UPDATE_EVERY: Duration = Duration::from_millis(500);

/// What the worker is asked to do, with the message that asked.
pub enum Job {
    Execute(ExecuteRequest, JupyterMessage),
    Complete(CompleteRequest, JupyterMessage),
    Inspect(InspectRequest, JupyterMessage),
    Quit,
}

/// What the sockets' thread may know of the session and do to it.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ready: bool,
    running: bool,
    interrupted: bool,
    stopper: Option<Stopper>,
}

impl Shared {
    /// Whether the session is there and no cell runs.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.ready && !state.running
    }

    /// Ends the running cell, if one runs.
    pub fn stop(&self) {
        let mut state = self.state();
        if let (true, Some(stopper)) = (state.running, state.stopper.clone()) {
            match stopper.stop() {
                Ok(()) => state.interrupted = true,
                Err(error) => eprintln!("the cell could not be interrupted: {error:#}"),
            }
        }
    }

    fn set_ready(&self, stopper: Stopper) {
        let mut state = self.state();
        state.ready = true;
        state.stopper = Some(stopper);
    }

    fn begin(&self) {
        let mut state = self.state();
        state.running = true;
        state.interrupted = false;
    }

    /// Whether the cell was interrupted.
    fn end(&self) -> bool {
        let mut state = self.state();
        state.running = false;
        state.interrupted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the worker; it ends with [`Job::Quit`].
pub fn start(jobs: Receiver<Job>, outbox: Outbox, shared: Shared, features: Vec<String>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut worker = Worker { jobs, waiting: VecDeque::new(), outbox, shared, count: 0 };
        let session = worker.prepare(&features);
        worker.work(session);
    })
}

struct Worker {
    jobs: Receiver<Job>,
    /// Taken from the queue, not done yet.
    waiting: VecDeque<Job>,
    outbox: Outbox,
    shared: Shared,
    count: usize,
}

impl Worker {
    fn prepare(&mut self, features: &[String]) -> Result<Session> {
        let home = std::env::current_dir().context("the notebook's folder is gone")?;
        let library = Library::locate(features)?;
        let mut note = BuildNote::default();
        let built = library.build(&mut |step| note.show(step, self));
        note.close(&self.outbox, built.is_ok());
        built?;
        let mut session = Session::start(&library, &home)?;
        self.shared.set_ready(session.stopper());
        self.take_waiting();
        if self.waiting.is_empty()
            && let Err(error) = session.warm()
        {
            eprintln!("rust-analyzer is not ready: {error:#}");
        }
        Ok(session)
    }

    fn work(&mut self, mut session: Result<Session>) {
        loop {
            let job = match self.waiting.pop_front() {
                Some(job) => job,
                None => match self.jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                },
            };
            match (job, &mut session) {
                (Job::Quit, _) => return,
                (Job::Execute(request, message), session) => self.execute(session, &request, &message),
                (Job::Complete(request, message), Ok(session)) => {
                    self.outbox.publish(Status::busy(), &message);
                    self.outbox.reply(complete(session, &request), &message);
                    self.outbox.publish(Status::idle(), &message);
                }
                (Job::Inspect(request, message), Ok(session)) => {
                    self.outbox.publish(Status::busy(), &message);
                    self.outbox.reply(inspect(session, &request), &message);
                    self.outbox.publish(Status::idle(), &message);
                }
                (Job::Complete(_, message), Err(_)) => self.outbox.reply(CompleteReply::default(), &message),
                (Job::Inspect(_, message), Err(_)) => self.outbox.reply(InspectReply::default(), &message),
            }
        }
    }

    fn execute(&mut self, session: &mut Result<Session>, request: &ExecuteRequest, message: &JupyterMessage) {
        let outbox = self.outbox.clone();
        outbox.publish(Status::busy(), message);
        if !request.silent && request.store_history {
            self.count += 1;
        }
        let count = ExecutionCount::new(self.count);
        if !request.silent {
            outbox.publish(ExecuteInput { code: request.code.clone(), execution_count: count }, message);
        }
        let result = match session {
            Ok(_) if request.code.trim().is_empty() => Ok(()),
            Ok(session) => {
                self.shared.begin();
                let result = session.execute(&request.code, &mut |output| {
                    if !request.silent {
                        publish(&outbox, output, count, message);
                    }
                });
                let interrupted = self.shared.end();
                result.map_err(|failure| if interrupted { interruption() } else { failure })
            }
            Err(error) => Err(not_ready(error)),
        };
        let reply = match &result {
            Ok(()) => ExecuteReply {
                execution_count: count,
                user_expressions: Some(Default::default()),
                ..Default::default()
            },
            Err(failure) => {
                if !request.silent {
                    let (ename, evalue) = (failure.name.clone(), failure.message.clone());
                    outbox.publish(ErrorOutput { ename, evalue, traceback: coloured(failure) }, message);
                }
                ExecuteReply {
                    status: ReplyStatus::Error,
                    execution_count: count,
                    error: Some(Box::new(ReplyError {
                        ename: failure.name.clone(),
                        evalue: failure.message.clone(),
                        traceback: coloured(failure),
                    })),
                    ..Default::default()
                }
            }
        };
        outbox.reply(reply, message);
        outbox.publish(Status::idle(), message);
        if result.is_err() && request.stop_on_error {
            self.abort_queued(count);
        }
    }

    /// After an error "run all" stops: the cells that were sent already are not run.
    fn abort_queued(&mut self, count: ExecutionCount) {
        self.take_waiting();
        for job in std::mem::take(&mut self.waiting) {
            match job {
                Job::Execute(_, message) => {
                    self.outbox.publish(Status::busy(), &message);
                    let reply =
                        ExecuteReply { status: ReplyStatus::Aborted, execution_count: count, ..Default::default() };
                    self.outbox.reply(reply, &message);
                    self.outbox.publish(Status::idle(), &message);
                }
                other => self.waiting.push_back(other),
            }
        }
    }

    fn take_waiting(&mut self) {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// The message of the first cell that waits.
    fn first_waiting(&mut self) -> Option<JupyterMessage> {
        self.take_waiting();
        self.waiting.iter().find_map(|job| match job {
            Job::Execute(request, message) if !request.silent => Some(message.clone()),
            _ => None,
        })
    }
}

/// The build's progress, shown in the first cell that waits for it: one line that changes.
#[derive(Default)]
struct BuildNote {
    shown_in: Option<(JupyterMessage, String)>,
    started: Option<Instant>,
    updated: Option<Instant>,
}

impl BuildNote {
    fn show(&mut self, step: &Step, worker: &mut Worker) {
        let started = *self.started.get_or_insert_with(Instant::now);
        if self.updated.is_some_and(|updated| updated.elapsed() < UPDATE_EVERY) {
            return;
        }
        self.updated = Some(Instant::now());
        let text = format!(
            "Building the session library (once): {} of {} crates, {} s. {}",
            step.done,
            step.total,
            started.elapsed().as_secs(),
            step.current
        );
        match &self.shown_in {
            Some((message, id)) => worker.outbox.publish(UpdateDisplayData::new(plain(&text), id), message),
            None => {
                if let Some(message) = worker.first_waiting() {
                    let id = uuid::Uuid::new_v4().to_string();
                    let transient = Some(Transient { display_id: Some(id.clone()) });
                    let data = DisplayData { data: plain(&text), metadata: Map::new(), transient };
                    worker.outbox.publish(Status::busy(), &message);
                    worker.outbox.publish(data, &message);
                    self.shown_in = Some((message, id));
                }
            }
        }
    }

    fn close(&self, outbox: &Outbox, ok: bool) {
        if let (Some((message, id)), Some(started)) = (&self.shown_in, self.started) {
            let seconds = started.elapsed().as_secs();
            let text = match ok {
                true => format!("The session library is ready (built in {seconds} s)."),
                false => "The session library could not be built.".to_string(),
            };
            outbox.publish(UpdateDisplayData::new(plain(&text), id), message);
        }
    }
}

fn publish(outbox: &Outbox, output: Output, count: ExecutionCount, message: &JupyterMessage) {
    match output {
        Output::Stdout(text) => outbox.publish(StreamContent::stdout(&text), message),
        Output::Stderr(text) => outbox.publish(StreamContent::stderr(&text), message),
        Output::Display(data) => outbox.publish(DisplayData::new(media(&data)), message),
        Output::Result(data) => outbox.publish(ExecuteResult::new(count, media(&data)), message),
    }
}

fn media(data: &BTreeMap<String, String>) -> Media {
    let values: Map<String, Value> = data.iter().map(|(mime, text)| (mime.clone(), mime_value(mime, text))).collect();
    serde_json::from_value(Value::Object(values)).unwrap_or_default()
}

fn plain(text: &str) -> Media {
    media(&BTreeMap::from([("text/plain".to_string(), text.to_string())]))
}

/// The first words in red, as Jupyter's own kernels do.
fn coloured(failure: &Failure) -> Vec<String> {
    let mark = |line: &String| match line.split_once(": ") {
        Some((name, rest)) if line.starts_with("error") || line.starts_with(failure.name.as_str()) => {
            format!("\u{1b}[1;31m{name}\u{1b}[0m: {rest}")
        }
        _ => line.clone(),
    };
    failure.details.iter().map(mark).collect()
}

fn interruption() -> Failure {
    let message =
        "the cell was interrupted; all variables are lost, so run the notebook again from the top".to_string();
    Failure { name: "interrupt".into(), details: vec![format!("interrupt: {message}")], message }
}

fn not_ready(error: &anyhow::Error) -> Failure {
    let message = format!("the session can't start: {error:#}\nWhen that is mended, restart the kernel.");
    Failure { name: "error".into(), details: message.lines().map(str::to_string).collect(), message }
}

fn complete(session: &mut Session, request: &CompleteRequest) -> CompleteReply {
    let position = byte_position(&request.code, request.cursor_pos);
    let Ok(found) = session.completions(&request.code, position) else { return CompleteReply::default() };
    let kinds: Vec<Value> = found
        .completions
        .iter()
        .map(|completion| {
            serde_json::json!({
                "text": completion.code,
                "type": completion.kind,
                "start": character_position(&request.code, found.start_offset),
                "end": character_position(&request.code, found.end_offset),
            })
        })
        .collect();
    CompleteReply {
        cursor_start: character_position(&request.code, found.start_offset),
        cursor_end: character_position(&request.code, found.end_offset),
        matches: found.completions.into_iter().map(|completion| completion.code).collect(),
        metadata: Map::from_iter([("_jupyter_types_experimental".to_string(), Value::Array(kinds))]),
        ..Default::default()
    }
}

fn inspect(session: &mut Session, request: &InspectRequest) -> InspectReply {
    let position = byte_position(&request.code, request.cursor_pos);
    match session.inspect(&request.code, position) {
        Ok((text, html)) if !text.starts_with("No documentation") => InspectReply {
            found: true,
            data: media(&BTreeMap::from([("text/plain".to_string(), text), ("text/html".to_string(), html)])),
            ..Default::default()
        },
        _ => InspectReply::default(),
    }
}

/// Jupyter counts characters, Rust bytes.
fn byte_position(code: &str, characters: usize) -> usize {
    code.char_indices().nth(characters).map_or(code.len(), |(byte, _)| byte)
}

fn character_position(code: &str, byte: usize) -> usize {
    code.char_indices().take_while(|(at, _)| *at < byte).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_translated() {
        let code = "é.re";
        assert_eq!(byte_position(code, 1), 2);
        assert_eq!(byte_position(code, 99), code.len());
        assert_eq!(character_position(code, 3), 2);
    }

    #[test]
    fn any_mime_type_becomes_media() {
        let data = BTreeMap::from([
            ("application/vnd.other+json".to_string(), "{\"a\":1}".to_string()),
            ("image/png".to_string(), "aG\nk=".to_string()),
        ]);
        let wire = serde_json::to_value(media(&data)).unwrap();
        assert_eq!(wire["image/png"], "aGk=");
        assert_eq!(wire["application/vnd.other+json"]["a"], 1);
    }
}
