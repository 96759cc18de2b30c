//! The build's progress in a terminal: a bar, or a line every few seconds where the output is not a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::compile::Step;
use crate::library::Library;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Builds the session library, if there is anything to build, and says so on standard error.
pub fn build(library: &Library) -> Result<()> {
    let started = Instant::now();
    let mut reporter = Reporter { started, last: None, bar: None };
    let result = library.build(&mut |step| reporter.show(step));
    reporter.close(result.is_ok());
    result
}

struct Reporter {
    started: Instant,
    last: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Reporter {
    fn show(&mut self, step: &Step) {
        if self.last.is_none() {
            eprintln!("Building the session library (once; some minutes the first time, seconds after an update).");
        }
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{bar:40} {pos}/{len} crates, {elapsed}  {wide_msg}");
                ProgressBar::new(step.total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_length(step.total);
            bar.set_position(step.done);
            bar.set_message(step.current.clone());
            self.last = Some(Instant::now());
        } else if self.last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            let seconds = self.started.elapsed().as_secs();
            eprintln!("  {}/{} crates, {seconds} s: {}", step.done, step.total, step.current);
            self.last = Some(Instant::now());
        }
    }

    fn close(&self, ok: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if ok && self.last.is_some() {
            eprintln!("The session library is ready ({} s).", self.started.elapsed().as_secs());
        }
    }
}
