//! One file from the hub: with progress, and stopped by an interrupt even when the network is silent.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use hf_hub::api::sync::{ApiError, ApiRepo};

use crate::{Error, Progress, Result, interrupt};

/// How often the waiting side looks up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Fetches one file into the cache; the outer error is an interrupt. What was fetched until then stays in the cache, and the
/// next download goes on from there.
pub(super) fn download(
    api: &Arc<ApiRepo>,
    path: &str,
    progress: &Progress,
) -> Result<std::result::Result<PathBuf, ApiError>> {
    let told = Arc::new(Told::default());
    let meter = progress.start(format!("downloading {path}"), "MB");
    let (worker_api, worker_path, worker_told) = (api.clone(), path.to_string(), told.clone());
    let fetched = waiting(
        move || worker_api.download_with_progress(&worker_path, Ear(worker_told)),
        || {
            let (done, total) = (told.done.load(Ordering::Relaxed), told.total.load(Ordering::Relaxed));
            let fraction = (total > 0).then(|| (done as f64 / total as f64).min(1.0));
            meter.at((done >> 20) as usize, fraction);
        },
    );
    match &fetched {
        Ok(Ok(_)) => meter.finish((told.done.load(Ordering::Relaxed) >> 20) as usize),
        _ => told.stop.store(true, Ordering::Relaxed),
    }
    fetched
}

/// Does something on a thread of its own, and waits for it unless an interrupt comes first. `look` is called meanwhile.
pub(crate) fn waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, look: impl Fn()) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // A worker that was told to stop unwinds; nobody waits for it any more.
        if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
            let _ = sender.send(result);
        }
    });
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                interrupt::check()?;
                look();
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::msg("the download failed inside of the crate that does it; try again"));
            }
        }
    }
}

/// What the two sides know of the download.
#[derive(Default)]
struct Told {
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
}

struct Ear(Arc<Told>);

impl hf_hub::api::Progress for Ear {
    fn init(&mut self, size: usize, _: &str) {
        self.0.total.store(size as u64, Ordering::Relaxed);
        self.0.done.store(0, Ordering::Relaxed);
    }

    fn update(&mut self, size: usize) {
        self.0.done.fetch_add(size as u64, Ordering::Relaxed);
        // hf-hub has no other way to end early. Where a panic would end the program, the download runs on unheard.
        if cfg!(panic = "unwind") && self.0.stop.load(Ordering::Relaxed) {
            resume_unwind(Box::new("the download was stopped"));
        }
    }

    fn finish(&mut self) {}
}
