//! Reading requests as clients send them: with fields left out that the protocol has defaults for.

use anyhow::{Context, Result};
use jupyter_protocol::{Header, JupyterMessage, JupyterMessageContent};
use jupyter_zmq_client::{RawMessage, RouterRecvConnection};
use serde_json::{Map, Value, json};
use zeromq::SocketRecv;

/// The next request, if it is well signed and can be understood.
pub async fn read(shell: &mut RouterRecvConnection) -> Result<JupyterMessage> {
    let mut message = RawMessage::from_multipart(shell.socket.recv().await?, &shell.mac)?;
    let buffers = message.jparts.split_off(4);
    // Header, the header of what it answers (requests answer nothing), metadata, content.
    let [header, _, metadata, content] = &message.jparts[..] else { anyhow::bail!("it has too few parts") };
    let header: Header = serde_json::from_slice(header).context("its header is not understood")?;
    let mut content: Value = serde_json::from_slice(content).context("its content is no JSON")?;
    if let ("history_request", Value::Object(fields)) = (header.msg_type.as_str(), &mut content) {
        complete(fields);
    }
    let content = JupyterMessageContent::from_type_and_content(&header.msg_type, content)
        .with_context(|| format!("a {} without what it needs", header.msg_type))?;
    let metadata = serde_json::from_slice(metadata).unwrap_or_else(|_| json!({}));
    let zmq_identities = message.zmq_identities;
    Ok(JupyterMessage { zmq_identities, header, parent_header: None, metadata, content, buffers, channel: None })
}

/// A history request with what it leaves out: everything, of this session.
fn complete(content: &mut Map<String, Value>) {
    let defaults = [
        ("output", json!(false)),
        ("raw", json!(true)),
        ("session", json!(0)),
        ("start", json!(0)),
        ("stop", json!(0)),
        ("n", json!(1000)),
        ("pattern", json!("*")),
        ("unique", json!(false)),
    ];
    for (name, default) in defaults {
        let there = content.entry(name).or_insert(Value::Null);
        if there.is_null() {
            *there = default;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jupyter_protocol::HistoryRequest;

    #[test]
    fn a_search_needs_no_more_than_its_pattern() {
        let mut content = Map::from_iter([
            ("hist_access_type".to_string(), json!("search")),
            ("pattern".to_string(), json!("a*")),
            ("n".to_string(), Value::Null),
        ]);
        complete(&mut content);
        let request: HistoryRequest = serde_json::from_value(Value::Object(content)).unwrap();
        assert!(matches!(request, HistoryRequest::Search { pattern, unique: false, n: 1000, .. } if pattern == "a*"));
    }
}
