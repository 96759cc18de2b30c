//! Interrupting a cell. First the library in the cell's process is asked to stop, which keeps every variable; a cell that does
//! not listen is ended with its process when the person asks again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// Names the switch's file to the relay, the compiler and the process that runs the cells.
pub const FILE: &str = "CANDLESCOPE_INTERRUPT";

/// A request that follows the first one sooner is the same request (a double click), not a second one.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// Whether the cell shall stop: the first byte of a file that the library in the cell's process has mapped into memory. That
/// works the same on every system, and costs the library next to nothing.
#[derive(Debug)]
pub struct Switch {
    file: Mutex<File>,
    path: PathBuf,
}

/// What the switch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Off = 0,
    On = 1,
    /// It is on, and something stopped because of it.
    Heard = 2,
}

impl Switch {
    pub fn create(path: PathBuf) -> Result<Self> {
        std::fs::write(&path, [State::Off as u8]).with_context(|| format!("{} can't be written", path.display()))?;
        Self::open(path)
    }

    /// The switch that the environment names, if it names one.
    pub fn from_environment() -> Option<Self> {
        Self::open(PathBuf::from(std::env::var_os(FILE)?)).ok()
    }

    fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = Mutex::new(file.with_context(|| format!("{} can't be opened", path.display()))?);
        Ok(Self { file, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn set(&self, state: State) -> Result<()> {
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&[state as u8])).context("the cell can't be reached")
    }

    pub fn state(&self) -> State {
        let mut file = lock(&self.file);
        let mut byte = [0];
        match file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut byte)) {
            Ok(()) if byte[0] == State::On as u8 => State::On,
            Ok(()) if byte[0] == State::Heard as u8 => State::Heard,
            _ => State::Off,
        }
    }
}

/// Interrupts the running cell from another thread.
#[derive(Debug, Clone)]
pub struct Interrupter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    switch: Switch,
    child: Arc<Mutex<Child>>,
    /// Whether the cell's code runs; before that it is being compiled.
    running: AtomicBool,
    /// When the first request for this cell came.
    asked: Mutex<Option<Instant>>,
    killed: AtomicBool,
}

impl Interrupter {
    pub fn new(switch: Switch, child: Arc<Mutex<Child>>) -> Self {
        let (running, asked, killed) = Default::default();
        Self(Arc::new(Inner { switch, child, running, asked, killed }))
    }

    /// Asks the cell to stop; the second request ends its process.
    pub fn interrupt(&self) -> Result<()> {
        let mut asked = lock(&self.0.asked);
        match *asked {
            None => {
                *asked = Some(Instant::now());
                self.0.switch.set(State::On)
            }
            // The compiler listens, and nothing is lost with it.
            Some(first) if first.elapsed() < SAME_REQUEST || !self.0.running.load(Ordering::SeqCst) => Ok(()),
            Some(_) => self.kill(),
        }
    }

    /// Ends the cell's process, and with it all variables.
    pub fn kill(&self) -> Result<()> {
        self.0.killed.store(true, Ordering::SeqCst);
        let mut child = self.0.child.lock().map_err(|_| anyhow!("the cell's process can't be reached"))?;
        child.kill().context("the cell's process can't be ended")
    }

    /// A new cell begins.
    pub(crate) fn begin(&self) -> Result<()> {
        *lock(&self.0.asked) = None;
        self.0.killed.store(false, Ordering::SeqCst);
        self.runs(false);
        self.0.switch.set(State::Off)
    }

    /// The cell is compiled, and runs; or it is over.
    pub(crate) fn runs(&self, running: bool) {
        self.0.running.store(running, Ordering::SeqCst);
    }

    /// For how long the running cell has not listened to a request.
    pub(crate) fn unheard(&self) -> Option<Duration> {
        let asked = (*lock(&self.0.asked))?;
        let deaf = self.0.running.load(Ordering::SeqCst) && self.0.switch.state() == State::On;
        deaf.then(|| asked.elapsed())
    }

    /// Whether something stopped because of a request.
    pub(crate) fn was_heard(&self) -> bool {
        self.0.switch.state() == State::Heard
    }

    /// Whether the person wanted this cell to stop.
    pub(crate) fn was_asked(&self) -> bool {
        lock(&self.0.asked).is_some()
    }

    pub(crate) fn was_killed(&self) -> bool {
        self.0.killed.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_one_byte_that_others_see() {
        let folder = tempfile::tempdir().unwrap();
        let switch = Switch::create(folder.path().join("switch")).unwrap();
        assert_eq!(switch.state(), State::Off);
        let other = Switch::open(switch.path().to_path_buf()).unwrap();
        other.set(State::On).unwrap();
        assert_eq!(switch.state(), State::On);
        switch.set(State::Heard).unwrap();
        assert_eq!(other.state(), State::Heard);
        assert_eq!(std::fs::metadata(switch.path()).unwrap().len(), 1, "a mapped file must not change its length");
    }

    #[cfg(unix)]
    #[test]
    fn only_a_second_request_ends_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let switch = Switch::create(folder.path().join("switch")).unwrap();
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let child = Arc::new(Mutex::new(child));
        let interrupter = Interrupter::new(switch, child.clone());
        let alive = || child.lock().unwrap().try_wait().unwrap().is_none();

        interrupter.begin().unwrap();
        interrupter.interrupt().unwrap();
        interrupter.interrupt().unwrap();
        assert!(alive() && interrupter.unheard().is_none(), "while it is compiled, nothing is lost");
        interrupter.runs(true);
        assert!(interrupter.unheard().is_some());
        interrupter.interrupt().unwrap();
        assert!(alive(), "a double click is one request");
        std::thread::sleep(SAME_REQUEST);
        interrupter.interrupt().unwrap();
        assert!(interrupter.was_killed());
        child.lock().unwrap().wait().unwrap();
    }
}
