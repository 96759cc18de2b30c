//! The cases that were timed, as a table or as JSON.

use std::path::PathBuf;
use std::time::Instant;

use candlescope::Result;

use super::machine::{bandwidth, forget_peak, peak};

/// Times cases, and prints each as it is done.
pub struct Cases {
    rounds: usize,
    json: bool,
    bandwidth: f64,
    /// A model of the person's own, for the cases that need one.
    pub folder: Option<PathBuf>,
    /// Where pictures go.
    pub plots: Option<PathBuf>,
}

/// What a case took: medians, and the largest peak of memory.
#[derive(Clone, Copy)]
pub struct Measured {
    pub seconds: f64,
    pub floor: f64,
    pub peak: Option<u64>,
}

impl Cases {
    pub fn new(rounds: usize, json: bool, [folder, plots]: [Option<PathBuf>; 2]) -> Self {
        let bandwidth = bandwidth();
        if !json {
            let threads = candlescope::candle_core::utils::get_num_threads();
            println!("{threads} threads, memory read at {:.1} GB/s, medians of {rounds} rounds", bandwidth / 1e9);
            println!("{:44} {:>11} {:>11} {:>7} {:>9}", "case", "time", "floor", "ratio", "peak");
        }
        Self { rounds, json, bandwidth, folder, plots }
    }

    /// The seconds that it takes to read so many bytes from memory.
    pub fn reading(&self, bytes: usize) -> f64 {
        bytes as f64 / self.bandwidth
    }

    /// Times a case against a floor, by turns, so that both see the same machine.
    pub fn case(
        &mut self,
        name: &str,
        mut run: impl FnMut() -> Result<()>,
        mut floor: impl FnMut() -> Result<f64>,
    ) -> Result<Measured> {
        self.timed(name, || {
            let started = Instant::now();
            run()?;
            Ok((started.elapsed().as_secs_f64(), floor()?))
        })
    }

    /// As [`case`](Self::case), where a round says itself how long it and its floor took.
    pub fn timed(&mut self, name: &str, mut round: impl FnMut() -> Result<(f64, f64)>) -> Result<Measured> {
        round()?;
        forget_peak();
        self.timed_with_peak(name, || round().map(|(time, floor)| (time, floor, Some(peak()))))
    }

    /// As [`timed`](Self::timed), where a round says its peak of memory as well.
    pub fn timed_with_peak(
        &mut self,
        name: &str,
        mut round: impl FnMut() -> Result<(f64, f64, Option<u64>)>,
    ) -> Result<Measured> {
        let (mut times, mut floors, mut most) = (Vec::new(), Vec::new(), None);
        for _ in 0..self.rounds {
            let (time, floor, peak) = round()?;
            times.push(time);
            floors.push(floor);
            most = most.max(peak);
        }
        let measured = Measured { seconds: median(times), floor: median(floors), peak: most };
        self.print(name, measured);
        Ok(measured)
    }

    fn print(&self, name: &str, Measured { seconds, floor, peak }: Measured) {
        let ratio = seconds / floor;
        if self.json {
            let peak = peak.map_or("null".to_string(), |peak| peak.to_string());
            println!(
                "{{\"case\": \"{name}\", \"seconds\": {seconds:.6}, \"floor\": {floor:.6}, \"ratio\": {ratio:.3}, \"peak_bytes\": {peak}}}"
            );
            return;
        }
        let peak = peak.map_or("-".to_string(), |peak| format!("{:.0} MB", peak as f64 / 1e6));
        println!("{name:44} {:>11} {:>11} {ratio:>7.2} {peak:>9}", shown(seconds), shown(floor));
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn shown(seconds: f64) -> String {
    match seconds {
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 0.01 => format!("{:.1} ms", s * 1e3),
        s => format!("{:.1} us", s * 1e6),
    }
}
