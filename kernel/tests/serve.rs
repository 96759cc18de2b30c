//! The kernel as Jupyter sees it: over its sockets.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use jupyter_protocol::{
    CompleteRequest, HistoryEntry, HistoryRequest, InspectRequest, IsCompleteReplyStatus, IsCompleteRequest,
    JupyterMessage, JupyterMessageContent, KernelInfoRequest, MediaType, UnknownMessage,
};

mod client;
use client::{Kernel, Seen};

const PROGRAM: &str = env!("CARGO_BIN_EXE_candlescope");

const MODEL: &str = "use candlescope::prelude::*;\nlet model = HookedTransformer::from_pretrained(\"tiny\")?;";

async fn start() -> Kernel {
    Kernel::start(PROGRAM, &["kernel", "--control-file"]).await
}

fn is_kernel_info(content: &JupyterMessageContent) -> bool {
    matches!(content, JupyterMessageContent::KernelInfoReply(info) if info.language_info.name == "rust")
}

#[tokio::test]
async fn the_kernel_serves_a_session() {
    let mut kernel = start().await;
    let info = kernel.ask(KernelInfoRequest {}).await;
    assert!(is_kernel_info(&info));
    assert!(kernel.started.elapsed() < Duration::from_secs(10), "it answers before anything is built");

    assert_eq!(kernel.execute("1 + 1").await.result().as_deref(), Some("2"));
    kernel.execute("let kept: Vec<i32> = vec![1, 2, 3];").await;

    let seen = kernel.execute("println!(\"so far\");\nkept[7]").await;
    assert_eq!(seen.stdout(), "so far\n");
    assert!(seen.error().is_some_and(|error| error.starts_with("panic: index out of bounds")), "{seen:?}");
    assert_eq!(kernel.execute("kept.len()").await.result().as_deref(), Some("3"), "a panic keeps variables");

    let failed = kernel.execute("\"x\".parse::<i32>()?;").await;
    assert_eq!(failed.error().as_deref(), Some("error: invalid digit found in string"));
    assert_eq!(failed.stderr(), "", "the message is the error's, not text besides");

    assert!(kernel.shut_down(false).await, "it ends when told to");
}

#[tokio::test]
async fn an_interrupt_keeps_the_model() {
    let mut kernel = start().await;
    assert_eq!(kernel.execute(MODEL).await.error(), None);
    let long = [
        (
            "sweeps",
            "loop { model.sweep(\"John gave a book to Mary.\").at(\"z\").zero().measure(metric::loss()).run()?; }",
        ),
        ("forward passes", "loop { model.run_with_cache(\"John gave a book to Mary.\")?; }"),
        ("generation", "loop { model.generate(\"John\", &GenerateOptions::new().max_new_tokens(50))?; }"),
        // An error that nobody hands on is still an interrupt, and ends the loop.
        ("swallowed errors", "while model.loss(\"John gave a book to Mary.\").is_ok() {}"),
    ];
    for (what, code) in long {
        let request = kernel.send(&format!("println!(\"begun\");\n{code}")).await;
        kernel.until_printed(&request, "begun").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        kernel.interrupt().await;
        let seen = kernel.until_idle(&request).await;
        assert!(
            seen.error().is_some_and(|error| error.starts_with("interrupt: ") && error.contains("is kept")),
            "{what}: {seen:?}"
        );
        let after = kernel.execute("model.loss(\"John gave a book to Mary.\")? > 0.0").await;
        assert_eq!(after.result().as_deref(), Some("true"), "{what}: {after:?}");
    }

    // While nothing runs there is nothing to interrupt, and the next cell does not feel it.
    kernel.interrupt().await;
    assert_eq!(kernel.execute("model.cfg().n_layers > 0").await.result().as_deref(), Some("true"));

    // Code that does not listen: it is said so, and the second interrupt ends it, naming what is lost.
    let request =
        kernel.send("println!(\"begun\");\nloop { std::thread::sleep(std::time::Duration::from_millis(5)); }").await;
    kernel.until_printed(&request, "begun").await;
    kernel.interrupt().await;
    kernel.until_printed(&request, "has not listened").await;
    kernel.interrupt().await;
    let seen = kernel.until_idle(&request).await;
    assert!(
        seen.error().is_some_and(|error| error.starts_with("interrupt: ") && error.contains("Lost: model")),
        "{seen:?}"
    );
    assert_eq!(kernel.execute("2 + 2").await.result().as_deref(), Some("4"), "the session goes on");
    assert_eq!(kernel.execute(MODEL).await.error(), None);
}

#[tokio::test]
async fn an_interrupt_stops_the_compiler() {
    let mut kernel = start().await;
    kernel.execute("let kept = 5u32;\nlet taken = vec![1u8];").await;
    // A constant that takes the compiler a long time.
    let slow = "#![allow(long_running_const_eval)]\nconst N: u64 = { let mut i = 0u64; while i < 1 << 40 { i += 1; } i };\n\
                drop(taken);\nN + kept as u64";
    let request = kernel.send(slow).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    kernel.interrupt().await;
    let seen = kernel.until_idle(&request).await;
    assert!(seen.error().is_some_and(|error| error.starts_with("interrupt: ")), "{seen:?}");
    assert_eq!(kernel.execute("kept + taken.len() as u32").await.result().as_deref(), Some("6"), "nothing was touched");
}

#[tokio::test]
async fn a_variable_survives_the_failure_of_a_cell_that_defines_it_anew() {
    let mut kernel = start().await;
    kernel.execute(MODEL).await;
    kernel.execute("let mut list = vec![1u8];").await;
    let failed = kernel.execute("let model = HookedTransformer::from_pretrained(\"no/such/folder\")?;").await;
    assert!(failed.error().is_some_and(|error| error.contains("no/such/folder")), "{failed:?}");
    assert_eq!(kernel.execute("model.cfg().n_layers > 0").await.result().as_deref(), Some("true"));
    // One that the cell itself reads; and the old one can still be changed.
    assert!(kernel.execute("let list = list[7];").await.error().is_some_and(|error| error.starts_with("panic")));
    assert_eq!(kernel.execute("list.push(2);\nlist").await.result().as_deref(), Some("[1, 2]"));
    assert_eq!(kernel.execute("let list = list.len();\nlist").await.result().as_deref(), Some("2"));
    // What it gave away is named.
    let seen = kernel.execute("drop(model); panic!(\"oh\");").await;
    assert!(seen.traceback().contains("they are lost: model"), "{}", seen.traceback());
    kernel.execute(":restart").await;
    assert_eq!(
        kernel.execute("candlescope::candle_core::Device::Cpu").await.error(),
        None,
        "a restart knows the library"
    );
}

#[tokio::test]
async fn a_crash_is_told_and_the_session_goes_on() {
    let mut kernel = start().await;
    kernel.execute("let kept = vec![1];").await;
    let seen = kernel.execute("println!(\"last words\");\nstd::process::abort();").await;
    assert_eq!(seen.stdout(), "last words\n");
    let error = seen.error().unwrap_or_default();
    assert!(error.starts_with("crash: ") && error.contains("it aborted") && error.contains("Lost: kept"), "{seen:?}");
    assert_eq!(kernel.execute("3 + 3").await.result().as_deref(), Some("6"));
}

#[tokio::test]
async fn outputs_come_in_order_and_whole() {
    let mut kernel = start().await;
    let seen = kernel
        .execute(
            "for i in 0..3 { println!(\"out {i}\"); eprintln!(\"err {i}\"); }\nprint!(\"50 %\\r\");\nprint!(\"100 %\");",
        )
        .await;
    let expected: Vec<(String, String)> = (0..3)
        .flat_map(|i| [("stdout".to_string(), format!("out {i}\n")), ("stderr".to_string(), format!("err {i}\n"))])
        .chain([("stdout".to_string(), "50 %\r100 %".to_string())])
        .collect();
    assert_eq!(seen.streams(), expected);
    // Text without its newline, and not flushed, stays in its cell.
    assert_eq!(kernel.execute("println!(\"next\")").await.streams(), [("stdout".to_string(), "next\n".to_string())]);

    let seen = kernel.execute("for i in 0..10_000 { println!(\"line {i}\"); }").await;
    let lines: Vec<String> = (0..10_000).map(|i| format!("line {i}\n")).collect();
    assert!(seen.stdout() == lines.concat(), "10,000 lines arrive, in order");
    assert!(seen.0.len() < 1000, "but not each by itself: {}", seen.0.len());

    let large = "println!(\"EVCXR_BEGIN_CONTENT text/html\\n{}\\nEVCXR_END_CONTENT\", \"x\".repeat(50 << 20));\n7";
    let seen = kernel.execute(large).await;
    assert!(seen.stderr().starts_with("A display of 50 MB (text/html) was refused"), "{}", seen.stderr());
    assert_eq!(seen.result().as_deref(), Some("7"));
}

#[tokio::test]
async fn values_are_shown_however_the_cell_came_by_them() {
    let mut kernel = start().await;
    kernel.execute("use candlescope::prelude::*;").await;
    let has_picture = |seen: &Seen| seen.results().iter().any(|media| matches!(media, MediaType::Png(_)));
    // The last expression takes a variable of the cell.
    let seen = kernel
        .execute(
            "let t = Tensor::zeros((4, 4), DType::F32, &Device::Cpu)?;\nlet made = imshow(&t)?;\nmade.title(\"zeros\")",
        )
        .await;
    assert!(has_picture(&seen), "{seen:?}");
    let seen = kernel.execute("#[derive(Debug)] struct Own(u8);\nOwn(3)").await;
    assert_eq!(seen.result().as_deref(), Some("Own(3)"));
    let seen = kernel.execute("struct Mine;\nimpl Mine { fn evcxr_display(&self) { println!(\"EVCXR_BEGIN_CONTENT text/plain\\nby itself\\nEVCXR_END_CONTENT\"); } }\nMine").await;
    assert_eq!(seen.result().as_deref(), Some("by itself"));
    let seen = kernel.execute("let pair = (1, \"text\");\npair.1").await;
    assert_eq!(seen.result().as_deref(), Some("text"));
    let seen = kernel.execute("&&&Own(4)").await;
    assert_eq!(seen.result().as_deref(), Some("Own(4)"));
    let seen = kernel.execute("struct Hidden;\nHidden").await;
    assert!(seen.error().is_some_and(|error| error.contains("can't be shown") && error.contains("Debug")), "{seen:?}");
    assert!(!seen.traceback().contains("evcxr"), "{}", seen.traceback());
    // Two displays, a print between them.
    let seen = kernel.execute("1.5f32.evcxr_display();\nprintln!(\"between\");\n2.5f32").await;
    let kinds: Vec<&str> = seen.0.iter().map(JupyterMessageContent::message_type).collect();
    assert_eq!(kinds[kinds.len() - 4..], ["display_data", "stream", "execute_result", "execute_reply"], "{kinds:?}");
}

#[tokio::test]
async fn compile_errors_point_at_the_persons_own_code() {
    let mut kernel = start().await;
    let seen = kernel.execute("let x = 1;\nx + undefined_name").await;
    let traceback = seen.traceback();
    assert!(traceback.contains("2 | x + undefined_name\n  |     ^^^^^^^^^^^^^^"), "{traceback}");
    let seen = kernel.execute("let n: u32 = \"text\";").await;
    assert!(seen.traceback().contains("1 | let n: u32 = \"text\";"), "{}", seen.traceback());
    assert!(!seen.traceback().to_lowercase().contains("evcxr"), "{}", seen.traceback());
    let seen = kernel.execute("let f = |x: i32| x + 1;").await;
    assert!(seen.error().is_some_and(|error| error.contains("closure")), "{seen:?}");
    let seen = kernel.execute("let unused = 1;\nlet mut never_changed = 2;").await;
    assert_eq!((seen.streams(), seen.error()), (vec![], None), "no warnings in a cell that is well");
}

#[tokio::test]
async fn long_work_shows_one_bar_that_changes() {
    let mut kernel = start().await;
    kernel.execute(MODEL).await;
    let seen = kernel
        .execute("let text = \"John gave a book to Mary. \".repeat(4);\nlet texts = vec![text; 4000];\nmodel.over(texts).loss()?;")
        .await;
    let (shown, updates) = displays_and_updates(&seen.0);
    assert_eq!(shown.len(), 1, "one bar: {seen:?}");
    assert!(!updates.is_empty() && updates.iter().all(|(id, _)| *id == shown[0].0), "{updates:?}");
    assert!(shown[0].1.contains("tokens/s") && shown[0].1.contains("left"), "{shown:?}");
    assert!(updates.last().is_some_and(|(_, text)| text.contains("done in")), "{updates:?}");
}

#[tokio::test]
async fn a_live_picture_is_drawn_anew_in_its_place() {
    let mut kernel = start().await;
    kernel.execute("use candlescope::prelude::*;").await;
    let draw = "let mut live = Live::new();
for n in 1..=3 {
    live.update(&LineChart::new().series(\"loss\", (0..n).map(f64::from)).title(format!(\"after {n}\")));
    std::thread::sleep(std::time::Duration::from_millis(1100));
}
live.finish(&LineChart::new().series(\"loss\", [1.0, 2.0]).title(\"at the end\"));
println!(\"done\");";
    let seen = kernel.execute(draw).await;
    let (shown, updates) = displays_and_updates(&seen.0);
    assert_eq!(seen.error(), None);
    assert!(matches!(shown.as_slice(), [(_, text)] if text.contains("after 1")), "{shown:?}");
    let texts: Vec<&str> = updates.iter().map(|(_, text)| text.lines().next().unwrap_or_default()).collect();
    assert_eq!(texts, ["after 2", "after 3", "at the end"]);
    assert!(updates.iter().all(|(id, _)| *id == shown[0].0), "{updates:?}");
}

/// Displays' ids and texts.
type Displays = Vec<(String, String)>;

/// The displays that can be changed, and the changes of them.
fn displays_and_updates(contents: &[JupyterMessageContent]) -> (Displays, Displays) {
    let (mut shown, mut updates) = (Vec::new(), Vec::new());
    for content in contents {
        let (data, transient, list) = match content {
            JupyterMessageContent::DisplayData(display) => (&display.data, display.transient.clone(), &mut shown),
            JupyterMessageContent::UpdateDisplayData(update) => {
                (&update.data, Some(update.transient.clone()), &mut updates)
            }
            _ => continue,
        };
        let id = transient.and_then(|transient| transient.display_id);
        let text = data.content.iter().find_map(|media| match media {
            MediaType::Plain(text) => Some(text.clone()),
            _ => None,
        });
        list.push((id.expect("a display that can be updated"), text.unwrap_or_default()));
    }
    (shown, updates)
}

#[tokio::test]
async fn an_editor_gets_help() {
    let mut kernel = start().await;
    let complete = kernel.ask(IsCompleteRequest { code: "fn f() {".into() }).await;
    assert!(
        matches!(complete, JupyterMessageContent::IsCompleteReply(reply) if reply.status == IsCompleteReplyStatus::Incomplete)
    );
    kernel.execute(MODEL).await;
    kernel.execute("let kept: Vec<i32> = vec![1, 2, 3];").await;
    for (code, wanted) in [("kept.rever", "reverse"), ("model.run_with_ca", "run_with_cache")] {
        let completion = kernel.ask(CompleteRequest { code: code.into(), cursor_pos: code.len() }).await;
        assert!(
            matches!(&completion, JupyterMessageContent::CompleteReply(reply) if reply.matches.iter().any(|m| m.starts_with(wanted))),
            "{completion:?}"
        );
    }
    let code = "model.run_with_cache";
    let hover = kernel.ask(InspectRequest { code: code.into(), cursor_pos: code.len(), detail_level: Some(0) }).await;
    assert!(
        matches!(&hover, JupyterMessageContent::InspectReply(reply) if reply.found && format!("{:?}", reply.data).contains("ActivationCache")),
        "{hover:?}"
    );
    let history = kernel.ask(HistoryRequest::Tail { n: 1, output: false, raw: true }).await;
    assert!(
        matches!(&history, JupyterMessageContent::HistoryReply(reply) if matches!(&reply.history[..], [HistoryEntry::Input(0, 2, code)] if code.starts_with("let kept"))),
        "{history:?}"
    );
}

#[tokio::test]
async fn two_kernels_run_at_once_and_one_restarts() {
    let (mut one, mut two) = tokio::join!(start(), start());
    let (a, b) = tokio::join!(one.execute("let x = 1u8;\nx"), two.execute("let x = \"two\";\nx"));
    assert_eq!((a.result().as_deref(), b.result().as_deref()), (Some("1"), Some("two")));
    assert!(one.shut_down(true).await);
    let mut again = start().await;
    assert!(again.execute("x").await.error().is_some(), "a restart begins anew");
    assert_eq!(two.execute("x.len()").await.result().as_deref(), Some("3"), "and the other one does not notice");
}

#[tokio::test]
async fn strange_messages_harm_nothing() {
    let mut kernel = start().await;
    // Signed with another key.
    let mut stranger = kernel.stranger("another key").await;
    stranger.send(KernelInfoRequest {}.into()).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(2), stranger.read()).await;
    assert!(answer.is_err(), "no answer to a stranger");
    // Not the protocol at all.
    for port in [kernel.connection.shell_port, kernel.connection.control_port] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n\xff\xff\x00garbage");
    }
    // Well signed, but without what it needs, and of a kind that nobody knows.
    for msg_type in ["execute_request", "complete_request", "no_such_request"] {
        let content = serde_json::json!({ "no": "sense" });
        let message = JupyterMessage::new(UnknownMessage { msg_type: msg_type.to_string(), content }, None);
        kernel.shell.send(message).await.unwrap();
    }
    let info = kernel.ask(KernelInfoRequest {}).await;
    assert!(is_kernel_info(&info), "and others are still served: {info:?}");
    assert_eq!(kernel.execute("1 + 2").await.result().as_deref(), Some("3"));
}

#[tokio::test]
async fn a_kernel_for_other_machines_is_refused() {
    let mut connection = client::new_connection().await;
    connection.ip = "0.0.0.0".to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("connection.json");
    std::fs::write(&file, serde_json::to_string(&connection).unwrap()).unwrap();
    let started = Instant::now();
    let output = Command::new(PROGRAM).args(["kernel", "--control-file"]).arg(&file).output().unwrap();
    assert!(!output.status.success() && started.elapsed() < Duration::from_secs(60));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("0.0.0.0") && said.contains("loopback"), "{said}");
}
