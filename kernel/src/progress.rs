//! Progress in a terminal: a bar for the build (or a line every few seconds where the output is not a terminal), and one for
//! the work of a cell.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::bar::{Bar, BarState};
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

/// The bar of a cell's work, on standard error; nothing where that is not a terminal.
#[derive(Default)]
pub struct CellBar(Option<ProgressBar>);

impl CellBar {
    pub fn show(&mut self, bar: &Bar) {
        if bar.state != BarState::Running {
            return self.clear();
        }
        if std::io::stderr().is_terminal() {
            let shown = self.0.get_or_insert_with(|| drawn_as(1000, "{bar:24} {wide_msg}"));
            shown.set_position((bar.fraction.unwrap_or(0.0) * 1000.0) as u64);
            shown.set_message(bar.text.clone());
        }
    }

    /// Takes the bar away, for whatever else is to be written.
    pub fn clear(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
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
            let look = "{bar:40} {pos}/{len} crates, {elapsed}  {wide_msg}";
            let bar = self.bar.get_or_insert_with(|| drawn_as(step.total, look));
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

fn drawn_as(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
