//! Stopping long work from outside, so that everything that was there before it is kept.
//!
//! Forward passes, sweeps, generation, loading, downloads and training look at one switch, often. When it is on, they return
//! [`Error::Interrupted`] at the next activation, run or tensor; nothing else changes. The button of a notebook turns it on
//! for the running cell. Code of your own listens by calling [`check`]:
//!
//! ```
//! use candlescope::prelude::*;
//! # fn main() -> candlescope::Result<()> {
//! for step in 0..1000 {
//!     interrupt::check()?;
//!     // .. something that takes its time ..
//! }
//! # Ok(()) }
//! ```
//!
//! In a program without a notebook, [`request`] turns the switch on from another thread or from a handler of Ctrl-C, and
//! [`clear`] turns it off again before the next piece of work.

use std::fs::OpenOptions;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::{MmapMut, MmapOptions};

use crate::{Error, Result};

/// Names the file whose first byte is the switch; candlescope's kernel sets it for the process that runs the cells.
const FILE: &str = "CANDLESCOPE_INTERRUPT";

/// What the switch says. The kernel writes the first two, and reads the third.
const OFF: u8 = 0;
const ON: u8 = 1;
/// It is on, and some work has stopped because of it.
const HEARD: u8 = 2;

/// Goes on, or stops the caller with an error when an interrupt was requested. It costs as much as reading a variable.
///
/// # Errors
/// [`Error::Interrupted`] from the request until the switch is cleared (which a notebook does before each cell).
pub fn check() -> Result<()> {
    let switch = &*SWITCH;
    if switch.load(Ordering::Relaxed) == OFF {
        return Ok(());
    }
    switch.store(HEARD, Ordering::Relaxed);
    Err(Error::Interrupted)
}

/// Asks all work of this library in this process to stop.
pub fn request() {
    SWITCH.store(ON, Ordering::Relaxed);
}

/// Lets work go on again.
pub fn clear() {
    SWITCH.store(OFF, Ordering::Relaxed);
}

static SWITCH: LazyLock<&'static AtomicU8> = LazyLock::new(|| shared().unwrap_or(&OWN));
/// The switch where no kernel gave one.
static OWN: AtomicU8 = AtomicU8::new(OFF);

/// The kernel's switch. A file in memory works the same on every system, and needs neither a thread nor a signal.
fn shared() -> Option<&'static AtomicU8> {
    let path = std::env::var_os(FILE)?;
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    // SAFETY: The kernel makes this file of one byte, and neither shortens nor removes it while this process lives.
    let map = unsafe { MmapOptions::new().len(1).map_mut(&file) }.ok()?;
    let map: &'static mut MmapMut = Box::leak(Box::new(map));
    // SAFETY: The byte stays mapped for ever, and is touched through this atomic only.
    Some(unsafe { AtomicU8::from_ptr(map.as_mut_ptr()) })
}
