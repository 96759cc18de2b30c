//! The thread that builds the session library, owns the session, and runs the cells in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use jupyter_protocol::{
    CompleteReply, CompleteRequest, DisplayData, ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest,
    ExecuteResult, ExecutionCount, HistoryReply, HistoryRequest, InspectReply, InspectRequest, JupyterMessage, Media,
    ReplyError, ReplyStatus, Status, StreamContent, Transient,
};
use serde_json::{Map, Value};

use super::Outbox;
use super::bars::{Bars, BuildNote};
use super::history::History;
use crate::failure;
use crate::interrupt::Interrupter;
use crate::library::Library;
use crate::notebook::mime_value;
use crate::session::{Failure, Output, Session};

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
    /// An interrupt while the session library is built, for the cells that wait for it.
    gives_up: bool,
    interrupter: Option<Interrupter>,
    history: History,
}

impl Shared {
    /// Whether the session is there and no cell runs.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.ready && !state.running
    }

    /// Asks the running cell to stop; asked again, ends it. Cells that wait for the session are given up.
    pub fn interrupt(&self) {
        let mut state = self.state();
        match state.interrupter.clone() {
            Some(interrupter) if state.running => {
                if let Err(error) = interrupter.interrupt() {
                    eprintln!("the cell could not be interrupted: {error:#}");
                }
            }
            Some(_) => {}
            None => state.gives_up = true,
        }
    }

    /// Ends the running cell, if one runs.
    pub fn kill(&self) {
        let state = self.state();
        if let (true, Some(interrupter)) = (state.running, &state.interrupter)
            && let Err(error) = interrupter.kill()
        {
            eprintln!("the cell could not be ended: {error:#}");
        }
    }

    /// What was run in this kernel.
    pub fn history(&self, request: &HistoryRequest) -> HistoryReply {
        self.state().history.answer(request)
    }

    fn set_ready(&self, interrupter: Interrupter) {
        let mut state = self.state();
        state.ready = true;
        state.interrupter = Some(interrupter);
    }

    fn gives_up(&self) -> bool {
        std::mem::take(&mut self.state().gives_up)
    }

    fn note(&self, count: usize, code: &str) {
        self.state().history.add(count, code);
    }

    fn begin(&self) {
        self.state().running = true;
    }

    fn end(&self) {
        self.state().running = false;
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
        let built = library.build(&mut |step| {
            if self.shared.gives_up() {
                note.leave(&self.outbox);
                self.give_up_waiting();
            }
            if note.is_due() {
                let first = self.first_waiting();
                note.show(step, first, &self.outbox);
            }
        });
        note.end(&self.outbox, built.is_ok());
        built?;
        let mut session = Session::start(&library, &home)?;
        self.shared.set_ready(session.interrupter());
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
            self.shared.note(self.count, &request.code);
        }
        let count = ExecutionCount::new(self.count);
        if !request.silent {
            outbox.publish(ExecuteInput { code: request.code.clone(), execution_count: count }, message);
        }
        let result = match session {
            Ok(_) if request.code.trim().is_empty() => Ok(()),
            Ok(session) => {
                self.shared.begin();
                let mut bars = Bars::default();
                let result = session.execute(&request.code, &mut |output| match output {
                    _ if request.silent => {}
                    Output::Progress(bar) => bars.show(&bar, &outbox, message),
                    Output::Live { id, data, .. } => bars.show_picture(id, &data, &outbox, message),
                    output => publish(&outbox, output, count, message),
                });
                self.shared.end();
                result
            }
            Err(error) => Err(not_ready(error)),
        };
        // What came before the reply was sent without knowing of the error; what comes after it is to run.
        let stops = result.is_err() && request.stop_on_error;
        let queued = if stops { self.take_cells() } else { Vec::new() };
        self.answer(&result, request, count, message);
        for message in queued {
            self.abort(&message, count);
        }
    }

    /// How a cell ended.
    fn answer(
        &self,
        result: &Result<(), Failure>,
        request: &ExecuteRequest,
        count: ExecutionCount,
        message: &JupyterMessage,
    ) {
        let outbox = &self.outbox;
        let reply = match result {
            Ok(()) => ExecuteReply {
                execution_count: count,
                user_expressions: Some(Default::default()),
                ..Default::default()
            },
            Err(failure) => {
                if !request.silent {
                    let (ename, evalue) = (failure.name.clone(), failure.message.clone());
                    outbox.publish(ErrorOutput { ename, evalue, traceback: failure.coloured() }, message);
                }
                ExecuteReply {
                    status: ReplyStatus::Error,
                    execution_count: count,
                    error: Some(Box::new(ReplyError {
                        ename: failure.name.clone(),
                        evalue: failure.message.clone(),
                        traceback: failure.coloured(),
                    })),
                    ..Default::default()
                }
            }
        };
        outbox.reply(reply, message);
        outbox.publish(Status::idle(), message);
    }

    /// The cells that wait for the session library do so no longer; its build goes on.
    fn give_up_waiting(&mut self) {
        self.take_waiting();
        for job in std::mem::take(&mut self.waiting) {
            match job {
                Job::Execute(request, message) => {
                    self.outbox.publish(Status::busy(), &message);
                    self.answer(&Err(failure::of_impatience()), &request, ExecutionCount::new(self.count), &message);
                }
                other => self.waiting.push_back(other),
            }
        }
    }

    /// After an error "run all" stops: a cell that was sent already is not run.
    fn abort(&self, message: &JupyterMessage, count: ExecutionCount) {
        self.outbox.publish(Status::busy(), message);
        let reply = ExecuteReply { status: ReplyStatus::Aborted, execution_count: count, ..Default::default() };
        self.outbox.reply(reply, message);
        self.outbox.publish(Status::idle(), message);
    }

    /// The cells that wait, no longer waiting.
    fn take_cells(&mut self) -> Vec<JupyterMessage> {
        self.take_waiting();
        let mut cells = Vec::new();
        for job in std::mem::take(&mut self.waiting) {
            match job {
                Job::Execute(_, message) => cells.push(message),
                other => self.waiting.push_back(other),
            }
        }
        cells
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

fn publish(outbox: &Outbox, output: Output, count: ExecutionCount, message: &JupyterMessage) {
    match output {
        Output::Stdout(text) => outbox.publish(StreamContent::stdout(&text), message),
        Output::Stderr(text) => outbox.publish(StreamContent::stderr(&text), message),
        Output::Display(data) => outbox.publish(DisplayData::new(media(&data)), message),
        Output::Result(data) => {
            // The protocol wants an object, if only an empty one.
            let transient = Some(Transient::default());
            outbox.publish(ExecuteResult { transient, ..ExecuteResult::new(count, media(&data)) }, message);
        }
        // The bars of the cell show these.
        Output::Progress(_) | Output::Live { .. } => {}
    }
}

/// Data by mime type as Jupyter wants it.
pub(super) fn media(data: &BTreeMap<String, String>) -> Media {
    let values: Map<String, Value> = data.iter().map(|(mime, text)| (mime.clone(), mime_value(mime, text))).collect();
    serde_json::from_value(Value::Object(values)).unwrap_or_default()
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
