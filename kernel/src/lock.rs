//! Locks on files, by which processes keep out of each other's way. The system takes a lock back when its process ends.

use std::fs::{File, TryLockError};
use std::io::Result;
use std::path::Path;

use crate::private;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Waits until nobody else has the lock. Creates the folder where it is missing.
    pub fn wait(path: &Path) -> Result<Self> {
        loop {
            if let Some(folder) = path.parent() {
                private::create(folder)?;
            }
            let file = open(path)?;
            file.lock()?;
            // Whoever had it may have removed the folder; then nobody else would meet this lock.
            if is_there(&file, path) {
                return Ok(Self(file));
            }
        }
    }

    /// The lock, if nobody else has it.
    pub fn try_now(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}

#[cfg(unix)]
fn is_there(file: &File, _: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|file| file.nlink() > 0)
}

#[cfg(not(unix))]
fn is_there(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let held = Lock::wait(&path).unwrap();
        assert!(Lock::try_now(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_now(&path).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_was_removed_meanwhile_is_no_lock() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("folder").join("lock");
        let held = Lock::wait(&path).unwrap();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || Lock::wait(&path)
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        drop(held);
        let theirs = waiter.join().unwrap().unwrap();
        assert!(Lock::try_now(&path).unwrap().is_none(), "the waiter's lock is the one at the path");
        drop(theirs);
    }
}
