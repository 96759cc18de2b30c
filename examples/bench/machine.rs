//! What the machine can do, and how much memory is in use.

use std::time::Instant;

use peak_alloc::PeakAlloc;

/// The bytes that can be read from memory in a second, all cores together: the best of a few sweeps over 512 MB.
pub fn bandwidth() -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let numbers = vec![1.0f32; 1 << 27];
    let mut best = 0.0f64;
    for _ in 0..5 {
        let started = Instant::now();
        let sum: f32 = std::thread::scope(|scope| {
            let parts: Vec<_> =
                numbers.chunks(numbers.len().div_ceil(threads)).map(|part| scope.spawn(|| sum(part))).collect();
            parts.into_iter().map(|part| part.join().unwrap_or(f32::NAN)).sum()
        });
        assert!(sum > 0.0, "the sum keeps the reads from being left out");
        best = best.max((numbers.len() * 4) as f64 / started.elapsed().as_secs_f64());
    }
    best
}

fn sum(numbers: &[f32]) -> f32 {
    let mut sums = [0f32; 64];
    for part in numbers.chunks_exact(64) {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().sum()
}

/// Counts what is allocated. (What the system says of memory in use is no measure of a case: what was freed is kept.)
#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// Begins to count the peak of memory anew.
pub fn forget_peak() {
    COUNTED.reset_peak_usage();
}

/// The most bytes that were allocated at once since then.
pub fn peak() -> u64 {
    COUNTED.peak_usage() as u64
}

/// The peak of resident memory of this process in bytes, where the system tells it (Linux).
pub fn resident_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
