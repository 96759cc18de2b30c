//! What rust-analyzer asks cargo before it reads anything, each time a session begins: eight questions about the toolchain and the
//! crate, of a tenth of a second and more each, always with the same answers. They are asked once, and kept.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{metadata, real_cargo};
use crate::compiler::FAILED;

/// Stands for the session's folder in what is kept.
const SESSION: &str = "@SESSION@";

/// A question, and where its answer is kept.
pub struct Question {
    /// The session's crate, or the copy of the standard library.
    folder: PathBuf,
    /// Where the standard library's source itself is, if that is what is asked about.
    original: Option<String>,
    kept: PathBuf,
}

/// What cargo said.
#[derive(Serialize, Deserialize)]
struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Question {
    /// The question in these arguments, if it is one whose answer changes with nothing but the toolchain, a person's settings of
    /// cargo, and the session's manifest.
    pub fn new(real: &Path, arguments: &[OsString], folder: &Path) -> Option<Self> {
        let words: Vec<&str> = arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
        let manifest = words.iter().position(|word| *word == "--manifest-path").and_then(|at| words.get(at + 1));
        let parent = manifest.and_then(|manifest| Path::new(manifest).parent());
        let original = parent.and_then(|parent| fs::read_to_string(parent.join(super::STD_SOURCE)).ok());
        let folder = match parent {
            Some(parent) if original.is_some() || parent.join(super::RECORD).is_file() => parent.to_path_buf(),
            _ => folder.to_path_buf(),
        };
        let asks = match words[..] {
            ["--version"] => true,
            ["locate-project", ..] | ["metadata", ..] => manifest.is_some(),
            ["rustc", ..] => words.contains(&"--print"),
            ["-Z", "unstable-options", "config", "get", ..] => true,
            _ => false,
        };
        let session_manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if !asks || original.is_none() && !metadata::is_of_library_alone(&session_manifest, &folder) {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        words.iter().for_each(|word| word.replace(&*folder.to_string_lossy(), SESSION).hash(&mut hasher));
        session_manifest.hash(&mut hasher);
        for file in [Some(real.to_path_buf()), settings("config.toml"), settings("config")].into_iter().flatten() {
            let found = fs::metadata(&file).ok();
            (file, found.as_ref().map(fs::Metadata::len), found.and_then(|found| found.modified().ok()))
                .hash(&mut hasher);
        }
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        let kept = answers()?.join(format!("{:016x}.json", hasher.finish()));
        Some(Self { folder, original, kept })
    }

    /// Prints the answer that is kept, or asks and keeps it.
    pub fn answer(&self, real: &Path, arguments: &[OsString]) -> Result<i32> {
        let session = self.folder.to_string_lossy().into_owned();
        let kept = fs::read_to_string(&self.kept).ok().and_then(|text| serde_json::from_str::<Answer>(&text).ok());
        let answer = match kept {
            Some(answer) => answer,
            None => {
                let answer = match &self.original {
                    // Asked where all of its packages are.
                    Some(original) => {
                        let there: Vec<OsString> = arguments
                            .iter()
                            .map(|argument| argument.to_string_lossy().replace(&session, original).into())
                            .collect();
                        let mut cargo = real_cargo(real, &there);
                        cargo.current_dir(original);
                        ask(cargo, original)?
                    }
                    None => ask(real_cargo(real, arguments), &session)?,
                };
                if answer.code == 0 {
                    // Only asked again next time, if it can't be kept.
                    let _ = keep(&self.kept, &answer);
                }
                answer
            }
        };
        print!("{}", answer.stdout.replace(SESSION, &session));
        eprint!("{}", answer.stderr.replace(SESSION, &session));
        Ok(answer.code)
    }
}

fn ask(mut cargo: Command, session: &str) -> Result<Answer> {
    let output = cargo.output().context("cargo can't be started")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(session, SESSION);
    let stdout = match metadata::pruned(&output.stdout) {
        Some(metadata) if output.status.success() => metadata.to_string().replace(session, SESSION),
        _ => text(&output.stdout),
    };
    Ok(Answer { code: output.status.code().unwrap_or(FAILED), stdout, stderr: text(&output.stderr) })
}

/// Several questions are asked at once: put in place in one step.
fn keep(path: &Path, answer: &Answer) -> Result<()> {
    let folder = path.parent().context("an answer lies in a folder")?;
    fs::create_dir_all(folder)?;
    let new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&new, answer)?;
    new.persist(path)?;
    Ok(())
}

/// Beside the `bin` that this program was started from as cargo.
fn answers() -> Option<PathBuf> {
    let here = PathBuf::from(std::env::args_os().next()?);
    Some(here.parent()?.parent()?.join("answers"))
}

/// A file with a person's settings of cargo.
fn settings(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(dirs::home_dir()?.join(".cargo")))?;
    Some(home.join(name))
}
