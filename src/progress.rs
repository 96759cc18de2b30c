//! How far a long piece of work is, for those who want to know.

mod bar;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bar::Bar;
pub(crate) use bar::in_notebook;

/// Who is told how far a long piece of work is: whoever looks at the notebook or the terminal ([`Progress::bar`], the
/// default), nobody ([`Progress::quiet`]), or a function ([`Progress::new`]).
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
pub struct Progress(Listener);

#[derive(Clone, Default)]
enum Listener {
    #[default]
    Bar,
    Nobody,
    Function(Arc<Tell>),
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
    /// One bar with rate and time left, drawn anew in place: in candlescope's notebooks and on a terminal, once the work
    /// has taken half a second. Where nobody would see it (another host, a file, CI) it stays quiet.
    pub fn bar() -> Self {
        Self(Listener::Bar)
    }

    /// Tells nobody.
    pub fn quiet() -> Self {
        Self(Listener::Nobody)
    }

    /// Calls a function after each step of the work.
    pub fn new(tell: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self(Listener::Function(Arc::new(tell)))
    }

    /// Begins a piece of work that is counted in `unit`, such as a training loop of your own.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// let meter = Progress::bar().start("training", "steps");
    /// for step in 0..100 {
    ///     // .. one step ..
    ///     meter.at(step + 1, Some((step + 1) as f64 / 100.0));
    /// }
    /// meter.finish(100);
    /// ```
    pub fn start(&self, what: impl Into<String>, unit: &str) -> Meter {
        let ear = match &self.0 {
            Listener::Bar => Ear::Bar(Bar::default()),
            Listener::Nobody => Ear::Nobody,
            Listener::Function(tell) => Ear::Function(tell.clone()),
        };
        Meter { ear, what: Mutex::new(what.into()), unit: unit.to_string(), started: Instant::now() }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Listener::Bar => "Progress as a bar",
            Listener::Nobody => "Progress that is quiet",
            Listener::Function(_) => "Progress that is told",
        })
    }
}

/// One piece of work, while it is done. A bar whose work ends early, by an error or an interrupt, says so.
pub struct Meter {
    ear: Ear,
    what: Mutex<String>,
    unit: String,
    started: Instant,
}

enum Ear {
    Bar(Bar),
    Nobody,
    Function(Arc<Tell>),
}

impl Meter {
    /// So many units are done, and this part of the whole (0 to 1), where the end is known.
    pub fn at(&self, done: usize, fraction: Option<f64>) {
        self.tell(done, fraction, false);
    }

    /// What is being done, from here on.
    pub fn rename(&self, what: impl Into<String>) {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// All is done, so many units.
    pub fn finish(&self, done: usize) {
        self.tell(done, Some(1.0), true);
    }

    fn tell(&self, done: usize, fraction: Option<f64>, finished: bool) {
        let step = || {
            let what = self.what.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let unit = self.unit.clone();
            Step { what, done, unit, fraction, elapsed: self.started.elapsed(), finished }
        };
        match &self.ear {
            Ear::Nobody => {}
            Ear::Bar(bar) if bar.is_due(self.started, finished) => bar.show(&step()),
            Ear::Bar(_) => {}
            Ear::Function(tell) => tell(&step()),
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
