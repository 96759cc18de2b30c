//! Answers on disk. Nothing here is an error: without a cache everything works, just slower.

use std::path::{Path, PathBuf};

use crate::whole_file::write_whole;

/// The folder that answers are kept in, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Cache(Option<PathBuf>);

impl Cache {
    pub fn at(folder: Option<PathBuf>) -> Self {
        Self(folder)
    }

    /// Where it is, for people.
    pub fn describe(&self) -> String {
        self.0.as_ref().map_or_else(|| "there is none".to_string(), |folder| folder.display().to_string())
    }

    /// The folder for what one server answers. Every part of a path below it is a checked name.
    pub fn folder(&self, server: &str) -> Option<PathBuf> {
        let host = server.split_once("://").map_or(server, |(_, host)| host);
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        Some(self.0.as_ref()?.join(host.chars().map(plain).collect::<String>()))
    }

    pub fn file(&self, server: &str, place: &[&str]) -> Option<CacheFile> {
        Some(CacheFile(place.iter().fold(self.folder(server)?, |folder, part| folder.join(part))))
    }
}

/// One kept answer.
pub(super) struct CacheFile(PathBuf);

impl CacheFile {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The answer, if it is there and not larger than an answer may be.
    pub fn read(&self, limit: u64) -> Option<Vec<u8>> {
        let size = std::fs::metadata(&self.0).ok()?.len();
        if size > limit {
            return None;
        }
        std::fs::read(&self.0).ok()
    }

    /// Keeps an answer; a disk that is full only means that it has to be fetched again.
    pub fn write(&self, bytes: &[u8]) -> bool {
        let Some(folder) = self.0.parent() else { return false };
        std::fs::create_dir_all(folder).is_ok()
            && write_whole(&self.0, |path| std::fs::write(path, bytes).map_err(|error| crate::Error::io(path, error)))
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_folder_and_none_leads_out() {
        let cache = Cache::at(Some(PathBuf::from("c")));
        assert_eq!(cache.folder("https://www.neuronpedia.org"), Some(PathBuf::from("c").join("www.neuronpedia.org")));
        assert_eq!(cache.folder("http://127.0.0.1:80/../x"), Some(PathBuf::from("c").join("127.0.0.1_80_.._x")));
        assert!(Cache::at(None).file("http://x", &["a"]).is_none());
    }
}
