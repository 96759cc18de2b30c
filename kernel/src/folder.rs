//! A session's private folder: a copy of the template that shares its large files, so that cargo finds everything built; removed at the end.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo;
use crate::private;

/// Held locked while the session lives.
const IN_USE: &str = "in-use";

/// Names the template, in a crate's folder that has only what rustc needs so far.
const TEMPLATE: &str = "template.txt";

/// What a file in the template is to a session.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Libraries are linked, since compilers replace them whole.
    Libraries,
    /// cargo's notes are copied: it rewrites them in place, and a session that builds something anew must not touch the
    /// template. They are many, and rustc does without.
    Notes,
}

/// Removed, with everything in it, when dropped.
#[derive(Debug)]
pub struct SessionFolder {
    path: PathBuf,
    _in_use: File,
}

impl SessionFolder {
    /// Seeds a new folder below `sessions` from the template, and removes folders that dead sessions left there.
    pub fn create(template: &Path, sessions: &Path) -> Result<Self> {
        private::create(sessions).with_context(|| format!("{} can't be created", sessions.display()))?;
        remove_dead(sessions);
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let path = sessions.join(name);
        let seed = || -> Result<File> {
            private::create(&path)?;
            let in_use = File::create(path.join(IN_USE))?;
            in_use.lock()?;
            seed(template, &path.join("crate"))?;
            Ok(in_use)
        };
        let in_use = seed().with_context(|| format!("the session's folder {} can't be filled", path.display()))?;
        Ok(Self { path, _in_use: in_use })
    }

    /// Where evcxr keeps its crate.
    pub fn crate_folder(&self) -> PathBuf {
        self.path.join("crate")
    }

    /// A folder beside it for configuration.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SessionFolder {
    fn drop(&mut self) {
        // What can't be removed now, the next session removes.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether a session still holds its folder.
pub fn is_alive(folder: &Path) -> bool {
    match File::open(folder.join(IN_USE)) {
        Ok(file) => matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

fn remove_dead(sessions: &Path) {
    for entry in fs::read_dir(sessions).into_iter().flatten().flatten() {
        if !is_alive(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Puts cargo's notes beside the libraries, if they are not there yet: a session whose cells only rustc compiles never needs them.
pub fn complete(crate_folder: &Path) -> Result<()> {
    let note = crate_folder.join(TEMPLATE);
    let Ok(template) = fs::read_to_string(&note) else { return Ok(()) };
    seed_part(Path::new(&template), crate_folder, Part::Notes)
        .and_then(|()| fs::remove_file(&note))
        .with_context(|| format!("the session's folder {} can't be filled", crate_folder.display()))
}

fn seed(template: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to.join("src"))?;
    fs::write(to.join("src/lib.rs"), "")?;
    fs::write(to.join(TEMPLATE), &*template.to_string_lossy())?;
    for name in ["Cargo.toml", "Cargo.lock"] {
        if template.join(name).is_file() {
            fs::copy(template.join(name), to.join(name))?;
        }
    }
    // It names the folder that it is in.
    if let Ok(text) = fs::read_to_string(template.join(cargo::RECORD)) {
        fs::write(to.join(cargo::RECORD), text.replace(&*template.to_string_lossy(), &to.to_string_lossy()))?;
    }
    seed_part(template, to, Part::Libraries)
}

fn seed_part(template: &Path, to: &Path, part: Part) -> std::io::Result<()> {
    link_tree(&template.join("target"), &to.join("target"), part)
}

fn link_tree(from: &Path, to: &Path, part: Part) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if belongs_to_cell(&text) || part == Part::Libraries && text == ".fingerprint" {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            link_tree(&source, &target, part)?;
        } else if part_of(&source) != part {
            continue;
        } else if part == Part::Notes || fs::hard_link(&source, &target).is_err() {
            copy(&source, &target)?;
        }
    }
    Ok(())
}

fn part_of(file: &Path) -> Part {
    let libraries = ["rlib", "rmeta", "so", "dylib", "dll", "lib", "a"];
    match file.extension().and_then(|extension| extension.to_str()) {
        Some(extension) if libraries.contains(&extension) => Part::Libraries,
        _ => Part::Notes,
    }
}

/// What each session writes itself, and must not share: the cell's own crate (`ctx`) and cargo's locks.
fn belongs_to_cell(name: &str) -> bool {
    let stem = name.strip_prefix("lib").unwrap_or(name);
    name == "incremental"
        || name == ".cargo-lock"
        || stem == "ctx"
        || stem.starts_with("ctx.")
        || stem.starts_with("ctx-")
}

/// With its time, by which cargo judges it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to)?;
    let modified = fs::metadata(from)?.modified()?;
    File::options().write(true).open(to)?.set_modified(modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_the_template_and_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let template = home.path().join("template");
        let deps = template.join("target/debug/deps");
        fs::create_dir_all(&deps).unwrap();
        fs::write(template.join("Cargo.toml"), "manifest").unwrap();
        fs::write(template.join(cargo::RECORD), format!("{}/target", template.display())).unwrap();
        for name in ["libcandle.rlib", "candle.d", "libctx.so", "ctx-12.d"] {
            fs::write(deps.join(name), name).unwrap();
        }
        let sessions = home.path().join("sessions");
        let folder = SessionFolder::create(&template, &sessions).unwrap();
        let copied = folder.crate_folder().join("target/debug/deps");
        assert!(copied.join("libcandle.rlib").is_file());
        assert!(!copied.join("libctx.so").exists() && !copied.join("candle.d").exists());
        complete(&folder.crate_folder()).unwrap();
        assert!(copied.join("candle.d").is_file() && !copied.join("ctx-12.d").exists(), "what cargo needs comes later");
        let record = fs::read_to_string(folder.crate_folder().join(cargo::RECORD)).unwrap();
        assert_eq!(record, format!("{}/target", folder.crate_folder().display()));
        fs::write(folder.crate_folder().join("Cargo.toml"), "changed").unwrap();
        assert_eq!(fs::read_to_string(template.join("Cargo.toml")).unwrap(), "manifest");

        // A folder that nobody holds goes; one that is held stays.
        fs::create_dir_all(sessions.join("dead")).unwrap();
        fs::write(sessions.join("dead").join(IN_USE), "").unwrap();
        let second = SessionFolder::create(&template, &sessions).unwrap();
        assert!(!sessions.join("dead").exists());
        assert!(folder.path().exists());
        drop((folder, second));
        assert_eq!(fs::read_dir(&sessions).unwrap().count(), 0);
    }
}
