//! Progress where somebody looks: a bar in candlescope's notebooks, or on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Step;

/// Set by candlescope's kernel for the process that runs the cells: it understands the mime type below.
const KERNEL: &str = "CANDLESCOPE_KERNEL";
/// What a notebook's bar is sent as, between evcxr's markers: an id, a line of text, the part that is done, and the state.
const MIME: &str = "candlescope/progress";

/// Shorter work shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two drawings.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The bar of one piece of work; nothing is drawn before the work has taken a while.
#[derive(Default)]
pub(super) struct Bar(Mutex<Drawn>);

#[derive(Default)]
struct Drawn {
    bar: Option<Place>,
    /// The last drawing.
    at: Option<Instant>,
    text: String,
    fraction: Option<f64>,
    finished: bool,
}

/// Where the bar is.
enum Place {
    Notebook { id: u64 },
    Terminal(ProgressBar),
}

/// Where bars go in this process.
#[derive(Clone, Copy, PartialEq)]
enum Viewer {
    Notebook,
    Terminal,
    Nobody,
}

static VIEWER: LazyLock<Viewer> = LazyLock::new(|| {
    if std::env::var_os(KERNEL).is_some() {
        Viewer::Notebook
    } else if std::io::stderr().is_terminal() {
        Viewer::Terminal
    } else {
        Viewer::Nobody
    }
});

/// Whether some bar is being drawn: work inside of work shows none.
static DRAWING: AtomicBool = AtomicBool::new(false);
static BARS: AtomicU64 = AtomicU64::new(1);

/// Whether the kernel that runs this process understands what is sent here.
pub(crate) fn in_notebook() -> bool {
    *VIEWER == Viewer::Notebook
}

impl Bar {
    /// Whether a step of work that began at `started` would be seen.
    pub(super) fn is_due(&self, started: Instant, finished: bool) -> bool {
        if *VIEWER == Viewer::Nobody {
            return false;
        }
        let drawn = self.drawn();
        match drawn.at {
            Some(at) => finished || at.elapsed() >= DRAW_EVERY,
            None => !finished && started.elapsed() >= PATIENCE,
        }
    }

    pub(super) fn show(&self, step: &Step) {
        let mut drawn = self.drawn();
        if drawn.bar.is_none() {
            if DRAWING.swap(true, Ordering::SeqCst) {
                return;
            }
            drawn.bar = Some(match *VIEWER {
                Viewer::Notebook => Place::Notebook { id: BARS.fetch_add(1, Ordering::SeqCst) },
                _ => Place::Terminal(terminal_bar()),
            });
        }
        drawn.at = Some(Instant::now());
        drawn.text = step.to_string();
        drawn.fraction = step.fraction;
        drawn.finished = step.finished;
        drawn.draw();
    }

    fn drawn(&self) -> MutexGuard<'_, Drawn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drawn {
    fn draw(&self) {
        match &self.bar {
            Some(Place::Notebook { id }) => {
                let state = if self.finished { "done" } else { "running" };
                send(*id, &self.text, self.fraction, state);
            }
            Some(Place::Terminal(bar)) => {
                bar.set_position((self.fraction.unwrap_or(0.0) * 1000.0) as u64);
                bar.set_message(self.text.clone());
            }
            None => {}
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let drawn = self.drawn();
        match &drawn.bar {
            Some(Place::Notebook { id }) if !drawn.finished => {
                // How long the rest would have taken is of no interest any more.
                let done = match drawn.text.rsplit_once(", ") {
                    Some((done, left)) if left.ends_with(" left") => done,
                    _ => &drawn.text,
                };
                send(*id, &format!("{done}, stopped"), drawn.fraction, "stopped");
            }
            Some(Place::Terminal(bar)) => bar.finish_and_clear(),
            _ => {}
        }
        if drawn.bar.is_some() {
            DRAWING.store(false, Ordering::SeqCst);
        }
    }
}

fn terminal_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1000).with_style(style)
}

/// One message to the kernel, in one piece, so that what other threads print stays outside of it.
fn send(id: u64, text: &str, fraction: Option<f64>, state: &str) {
    let content = json!({ "id": id, "text": text, "fraction": fraction, "state": state });
    let message = format!("EVCXR_BEGIN_CONTENT {MIME}\n{content}\nEVCXR_END_CONTENT\n");
    let mut out = std::io::stdout().lock();
    // A kernel that is gone has nobody left to tell.
    let _ = out.write_all(message.as_bytes()).and_then(|()| out.flush());
}
