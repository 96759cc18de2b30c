//! Long work stops when it is asked to. One test, since the switch is the whole process's.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candlescope::hub::{HubSettings, resolve_with};
use candlescope::prelude::*;

type TestResult = Result<(), Box<dyn std::error::Error>>;

#[test]
fn an_interrupt_stops_work_and_keeps_what_was_there() -> TestResult {
    let model = HookedTransformer::from_pretrained("tiny")?;
    let prompt = "When Mary and John went to the shops, John gave a drink to";
    let before = model.run_with_cache(prompt)?.0;

    interrupt::request();
    let stopped = |error: candlescope::Error| error.is_interrupt();
    assert!(model.run_with_cache(prompt).is_err_and(stopped), "a forward pass");
    assert!(model.generate(prompt, &GenerateOptions::greedy()).is_err_and(stopped), "generation");
    assert!(model.sweep(prompt).at("z").zero().measure(metric::loss()).run().is_err_and(stopped), "a sweep");
    assert!(model.over(["One text.", "Another."]).loss().is_err_and(stopped), "a corpus");
    assert!(HookedTransformer::from_pretrained("tiny").is_err_and(stopped), "loading");
    assert!(full_ov_copying_scores(&model).is_err_and(stopped), "decompositions");
    assert!(model.fine_tune(prompt, &TrainOptions::new().steps(2)).is_err_and(stopped), "training");
    let over = OverCheckpoints::of("tiny-attn-only-2l")?;
    assert!(over.measure("loss", |model| model.loss(prompt)).is_err_and(stopped), "a sweep over checkpoints");
    assert!(interrupt::check().is_err_and(stopped), "code of one's own");
    interrupt::clear();

    let after = model.run_with_cache(prompt)?.0;
    assert_eq!(before.to_vec3::<f32>()?, after.to_vec3::<f32>()?, "the model is as it was");

    // In the middle: the hook asks, and the next activation stops the pass.
    let asks = Hooks::new().read(resid_pre(1), |_, _| {
        interrupt::request();
        Ok(())
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let asks = asks.read(all(), move |_, point| {
        notes.lock().unwrap().push(point.to_string());
        Ok(())
    });
    assert!(model.run_with_hooks(prompt, &asks).is_err_and(stopped));
    interrupt::clear();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.last().map(String::as_str), Some("blocks.1.hook_resid_pre"), "nothing ran behind it");

    downloads()?;
    questions()
}

/// From a hub that says nothing, and from one that stops in the middle of a file; the next download goes on from there.
fn downloads() -> TestResult {
    let cache = std::env::temp_dir().join(format!("candlescope-interrupt-{}", std::process::id()));
    let settings = |endpoint: String| HubSettings {
        endpoint: Some(endpoint),
        offline: false,
        progress: Progress::quiet(),
        ..HubSettings::offline(&cache)
    };
    let interrupted = |endpoint: &str| {
        interrupt::clear();
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(400));
            interrupt::request();
        });
        let result = resolve_with("me/model", None, &settings(endpoint.to_string()));
        interrupt::clear();
        result.is_err_and(|error| error.is_interrupt())
    };
    let silent = TcpListener::bind("127.0.0.1:0")?;
    assert!(interrupted(&format!("http://{}", silent.local_addr()?)), "a hub that says nothing");

    let (endpoint, asked) = hub()?;
    assert!(interrupted(&endpoint), "a file that does not end");
    let files = resolve_with("me/model", None, &settings(endpoint))?;
    assert_eq!(files.weights[0].read()?.as_ref(), WEIGHTS.as_bytes());
    let ranges = asked.lock().unwrap().clone();
    assert_eq!(ranges, ["bytes=0-", "bytes=4-"], "what was there already is not fetched again");
    std::fs::remove_dir_all(cache)?;
    Ok(())
}

/// To Neuronpedia, while it says nothing, and while it wants us to wait.
fn questions() -> TestResult {
    let cache = std::env::temp_dir().join(format!("candlescope-interrupt-neuronpedia-{}", std::process::id()));
    let interrupted = |url: String| {
        interrupt::clear();
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(400));
            interrupt::request();
        });
        let client = Neuronpedia::new().base_url(url).cache_dir(&cache).patience(Duration::from_secs(60));
        let result = FeatureId::new("gpt2-small", "8-res-jb", 1).and_then(|id| client.feature(&id));
        interrupt::clear();
        result.is_err_and(|error| error.is_interrupt())
    };
    let silent = TcpListener::bind("127.0.0.1:0")?;
    assert!(interrupted(format!("http://{}", silent.local_addr()?)), "a server that says nothing");

    let busy = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", busy.local_addr()?);
    std::thread::spawn(move || {
        for mut stream in busy.incoming().flatten() {
            let answer = "HTTP/1.1 429 Slow\r\nRetry-After: 50\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
            // What is asked has to be read, or the answer is lost with the connection.
            let _ = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
        }
    });
    assert!(interrupted(url), "a server that wants us to wait");
    Ok(())
}

const WEIGHTS: &str = "half and half";

/// A hub whose weights stop after four bytes when they are asked for from the start; and where they were asked for from.
fn hub() -> std::io::Result<(String, Arc<Mutex<Vec<String>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = notes.clone();
            std::thread::spawn(move || answer(stream, &notes));
        }
    });
    Ok((endpoint, asked))
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(Ok(request)) = lines.next() {
        let mut range = String::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("range")) {
                range = value.trim().to_string();
            }
            if line.is_empty() {
                break;
            }
        }
        let body = match request {
            _ if request.contains("/api/") => {
                "{\"siblings\":[{\"rfilename\":\"config.json\"},{\"rfilename\":\"model.safetensors\"},{\"rfilename\":\
                 \"tokenizer.json\"}],\"sha\":\"abc\"}"
            }
            _ if request.contains("model.safetensors") => WEIGHTS,
            _ => "{}",
        };
        let total = body.len();
        let start: usize =
            range.strip_prefix("bytes=").and_then(|r| r.split('-').next()).and_then(|s| s.parse().ok()).unwrap_or(0);
        let probe = range == "bytes=0-0";
        let part = if probe { &body[..1] } else { &body[start..] };
        write!(
            stream,
            "HTTP/1.1 {} OK\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{total}\r\nETag: \"{total}\"\r\n\
             x-repo-commit: abc\r\n\r\n",
            if range.is_empty() { 200 } else { 206 },
            part.len(),
            total - 1,
        )?;
        if body == WEIGHTS && !probe {
            asked.lock().unwrap().push(range);
            if start == 0 {
                stream.write_all(&part.as_bytes()[..4])?;
                // Nothing more comes, and the connection stays open.
                std::thread::sleep(Duration::from_secs(3));
                return Ok(());
            }
        }
        stream.write_all(part.as_bytes())?;
    }
    Ok(())
}
