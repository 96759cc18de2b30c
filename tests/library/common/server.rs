//! A web server on this machine that answers as a test says, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What somebody asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /api/feature/gpt2-small/8-res-jb/123`
    pub line: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What is answered.
pub enum Reply {
    /// A status, further header lines, and the body.
    Full(u16, Vec<String>, Vec<u8>),
    /// Bytes as they are, after which the connection is closed.
    Raw(Vec<u8>),
    /// Nothing for a while, then the other.
    Late(Duration, Box<Reply>),
    /// A head, and then these bytes again and again, with a pause before each, until nobody listens any more.
    Endless(String, Vec<u8>, Duration),
}

impl Reply {
    pub fn json(body: impl Into<String>) -> Self {
        Self::Full(200, vec!["Content-Type: application/json".to_string()], body.into().into_bytes())
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self::Full(status, Vec::new(), body.as_bytes().to_vec())
    }

    pub fn with(self, header: impl Into<String>) -> Self {
        match self {
            Self::Full(status, mut headers, body) => {
                headers.push(header.into());
                Self::Full(status, headers, body)
            }
            other => other,
        }
    }
}

pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers what `answer` says, given what is asked and how many questions came before.
    pub fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (log.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { url, log }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked, usize) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let lines: Vec<String> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some((line, headers)) = lines.split_first() else { return };
    let headers: Vec<(String, String)> = headers
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_string()))
        .collect();
    let mut asked = Asked { line: line.clone(), headers, body: String::new() };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    asked.body = String::from_utf8(body).unwrap();
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        seen.len() - 1
    };
    // Whoever does not listen any more need not be told.
    let _ = send(stream, answer(&asked, before));
}

fn send(mut stream: TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Full(status, headers, body) => {
            let mut head =
                format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
            headers.iter().for_each(|header| head += &format!("{header}\r\n"));
            stream.write_all(head.as_bytes())?;
            stream.write_all(b"\r\n")?;
            stream.write_all(&body)
        }
        Reply::Raw(bytes) => stream.write_all(&bytes),
        Reply::Late(time, reply) => {
            std::thread::sleep(time);
            send(stream, *reply)
        }
        Reply::Endless(head, bytes, pause) => {
            stream.write_all(head.as_bytes())?;
            loop {
                std::thread::sleep(pause);
                stream.write_all(&bytes)?;
            }
        }
    }
}
