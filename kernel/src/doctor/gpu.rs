//! Whether there is a GPU that candlescope can use.

use std::path::Path;
use std::time::Duration;

use super::Check;
use crate::programs::{self, Answer};

/// The driver may have to wake the GPU.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// candle uses NVIDIA's GPUs on Linux and Windows, and Apple's.
pub fn check() -> Check {
    if cfg!(target_os = "macos") {
        return Check::ok("GPU", "Metal: `candlescope install --features metal` builds for it");
    }
    let names = programs::find("nvidia-smi").and_then(|program| gpus(&program));
    let nvcc = programs::find("nvcc").map(|nvcc| match programs::ask(&nvcc, &["--version"], ANSWERS_WITHIN) {
        Answer::Said(text) => release(&text),
        Answer::Failed(_) | Answer::Slow => "that does not tell its version".to_string(),
    });
    judge(names.as_deref(), nvcc.as_deref())
}

/// The names of NVIDIA's GPUs, if there are any and the driver works.
fn gpus(nvidia_smi: &Path) -> Option<String> {
    let question = ["--query-gpu=name", "--format=csv,noheader"];
    match programs::ask(nvidia_smi, &question, ANSWERS_WITHIN) {
        Answer::Said(names) if !names.is_empty() => Some(names.lines().map(str::trim).collect::<Vec<_>>().join(", ")),
        _ => None,
    }
}

/// Out of nvcc's lines: `Cuda compilation tools, release 12.4, V12.4.131`.
fn release(text: &str) -> String {
    let release = text.split("release ").nth(1).and_then(|rest| rest.split([',', '\n']).next());
    release.unwrap_or("of an unknown version").to_string()
}

fn judge(names: Option<&str>, nvcc: Option<&str>) -> Check {
    match (names, nvcc) {
        (None, _) => Check::ok("GPU", "none found: the CPU is used"),
        (Some(names), Some(release)) => {
            Check::ok("GPU", format!("{names}, nvcc {release}: `candlescope install --features cuda` builds for it"))
        }
        (Some(names), None) => Check::note(
            "GPU",
            format!("{names}, but no `nvcc` on the PATH: the CPU is used"),
            "install NVIDIA's CUDA toolkit, and run `candlescope install --features cuda`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_gpu_needs_its_compiler() {
        assert_eq!(judge(None, Some("12.4")).found, "none found: the CPU is used");
        assert!(judge(Some("H100"), Some("12.4")).found.starts_with("H100, nvcc 12.4:"));
        assert_eq!(judge(Some("H100"), None).mark, Mark::Note);
    }

    #[test]
    fn nvccs_release_is_read() {
        let text = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.4, V12.4.131\nBuild 1\n";
        assert_eq!(release(text), "12.4");
        assert_eq!(release("?"), "of an unknown version");
    }
}
