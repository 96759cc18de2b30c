//! The kernel as Jupyter sees it: over its sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use jupyter_protocol::{
    CompleteRequest, ConnectionInfo, ExecuteRequest, ExecutionState, InterruptRequest, IsCompleteReplyStatus,
    IsCompleteRequest, JupyterMessage, JupyterMessageContent, KernelInfoRequest, MediaType, ReplyStatus,
    ShutdownRequest, Transport,
};
use jupyter_zmq_client::{
    ClientControlConnection, ClientIoPubConnection, ClientShellConnection, PeerIdentity,
    create_client_control_connection, create_client_iopub_connection, create_client_shell_connection_with_identity,
    peek_ports_with_listeners, peer_identity_for_session,
};

/// Generous: the first test of all builds the session library.
const BUILD: Duration = Duration::from_secs(1800);
const SOON: Duration = Duration::from_secs(60);

struct Kernel {
    process: Child,
    shell: ClientShellConnection,
    control: ClientControlConnection,
    iopub: ClientIoPubConnection,
    connection: ConnectionInfo,
    _folder: tempfile::TempDir,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Kernel {
    async fn start() -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (ports, listeners) = peek_ports_with_listeners(ip, 5).await.unwrap();
        let connection = ConnectionInfo {
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
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("connection.json");
        std::fs::write(&file, serde_json::to_string(&connection).unwrap()).unwrap();
        drop(listeners);
        let process = Command::new(env!("CARGO_BIN_EXE_candlescope"))
            .args(["kernel", "--control-file"])
            .arg(&file)
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        wait_for_port(connection.iopub_port).await;
        let id = "test";
        Self {
            process,
            shell: create_client_shell_connection_with_identity(&connection, id, identity(id)).await.unwrap(),
            control: create_client_control_connection(&connection, id).await.unwrap(),
            iopub: create_client_iopub_connection(&connection, "", id).await.unwrap(),
            connection,
            _folder: folder,
        }
    }

    async fn ask(&mut self, request: impl Into<JupyterMessage>) -> JupyterMessageContent {
        self.shell.send(request.into()).await.unwrap();
        tokio::time::timeout(SOON, self.shell.read()).await.expect("an answer").unwrap().content
    }

    /// Sends a cell and gathers everything until the kernel is idle again.
    async fn execute(&mut self, code: &str) -> Vec<JupyterMessageContent> {
        let request = self.send(code).await;
        self.until_idle(&request).await
    }

    /// Sends a cell; gives the request's id.
    async fn send(&mut self, code: &str) -> String {
        let request: JupyterMessage = ExecuteRequest::new(code.to_string()).into();
        let id = request.header.msg_id.clone();
        self.shell.send(request).await.unwrap();
        id
    }

    async fn until_idle(&mut self, request: &str) -> Vec<JupyterMessageContent> {
        let mut seen = Vec::new();
        loop {
            let message = tokio::time::timeout(BUILD, self.iopub.read()).await.expect("an output").unwrap();
            if message.parent_header.is_none_or(|parent| parent.msg_id != request) {
                continue;
            }
            match message.content {
                JupyterMessageContent::Status(status) if status.execution_state == ExecutionState::Idle => break,
                content => seen.push(content),
            }
        }
        let reply = tokio::time::timeout(SOON, self.shell.read()).await.expect("a reply").unwrap();
        seen.push(reply.content);
        seen
    }
}

fn identity(session: &str) -> PeerIdentity {
    peer_identity_for_session(session).unwrap()
}

async fn wait_for_port(port: u16) {
    for _ in 0..200 {
        if tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the kernel opened no sockets");
}

fn result(seen: &[JupyterMessageContent]) -> Option<String> {
    seen.iter().find_map(|content| match content {
        JupyterMessageContent::ExecuteResult(result) => result.data.content.iter().find_map(|media| match media {
            MediaType::Plain(text) => Some(text.clone()),
            _ => None,
        }),
        _ => None,
    })
}

fn stdout(seen: &[JupyterMessageContent]) -> String {
    seen.iter()
        .filter_map(|content| match content {
            JupyterMessageContent::StreamContent(stream) => Some(stream.text.clone()),
            _ => None,
        })
        .collect()
}

fn error(seen: &[JupyterMessageContent]) -> Option<String> {
    let shown = seen.iter().any(|content| matches!(content, JupyterMessageContent::ErrorOutput(_)));
    seen.iter().find_map(|content| match content {
        JupyterMessageContent::ExecuteReply(reply) if shown && reply.status == ReplyStatus::Error => {
            reply.error.as_ref().map(|error| format!("{}: {}", error.ename, error.evalue))
        }
        _ => None,
    })
}

#[tokio::test]
async fn the_kernel_serves_a_session() {
    let started = Instant::now();
    let mut kernel = Kernel::start().await;
    let info = kernel.ask(KernelInfoRequest {}).await;
    assert!(matches!(&info, JupyterMessageContent::KernelInfoReply(info) if info.language_info.name == "rust"));
    assert!(started.elapsed() < Duration::from_secs(10), "it answers before anything is built");

    let complete = kernel.ask(IsCompleteRequest { code: "fn f() {".into() }).await;
    assert!(
        matches!(complete, JupyterMessageContent::IsCompleteReply(reply) if reply.status == IsCompleteReplyStatus::Incomplete)
    );

    assert_eq!(result(&kernel.execute("1 + 1").await).as_deref(), Some("2"));
    kernel.execute("let kept: Vec<i32> = vec![1, 2, 3];").await;

    let seen = kernel.execute("println!(\"so far\");\nkept[7]").await;
    assert_eq!(stdout(&seen), "so far\n");
    assert!(error(&seen).is_some_and(|error| error.starts_with("panic: index out of bounds")), "{seen:?}");
    assert_eq!(result(&kernel.execute("kept.len()").await).as_deref(), Some("3"), "a panic keeps variables");

    let failed = error(&kernel.execute("\"x\".parse::<i32>()?;").await);
    assert_eq!(failed.as_deref(), Some("error: invalid digit found in string"));

    let completion = kernel.ask(CompleteRequest { code: "kept.rever".into(), cursor_pos: 10 }).await;
    assert!(
        matches!(&completion, JupyterMessageContent::CompleteReply(reply) if reply.matches.iter().any(|m| m.starts_with("reverse"))),
        "{completion:?}"
    );

    let endless = "loop { std::thread::sleep(std::time::Duration::from_millis(5)); }";
    let request = kernel.send(endless).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    kernel.control.send(InterruptRequest {}.into()).await.unwrap();
    let seen = kernel.until_idle(&request).await;
    assert!(error(&seen).is_some_and(|error| error.starts_with("interrupt: ")), "{seen:?}");
    assert_eq!(result(&kernel.execute("2 + 2").await).as_deref(), Some("4"), "the session goes on");

    kernel.control.send(ShutdownRequest { restart: false }.into()).await.unwrap();
    let mut ended = false;
    let until = Instant::now() + SOON;
    while !ended && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ended = kernel.process.try_wait().unwrap().is_some();
    }
    assert!(ended, "it ends when told to");
}

#[tokio::test]
async fn a_message_with_a_wrong_signature_is_not_run() {
    let mut kernel = Kernel::start().await;
    let mut forged = kernel.connection.clone();
    forged.key = "another key".to_string();
    let mut stranger =
        create_client_shell_connection_with_identity(&forged, "stranger", identity("stranger")).await.unwrap();
    stranger.send(KernelInfoRequest {}.into()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(2), stranger.read()).await;
    assert!(answer.is_err(), "no answer to a stranger");
    let info = kernel.ask(KernelInfoRequest {}).await;
    assert!(matches!(info, JupyterMessageContent::KernelInfoReply(_)), "and others are still served");
}
