//! What lies in candlescope's cache folder: session libraries, each with the folders of its sessions.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::folder;
use crate::jupyter::Registration;
use crate::kernelspec::features_in_words;
use crate::library::{self, Library, SESSIONS, TEMPLATE};

/// A session library in the cache folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Cached {
    /// `<cache>/<key>`
    pub root: PathBuf,
    /// The package candlescope-session that it was built from.
    pub source: PathBuf,
    pub features: Vec<String>,
    /// Folders that sessions hold.
    pub live: Vec<PathBuf>,
    /// Folders that sessions left behind.
    pub dead: Vec<PathBuf>,
}

impl Cached {
    /// What it is, in words.
    pub fn what(&self) -> String {
        let clone = library::clone_of(&self.source).unwrap_or(&self.source);
        format!("session library of {}, {}", clone.display(), features_in_words(&self.features))
    }

    /// The same, as it is now; nothing when it is gone.
    pub fn again(&self) -> Option<Self> {
        Self::read(self.root.clone())
    }

    /// Reads what the folder is; nothing when it is not candlescope's.
    fn read(root: PathBuf) -> Option<Self> {
        let key = root.file_name()?.to_str()?;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if key.len() != 16 || !key.bytes().all(hexadecimal) || !is_folder(&root) || !is_folder(&root.join(TEMPLATE)) {
            return None;
        }
        let manifest = fs::read_to_string(root.join(TEMPLATE).join("Cargo.toml")).ok()?;
        let (source, features) = library::named_in(&manifest)?;
        let sessions = root.join(SESSIONS);
        let sessions = if is_folder(&sessions) { folders(&sessions).ok()? } else { Vec::new() };
        let (live, dead) = sessions.into_iter().partition(|session| folder::is_alive(session));
        Some(Self { root, source, features, live, dead })
    }
}

/// The session libraries in the cache folder. Whatever else lies there is not candlescope's.
pub fn list(cache: &Path) -> Result<Vec<Cached>> {
    let roots = match folders(cache) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        roots => roots.with_context(|| format!("candlescope's cache folder {} can't be read", cache.display()))?,
    };
    Ok(roots.into_iter().filter_map(Cached::read).collect())
}

/// The folders of tools that sessions have made.
pub fn tools(cache: &Path) -> Result<Vec<PathBuf>> {
    let tools = cache.join(library::TOOLS);
    match is_folder(&tools) {
        true => folders(&tools).with_context(|| format!("{} can't be read", tools.display())),
        false => Ok(Vec::new()),
    }
}

/// The session libraries that this toolchain and source use: the plain one, and those of registered kernels.
pub fn wanted(kernels: &[Registration]) -> Result<Vec<Library>> {
    let mut sets: Vec<&[String]> = vec![&[]];
    for spec in kernels.iter().filter_map(|kernel| kernel.spec.as_ref().ok()) {
        if !sets.contains(&spec.features.as_slice()) {
            sets.push(&spec.features);
        }
    }
    sets.into_iter().map(Library::locate).collect()
}

/// The folders in a folder, by name; not the links.
fn folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_folder(&path) {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(root: &Path) {
        let manifest =
            "[dependencies]\ncandlescope = { package = \"candlescope-session\", path = \"/c/kernel/session\" }\n";
        fs::create_dir_all(root.join(TEMPLATE)).unwrap();
        fs::write(root.join(TEMPLATE).join("Cargo.toml"), manifest).unwrap();
    }

    #[test]
    fn only_candlescopes_own_folders_are_listed() {
        let cache = tempfile::tempdir().unwrap();
        let path = |name: &str| cache.path().join(name);
        library(&path("00112233445566ff"));
        fs::create_dir_all(path("00112233445566ff").join(SESSIONS).join("1-a")).unwrap();
        // Wrong names, no template, another's template, a link.
        library(&path("00112233445566f"));
        library(&path("00112233445566FF"));
        library(&path("not-a-key-at-all"));
        fs::create_dir(path("0000000000000001")).unwrap();
        fs::create_dir_all(path("0000000000000002").join(TEMPLATE)).unwrap();
        fs::write(path("0000000000000002").join(TEMPLATE).join("Cargo.toml"), "[package]\n").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(path("00112233445566ff"), path("0000000000000003")).unwrap();

        let found = list(cache.path()).unwrap();
        assert_eq!(found.iter().map(|cached| &cached.root).collect::<Vec<_>>(), [&path("00112233445566ff")]);
        assert_eq!(found[0].what(), "session library of /c, no features");
        assert_eq!(found[0].dead, [path("00112233445566ff").join(SESSIONS).join("1-a")]);
        assert!(found[0].live.is_empty());
        assert_eq!(list(&path("none")).unwrap(), []);
    }
}
