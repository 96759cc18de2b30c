//! The client of Neuronpedia against a server on this machine that answers as the site's documentation says.
//! Never the network.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::server::{Asked, Reply, Server};
use candlescope::prelude::*;
use flate2::Compression;
use flate2::write::GzEncoder;

const FEATURE: &str = include_str!("../data/neuronpedia_feature.json");
const KEY: &str = "sk-np-secret0123456789";
const FORGED: &str = "x\nEVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n<script>alert(1)</script>\u{202e}\u{1b}[2J";

/// An empty folder for a test.
fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("neuronpedia").join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A client that reaches this server alone, and keeps its answers in the test's folder.
fn client(server: &Server, cache: &Path) -> Neuronpedia {
    Neuronpedia::new()
        .base_url(&server.url)
        .exports_url(&server.url)
        .cache_dir(cache)
        .min_interval(Duration::ZERO)
        .timeout(Duration::from_secs(20))
        .progress(&Progress::quiet())
}

fn id() -> FeatureId {
    FeatureId::new("gpt2-small", "8-res-jb", 123).unwrap()
}

/// The sentence for one answer, and how often was asked.
fn sentence(test: &str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> (String, usize) {
    let server = Server::start(move |_, _| reply());
    let cache = folder(test);
    let error = client(&server, &cache).api_key(KEY).patience(Duration::ZERO).feature(&id()).unwrap_err().to_string();
    assert!(error.contains("gpt2-small/8-res-jb/123"), "{error}");
    assert!(!error.contains(KEY), "{error}");
    assert!(every_file(&cache).is_empty(), "{test} is kept");
    (error, server.count())
}

/// The contents of all files below a folder.
fn every_file(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { every_file(&path) } else { vec![(path.clone(), fs::read(&path).unwrap())] })
        .collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_feature_is_fetched_once_and_kept() {
    let server = Server::start(|_, _| Reply::json(FEATURE));
    let cache = folder("fetched_once");
    let online = client(&server, &cache).api_key(KEY);
    let info = online.feature(&id()).unwrap();
    assert_eq!(info.id, id());
    assert_eq!(info.label(), Some("names of cities"));
    assert_eq!(info.labels[0].model.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(info.labels[0].method.as_deref(), Some("oai_token-act-pair"));
    assert_eq!((info.labels[0].score, info.labels[1].score), (Some(0.83), None));
    assert_eq!((info.labels.len(), info.density, info.max_activation), (2, Some(0.00213), Some(31.42)));
    assert_eq!((info.positive[0].token.as_str(), info.positive[0].value), (" Paris", 1.52));
    assert_eq!((info.negative[0].token.as_str(), info.negative[0].value), (" unto", -0.71));
    assert_eq!(info.activation_histogram.as_ref().unwrap().heights[0], 812.0);
    assert_eq!((info.examples.len(), info.examples[0].max_token, info.examples[0].max()), (3, 5, 31.42));
    assert_eq!(info.examples[0].text(), "The capital of France is Paris. It is old.");
    assert_eq!(info.hook_name.as_deref(), Some("blocks.8.hook_resid_pre"));

    let asked = server.asked();
    assert_eq!(asked[0].line, "GET /api/feature/gpt2-small/8-res-jb/123 HTTP/1.1");
    assert_eq!(asked[0].header("x-api-key"), Some(KEY));
    assert!(asked[0].header("user-agent").unwrap().starts_with("candlescope/"));
    assert!(!asked[0].headers.iter().any(|(name, value)| name != "x-api-key" && value.contains(KEY)));

    assert_eq!(online.feature(&id()).unwrap(), info);
    assert_eq!(client(&server, &cache).offline().feature(&id()).unwrap(), info);
    assert_eq!(server.count(), 1, "the cache had it");
    let files = every_file(&cache);
    assert!(files.len() == 1 && !files.iter().any(|(_, bytes)| contains(bytes, KEY)), "{files:?}");
    assert!(!format!("{online:?}").contains(KEY));

    assert_eq!(online.clone().refresh().feature(&id()).unwrap(), info);
    assert_eq!(server.count(), 2, "asked anew");
}

#[test]
fn a_damaged_cache_is_fetched_again() {
    let server = Server::start(|_, _| Reply::json(FEATURE));
    let cache = folder("damaged_cache");
    let client = client(&server, &cache);
    let info = client.feature(&id()).unwrap();
    let (path, whole) = every_file(&cache).remove(0);
    let other = FEATURE.replacen("\"123\"", "\"124\"", 1).into_bytes();
    for (i, damaged) in [whole[..whole.len() / 2].to_vec(), b"".to_vec(), b"{}".to_vec(), other].iter().enumerate() {
        fs::write(&path, damaged).unwrap();
        assert_eq!(client.feature(&id()).unwrap(), info);
        assert_eq!(server.count(), i + 2);
        assert_eq!(fs::read(&path).unwrap(), whole, "it is whole again");
    }
    // Where nothing can be written, everything still works.
    let file = folder("no_folder").join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(client.clone().cache_dir(&file).feature(&id()).unwrap(), info);
}

#[test]
fn without_a_key_none_is_sent() {
    let server = Server::start(|_, _| Reply::json(FEATURE));
    client(&server, &folder("no_key")).api_key(" ").feature(&id()).unwrap();
    assert_eq!(server.asked()[0].header("x-api-key"), None);
    let error = client(&server, &folder("bad_key")).api_key("a\r\nb: c").feature(&id()).unwrap_err().to_string();
    assert!(error.contains("NEURONPEDIA_API_KEY") && !error.contains("b: c"), "{error}");
    assert_eq!(server.count(), 1);
}

#[test]
fn what_is_not_there_is_a_sentence_and_not_remembered() {
    let server = Server::start(|_, before| match before {
        0 => Reply::status(404, r#"{"error": "Not Found"}"#),
        _ => Reply::json(FEATURE),
    });
    let client = client(&server, &folder("not_there"));
    let error = client.feature(&id()).unwrap_err().to_string();
    assert!(error.contains("404: \"Not Found\"") && error.contains("check the names"), "{error}");
    assert!(error.contains("https://www.neuronpedia.org/gpt2-small/8-res-jb"), "{error}");
    assert!(client.feature(&id()).is_ok());
}

#[test]
fn too_many_questions_wait_as_the_server_says() {
    for (status, wait) in [(429, Some(1)), (503, None)] {
        let server = Server::start(move |_, before| match (before, wait) {
            (0, Some(wait)) => Reply::status(status, "{}").with(format!("Retry-After: {wait}")),
            (0, None) => Reply::status(status, "busy"),
            _ => Reply::json(FEATURE),
        });
        let start = Instant::now();
        assert!(client(&server, &folder(&format!("wait_{status}"))).feature(&id()).is_ok());
        assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
        assert_eq!(server.count(), 2);
    }
}

#[test]
fn a_server_that_is_asked_too_often_for_ever_is_given_up() {
    // As the site answers, without saying how long to wait, and with the key in it.
    let body =
        format!(r#"{{"endpoint": "/api", "error": "Rate limit exceeded, {KEY}. The limit is 25000 per 60 m."}}"#);
    let reply = body.clone();
    let server = Server::start(move |_, _| Reply::status(429, &reply));
    let client = client(&server, &folder("too_often")).api_key(KEY);
    let start = Instant::now();
    let error = client.clone().patience(Duration::from_millis(1500)).feature(&id()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(10) && server.count() == 2, "{}", server.count());
    assert!(error.contains("asked too often (429: \"Rate limit exceeded, (the key). The limit"), "{error}");
    assert!(error.contains(".patience(..)") && !error.contains(KEY), "{error}");

    // It wants us to wait for longer than we would: no need to try.
    let server = Server::start(|_, _| Reply::status(429, "").with(format!("Retry-After: {}", u64::MAX)));
    let start = Instant::now();
    let error = client.base_url(&server.url).feature(&id()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(10) && server.count() == 1);
    assert!(error.contains(&u64::MAX.to_string()), "{error}");
}

#[test]
fn other_refusals_are_sentences() {
    let (error, count) = sentence("500", || Reply::status(500, r#"{"message": "Something went wrong on our end."}"#));
    assert!(
        error.contains("failed (500: \"Something went wrong on our end.\"); try again later") && count == 1,
        "{error}"
    );
    let (error, _) = sentence("400", || Reply::status(400, r#"{"message": "index is wrong\u001b[2J\u202e"}"#));
    assert!(error.contains("refused") && !error.contains(['\u{1b}', '\u{202e}']), "{error}");
    let (error, _) = sentence("401", || Reply::status(401, "<html>"));
    assert!(error.contains("NEURONPEDIA_API_KEY"), "{error}");
    let (error, _) = sentence("busy", || Reply::status(503, "").with("Retry-After: 0"));
    assert!(error.contains("is busy (503)"), "{error}");
}

#[test]
fn answers_that_are_something_else_are_sentences() {
    let deep = "[".repeat(100_000);
    for (test, body) in [
        ("malformed", "{\"modelId\": \"gpt2-small\", \"layer\""),
        ("page", "<!DOCTYPE html><html>Sign in</html>"),
        ("empty", ""),
        ("null", "null"),
        ("list", "[]"),
        ("no_name", "{\"explanations\": []}"),
        ("deep", deep.as_str()),
        ("other", &FEATURE.replacen("\"123\"", "\"124\"", 1)),
    ] {
        let body = body.to_string();
        let (error, count) = sentence(test, move || Reply::json(body.clone()));
        assert!(error.contains("answered something else than the feature") && count == 1, "{test}: {error}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_a_sentence() {
    let half = &FEATURE[..FEATURE.len() / 2];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{half}", FEATURE.len());
    for (test, bytes) in [("cut", head.into_bytes()), ("nothing", Vec::new()), ("noise", b"\0\xff\n\nnoise".to_vec())] {
        let (error, _) = sentence(test, move || Reply::Raw(bytes.clone()));
        assert!(error.contains("failed") && error.contains("NEURONPEDIA_BASE_URL"), "{test}: {error}");
    }
}

#[test]
fn a_slow_server_is_not_waited_for_for_ever() {
    let server = Server::start(|_, _| Reply::Late(Duration::from_secs(8), Box::new(Reply::json(FEATURE))));
    let client = client(&server, &folder("slow")).timeout(Duration::from_millis(300));
    let start = Instant::now();
    let error = client.feature(&id()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert!(error.contains("did not answer within 0.3 s") && error.contains(".timeout(..)"), "{error}");

    // A drop now and then does not keep us either.
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
    let server = Server::start(move |_, _| Reply::Endless(head.to_string(), b" ".to_vec(), Duration::from_millis(100)));
    let start = Instant::now();
    let error = client.base_url(&server.url).feature(&id()).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(6) && error.contains("did not answer within"), "{error}");
}

#[test]
fn a_huge_answer_is_not_read() {
    let claim = "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    for (test, head) in [("claim", claim), ("endless", endless)] {
        let (error, _) = sentence(test, move || Reply::Endless(head.to_string(), vec![b' '; 1 << 16], Duration::ZERO));
        assert!(error.contains("more than 32 MB"), "{test}: {error}");
    }
    let packed = gz(&" ".repeat(40 << 20));
    assert!(packed.len() < 1 << 20);
    let (error, _) =
        sentence("packed", move || Reply::Full(200, vec!["Content-Encoding: gzip".into()], packed.clone()));
    assert!(error.contains("more than 32 MB"), "{error}");
}

#[test]
fn a_redirect_to_another_host_carries_no_key() {
    let other = Server::start(|_, _| Reply::json(FEATURE));
    let to = format!("Location: {}/api/feature/gpt2-small/8-res-jb/123", other.url);
    let server = Server::start(move |asked: &Asked, _| match asked.path() {
        path if path.ends_with("/123") => Reply::status(307, "").with("Location: /moved?x=1"),
        "/moved?x=1" => Reply::status(302, "").with(to.clone()),
        _ => Reply::status(404, ""),
    });
    let client = client(&server, &folder("redirect")).api_key(KEY);
    assert!(client.feature(&id()).is_ok());
    let keys =
        |server: &Server| server.asked().iter().map(|a| a.header("x-api-key").map(str::to_string)).collect::<Vec<_>>();
    assert_eq!(keys(&server), [Some(KEY.to_string()), Some(KEY.to_string())], "the same host gets it");
    assert_eq!(keys(&other), [None]);

    // What is posted does not become a question without its text.
    let error = client.search(id().source_id(), "cities").unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    let server = Server::start(|_, _| Reply::status(302, "").with("Location: /elsewhere"));
    let client = client.base_url(&server.url).refresh();
    assert!(client.search(id().source_id(), "cities").unwrap_err().to_string().contains("can't follow"));
    let error = client.feature(&id()).unwrap_err().to_string();
    assert!(error.contains("without end") && server.count() < 10, "{error}");
    for bad in ["file:///etc/passwd", "//evil.com/x", "http://user@evil.com/", "nonsense", ""] {
        let header = format!("Location: {bad}");
        let server = Server::start(move |_, _| Reply::status(301, "").with(header.clone()));
        let error = client.clone().base_url(&server.url).feature(&id()).unwrap_err().to_string();
        assert!(error.contains("no address") && server.count() == 1, "{bad}: {error}");
    }
}

#[test]
fn offline_only_the_cache_is_asked() {
    let server = Server::start(|_, _| Reply::json(FEATURE));
    let cache = folder("offline");
    let offline = client(&server, &cache).offline();
    let source = id().source_id().clone();
    for error in [
        offline.feature(&id()).unwrap_err(),
        offline.search(&source, "cities").unwrap_err(),
        offline.top_features_for_text(&source, "text", 3).unwrap_err(),
        offline.labels(&source).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("HF_HUB_OFFLINE") && error.contains(&cache.display().to_string()), "{error}");
        assert!(error.contains("Export::open"), "{error}");
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn an_address_that_is_none_or_that_nobody_listens_at_is_a_sentence() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, expected) in [
        ("neuronpedia", "no address of a server"),
        ("ftp://x", "no address of a server"),
        ("", "no address of a server"),
        (&format!("http://{nobody}"), "check the network"),
    ] {
        let client = Neuronpedia::new().base_url(url).cache_dir(folder("nobody")).timeout(Duration::from_secs(5));
        let error = client.feature(&id()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("NEURONPEDIA_BASE_URL"), "{error}");
    }
}

#[test]
fn several_features_are_asked_for_in_turn_and_not_too_fast() {
    let server = Server::start(|asked, _| {
        let index = asked.path().rsplit('/').next().unwrap();
        Reply::json(FEATURE.replacen("\"123\"", &format!("\"{index}\""), 1))
    });
    let cache = folder("several");
    let told = Arc::new(Mutex::new(Vec::new()));
    let ears = told.clone();
    let progress = Progress::new(move |step| ears.lock().unwrap().push((step.done, step.finished)));
    let client = client(&server, &cache).min_interval(Duration::from_millis(150)).progress(&progress);
    let ids: Vec<FeatureId> = [5, 123, 7].map(|index| id().source_id().feature(index)).to_vec();
    let start = Instant::now();
    let infos = client.features(&ids).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(infos.iter().map(|info| info.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(*told.lock().unwrap(), [(1, false), (2, false), (3, false), (3, true)]);
    client.features(&ids).unwrap();
    assert_eq!(server.count(), 3, "the cache had them");
    let labels: Labels = infos.iter().collect();
    assert_eq!((labels.len(), labels.get(7), labels.source()), (3, Some("names of cities"), Some(id().source_id())));
}

#[test]
fn features_are_searched_by_meaning() {
    let server = Server::start(|asked, _| match asked.path() {
        "/api/explanation/search" | "/api/explanation/search-model" => Reply::json(
            r#"{"request": {}, "results": [
                {"modelId": "gpt2-small", "layer": "8-res-jb", "index": "123", "description": "names of cities",
                 "explanationModelName": "gpt-4o-mini", "typeName": "oai_token-act-pair", "cosine_similarity": 0.71,
                 "neuron": {"modelId": "gpt2-small", "frac_nonzero": 0.002, "activations": []}},
                {"modelId": "<b>", "layer": "8-res-jb", "index": "1", "description": "no name of ours"},
                {"modelId": "gpt2-small", "layer": "8-res-jb", "index": 9, "description": "towns", "neuron": null}],
               "resultsCount": 3, "hasMore": false}"#,
        ),
        _ => Reply::status(404, ""),
    });
    let cache = folder("search");
    let client = client(&server, &cache).api_key(KEY);
    let source = id().source_id().clone();
    let found = client.search(&source, " cities ").unwrap();
    assert_eq!(found.features.len(), 2);
    assert_eq!((found.features[0].similarity, found.features[0].density), (Some(0.71), Some(0.002)));
    assert_eq!(found.features[1].id, source.feature(9));
    let asked = server.asked();
    assert_eq!(
        (asked[0].line.as_str(), asked[0].header("x-api-key")),
        ("POST /api/explanation/search HTTP/1.1", Some(KEY))
    );
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(body, serde_json::json!({"modelId": "gpt2-small", "layers": ["8-res-jb"], "query": "cities"}));

    assert_eq!(client.clone().offline().search(&source, "cities").unwrap(), found);
    assert_eq!(server.count(), 1, "the cache had it");
    assert!(client.clone().offline().search(&source, "villages").is_err(), "another question");
    client.search_model("openai-community/gpt2", "cities").unwrap();
    let body: serde_json::Value = serde_json::from_str(&server.asked()[1].body).unwrap();
    assert_eq!(body, serde_json::json!({"modelId": "gpt2-small", "query": "cities"}));
    assert!(client.search(&source, " a ").unwrap_err().to_string().contains("3 characters"));
    let html = found.bundle().html.unwrap();
    assert!(html.contains("<a href=\"https://www.neuronpedia.org/gpt2-small/8-res-jb/123\""), "{html}");
    assert!(!every_file(&cache).iter().any(|(_, bytes)| contains(bytes, KEY)));
}

#[test]
fn the_features_of_a_text_become_a_table() {
    let server = Server::start(|_, _| {
        Reply::json(
            r#"{"source": "8-res-jb", "results": [
                {"position": 1, "token": "In", "isSpecial": false, "topFeatures": []},
                {"position": 2, "token": " Paris", "isSpecial": false, "topFeatures": [
                    {"activationValue": 2.5, "featureIndex": 9, "feature": null},
                    {"activationValue": 31.5, "featureIndex": 123, "feature": {"index": "123", "explanations": [
                        {"description": "names of cities", "typeName": "oai_token-act-pair"}]}}]}]}"#,
        )
    });
    let client = client(&server, &folder("text"));
    let source = id().source_id().clone();
    let table = client.top_features_for_text(&source, "In Paris", 2).unwrap();
    assert_eq!(table.tokens(), ["In", " Paris"]);
    assert_eq!(table.strongest(), [vec![], vec![(123, 31.5), (9, 2.5)]]);
    assert_eq!((table.label(123), table.label(9)), (Some("names of cities"), None));
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /api/search-topk-by-token HTTP/1.1");
    let body: serde_json::Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!((&body["modelId"], &body["source"]), (&"gpt2-small".into(), &"8-res-jb".into()));
    assert_eq!((&body["text"], &body["numResults"]), (&"In Paris".into(), &2.into()));
    for (text, n) in [("", 2), ("In Paris", 0), ("In Paris", 21)] {
        assert!(client.top_features_for_text(&source, text, n).is_err());
    }
    assert_eq!(server.count(), 1);
}

/// Lines of explanations as the exports have them, with the embedding that makes them long.
fn explanations(indices: impl IntoIterator<Item = usize>) -> String {
    let embedding = vec!["0.0123456789"; 256].join(", ");
    let line = |i| {
        format!(
            r#"{{"id": "e{i}", "modelId": "gpt2-small", "layer": "8-res-jb", "index": "{i}", "authorId": "a",
            "description": "meaning {i}", "embedding": [{embedding}], "typeName": "oai_token-act-pair",
            "explanationModelName": "gpt-4o-mini", "umap_x": 0, "umap_y": null}}"#
        )
        .replace('\n', " ")
    };
    indices.into_iter().map(|i| line(i) + "\n").collect()
}

#[test]
fn an_export_gives_labels_plain_and_packed() {
    let root = folder("export");
    let there = root.join("explanations");
    fs::create_dir_all(&there).unwrap();
    fs::write(there.join("batch-0.jsonl.gz"), gz(&explanations(0..20))).unwrap();
    fs::write(there.join("batch-1.jsonl"), explanations(20..30) + "\n\n").unwrap();
    // Packed in several pieces, under the name of a plain file.
    fs::write(there.join("batch-10.jsonl"), [gz(&explanations(30..31)), gz(&explanations(3..4))].concat()).unwrap();
    fs::write(root.join("source.jsonl"), r#"{"id": "8-res-jb", "modelId": "gpt2-small", "description": "SAEs"}"#)
        .unwrap();
    fs::write(root.join("notes.txt"), "no export").unwrap();
    let export = Export::open(&root).unwrap().progress(&Progress::quiet());
    let names: Vec<_> = export.files().iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["source.jsonl", "batch-0.jsonl.gz", "batch-1.jsonl", "batch-10.jsonl"]);
    let labels = export.labels().unwrap();
    assert_eq!((labels.len(), labels.source()), (31, Some(id().source_id())));
    assert_eq!((labels.get(0), labels.get(30), labels.get(31)), (Some("meaning 0"), Some("meaning 30"), None));
    assert_eq!((labels.all(3).len(), labels.all(4).len()), (2, 1));
    assert_eq!(labels.all(4)[0].model.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(labels.find("meaning 29"), [(29, "meaning 29")]);
    assert_eq!(Export::open(there.join("batch-1.jsonl")).unwrap().labels().unwrap().len(), 10);
}

#[test]
fn an_export_gives_dashboards() {
    let root = folder("dashboards");
    let feature: serde_json::Value = serde_json::from_str(FEATURE).unwrap();
    let mut plain = feature.clone();
    let (activations, _) = (plain["activations"].take(), plain["explanations"].take());
    for (kind, lines) in [
        ("features", vec![serde_json::json!({"modelId": "gpt2-small", "layer": "8-res-jb", "index": "7"}), plain]),
        ("activations", activations.as_array().unwrap().clone()),
    ] {
        fs::create_dir_all(root.join(kind)).unwrap();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(root.join(kind).join("batch-0.jsonl.gz"), gz(&text)).unwrap();
    }
    fs::create_dir_all(root.join("explanations")).unwrap();
    fs::write(root.join("explanations/batch-0.jsonl"), explanations([123, 124])).unwrap();
    let export = Export::open(&root).unwrap().progress(&Progress::quiet());
    let mut info = export.feature(123).unwrap();
    let whole = FeatureInfo::from_json(FEATURE).unwrap();
    assert_eq!(info.label(), Some("meaning 123"));
    info.labels = whole.labels.clone();
    assert_eq!(info, whole);
    assert_eq!(export.feature(124).unwrap().label(), Some("meaning 124"));
    let error = export.feature(5).unwrap_err().to_string();
    assert!(error.contains("feature 5") && error.contains("3 files"), "{error}");
}

#[test]
fn what_is_no_export_is_a_sentence() {
    let root = folder("no_export");
    for path in [root.clone(), root.join("nowhere")] {
        let error = Export::open(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains(".jsonl.gz"), "{error}");
    }
    let whole = gz(&explanations(0..50));
    let mut flipped = whole.clone();
    // In the checksum: of lines that are much alike, another byte may unpack to the same.
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 0x55;
    for (name, bytes) in [
        ("half.jsonl.gz", &whole[..whole.len() / 2]),
        ("flipped.jsonl.gz", &flipped),
        ("head.jsonl.gz", &whole[..5]),
        ("words.jsonl", b"not json"),
        ("list.jsonl", b"[1, 2]"),
        ("zeros.jsonl", &[0; 100]),
    ] {
        let file = root.join(name);
        fs::write(&file, bytes).unwrap();
        let export = Export::open(&file).unwrap().progress(&Progress::quiet());
        for error in [export.labels().map(drop).expect_err(name), export.feature(3).map(drop).expect_err(name)] {
            let error = error.to_string();
            assert!(error.contains(name) && error.contains("download it again"), "{name}: {error}");
        }
    }
    let mixed = folder("mixed");
    fs::write(mixed.join("a.jsonl"), explanations(0..2)).unwrap();
    fs::write(mixed.join("b.jsonl"), explanations(0..2).replace("8-res-jb", "9-res-jb")).unwrap();
    let error = Export::open(&mixed).unwrap().labels().unwrap_err().to_string();
    assert!(error.contains("gpt2-small/8-res-jb, gpt2-small/9-res-jb"), "{error}");
}

/// A bucket with an export of two files, listed on two pages.
fn bucket() -> Server {
    let files = [("batch-0.jsonl.gz", gz(&explanations(0..20))), ("batch-10.jsonl.gz", gz(&explanations(20..25)))];
    Server::start(move |asked, _| {
        let prefix = "v1/gpt2-small/8-res-jb/explanations/";
        let page = |keys: &[&str], rest: &str| {
            let keys: String =
                keys.iter().map(|key| format!("<Contents><Key>{prefix}{key}</Key></Contents>")).collect();
            Reply::json(format!("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">{keys}{rest}</ListBucketResult>"))
        };
        let query = "/?list-type=2&prefix=v1%2Fgpt2-small%2F8-res-jb%2Fexplanations%2F";
        match asked.path() {
            path if path == query => page(
                &["batch-10.jsonl.gz", "../../evil.jsonl", "notes.txt"],
                "<IsTruncated>true</IsTruncated><NextContinuationToken>a/b=&amp;</NextContinuationToken>",
            ),
            path if path == format!("{query}&continuation-token=a%2Fb%3D%26") => page(&["batch-0.jsonl.gz"], ""),
            path if path.starts_with("/?list-type=2") => page(&[], ""),
            path => match files.iter().find(|(name, _)| path == format!("/{prefix}{name}")) {
                Some((_, bytes)) => Reply::Full(200, Vec::new(), bytes.clone()),
                None => Reply::status(404, "<Error><Code>NoSuchKey</Code></Error>"),
            },
        }
    })
}

#[test]
fn the_explanations_of_a_source_are_downloaded_once() {
    let server = bucket();
    let cache = folder("download");
    let source = id().source_id().clone();
    let online = client(&server, &cache).base_url("http://127.0.0.1:1").api_key(KEY);
    let labels = online.labels(&source).unwrap();
    assert_eq!((labels.len(), labels.get(24), labels.source()), (25, Some("meaning 24"), Some(&source)));
    assert_eq!(server.count(), 4, "two pages, two files");
    assert!(server.asked().iter().all(|asked| asked.header("x-api-key").is_none()), "the key is not for the bucket");
    assert_eq!(online.clone().offline().labels(&source).unwrap(), labels);
    assert_eq!(server.count(), 4, "the cache had it all");

    // A file that is damaged on disk is fetched again, and only that.
    let (path, bytes) = every_file(&cache).into_iter().find(|(path, _)| path.ends_with("batch-10.jsonl.gz")).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    assert_eq!(online.labels(&source).unwrap(), labels);
    assert_eq!(server.count(), 5);
    assert_eq!(fs::read(&path).unwrap(), bytes);

    let nothing = SourceId::new("gpt2-small", "8-other").unwrap();
    let error = online.labels(&nothing).unwrap_err().to_string();
    assert!(error.contains("no explanations of gpt2-small/8-other") && error.contains("check the names"), "{error}");
    let names: Vec<PathBuf> = every_file(&cache).into_iter().map(|(path, _)| path).collect();
    assert!(!names.iter().any(|path| path.to_string_lossy().contains("evil")), "{names:?}");
}

#[test]
fn a_bucket_that_answers_nonsense_is_a_sentence() {
    let source = id().source_id().clone();
    let page = Server::start(|_, _| Reply::json("<html>Sign in</html>"));
    let error = client(&page, &folder("nonsense")).labels(&source).unwrap_err().to_string();
    assert!(error.contains("something else than the list of explanations"), "{error}");

    let list = "<ListBucketResult><Key>v1/gpt2-small/8-res-jb/explanations/batch-0.jsonl.gz</Key></ListBucketResult>";
    let damaged = gz(&explanations(0..20));
    let server = Server::start(move |asked, _| match asked.path().starts_with("/?") {
        true => Reply::json(list),
        false => Reply::Full(200, Vec::new(), damaged[..damaged.len() / 2].to_vec()),
    });
    let error = client(&server, &folder("damaged_there")).labels(&source).unwrap_err().to_string();
    assert!(error.contains("batch-0.jsonl.gz") && error.contains("download it again"), "{error}");
}

#[test]
fn a_card_shows_label_tokens_density_and_texts() {
    let info = FeatureInfo::from_json(FEATURE).unwrap();
    let bundle = info.bundle();
    for expected in [
        "names of cities",
        "capitals, and what lies in them",
        "gpt2-small/8-res-jb/123",
        "0.213 % of tokens",
        "31.42",
        "·Paris",
        "·unto",
        "»·Berlin«(27.1)",
        "2 of 3 example texts are shown",
    ] {
        assert!(bundle.text.contains(expected), "{expected} is missing in\n{}", bundle.text);
    }
    let html = bundle.html.clone().unwrap();
    let link = "<a href=\"https://www.neuronpedia.org/gpt2-small/8-res-jb/123\" target=\"_blank\" rel=\"noopener";
    assert!(html.contains(link) && html.contains("·Berlin</code>"), "{html}");
    assert!(image::load_from_memory(&bundle.png.clone().unwrap()).unwrap().width() > 400);
    assert!(info.svg().unwrap().contains("Paris"));
    let looks = folder("looks");
    info.save(looks.join("card.png")).unwrap();
    info.save(looks.join("card.html")).unwrap();
    let bare = FeatureInfo::from_json(r#"{"modelId": "m", "layer": "5", "index": 7}"#).unwrap();
    assert!(bare.bundle().text.contains("(no label)") && bare.bundle().png.is_some());
}

#[test]
fn a_sentence_shows_its_features_with_links() {
    let labels: Labels =
        [(7, "names of cities"), (9, "the word 'in', and what is within"), (11, "full stops")].into_iter().collect();
    let tokens = ["In", " Paris", ",", "\n"].map(str::to_string).to_vec();
    let strongest = vec![vec![(9, 4.5)], vec![(9, 0.5), (7, 12.5), (8, f32::NAN), (11, 0.25)], vec![(11, 3.0)], vec![]];
    let source = SourceId::at("gpt2", 8, "res-jb").unwrap();
    let table = FeatureTable::new(tokens.clone(), strongest.clone()).source(&source).labels(&labels);
    let bundle = table.bundle();
    let lines: Vec<&str> = bundle.text.lines().collect();
    assert_eq!(lines[0], "Strongest features of gpt2-small/8-res-jb");
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(words(lines[3]), ["1", "·Paris", "12.5", "names", "of", "cities", "gpt2-small/8-res-jb/7"]);
    assert_eq!(words(lines[4])[0], "0.5", "the token stands once: {}", lines[4]);
    assert_eq!(words(lines[7]), ["3", "↵"], "a token without features is there too");
    assert_eq!(lines.len(), 8);
    let html = bundle.html.unwrap();
    assert_eq!(html.matches("rel=\"noopener").count(), 5, "{html}");
    assert!(html.contains("href=\"https://www.neuronpedia.org/gpt2-small/8-res-jb/7\""));
    let looks = folder("looks_of_a_sentence");
    table.save(looks.join("sentence.png")).unwrap();
    table.save(looks.join("sentence.html")).unwrap();

    let plain = FeatureTable::new(tokens, strongest[..1].to_vec()).top(1).bundle();
    assert!(
        plain.text.contains("features of 1 positions were given for 4 tokens")
            && plain.text.contains(".labels(&labels)")
    );
    assert!(!plain.html.unwrap().contains("<a "), "no source, no link");
}

#[test]
fn hostile_texts_are_only_text() {
    let json = serde_json::json!({
        "modelId": "m", "layer": "5", "index": "7", "hookName": FORGED,
        "explanations": [{"description": FORGED, "typeName": FORGED, "explanationModelName": "\"><img src=x onerror=alert(1)>"}],
        "pos_str": [FORGED, "</style>"], "pos_values": [f32::MAX, null], "neg_str": ["\0"], "neg_values": [1e300],
        "freq_hist_data_bar_heights": [null, 1], "freq_hist_data_bar_values": [1e300, -1e300],
        "frac_nonzero": 1e300, "maxActApprox": -1,
        "activations": [{"tokens": [FORGED, "<b>"], "values": [null, 1e300], "maxValueTokenIndex": 1}],
    });
    let info = FeatureInfo::from_json(&json.to_string()).unwrap();
    let labels: Labels = [(7, FORGED)].into_iter().collect();
    let table =
        FeatureTable::new(vec![FORGED.to_string()], vec![vec![(7, f32::INFINITY)]]).labels(&labels).title(FORGED);
    for bundle in [info.bundle(), table.bundle(), labels.bundle(), info.labels[0].bundle(), info.examples[0].bundle()] {
        let html = bundle.html.clone().unwrap_or_default();
        // Candlescope's own scripts and style begin thus.
        let foreign = html.replace("<script>(function () {", "").replace("</style><div class=\"candlescope\"", "");
        assert!(
            !foreign.contains("<script") && !html.contains("<img src=x") && !foreign.contains("</style>"),
            "{html}"
        );
        for text in [&bundle.text, &html] {
            assert!(!text.contains(['\u{202e}', '\u{1b}', '\0']), "{text}");
        }
        let shown = bundle.to_evcxr();
        let forms = 1 + usize::from(bundle.png.is_some()) + usize::from(bundle.html.is_some());
        assert_eq!(shown.matches("EVCXR_END_CONTENT").count(), forms, "{shown}");
    }
    let mut example = info.examples[0].clone();
    (example.max_token, example.values) = (usize::MAX, Vec::new());
    assert!(example.bundle().png.is_some());
}

#[test]
fn what_a_notebook_keeps_is_owned() {
    fn owned<T: Clone + Send + std::fmt::Debug + 'static>() {}
    owned::<Neuronpedia>();
    owned::<FeatureInfo>();
    owned::<Labels>();
    owned::<Export>();
    owned::<FeatureTable>();
    owned::<FoundFeatures>();
    owned::<SourceId>();
}
