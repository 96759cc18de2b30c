//! Names that become files, and names that do not; with temporary folders and a hub of our own on this machine.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::Progress;

/// A folder that is removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("candlescope-hub-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        folder.add("", files);
        folder
    }

    fn add(&self, under: &str, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = self.0.join(under).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WHOLE: &[(&str, &str)] = &[
    ("config.json", "{}"),
    ("model.safetensors", "weights"),
    ("tokenizer.json", "tokens"),
    ("tokenizer_config.json", "{}"),
];

/// Settings that can't reach anything.
fn offline() -> (HubSettings, TempDir) {
    let cache = TempDir::new();
    (HubSettings::offline(&cache.0), cache)
}

fn error_of(name: &str) -> String {
    resolve_with(name, None, &offline().0).unwrap_err().to_string()
}

fn path(file: &FileData) -> &Path {
    match file {
        FileData::Path(path) => path,
        FileData::Bytes { name, .. } => panic!("{name} is bundled"),
    }
}

#[test]
fn a_folder_gives_its_files() {
    let folder = TempDir::with(WHOLE);
    let files = resolve_with(&folder.name(), None, &offline().0).unwrap();
    assert_eq!(files.config.read().unwrap().as_ref(), b"{}");
    assert_eq!(files.weights, [FileData::from(folder.0.join("model.safetensors"))]);
    assert_eq!(files.tokenizer.unwrap().read().unwrap().as_ref(), b"tokens");
    assert!(files.tokenizer_config.is_some());
    assert!(files.origin.contains(&folder.name()));
    let error = resolve_with(&folder.name(), Some("v1"), &offline().0).unwrap_err().to_string();
    assert!(error.contains("no revisions"), "{error}");
}

#[test]
fn a_tokenizer_may_be_missing() {
    let folder = TempDir::with(&WHOLE[..2]);
    let files = resolve_with(&folder.name(), None, &offline().0).unwrap();
    assert!(files.tokenizer.is_none() && files.tokenizer_config.is_none());
}

#[test]
fn a_missing_folder_says_where_it_looked() {
    let folder = TempDir::new();
    let wanted = folder.0.join("nothing-here");
    let error = error_of(&wanted.display().to_string());
    assert!(error.contains(&wanted.display().to_string()) && error.contains("config.json"), "{error}");
    let error = error_of("./no-such-folder");
    assert!(error.contains("no-such-folder") && error.contains("folder"), "{error}");
    let error = error_of("~/no-such-folder-of-candlescope");
    assert!(error.contains("no-such-folder-of-candlescope") && error.contains("not found"), "{error}");
}

#[test]
fn a_file_is_not_a_folder() {
    let folder = TempDir::with(WHOLE);
    let error = error_of(&folder.0.join("tokenizer.json").display().to_string());
    assert!(error.contains("that is a file"), "{error}");
}

#[test]
fn a_path_straight_to_a_file_means_that_one() {
    let folder = TempDir::with(WHOLE);
    folder.add("", &[("other.safetensors", ""), ("a.gguf", "GGUF"), ("b.gguf", "GGUF")]);
    for name in ["model.safetensors", "other.safetensors", "b.gguf"] {
        let files = resolve_with(&folder.0.join(name).display().to_string(), None, &offline().0).unwrap();
        assert_eq!(files.weights, [FileData::from(folder.0.join(name))]);
    }
    let files = resolve_with(&folder.0.join("a.gguf").display().to_string(), None, &offline().0).unwrap();
    assert!(path(&files.config).ends_with("a.gguf") && path(&files.tokenizer.unwrap()).ends_with("tokenizer.json"));
}

#[test]
fn weights_have_an_order_of_preference() {
    // From the last choice to the first; each addition hides what was there before.
    let folder = TempDir::with(&[("config.json", "{}"), ("optimizer.pt", ""), ("checkpoints/step1.pth", "")]);
    for (added, chosen) in [
        ("m-00002-of-00002.gguf", None),
        ("m-00001-of-00002.gguf", Some("m-00001-of-00002.gguf")),
        ("model_0.pth", Some("model_0.pth")),
        ("model_final.pth", Some("model_final.pth")),
        ("pytorch_model.bin", Some("pytorch_model.bin")),
        ("model.safetensors", Some("model.safetensors")),
    ] {
        folder.add("", &[(added, "")]);
        let files = resolve_with(&folder.name(), None, &offline().0).unwrap();
        if let Some(chosen) = chosen {
            assert!(path(&files.weights[0]).ends_with(chosen), "{:?}", files.weights);
        }
    }
}

#[test]
fn several_candidates_are_listed() {
    let folder = TempDir::with(&[("llama-q4_0.gguf", "GGUF"), ("llama-q8_0.gguf", "GGUF"), ("mmproj-x.gguf", "")]);
    let error = error_of(&folder.name());
    assert!(error.contains("llama-q4_0.gguf, llama-q8_0.gguf; give the path"), "{error}");
    let folder = TempDir::with(&[("config.json", "{}"), ("a.pth", ""), ("b.pt", "")]);
    let error = error_of(&folder.name());
    assert!(error.contains("a.pth, b.pt; give the path"), "{error}");
}

#[test]
fn a_folder_without_weights_says_what_is_there() {
    let folder = TempDir::with(&[("config.json", "{}"), ("tf_model.h5", "")]);
    let error = error_of(&folder.name());
    assert!(error.contains("tf_model.h5") && error.contains("model.safetensors"), "{error}");
    let folder = TempDir::with(&[("readme.md", "")]);
    let error = error_of(&folder.name());
    assert!(error.contains("no config.json") && error.contains("readme.md"), "{error}");
    assert!(error_of(&TempDir::new().name()).contains("it is empty"));
}

#[test]
fn shards_come_from_the_index() {
    let index = r#"{"metadata": {}, "weight_map": {"b": "model-2.safetensors", "a": "deep/model-1.safetensors",
                    "c": "model-2.safetensors"}}"#;
    let folder = TempDir::with(&[("config.json", "{}"), ("model.safetensors.index.json", index)]);
    let error = error_of(&folder.name());
    assert!(error.contains("deep/model-1.safetensors") && error.contains("not there"), "{error}");

    folder.add("", &[("model-2.safetensors", ""), ("deep/model-1.safetensors", "")]);
    let files = resolve_with(&folder.name(), None, &offline().0).unwrap();
    let expected = ["deep/model-1.safetensors", "model-2.safetensors"].map(|name| folder.0.join(name));
    assert_eq!(files.weights.iter().map(path).collect::<Vec<_>>(), expected);
}

#[test]
fn an_index_can_not_lead_out_of_the_folder() {
    for (index, expected) in [
        (r#"{"weight_map": {"a": "../secret"}}"#, "../secret"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "/etc/passwd"),
        (r#"{"weight_map": {"a": 3}}"#, "tensor 'a'"),
        (r#"{"weight_map": {}}"#, "empty"),
        ("{}", "weight_map"),
        ("{", "index of shards"),
    ] {
        let folder = TempDir::with(&[("config.json", "{}"), ("model.safetensors.index.json", index)]);
        let error = error_of(&folder.name());
        assert!(error.contains(expected) && error.contains("model.safetensors.index.json"), "{error}");
    }
}

#[test]
fn unknown_names_get_suggestions() {
    let (settings, cache) = offline();
    match resolve_with("gtp2-small", None, &settings).unwrap_err() {
        Error::UnknownModel { name, looked, near } => {
            assert_eq!(name, "gtp2-small");
            assert_eq!(near.first().map(String::as_str), Some("gpt2-small"));
            assert!(looked.contains(&cache.name()) && looked.contains("HF_HUB_OFFLINE"), "{looked}");
        }
        other => panic!("{other}"),
    }
    assert!(error_of("gtp2").contains("'gpt2'"));
    for name in ["", "a/b/c", "what is this", "x/../../y", "owner/.."] {
        let error = error_of(name);
        assert!(error.contains("can't be a name on the hub"), "{name}: {error}");
    }
    for revision in ["../x", "", "a b", "-x"] {
        let error = resolve_with("gpt2", Some(revision), &settings).unwrap_err().to_string();
        assert!(error.contains("can't be a revision"), "{error}");
    }
}

#[test]
fn an_alias_offline_names_its_repository() {
    let error = error_of("gpt2-small");
    assert!(error.contains("openai-community/gpt2") && error.contains("bundled"), "{error}");
}

#[test]
fn the_cache_is_used_offline() {
    let (settings, cache) = offline();
    cache.add("models--openai-community--gpt2/snapshots/abc", WHOLE);
    cache.add("models--openai-community--gpt2/refs", &[("main", "abc")]);
    for name in ["gpt2", "gpt2-small", "openai-community/gpt2"] {
        let files = resolve_with(name, None, &settings).unwrap();
        assert_eq!(files.name, name);
        assert!(path(&files.weights[0]).starts_with(&cache.0));
    }
    assert!(resolve_with("gpt2", Some("abc"), &settings).is_ok());
    assert!(resolve_with("gpt2", Some("other"), &settings).is_err());
}

#[test]
fn the_cache_of_the_time_before_owners_is_used_too() {
    let (settings, cache) = offline();
    cache.add("models--openai-community--gpt2/snapshots/abc", &WHOLE[..1]);
    cache.add("models--openai-community--gpt2/refs", &[("main", "abc")]);
    let error = resolve_with("gpt2", None, &settings).unwrap_err().to_string();
    assert!(error.contains("no weights") && error.contains("HF_HUB_OFFLINE"), "{error}");
    cache.add("models--gpt2/snapshots/def", WHOLE);
    cache.add("models--gpt2/refs", &[("main", "def")]);
    assert!(path(&resolve_with("gpt2", None, &settings).unwrap().config).ends_with("def/config.json"));
}

/// Settings that reach one hub, and keep what comes from there in `cache`.
fn online(cache: &TempDir, endpoint: String) -> HubSettings {
    let (endpoint, progress) = (Some(endpoint), Progress::quiet());
    HubSettings { endpoint, offline: false, progress, ..HubSettings::offline(&cache.0) }
}

/// What the hub of our own was asked for: "path | authorization".
type Log = Arc<Mutex<Vec<String>>>;

/// A hub on this machine with one repository, `me/model` at `main`; everything else is unknown to it.
fn own_hub(files: &'static [(&'static str, &'static str)]) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let log = Log::default();
    let seen = log.clone();
    std::thread::spawn(move || {
        let siblings: Vec<String> = files.iter().map(|(name, _)| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
        let info = format!(r#"{{"sha": "abc", "siblings": [{}]}}"#, siblings.join(","));
        let mut answers = HashMap::from([("/api/models/me/model/revision/main".to_string(), info)]);
        for (name, content) in files {
            answers.insert(format!("/me/model/resolve/main/{name}"), content.to_string());
        }
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let url = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_string();
            let header = |name: &str| {
                let line = lines.iter().find(|line| line.to_lowercase().starts_with(name));
                line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_string())
            };
            seen.lock().unwrap().push(format!("{url} | {}", header("authorization").unwrap_or_default()));
            let answer = match answers.get(&url) {
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_string(),
                Some(body) => {
                    let part = if header("range").as_deref() == Some("bytes=0-0") { &body[..1] } else { body };
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Range: bytes 0-0/{}\r\nETag: \"{:x}\"\r\n\
                         X-Repo-Commit: abc\r\nConnection: close\r\n\r\n{part}",
                        part.len(),
                        body.len(),
                        url.len(),
                    )
                }
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (endpoint, log)
}

#[test]
fn a_download_fills_the_cache_and_is_not_repeated() {
    let (endpoint, log) = own_hub(WHOLE);
    let cache = TempDir::new();
    let online = HubSettings { token: Some("secret".to_string()), ..online(&cache, endpoint) };
    let files = resolve_with("me/model", None, &online).unwrap();
    assert_eq!(files.weights[0].read().unwrap().as_ref(), b"weights");
    assert_eq!(files.tokenizer.unwrap().read().unwrap().as_ref(), b"tokens");
    let asked = log.lock().unwrap().clone();
    assert_eq!(asked[0], "/api/models/me/model/revision/main | Bearer secret");

    resolve_with("me/model", None, &online).unwrap();
    assert_eq!(log.lock().unwrap().len(), asked.len(), "the cache had it all");
    resolve_with("me/model", None, &HubSettings::offline(&cache.0)).unwrap();

    match resolve_with("me/mode", None, &online).unwrap_err() {
        Error::UnknownModel { looked, .. } => {
            assert!(looked.contains("404") && looked.contains("HF_TOKEN"), "{looked}")
        }
        other => panic!("{other}"),
    }
    let error = resolve_with("me/model", Some("v2"), &online).unwrap_err().to_string();
    assert!(error.contains("revision v2") && !error.contains("secret"), "{error}");
}

#[test]
fn a_repository_without_weights_says_what_it_has() {
    let (endpoint, _) = own_hub(&[("config.json", "{}"), ("tf_model.h5", "x")]);
    let cache = TempDir::new();
    let settings = online(&cache, endpoint);
    let error = resolve_with("me/model", None, &settings).unwrap_err().to_string();
    assert!(error.contains("tf_model.h5") && error.contains("me/model"), "{error}");
}

#[test]
fn a_hub_that_does_not_answer_is_a_sentence() {
    // A port that was free a moment ago, and that nothing listens at.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = TempDir::new();
    let mut settings = HubSettings::offline(&cache.0);
    settings.offline = false;
    settings.endpoint = Some(format!("http://127.0.0.1:{port}"));
    let error = resolve_with("gpt2", None, &settings).unwrap_err().to_string();
    assert!(error.contains("openai-community/gpt2") && error.contains(&cache.name()), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("folder"), "{error}");
    settings.endpoint = Some("nonsense".to_string());
    let error = resolve_with("gpt2", None, &settings).unwrap_err().to_string();
    assert!(error.contains("HF_ENDPOINT"), "{error}");
}

/// A version with a training checkpoint.
fn checkpoint(choice: CheckpointChoice) -> Version {
    Version { checkpoint: Some(choice), ..Version::default() }
}

fn subfolder(folder: &str) -> Version {
    Version { subfolder: Some(folder.to_string()), ..Version::default() }
}

#[test]
fn a_checkpoint_is_a_revision() {
    let (settings, cache) = offline();
    for (owner, revision) in
        [("EleutherAI--pythia-70m", "step512"), ("stanford-crfm--alias-gpt2-small-x21", "checkpoint-400000")]
    {
        cache.add(&format!("models--{owner}/snapshots/of-{revision}"), WHOLE);
        cache.add(&format!("models--{owner}/refs"), &[(revision, &format!("of-{revision}"))]);
    }
    let find = |name: &str, choice| resolve_version_with(name, &checkpoint(choice), &settings);
    for choice in [CheckpointChoice::Index(10), CheckpointChoice::Index(-144), CheckpointChoice::Value(512)] {
        let files = find("pythia-70m", choice).unwrap();
        assert!(path(&files.config).ends_with("of-step512/config.json"));
        let expected = Checkpoint { unit: CheckpointUnit::Step, value: 512, index: Some(10) };
        assert_eq!(files.checkpoint, Some(expected));
    }
    let files = find("stanford-gpt2-small-a", CheckpointChoice::Index(-1)).unwrap();
    assert_eq!(files.checkpoint.map(|checkpoint| (checkpoint.value, checkpoint.index)), Some((400_000, Some(608))));
    assert!(find("pythia-70m", CheckpointChoice::Index(0)).unwrap_err().to_string().contains("revision step0"));
    assert!(find("pythia-70m", CheckpointChoice::Index(154)).unwrap_err().to_string().contains("0 to 153"));
    assert!(find("gpt2", CheckpointChoice::Index(0)).unwrap_err().to_string().contains("pythia-160m"));
    assert!(find("tiny", CheckpointChoice::Index(0)).unwrap_err().to_string().contains("no training checkpoints"));
    let both = Version { revision: Some("main".to_string()), ..checkpoint(CheckpointChoice::Value(512)) };
    let error = resolve_version_with("pythia-70m", &both, &settings).unwrap_err().to_string();
    assert!(error.contains("step512") && error.contains("'main'"), "{error}");
    let files = resolve_with("pythia-70m@step512", None, &settings).unwrap();
    assert!(path(&files.config).ends_with("of-step512/config.json") && files.checkpoint.is_none());
    assert!(resolve_with("pythia-70m@step512", Some("main"), &settings).is_err());
    assert!(resolve_with("tiny@main", None, &settings).unwrap_err().to_string().contains("no revisions"));
}

const TOY: &[(&str, &str)] = &[
    ("config.json", "{}"),
    ("model_final.pth", ""),
    // One step of 393216 tokens after the plan's 22.0 and 198.0 million; the former is the eleventh.
    ("checkpoints/tokens_000022413312.pth", "22M"),
    ("checkpoints/tokens_000198180864.pth", "198M"),
    ("checkpoints/readme.md", ""),
];

#[test]
fn a_toy_models_checkpoint_is_a_file() {
    let (settings, cache) = offline();
    cache.add("models--NeelNanda--SoLU_2L512W_C4_Code/snapshots/abc", TOY);
    cache.add("models--NeelNanda--SoLU_2L512W_C4_Code/refs", &[("main", "abc")]);
    let find = |choice| resolve_version_with("solu-2l", &checkpoint(choice), &settings);
    for choice in
        [CheckpointChoice::Index(10), CheckpointChoice::Value(22_000_000), CheckpointChoice::Value(22_413_312)]
    {
        let files = find(choice).unwrap();
        assert_eq!(files.weights[0].read().unwrap().as_ref(), b"22M", "{choice:?}");
        assert_eq!(files.checkpoint.map(|checkpoint| checkpoint.value), Some(22_413_312));
    }
    for choice in [CheckpointChoice::Index(10), CheckpointChoice::Value(22_413_312)] {
        assert_eq!(find(choice).unwrap().checkpoint.and_then(|checkpoint| checkpoint.index), Some(10));
    }
    assert!(find(CheckpointChoice::Index(163)).unwrap_err().to_string().contains("0 to 162"));
    let error = find(CheckpointChoice::Index(60)).unwrap_err().to_string();
    assert!(error.contains("22413312, 198180864") && error.contains("HF_HUB_OFFLINE"), "{error}");
    let usual = resolve_with("solu-2l", None, &settings).unwrap();
    assert!(path(&usual.weights[0]).ends_with("model_final.pth") && usual.checkpoint.is_none());
}

#[test]
fn a_folders_checkpoints_are_its_files() {
    let folder = TempDir::with(TOY);
    let (settings, _cache) = offline();
    let find = |choice| resolve_version_with(&folder.name(), &checkpoint(choice), &settings);
    assert_eq!(checkpoint_labels(&folder.name()).unwrap().labels, [22_413_312, 198_180_864]);
    assert_eq!(find(CheckpointChoice::Index(-1)).unwrap().weights[0].read().unwrap().as_ref(), b"198M");
    assert!(find(CheckpointChoice::Index(2)).unwrap_err().to_string().contains("0 to 1"));
    assert!(find(CheckpointChoice::Value(5)).unwrap_err().to_string().contains("22413312"));
    let other = TempDir::with(WHOLE);
    let error = resolve_version_with(&other.name(), &checkpoint(CheckpointChoice::Index(0)), &settings).unwrap_err();
    assert!(error.to_string().contains("checkpoints/"), "{error}");
}

const NESTED: &[(&str, &str)] = &[
    ("config.json", "top"),
    ("model.safetensors", ""),
    ("tokenizer.json", "tokens"),
    ("parts/small/config.json", "inner"),
    ("parts/small/model.safetensors", "inner weights"),
];

#[test]
fn a_subfolder_holds_a_model() {
    let folder = TempDir::with(NESTED);
    let (settings, cache) = offline();
    cache.add("models--me--model/snapshots/abc", NESTED);
    cache.add("models--me--model/refs", &[("v2", "abc")]);
    let in_cache = Version { revision: Some("v2".to_string()), ..subfolder("parts/small") };
    for (name, version) in [(folder.name().as_str(), subfolder("parts/small")), ("me/model", in_cache)] {
        let files = resolve_version_with(name, &version, &settings).unwrap();
        assert_eq!(files.config.read().unwrap().as_ref(), b"inner");
        assert_eq!(files.weights[0].read().unwrap().as_ref(), b"inner weights");
        assert_eq!(files.tokenizer.unwrap().read().unwrap().as_ref(), b"tokens", "the top's");
    }
    let error = resolve_version_with(&folder.name(), &subfolder("parts/large"), &settings).unwrap_err().to_string();
    assert!(error.contains("parts") && error.contains("no such folder"), "{error}");
    for bad in ["../x", "/etc", "", "a/../../b", "a\\b"] {
        let error = resolve_version_with("me/model", &subfolder(bad), &settings).unwrap_err().to_string();
        assert!(error.contains("can't be a subfolder"), "{bad}: {error}");
    }
    assert!(resolve_version_with("tiny", &subfolder("x"), &settings).is_err());
}

#[test]
fn a_download_takes_the_subfolder_or_the_checkpoint_alone() {
    let (endpoint, log) = own_hub(&[
        ("config.json", "{}"),
        ("tokenizer.json", "tokens"),
        ("model_final.pth", "final"),
        ("sub/config.json", "inner"),
        ("sub/model.safetensors", "inner weights"),
    ]);
    let cache = TempDir::new();
    let online = online(&cache, endpoint);
    let files = resolve_version_with("me/model", &subfolder("sub"), &online).unwrap();
    assert_eq!(files.weights[0].read().unwrap().as_ref(), b"inner weights");
    assert_eq!(files.tokenizer.unwrap().read().unwrap().as_ref(), b"tokens");
    let asked = log.lock().unwrap().join("\n");
    assert!(!asked.contains("model_final.pth") && !asked.contains("main/config.json"), "{asked}");
    let error = resolve_version_with("me/model", &subfolder("other"), &online).unwrap_err().to_string();
    assert!(error.contains("the folder other/ of the hub's me/model"), "{error}");
}

#[test]
fn a_tokenizer_comes_without_the_weights() {
    let (endpoint, log) = own_hub(WHOLE);
    let cache = TempDir::new();
    let mut settings = online(&cache, endpoint);
    let (tokenizer, config) = resolve_tokenizer_with("me/model", &settings).unwrap();
    assert_eq!(tokenizer.read().unwrap().as_ref(), b"tokens");
    assert!(config.is_some());
    assert!(!log.lock().unwrap().join("\n").contains("safetensors"));
    settings.offline = true;
    assert!(resolve_tokenizer_with("me/model", &settings).is_ok(), "from the cache");
    let error = resolve_tokenizer_with("me/other", &settings).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(resolve_tokenizer_with("a b", &settings).is_err());
    // Of a model in a folder or in the program too, and of a folder that has nothing else.
    let folder = TempDir::new();
    folder.add("only", &[("tokenizer.json", "own tokens")]);
    let (tokenizer, config) = resolve_tokenizer_with(&folder.0.join("only").to_string_lossy(), &settings).unwrap();
    assert_eq!(tokenizer.read().unwrap().as_ref(), b"own tokens");
    assert!(config.is_none());
    assert!(resolve_tokenizer_with("tiny", &settings).is_ok());
    let error = resolve_tokenizer_with("/no/such/folder", &settings).unwrap_err().to_string();
    assert!(error.contains("/no/such/folder"), "{error}");
    let (endpoint, _) = own_hub(&WHOLE[..2]);
    let empty = TempDir::new();
    let settings = online(&empty, endpoint);
    let error = resolve_tokenizer_with("me/model", &settings).unwrap_err().to_string();
    assert!(error.contains("no tokenizer.json in the hub's me/model"), "{error}");
}

#[test]
fn a_toy_model_uses_the_tokenizer_that_its_config_names() {
    let (settings, cache) = offline();
    cache.add("models--NeelNanda--GELU_1L512W_C4_Code/snapshots/abc", &TOY[1..]);
    let config = r#"{"tokenizer_name": "me/tokenizer"}"#;
    cache.add("models--NeelNanda--GELU_1L512W_C4_Code/snapshots/abc", &[("config.json", config)]);
    cache.add("models--NeelNanda--GELU_1L512W_C4_Code/refs", &[("main", "abc")]);
    assert!(resolve_with("gelu-1l", None, &settings).unwrap().tokenizer.is_none());
    cache.add("models--me--tokenizer/snapshots/def", &[("tokenizer.json", "tokens")]);
    cache.add("models--me--tokenizer/refs", &[("main", "def")]);
    let files = resolve_with("gelu-1l", None, &settings).unwrap();
    assert_eq!(files.tokenizer.unwrap().read().unwrap().as_ref(), b"tokens");
    let (tokenizer, _) = resolve_tokenizer_with("gelu-1l", &settings).unwrap();
    assert_eq!(tokenizer.read().unwrap().as_ref(), b"tokens");
}

#[test]
fn files_of_another_kind_come_from_cache_or_hub() {
    const FILES: &[(&str, &str)] =
        &[("layer_0/params.npz", "small"), ("layer_1/params.npz", "other"), ("README.md", "")];
    let choose = |names: &[String]| {
        let wanted = "layer_0/params.npz".to_string();
        if names.contains(&wanted) { Ok(vec![wanted]) } else { Err(Error::msg(format!("not among {names:?}"))) }
    };
    let (endpoint, log) = own_hub(FILES);
    let cache = TempDir::new();
    let online = online(&cache, endpoint);
    let found = some_files("the SAE", "me/model", choose, &online).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(std::fs::read_to_string(&found[0].1).unwrap(), "small");
    let asked = log.lock().unwrap().clone();
    assert!(asked.iter().all(|line| !line.contains("layer_1") && !line.contains("README")), "{asked:?}");

    // From now on the cache is enough.
    let again = some_files("the SAE", "me/model@main", choose, &HubSettings::offline(&cache.0)).unwrap();
    assert_eq!(again[0].0, "layer_0/params.npz");
    assert_eq!(std::fs::read_to_string(&again[0].1).unwrap(), "small");
    let count = log.lock().unwrap().len();
    some_files("the SAE", "me/model", choose, &online).unwrap();
    assert_eq!(log.lock().unwrap().len(), count);

    let error = |repository: &str, settings: &HubSettings| {
        some_files("the SAE", repository, |_| Err(Error::msg("nothing")), settings).unwrap_err().to_string()
    };
    assert!(error("me/model", &HubSettings::offline(&cache.0)).contains("HF_HUB_OFFLINE"));
    assert!(error("me/other", &online).contains("check the name"));
    assert!(error("me", &online).contains("owner/name was expected"));
}
