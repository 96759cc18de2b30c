//! How far a long piece of work is, for those who want to know.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who is told how far a long piece of work is: nobody ([`Progress::quiet`], the default), a line that is written anew
/// ([`Progress::line`]), or a function ([`Progress::new`]).
///
/// ```
/// use candlescope::prelude::*;
/// # fn main() -> candlescope::Result<()> {
/// let model = HookedTransformer::from_pretrained("tiny")?;
/// let told = Progress::new(|step| assert!(step.fraction.is_none_or(|part| part <= 1.0)));
/// model.over(["John gave a book to Mary.", "Mary went home."]).progress(&told).loss()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Progress {
    tell: Option<Arc<Tell>>,
}

type Tell = dyn Fn(&Step) + Send + Sync;

/// How far a piece of work is.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is being done.
    pub what: String,
    /// How many units are done.
    pub done: usize,
    /// What is counted: "tokens", "runs".
    pub unit: String,
    /// The part of the work that is done, from 0 to 1, where the end is known.
    pub fraction: Option<f64>,
    /// The time since it began.
    pub elapsed: Duration,
    /// Whether nothing is left.
    pub finished: bool,
}

impl Step {
    /// Units per second so far.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The time that the rest will take at this rate, where the end is known.
    pub fn left(&self) -> Option<Duration> {
        let fraction = self.fraction.filter(|part| *part > 0.0)?;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * (1.0 - fraction).max(0.0) / fraction).ok()
    }
}

/// `loss: 12000 tokens, 40 %, 3000 tokens/s, 6 s left`
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.what, self.done, self.unit)?;
        if let Some(fraction) = self.fraction.filter(|_| !self.finished) {
            write!(f, ", {:.0} %", fraction * 100.0)?;
        }
        let rate = self.rate();
        let digits = usize::from(rate < 10.0);
        write!(f, ", {rate:.digits$} {}/s", self.unit)?;
        match self.left() {
            _ if self.finished => write!(f, ", done in {:.1} s", self.elapsed.as_secs_f64()),
            Some(left) => write!(f, ", {:.0} s left", left.as_secs_f64()),
            None => Ok(()),
        }
    }
}

impl Progress {
    /// Tells nobody.
    pub fn quiet() -> Self {
        Self::default()
    }

    /// Writes one line on standard error, anew about five times a second; notebooks and terminals show it in place.
    pub fn line() -> Self {
        let last: Mutex<Option<Instant>> = Mutex::new(None);
        Self::new(move |step| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if step.finished || last.is_none_or(|last| last.elapsed() >= Duration::from_millis(200)) {
                *last = (!step.finished).then(Instant::now);
                let end = if step.finished { "\n" } else { "" };
                // A closed standard error has no reader left to tell.
                let _ = write!(std::io::stderr().lock(), "\r{:<78}{end}", step.to_string());
            }
        })
    }

    /// Calls a function after each step of the work.
    pub fn new(tell: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self { tell: Some(Arc::new(tell)) }
    }

    /// Begins a piece of work that is counted in `unit`.
    pub(crate) fn start(&self, what: impl Into<String>, unit: &str) -> Meter {
        Meter { progress: self.clone(), what: what.into(), unit: unit.to_string(), started: Instant::now() }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tell.is_some() { "Progress that is told" } else { "Progress that is quiet" })
    }
}

/// One piece of work, while it is done.
pub(crate) struct Meter {
    progress: Progress,
    what: String,
    unit: String,
    started: Instant,
}

impl Meter {
    /// So much is done.
    pub(crate) fn at(&self, done: usize, fraction: Option<f64>) {
        self.tell(done, fraction, false);
    }

    /// All is done.
    pub(crate) fn finish(&self, done: usize) {
        self.tell(done, Some(1.0), true);
    }

    fn tell(&self, done: usize, fraction: Option<f64>, finished: bool) {
        if let Some(tell) = &self.progress.tell {
            let (what, unit) = (self.what.clone(), self.unit.clone());
            tell(&Step { what, done, unit, fraction, elapsed: self.started.elapsed(), finished });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(fraction: Option<f64>, finished: bool) -> Step {
        let elapsed = Duration::from_secs(4);
        Step { what: "loss".into(), done: 12_000, unit: "tokens".into(), fraction, elapsed, finished }
    }

    #[test]
    fn a_step_says_rate_and_time_left() {
        assert_eq!(step(Some(0.4), false).to_string(), "loss: 12000 tokens, 40 %, 3000 tokens/s, 6 s left");
        assert_eq!(step(None, false).to_string(), "loss: 12000 tokens, 3000 tokens/s");
        assert_eq!(step(Some(1.0), true).to_string(), "loss: 12000 tokens, 3000 tokens/s, done in 4.0 s");
        assert_eq!(step(Some(0.0), false).left(), None);
    }

    #[test]
    fn a_function_hears_every_step() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = heard.clone();
        let progress = Progress::new(move |step| ears.lock().unwrap().push((step.done, step.finished)));
        let meter = progress.start("work", "runs");
        meter.at(1, Some(0.5));
        meter.finish(2);
        assert_eq!(*heard.lock().unwrap(), [(1, false), (2, true)]);
        Progress::quiet().start("work", "runs").at(1, None);
    }
}
