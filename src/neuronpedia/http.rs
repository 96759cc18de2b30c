//! One question to a server: not too often, patiently, not for ever, and every failure a sentence.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::header::{LOCATION, RETRY_AFTER};

use super::id::quoted;
use super::json::text;
use crate::{Error, Result, hub, interrupt};

/// The header that the site reads the key from.
const KEY_HEADER: &str = "x-api-key";
/// How often a server may send us elsewhere.
const MAX_REDIRECTS: usize = 5;
/// The first wait for a busy server that does not say how long; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How often a wait looks whether it is interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A file of an export may take so many times longer than an answer.
const SLOW: u32 = 10;

/// What is asked.
pub(super) struct Request {
    pub url: String,
    /// JSON to be posted; without it the question is a GET.
    pub body: Option<String>,
    /// The largest answer that is read, in bytes.
    pub limit: u64,
    /// What it is, for sentences: `the feature gpt2-small/8-res-jb/123`.
    pub what: String,
    /// What to check when the server does not have it.
    pub missing: String,
    /// Whether it is a file, and may take longer.
    pub slow: bool,
}

/// How questions are put. Clones share the time of the last one.
#[derive(Clone)]
pub(super) struct Http {
    pub key: Option<String>,
    pub timeout: Duration,
    pub min_interval: Duration,
    pub patience: Duration,
    /// When the next question may be put.
    next: Arc<Mutex<Option<Instant>>>,
    agent: ureq::Agent,
}

impl Default for Http {
    fn default() -> Self {
        // Redirects are followed here, because the key must not travel to another host.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("candlescope/", env!("CARGO_PKG_VERSION")));
        Self {
            key: None,
            timeout: Duration::from_secs(30),
            min_interval: Duration::from_millis(100),
            patience: Duration::from_secs(60),
            next: Arc::default(),
            agent: config.build().new_agent(),
        }
    }
}

/// What came back.
struct Answer {
    status: u16,
    /// In seconds, where the server says so.
    retry_after: Option<u64>,
    location: Option<String>,
    body: Vec<u8>,
}

/// Why nothing came back.
enum Failure {
    Slow,
    Large,
    Other(String),
}

impl Http {
    /// What the server answers; the key is only for the server at `key_host`, if for any.
    pub fn ask(&self, request: &Request, key_host: &str) -> Result<Vec<u8>> {
        let mut url = request.url.clone();
        let (mut redirects, mut waited, mut wait) = (0, Duration::ZERO, FIRST_WAIT);
        let host = host(&url)?;
        loop {
            let with_key = origin(&url).is_some() && origin(&url) == origin(key_host);
            let answer = self.send(&url, with_key, request, &host)?;
            match answer.status {
                200..=299 => return Ok(answer.body),
                301 | 302 | 303 | 307 | 308 if redirects < MAX_REDIRECTS => {
                    redirects += 1;
                    url = redirected(&url, &answer, request)?;
                }
                301 | 302 | 303 | 307 | 308 => {
                    return Err(failed(request, format!("{host} sends from one address to the next without end")));
                }
                429 | 502 | 503 | 504 => {
                    // Never no wait at all, or a server could keep us for ever.
                    let this = answer.retry_after.map_or(wait, |asked| Duration::from_secs(asked).max(FIRST_WAIT));
                    if waited.saturating_add(this) > self.patience {
                        return Err(self.gave_up(request, &host, &answer, waited));
                    }
                    pause(this)?;
                    (waited, wait) = (waited.saturating_add(this), wait.saturating_mul(2));
                }
                status => return Err(self.refused(request, &host, status, &answer)),
            }
        }
    }

    /// Whether an answer has the key in it.
    pub fn repeats_key(&self, body: &[u8]) -> bool {
        self.key.as_ref().is_some_and(|key| body.windows(key.len()).any(|part| part == key.as_bytes()))
    }

    /// Puts the question once, on a thread of its own, so that an interrupt is heard.
    fn send(&self, url: &str, with_key: bool, request: &Request, host: &str) -> Result<Answer> {
        self.take_turn()?;
        let key = match self.key.as_ref().filter(|_| with_key) {
            Some(key) if key.bytes().all(|byte| byte.is_ascii_graphic()) => Some(key.clone()),
            Some(_) => {
                return Err(Error::msg("the key of Neuronpedia (NEURONPEDIA_API_KEY) has characters that no key has"));
            }
            None => None,
        };
        let timeout = if request.slow { self.timeout.saturating_mul(SLOW) } else { self.timeout };
        let (agent, url, body, limit) = (self.agent.clone(), url.to_string(), request.body.clone(), request.limit);
        let sent = hub::waiting(move || exchange(&agent, &url, key, body, timeout, limit), || {})?;
        sent.map_err(|failure| {
            let why = match failure {
                Failure::Slow => format!(
                    "{host} did not answer within {} s; try again, or allow more time with .timeout(..)",
                    timeout.as_secs_f32()
                ),
                Failure::Large => format!(
                    "{host} answered with more than {} MB, which no such answer has",
                    request.limit >> 20
                ),
                Failure::Other(why) => format!(
                    "asking {host} failed ({}); check the network and the address (NEURONPEDIA_BASE_URL), or use what was \
                     fetched before: .offline(), or an export with Export::open(..)",
                    self.without_key(&why)
                ),
            };
            failed(request, why)
        })
    }

    /// Waits until enough time has passed since the last question.
    fn take_turn(&self) -> Result<()> {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = next.map_or(now, |next| next.max(now));
            *next = at.checked_add(self.min_interval);
            at
        };
        pause(at.saturating_duration_since(now))
    }

    fn gave_up(&self, request: &Request, host: &str, answer: &Answer, waited: Duration) -> Error {
        let state = if answer.status == 429 { "is asked too often" } else { "is busy" };
        let wish = match answer.retry_after {
            Some(seconds) => format!("it asks to wait {seconds} s"),
            None => "it does not say how long to wait".to_string(),
        };
        failed(
            request,
            format!(
                "{host} {state} ({}{}); {wish}, after {:.0} s of waiting. Try again later, wait longer with .patience(..), or \
                 download an export with .labels(..), which asks for little",
                answer.status,
                self.said(answer),
                waited.as_secs_f32()
            ),
        )
    }

    fn refused(&self, request: &Request, host: &str, status: u16, answer: &Answer) -> Error {
        let said = self.said(answer);
        failed(
            request,
            match status {
                404 => format!("{host} does not have it ({status}{said}); {}", request.missing),
                401 | 403 => {
                    format!(
                        "{host} does not allow it ({status}{said}): it is not public, or the key in NEURONPEDIA_API_KEY is wrong"
                    )
                }
                400..=499 => format!("{host} refused the question ({status}{said})"),
                _ => format!("{host} failed ({status}{said}); try again later"),
            },
        )
    }

    /// What the server says about its refusal, for a sentence.
    fn said(&self, answer: &Answer) -> String {
        let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let said = json.and_then(|json| text(&json, "error").or_else(|| text(&json, "message")));
        said.map_or_else(String::new, |said| format!(": {}", quoted(&self.without_key(&said))))
    }

    fn without_key(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_string(), |key| text.replace(key.as_str(), "(the key)"))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

/// One request and its whole answer.
fn exchange(
    agent: &ureq::Agent,
    url: &str,
    key: Option<String>,
    body: Option<String>,
    timeout: Duration,
    limit: u64,
) -> std::result::Result<Answer, Failure> {
    let answer = match body {
        None => {
            let request = agent.get(url).config().timeout_global(Some(timeout)).build();
            let request = key.iter().fold(request, |request, key| request.header(KEY_HEADER, key));
            request.call()
        }
        Some(body) => {
            let request = agent.post(url).config().timeout_global(Some(timeout)).build();
            let request = key.iter().fold(request, |request, key| request.header(KEY_HEADER, key));
            request.header("content-type", "application/json").send(body)
        }
    };
    let answer = answer.map_err(failure)?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let status = answer.status().as_u16();
    let retry_after = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
    let location = header(LOCATION).map(str::to_string);
    if answer.body().content_length().is_some_and(|length| length > limit) {
        return Err(Failure::Large);
    }
    let body = answer.into_body().into_with_config().limit(limit).read_to_vec().map_err(failure)?;
    Ok(Answer { status, retry_after, location, body })
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Slow,
        ureq::Error::BodyExceedsLimit(_) => Failure::Large,
        error => Failure::Other(error.to_string()),
    }
}

fn failed(request: &Request, why: String) -> Error {
    Error::msg(format!("{} can't be had: {why}", request.what))
}

/// Where a redirect leads.
fn redirected(from: &str, answer: &Answer, request: &Request) -> Result<String> {
    let to = answer.location.as_deref().unwrap_or_default();
    let not = |why: &str| failed(request, format!("the server sends on to {}, {why}", quoted(to)));
    // What was posted would be lost, or posted to where it was not meant to go.
    if request.body.is_some() && ![307, 308].contains(&answer.status) {
        return Err(not("and a question with a text can't follow there"));
    }
    let url = match origin(from) {
        Some(start) if to.starts_with('/') && !to.starts_with("//") => format!("{start}{to}"),
        _ => to.to_string(),
    };
    match origin(&url) {
        None => Err(not("which is no address")),
        Some(start) if from.starts_with("https://") && !start.starts_with("https://") => {
            Err(not("which is not encrypted"))
        }
        Some(_) => Ok(url),
    }
}

/// Scheme, host and port of an address, in small letters: `https://www.neuronpedia.org`.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && !host.contains(['@', '\\']))?;
    ["http", "https"].contains(&scheme.as_str()).then(|| format!("{scheme}://{}", host.to_ascii_lowercase()))
}

/// Who is asked, for sentences.
fn host(url: &str) -> Result<String> {
    origin(url).ok_or_else(|| {
        let expected = "one such as https://www.neuronpedia.org was expected (NEURONPEDIA_BASE_URL, .base_url(..))";
        Error::msg(format!("{} is no address of a server: {expected}", quoted(url)))
    })
}

/// Sleeps, and hears an interrupt meanwhile.
fn pause(time: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("HTTPS://WWW.x.org/a?b").as_deref(), Some("https://www.x.org"));
        assert_eq!(origin("http://127.0.0.1:80?x").as_deref(), Some("http://127.0.0.1:80"));
        for none in ["", "x", "ftp://x", "http://", "http:///a", "http://key@x.org/", "javascript:alert(1)"] {
            assert_eq!(origin(none), None, "{none}");
        }
    }
}
