//! A picture that is drawn anew while something goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Show;

/// Between two drawings.
const DRAW_EVERY: Duration = Duration::from_secs(1);

static PICTURES: AtomicU64 = AtomicU64::new(1);

/// One display that changes in place: in candlescope's notebooks a value is drawn anew as often as once a second. Where
/// that is not possible (another host, a terminal, a file) the last state alone is shown.
///
/// ```
/// use candlescope::prelude::*;
/// let mut live = Live::new();
/// let mut losses: Vec<f32> = Vec::new();
/// for step in 0..50 {
///     losses.push(1.0 / (1.0 + step as f32)); // .. some work ..
///     live.update(&LineChart::new().series("loss", losses.iter().copied()));
/// }
/// live.finish(&LineChart::new().series("loss", losses));
/// ```
#[derive(Debug)]
pub struct Live {
    id: u64,
    drawn: Option<Instant>,
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

impl Live {
    /// A display that shows nothing yet.
    pub fn new() -> Self {
        Self { id: PICTURES.fetch_add(1, Ordering::Relaxed), drawn: None }
    }

    /// Draws the value as it is now, unless it was drawn just before.
    pub fn update(&mut self, value: &impl Show) {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_EVERY);
        if due && crate::progress::in_notebook() {
            value.bundle().print_live(self.id, false);
            self.drawn = Some(Instant::now());
        }
    }

    /// Draws the value as it stays.
    pub fn finish(&mut self, value: &impl Show) {
        match crate::progress::in_notebook() {
            true => value.bundle().print_live(self.id, true),
            false => value.evcxr_display(),
        }
    }
}
