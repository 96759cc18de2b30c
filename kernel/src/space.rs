//! How much room folders take on the disk, and how much is left.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Adds up sizes. A file that several folders share, as sessions share the template's, counts where it is met first.
#[derive(Debug, Default)]
pub struct Tally {
    seen: HashSet<(u64, u64)>,
}

impl Tally {
    /// What the file or folder adds to all that was counted before. Links are not followed. What can't be read, or
    /// vanishes meanwhile as sessions end, counts nothing.
    pub fn add(&mut self, path: &Path) -> u64 {
        let Ok(file) = fs::symlink_metadata(path) else { return 0 };
        if file.is_dir() {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            return entries.map(|entry| self.add(&entry.path())).sum();
        }
        if self.is_new(&file) { file.len() } else { 0 }
    }

    #[cfg(unix)]
    fn is_new(&mut self, file: &fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        file.nlink() == 1 || self.seen.insert((file.dev(), file.ino()))
    }

    /// Elsewhere the standard library does not tell which files are one.
    #[cfg(not(unix))]
    fn is_new(&mut self, _: &fs::Metadata) -> bool {
        true
    }
}

/// Bytes left to this user on the disk that holds `path`, which need not exist yet.
pub fn free(path: &Path) -> Option<u64> {
    fs4::available_space(path.ancestors().find(|folder| folder.is_dir())?).ok()
}

/// A size as people say it: `1.4 GB`.
pub fn in_words(bytes: u64) -> String {
    let number = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.0} kB", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", number / 1e6),
        _ => format!("{:.1} GB", number / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_file_counts_once() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (home.path().join("one"), home.path().join("two"));
        fs::create_dir_all(one.join("deep")).unwrap();
        fs::create_dir(&two).unwrap();
        fs::write(one.join("deep").join("large"), [0; 3000]).unwrap();
        fs::write(two.join("own"), [0; 20]).unwrap();
        let mut tally = Tally::default();
        if cfg!(unix) {
            fs::hard_link(one.join("deep").join("large"), two.join("large")).unwrap();
        }
        assert_eq!((tally.add(&one), tally.add(&two), tally.add(&home.path().join("none"))), (3000, 20, 0));
    }

    #[test]
    fn sizes_are_said_shortly() {
        let words = [0, 999, 12_300, 704_000_000, 1_449_000_000].map(in_words);
        assert_eq!(words, ["0 bytes", "999 bytes", "12 kB", "704 MB", "1.4 GB"]);
    }

    #[test]
    fn a_folder_to_come_is_on_its_parents_disk() {
        let home = tempfile::tempdir().unwrap();
        assert!(free(&home.path().join("not").join("yet")).is_some_and(|bytes| bytes > 0));
    }
}
