//! Bars and live pictures in a notebook: displays that are updated in place.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jupyter_protocol::{DisplayData, JupyterMessage, Status, Transient, UpdateDisplayData};
use serde_json::Map;

use super::Outbox;
use super::worker::media;
use crate::bar::{Bar, BarState};
use crate::compile::Step;

/// Between two updates of the build's progress.
const UPDATE_EVERY: Duration = Duration::from_millis(500);

/// The bars and live pictures of a cell: each is shown once, and then changed in place.
#[derive(Default)]
pub struct Bars {
    bars: HashMap<u64, String>,
    pictures: HashMap<u64, String>,
}

impl Bars {
    /// Shows a bar, or changes it.
    pub fn show(&mut self, bar: &Bar, outbox: &Outbox, message: &JupyterMessage) {
        let data = BTreeMap::from([("text/plain".to_string(), bar.plain()), ("text/html".to_string(), bar.html())]);
        show_in_place(&mut self.bars, bar.id, &data, outbox, message);
    }

    /// Shows a live picture, or puts it in the place of the one before.
    pub fn show_picture(
        &mut self,
        id: u64,
        data: &BTreeMap<String, String>,
        outbox: &Outbox,
        message: &JupyterMessage,
    ) {
        show_in_place(&mut self.pictures, id, data, outbox, message);
    }
}

fn show_in_place(
    shown: &mut HashMap<u64, String>,
    id: u64,
    data: &BTreeMap<String, String>,
    outbox: &Outbox,
    message: &JupyterMessage,
) {
    let data = media(data);
    match shown.get(&id) {
        Some(id) => outbox.publish(UpdateDisplayData::new(data, id), message),
        None => {
            let display_id = uuid::Uuid::new_v4().to_string();
            let transient = Some(Transient { display_id: Some(display_id.clone()) });
            outbox.publish(DisplayData { data, metadata: Map::new(), transient }, message);
            shown.insert(id, display_id);
        }
    }
}

/// The build's progress, shown in the first cell that waits for it.
#[derive(Default)]
pub struct BuildNote {
    bars: Bars,
    shown_in: Option<JupyterMessage>,
    started: Option<Instant>,
    updated: Option<Instant>,
}

impl BuildNote {
    /// Whether it is time to show how far the build is.
    pub fn is_due(&self) -> bool {
        self.updated.is_none_or(|updated| updated.elapsed() >= UPDATE_EVERY)
    }

    /// Shows how far the build is, in the cell that waits for it first, if one does.
    pub fn show(&mut self, step: &Step, waiting: Option<JupyterMessage>, outbox: &Outbox) {
        let started = *self.started.get_or_insert_with(Instant::now);
        self.updated = Some(Instant::now());
        if self.shown_in.is_none()
            && let Some(message) = waiting
        {
            outbox.publish(Status::busy(), &message);
            self.bars = Bars::default();
            self.shown_in = Some(message);
        }
        if let Some(message) = &self.shown_in {
            let fraction = (step.total > 0).then(|| step.done as f64 / step.total as f64);
            let text = format!(
                "Building the session library (once): {} of {} crates, {} s. {}",
                step.done,
                step.total,
                started.elapsed().as_secs(),
                step.current
            );
            self.bars.show(&Bar { id: 0, text, fraction, state: BarState::Running }, outbox, message);
        }
    }

    /// The cell that it was shown in waits no longer.
    pub fn leave(&mut self, outbox: &Outbox) {
        self.close(outbox, BarState::Stopped, "The build of the session library goes on.");
        self.shown_in = None;
    }

    /// The build is over.
    pub fn end(&mut self, outbox: &Outbox, ok: bool) {
        let seconds = self.started.map_or(0, |started| started.elapsed().as_secs());
        match ok {
            true => {
                self.close(outbox, BarState::Done, &format!("The session library is ready (built in {seconds} s)."))
            }
            false => self.close(outbox, BarState::Stopped, "The session library could not be built."),
        }
    }

    fn close(&mut self, outbox: &Outbox, state: BarState, text: &str) {
        if let Some(message) = &self.shown_in {
            self.bars.show(&Bar { id: 0, text: text.to_string(), fraction: None, state }, outbox, message);
        }
    }
}
