//! What Jupyter starts: the messaging protocol on its five sockets.
//!
//! The sockets live on this thread and always answer. Cells run on a worker thread, which builds the session library
//! first, so that Jupyter gets its first answer at once, however long the build takes.

mod bars;
mod history;
mod parent;
mod requests;
mod worker;

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jupyter_protocol::{
    CodeMirrorMode, CommInfoReply, CompleteReply, ConnectionInfo, InspectReply, InterruptReply, IsCompleteReply,
    JupyterMessage, JupyterMessageContent, KernelInfoReply, LanguageInfo, ReplyStatus, ShutdownReply, Status,
};
use jupyter_zmq_client::{
    KernelControlConnection, KernelHeartbeatConnection, KernelIoPubConnection, RouterRecvConnection,
    RouterSendConnection, create_kernel_control_connection, create_kernel_heartbeat_connection,
    create_kernel_iopub_connection, create_kernel_shell_connection, create_kernel_stdin_connection,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::is_complete;
use worker::{Job, Shared};

/// How long a session may take to end when Jupyter asks for it.
const GOODBYE: Duration = Duration::from_secs(3);

/// Serves until Jupyter says to shut down.
pub fn serve(control_file: &Path, features: Vec<String>) -> Result<()> {
    let text = fs::read_to_string(control_file)
        .with_context(|| format!("Jupyter's connection file {} can't be read", control_file.display()))?;
    let connection: ConnectionInfo = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a connection file of Jupyter", control_file.display()))?;
    if !connection.ip.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        bail!(
            "Jupyter asked for a kernel that listens on {}; this one listens on this machine's loopback (127.0.0.1) only, since \
             whoever can reach it can run code. Take the address out of Jupyter's settings (KernelManager.ip)",
            connection.ip
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Server::run(&connection, features))?;
    // The blocking parts of the runtime are not worth waiting for.
    runtime.shutdown_background();
    Ok(())
}

/// The way out for messages; clones go to wherever messages come from.
#[derive(Clone)]
pub struct Outbox {
    iopub: UnboundedSender<JupyterMessage>,
    shell: UnboundedSender<JupyterMessage>,
}

impl Outbox {
    /// To everyone who watches this kernel.
    pub fn publish(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let _ = self.iopub.send(JupyterMessage::new(content, Some(parent)));
    }

    /// To the one who asked.
    pub fn reply(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let reply = JupyterMessage::new(content, Some(parent)).with_zmq_identities(parent.zmq_identities.clone());
        let _ = self.shell.send(reply);
    }
}

struct Server {
    outbox: Outbox,
    jobs: Sender<Job>,
    shared: Shared,
}

impl Server {
    async fn run(connection: &ConnectionInfo, features: Vec<String>) -> Result<()> {
        let id = uuid::Uuid::new_v4().to_string();
        let sockets = "Jupyter's sockets can't be opened";
        let heartbeat = create_kernel_heartbeat_connection(connection).await.context(sockets)?;
        let shell = create_kernel_shell_connection(connection, &id).await.context(sockets)?;
        let control = create_kernel_control_connection(connection, &id).await.context(sockets)?;
        let _stdin = create_kernel_stdin_connection(connection, &id).await.context(sockets)?;
        let iopub = create_kernel_iopub_connection(connection, &id).await.context(sockets)?;

        let (shell_writer, shell_reader) = shell.split();
        let (iopub_sender, iopub_queue) = unbounded_channel();
        let (shell_sender, shell_queue) = unbounded_channel();
        let outbox = Outbox { iopub: iopub_sender, shell: shell_sender };
        let (jobs, job_queue) = mpsc::channel();
        let shared = Shared::default();
        let worker = worker::start(job_queue, outbox.clone(), shared.clone(), features);

        tokio::spawn(answer_heartbeats(heartbeat));
        tokio::spawn(write_iopub(iopub, iopub_queue));
        tokio::spawn(write_shell(shell_writer, shell_queue));
        let server = Self { outbox, jobs, shared };
        // The control socket decides when it ends; the shell socket never does.
        tokio::select! {
            () = server.serve_control(control) => {}
            () = server.serve_shell(shell_reader) => {}
            () = parent::gone() => {}
        }
        server.shared.kill();
        let _ = server.jobs.send(Job::Quit);
        let waited = tokio::task::spawn_blocking(move || worker.join());
        let _ = tokio::time::timeout(GOODBYE, waited).await;
        Ok(())
    }

    async fn serve_shell(&self, mut shell: RouterRecvConnection) {
        loop {
            match requests::read(&mut shell).await {
                Ok(message) => self.answer(message),
                // A message that is malformed or wrongly signed is not for us.
                Err(error) => {
                    eprintln!("a message was refused: {error:#}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Answers what needs no session, and queues the rest for the worker.
    fn answer(&self, message: JupyterMessage) {
        let job = match &message.content {
            JupyterMessageContent::ExecuteRequest(request) => Some(Job::Execute(request.clone(), message.clone())),
            // While a cell runs, waiting for help on another would only block the editor.
            JupyterMessageContent::CompleteRequest(request) if self.shared.is_idle() => {
                Some(Job::Complete(request.clone(), message.clone()))
            }
            JupyterMessageContent::InspectRequest(request) if self.shared.is_idle() => {
                Some(Job::Inspect(request.clone(), message.clone()))
            }
            _ => None,
        };
        if let Some(job) = job {
            let _ = self.jobs.send(job);
            return;
        }
        self.outbox.publish(Status::busy(), &message);
        match &message.content {
            JupyterMessageContent::KernelInfoRequest(_) => self.outbox.reply(kernel_info(), &message),
            JupyterMessageContent::IsCompleteRequest(request) => {
                let reply = match is_complete::missing_end(&request.code) {
                    Some(indent) => IsCompleteReply::incomplete(indent),
                    None => IsCompleteReply::complete(),
                };
                self.outbox.reply(reply, &message);
            }
            JupyterMessageContent::CompleteRequest(request) => self.outbox.reply(
                CompleteReply {
                    cursor_start: request.cursor_pos,
                    cursor_end: request.cursor_pos,
                    ..Default::default()
                },
                &message,
            ),
            JupyterMessageContent::InspectRequest(_) => self.outbox.reply(InspectReply::default(), &message),
            JupyterMessageContent::HistoryRequest(request) => self.outbox.reply(self.shared.history(request), &message),
            JupyterMessageContent::CommInfoRequest(_) => self.outbox.reply(CommInfoReply::default(), &message),
            _ => {}
        }
        self.outbox.publish(Status::idle(), &message);
    }

    /// Ends when Jupyter says to shut down.
    async fn serve_control(&self, mut control: KernelControlConnection) {
        loop {
            let message = match control.read().await {
                Ok(message) => message,
                Err(error) => {
                    eprintln!("a message was refused: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            self.outbox.publish(Status::busy(), &message);
            let mut last = false;
            let reply: Option<JupyterMessageContent> = match &message.content {
                JupyterMessageContent::KernelInfoRequest(_) => Some(kernel_info().into()),
                JupyterMessageContent::InterruptRequest(_) => {
                    self.shared.interrupt();
                    Some(InterruptReply::new().into())
                }
                JupyterMessageContent::ShutdownRequest(request) => {
                    last = true;
                    Some(ShutdownReply { restart: request.restart, status: ReplyStatus::Ok, error: None }.into())
                }
                _ => None,
            };
            if let Some(content) = reply {
                let reply =
                    JupyterMessage::new(content, Some(&message)).with_zmq_identities(message.zmq_identities.clone());
                if let Err(error) = control.send(reply).await {
                    eprintln!("an answer could not be sent: {error}");
                }
            }
            self.outbox.publish(Status::idle(), &message);
            if last {
                // The last messages need a moment to leave.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return;
            }
        }
    }
}

async fn answer_heartbeats(mut heartbeat: KernelHeartbeatConnection) {
    while heartbeat.single_heartbeat().await.is_ok() {}
}

async fn write_iopub(mut socket: KernelIoPubConnection, mut queue: UnboundedReceiver<JupyterMessage>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = socket.send(message).await {
            eprintln!("an output could not be sent: {error}");
        }
    }
}

async fn write_shell(mut socket: RouterSendConnection, mut queue: UnboundedReceiver<JupyterMessage>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = socket.send(message).await {
            eprintln!("an answer could not be sent: {error}");
        }
    }
}

fn kernel_info() -> KernelInfoReply {
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.3".to_string(),
        implementation: "candlescope".to_string(),
        implementation_version: env!("CARGO_PKG_VERSION").to_string(),
        language_info: LanguageInfo {
            name: "rust".to_string(),
            version: env!("CARGO_PKG_RUST_VERSION").to_string(),
            mimetype: Some("text/rust".to_string()),
            file_extension: Some(".rs".to_string()),
            pygments_lexer: Some("rust".to_string()),
            codemirror_mode: Some(CodeMirrorMode::Simple("rust".to_string())),
            nbconvert_exporter: Some("script".to_string()),
        },
        banner: "candlescope: a microscope for transformer language models".to_string(),
        help_links: Vec::new(),
        debugger: false,
        error: None,
    }
}
