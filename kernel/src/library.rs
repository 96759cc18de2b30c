//! The session library: candlescope and candle as one shared library at full release speed, built once and kept.
//!
//! It is built in a template folder that looks just as evcxr's own folder will look, so that cargo finds nothing left
//! to do there. The folder sits in the user's cache: `<cache>/candlescope/<key>/template`. The key stands for
//! everything that would make cargo build all of it anew (the toolchain, the source's place, the features); within a key
//! cargo itself knows what changed, so an updated source builds only that.

use std::fmt::Write;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::cargo::Record;
use crate::compile::{self, Step};
use crate::folder::SessionFolder;
use crate::lock::Lock;
use crate::private;
use crate::toolchain::{Linker, Toolchain};

/// Where the caches are, when not in the user's cache folder.
const CACHE_VARIABLE: &str = "CANDLESCOPE_CACHE";
/// Where candlescope's source is, when not where this binary was built from.
pub const SOURCE_VARIABLE: &str = "CANDLESCOPE_SOURCE";

/// Below a library's root: what sessions are copied from, and the sessions.
pub const TEMPLATE: &str = "template";
pub const SESSIONS: &str = "sessions";
/// Below the cache folder: the tools of sessions, by toolchain.
pub const TOOLS: &str = "tools";

/// Dependencies run at release speed; the cells themselves stay checked and quick to compile. This overrides evcxr's
/// manifest from a parent folder. What no model's speed hangs on is optimised less, which shortens a newcomer's wait:
/// of candle-transformers only the sampler is used, and the others download, decode pictures, or multiply complex
/// numbers.
const CARGO_CONFIG: &str = r#"[profile.dev.package."*"]
opt-level = 3
debug-assertions = false
overflow-checks = false

[profile.dev.package]
candle-transformers = { opt-level = 1 }
gemm-c32 = { opt-level = 1 }
gemm-c64 = { opt-level = 1 }
hf-hub = { opt-level = 1 }
image = { opt-level = 1 }
moxcms = { opt-level = 1 }
nano-gemm-c32 = { opt-level = 1 }
nano-gemm-c64 = { opt-level = 1 }
pxfm = { opt-level = 1 }
rustls = { opt-level = 1 }
ureq = { opt-level = 1 }
"#;

/// A small program beside the library, for commands that need the library but no notebook.
const PROGRAM: &str = "fn main() -> std::process::ExitCode {\n    candlescope::tools::main()\n}\n";

/// Where the session library is, or will be.
#[derive(Debug, Clone)]
pub struct Library {
    pub toolchain: Toolchain,
    /// `<cache>/candlescope/<key>`
    root: PathBuf,
    /// The package candlescope-session.
    source: PathBuf,
    features: Vec<String>,
    linker: Linker,
}

/// The state of the source's files: when the newest was changed, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    newest: Option<SystemTime>,
    files: usize,
}

impl Library {
    /// Finds the toolchain, the source and the place; builds nothing.
    pub fn locate(features: &[String]) -> Result<Self> {
        let toolchain = Toolchain::find()?;
        let source = source()?;
        let features = features.to_vec();
        let manifest = manifest(&source, &features);
        let mut hasher = DefaultHasher::new();
        let linker = Linker::find(&toolchain.host);
        (&toolchain.version, &manifest, linker.flags()).hash(&mut hasher);
        let cache = cache()?;
        if cache.to_string_lossy().contains(' ') {
            bail!(
                "the cache folder {} has a space in its name, and evcxr can't load cells from there; set {CACHE_VARIABLE} to a \
                 folder without one",
                cache.display()
            );
        }
        let root = cache.join(format!("{:016x}", hasher.finish()));
        Ok(Self { toolchain, root, source, features, linker })
    }

    /// Builds what is missing or out of date, telling how far it is. Quick when there is nothing to do.
    pub fn build(&self, tell: &mut dyn FnMut(&Step)) -> Result<()> {
        let _lock = self.lock()?;
        if self.is_fresh() {
            return Ok(());
        }
        let began = SystemTime::now();
        self.toolchain.add_source();
        self.write_template()?;
        let template = self.template();
        if Record::read(&template).is_none() {
            // Has the cell's crate compiled, and so recorded, in any case.
            let source = template.join("src").join("lib.rs");
            File::options().write(true).open(&source)?.set_modified(SystemTime::now())?;
        }
        compile::run(&self.toolchain, self.linker, &template, tell)?;
        Record::complete(&template, &manifest(&self.source, &self.features))?;
        let stamp = self.stamp();
        File::create(&stamp).and_then(|file| file.set_modified(began)).with_context(|| cannot_write(&stamp))
    }

    /// As old as the start of the last build.
    fn stamp(&self) -> PathBuf {
        self.root.join("built")
    }

    /// Whether it was built, be it out of date by now.
    pub fn is_built(&self) -> bool {
        self.tools().is_file()
    }

    /// Whether nothing has changed since the last build began. Cargo knows better, but takes longer.
    pub fn is_fresh(&self) -> bool {
        let Ok(built) = fs::metadata(self.stamp()).and_then(|file| file.modified()) else { return false };
        self.source_state().newest.is_some_and(|newest| newest < built)
    }

    /// The state of the files that the library is built from.
    pub fn source_state(&self) -> Source {
        let mut state = Source { newest: None, files: 0 };
        if let Some(root) = clone_of(&self.source) {
            for part in ["Cargo.toml", "Cargo.lock", "src", "assets", "kernel/session"] {
                state.add(&root.join(part));
            }
        }
        state
    }

    /// What links the cells, and linked the library.
    pub fn linker(&self) -> Linker {
        self.linker
    }

    /// The session library's own file, where a copy of the template is in the folder `built_in`.
    pub fn shared_library(&self, built_in: &Path) -> PathBuf {
        use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
        self.output(built_in).join("deps").join(format!("{DLL_PREFIX}candlescope_session{DLL_SUFFIX}"))
    }

    /// A private copy of the template for one session; the library must be built.
    pub fn session_folder(&self) -> Result<SessionFolder> {
        let _lock = self.lock()?;
        SessionFolder::create(&self.template(), &self.root.join(SESSIONS))
    }

    /// The line that begins a session.
    pub fn dependency(&self) -> String {
        format!(":dep {}", dependency(&self.source, &self.features))
    }

    /// The small program with the commands that need the library.
    pub fn tools(&self) -> PathBuf {
        self.output(&self.template()).join(format!("ctx{}", std::env::consts::EXE_SUFFIX))
    }

    /// The folders with the shared libraries that a program needs which was built in the folder `built_in`.
    pub fn loader_path(&self, built_in: &Path) -> Result<Vec<PathBuf>> {
        let output = self.output(built_in);
        Ok(vec![output.join("deps"), output, self.toolchain.libraries()?])
    }

    /// The folder of everything that belongs to this library.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The package that it is built from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// The folder that sessions are copied from.
    pub fn template(&self) -> PathBuf {
        self.root.join(TEMPLATE)
    }

    fn output(&self, built_in: &Path) -> PathBuf {
        built_in.join("target").join(&self.toolchain.host).join("debug")
    }

    fn write_template(&self) -> Result<()> {
        let template = self.template();
        create(&template.join("src"))?;
        create(&self.root.join(".cargo"))?;
        write(&self.root.join(".cargo/config.toml"), CARGO_CONFIG)?;
        // Cargo looks no further up for a workspace that these packages might belong to.
        write(&self.root.join("Cargo.toml"), "[workspace]\nexclude = [\"template\", \"sessions\"]\n")?;
        write(&template.join("Cargo.toml"), &manifest(&self.source, &self.features))?;
        write(&template.join("src/lib.rs"), "")?;
        write(&template.join("src/main.rs"), PROGRAM)?;
        // The versions that candlescope was tested with.
        if let Some(lock) = self.source.ancestors().map(|folder| folder.join("Cargo.lock")).find(|lock| lock.is_file())
        {
            let text = fs::read_to_string(&lock).with_context(|| format!("{} can't be read", lock.display()))?;
            write(&template.join("Cargo.lock"), &text)?;
        }
        Ok(())
    }

    /// One builder, and no copying while building.
    fn lock(&self) -> Result<Lock> {
        let path = lock_file(&self.root);
        Lock::wait(&path).with_context(|| cannot_write(&path))
    }
}

impl Source {
    /// Adds a file, or all files below a folder.
    fn add(&mut self, path: &Path) {
        let Ok(found) = fs::metadata(path) else { return };
        self.files += 1;
        self.newest = self.newest.max(found.modified().ok());
        if found.is_dir() {
            fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| self.add(&entry.path()));
        }
    }
}

/// What evcxr 0.22 writes for a session whose only dependency is ours. Cargo compares the profile and the dependencies,
/// so these must agree with evcxr's.
fn manifest(source: &Path, features: &[String]) -> String {
    format!(
        r#"
[package]
name = "ctx"
version = "1.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]
path = "src/lib.rs"

[profile.dev]
opt-level = 2
debug = false
strip = "debuginfo"
rpath = true
lto = false
debug-assertions = true
codegen-units = 16
panic = 'unwind'
incremental = true
overflow-checks = true

[dependencies]
{}
"#,
        dependency(source, features)
    )
}

/// The dependency as a line of a manifest. Cells know the session library by the name candlescope.
fn dependency(source: &Path, features: &[String]) -> String {
    let path = source.display().to_string().replace('\\', "/").replace('"', "\\\"");
    let mut line = format!("candlescope = {{ package = \"candlescope-session\", path = \"{path}\"");
    if !features.is_empty() {
        let names: Vec<String> = features.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = write!(line, ", features = [{}]", names.join(", "));
    }
    line + " }"
}

/// The source and the features that a template's manifest names, if candlescope wrote it.
pub fn named_in(manifest: &str) -> Option<(PathBuf, Vec<String>)> {
    let start = "candlescope = { package = \"candlescope-session\", path = \"";
    let rest = manifest.lines().find_map(|line| line.strip_prefix(start))?;
    let (path, rest) = match rest.split_once("\", features = [") {
        Some((path, rest)) => (path, rest.strip_suffix("] }")?),
        None => (rest.strip_suffix("\" }")?, ""),
    };
    let features = rest.split(", ").map(|name| name.trim_matches('"').to_string()).filter(|name| !name.is_empty());
    Some((PathBuf::from(path.replace("\\\"", "\"")), features.collect()))
}

/// The package candlescope-session in candlescope's source.
pub fn source() -> Result<PathBuf> {
    let source = match std::env::var_os(SOURCE_VARIABLE) {
        Some(folder) => PathBuf::from(folder).join("kernel").join("session"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("session"),
    };
    if !source.join("Cargo.toml").is_file() {
        bail!(
            "candlescope's source was not found: looked for {}; set {SOURCE_VARIABLE} to the folder of the clone",
            source.join("Cargo.toml").display()
        );
    }
    Ok(source)
}

/// The clone that a package candlescope-session is part of.
pub fn clone_of(source: &Path) -> Option<&Path> {
    source.ancestors().nth(2)
}

/// Held by whoever builds, copies or removes the library at `root`.
pub fn lock_file(root: &Path) -> PathBuf {
    root.join("lock")
}

/// `<cache>/candlescope`
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(CACHE_VARIABLE) {
        return Ok(PathBuf::from(folder));
    }
    match dirs::cache_dir() {
        Some(folder) => Ok(folder.join("candlescope")),
        None => bail!("this user has no cache folder; set {CACHE_VARIABLE} to one"),
    }
}

fn create(folder: &Path) -> Result<()> {
    private::create(folder).with_context(|| cannot_write(folder))
}

/// Writes only what changed, so that cargo sees no new time on an old file.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!(
        "{} can't be written; free some space, or set {CACHE_VARIABLE} to a folder that can be written to",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_tells_what_it_was_written_for() {
        for features in [vec![], vec!["cuda".to_string()], vec!["a".to_string(), "b".to_string()]] {
            let source = PathBuf::from("/a \"b\"/session");
            assert_eq!(named_in(&manifest(&source, &features)), Some((source, features)));
        }
        assert_eq!(named_in("[package]\nname = \"ctx\"\n"), None);
    }

    #[test]
    fn features_reach_the_dependency() {
        assert_eq!(
            dependency(Path::new("/a/session"), &["cuda".to_string()]),
            r#"candlescope = { package = "candlescope-session", path = "/a/session", features = ["cuda"] }"#
        );
    }
}
