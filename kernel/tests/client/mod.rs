//! A client of Jupyter's protocol, as a notebook is one: starts a kernel, sends cells, and gathers what comes back.
#![allow(dead_code, reason = "each program that uses it uses a part of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jupyter_protocol::{
    ConnectionInfo, ExecuteRequest, ExecutionState, InterruptRequest, JupyterMessage, JupyterMessageContent, MediaType,
    ReplyStatus, ShutdownRequest, Transport,
};
use jupyter_zmq_client::{
    ClientControlConnection, ClientIoPubConnection, ClientShellConnection, PeerIdentity,
    create_client_control_connection, create_client_iopub_connection, create_client_shell_connection_with_identity,
    peek_ports_with_listeners, peer_identity_for_session,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Generous: the first test of all builds the session library.
pub const BUILD: Duration = Duration::from_secs(1800);
pub const SOON: Duration = Duration::from_secs(60);

/// A running kernel; killed when dropped.
pub struct Kernel {
    pub process: Child,
    pub shell: ClientShellConnection,
    pub control: ClientControlConnection,
    pub iopub: ClientIoPubConnection,
    pub connection: ConnectionInfo,
    /// When its process was started.
    pub started: Instant,
    pub folder: tempfile::TempDir,
    _slot: SemaphorePermit<'static>,
}

/// Each kernel has rust-analyzer read every library: more at once would only wait for the processor, and need much memory.
static SLOTS: Semaphore = Semaphore::const_new(3);

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ports that are free, and a key.
pub async fn new_connection() -> ConnectionInfo {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (ports, listeners) = peek_ports_with_listeners(ip, 5).await.unwrap();
    drop(listeners);
    ConnectionInfo {
        transport: Transport::TCP,
        ip: ip.to_string(),
        shell_port: ports[0],
        iopub_port: ports[1],
        stdin_port: ports[2],
        control_port: ports[3],
        hb_port: ports[4],
        signature_scheme: "hmac-sha256".to_string(),
        key: "a key for the test".to_string(),
        kernel_name: Some("candlescope".to_string()),
    }
}

impl Kernel {
    /// Starts `program` with `arguments` and the path of a connection file behind them.
    pub async fn start(program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        Self::start_with(program, arguments, |_| {}).await
    }

    /// As [`start`](Self::start), with changes to the command.
    pub async fn start_with(program: impl AsRef<Path>, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let slot = SLOTS.acquire().await.unwrap();
        let connection = new_connection().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("connection.json");
        std::fs::write(&file, serde_json::to_string(&connection).unwrap()).unwrap();
        let started = Instant::now();
        let mut command = Command::new(program.as_ref());
        command.args(arguments).arg(&file).current_dir(folder.path()).stdin(Stdio::null());
        change(&mut command);
        let process = command.spawn().unwrap();
        wait_for_port(connection.iopub_port).await;
        let id = "test";
        Self {
            process,
            shell: create_client_shell_connection_with_identity(&connection, id, identity(id)).await.unwrap(),
            control: create_client_control_connection(&connection, id).await.unwrap(),
            iopub: create_client_iopub_connection(&connection, "", id).await.unwrap(),
            connection,
            started,
            folder,
            _slot: slot,
        }
    }

    /// Another client of the same kernel, which signs with `key`.
    pub async fn stranger(&self, key: &str) -> ClientShellConnection {
        let connection = ConnectionInfo { key: key.to_string(), ..self.connection.clone() };
        create_client_shell_connection_with_identity(&connection, "stranger", identity("stranger")).await.unwrap()
    }

    pub async fn ask(&mut self, request: impl Into<JupyterMessage>) -> JupyterMessageContent {
        self.shell.send(request.into()).await.unwrap();
        tokio::time::timeout(SOON, self.shell.read()).await.expect("an answer").unwrap().content
    }

    /// Sends a cell and gathers everything until the kernel is idle again.
    pub async fn execute(&mut self, code: &str) -> Seen {
        let request = self.send(code).await;
        self.until_idle(&request).await
    }

    /// Sends a cell; gives the request's id.
    pub async fn send(&mut self, code: &str) -> String {
        let request: JupyterMessage = ExecuteRequest::new(code.to_string()).into();
        let id = request.header.msg_id.clone();
        self.shell.send(request).await.unwrap();
        id
    }

    pub async fn interrupt(&mut self) {
        self.control.send(InterruptRequest {}.into()).await.unwrap();
        tokio::time::timeout(SOON, self.control.read()).await.expect("an answer").unwrap();
    }

    pub async fn until_idle(&mut self, request: &str) -> Seen {
        let mut seen = Vec::new();
        while let Some(content) = self.next_of(request).await {
            seen.push(content);
        }
        let reply = tokio::time::timeout(SOON, self.shell.read()).await.expect("a reply").unwrap();
        seen.push(reply.content);
        Seen(seen)
    }

    /// What the kernel publishes next about a request; nothing when it is idle again.
    pub async fn next_of(&mut self, request: &str) -> Option<JupyterMessageContent> {
        loop {
            let message = tokio::time::timeout(BUILD, self.iopub.read()).await.expect("an output").unwrap();
            if message.parent_header.is_none_or(|parent| parent.msg_id != request) {
                continue;
            }
            match message.content {
                JupyterMessageContent::Status(status) if status.execution_state == ExecutionState::Idle => return None,
                content => return Some(content),
            }
        }
    }

    /// Waits until `text` is written by the running cell.
    pub async fn until_printed(&mut self, request: &str, text: &str) {
        let mut printed = String::new();
        while let Some(content) = self.next_of(request).await {
            if let JupyterMessageContent::StreamContent(stream) = &content {
                printed.push_str(&stream.text);
                if printed.contains(text) {
                    return;
                }
            }
        }
        panic!("the cell ended without printing '{text}', but: {printed}");
    }

    /// Asks the kernel to end; whether it does.
    pub async fn shut_down(&mut self, restart: bool) -> bool {
        self.control.send(ShutdownRequest { restart }.into()).await.unwrap();
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if self.process.try_wait().unwrap().is_some() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}

/// What came back for a cell: outputs, and the reply at last.
#[derive(Debug)]
pub struct Seen(pub Vec<JupyterMessageContent>);

impl Seen {
    /// The result's text.
    pub fn result(&self) -> Option<String> {
        self.results().into_iter().find_map(|media| match media {
            MediaType::Plain(text) => Some(text),
            _ => None,
        })
    }

    /// All forms of the result.
    pub fn results(&self) -> Vec<MediaType> {
        let media = self.0.iter().find_map(|content| match content {
            JupyterMessageContent::ExecuteResult(result) => Some(result.data.content.clone()),
            _ => None,
        });
        media.unwrap_or_default()
    }

    /// Text on both streams, in the order in which it came, with the stream's name.
    pub fn streams(&self) -> Vec<(String, String)> {
        let mut streams: Vec<(String, String)> = Vec::new();
        for content in &self.0 {
            if let JupyterMessageContent::StreamContent(stream) = content {
                let name = match stream.name {
                    jupyter_protocol::Stdio::Stdout => "stdout",
                    jupyter_protocol::Stdio::Stderr => "stderr",
                };
                match streams.last_mut() {
                    Some((last, text)) if last == name => text.push_str(&stream.text),
                    _ => streams.push((name.to_string(), stream.text.clone())),
                }
            }
        }
        streams
    }

    pub fn stdout(&self) -> String {
        self.streams().into_iter().filter(|(name, _)| name == "stdout").map(|(_, text)| text).collect()
    }

    pub fn stderr(&self) -> String {
        self.streams().into_iter().filter(|(name, _)| name == "stderr").map(|(_, text)| text).collect()
    }

    /// `name: message`, where the reply and an output both say that the cell failed.
    pub fn error(&self) -> Option<String> {
        let shown = self.0.iter().any(|content| matches!(content, JupyterMessageContent::ErrorOutput(_)));
        self.0.iter().find_map(|content| match content {
            JupyterMessageContent::ExecuteReply(reply) if shown && reply.status == ReplyStatus::Error => {
                reply.error.as_ref().map(|error| format!("{}: {}", error.ename, error.evalue))
            }
            _ => None,
        })
    }

    /// The lines that people read about an error.
    pub fn traceback(&self) -> String {
        let lines = self.0.iter().find_map(|content| match content {
            JupyterMessageContent::ErrorOutput(error) => Some(error.traceback.join("\n")),
            _ => None,
        });
        lines.unwrap_or_default()
    }
}

pub fn identity(session: &str) -> PeerIdentity {
    peer_identity_for_session(session).unwrap()
}

async fn wait_for_port(port: u16) {
    for _ in 0..6000 {
        if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the kernel opened no sockets");
}
