//! Running cargo on the session library's template, with its progress and its failures in plain words.

use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::compiler;
use crate::toolchain::{Linker, Toolchain};

/// How far the build is.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Crates (and their build scripts) done.
    pub done: u64,
    pub total: u64,
    /// The crates being compiled.
    pub current: String,
}

/// Builds the package in `folder` just as evcxr will: same profile, target, flags and folders.
pub fn run(toolchain: &Toolchain, linker: Linker, folder: &Path, tell: &mut dyn FnMut(&Step)) -> Result<()> {
    let mut cargo = Command::new(&toolchain.cargo);
    Toolchain::restore(&mut cargo);
    compiler::wrap(&mut cargo, &std::env::current_exe().context("candlescope can't find its own program file")?);
    let mut child = cargo
        .args(["build", "--target", &toolchain.host])
        .env(compiler::RECORDS, folder)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", "target")
        .env("CARGO_BUILD_BUILD_DIR", "target")
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTFLAGS", linker.flags())
        // Cargo draws its progress bar into the pipe, where it is read.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "120")
        .env("CARGO_TERM_COLOR", "never")
        .env("CARGO_TERM_QUIET", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} can't be started", toolchain.cargo.display()))?;
    let mut said = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        for_each_line(stderr, |line| match progress(line) {
            Some(step) => tell(&step),
            None => {
                if said.len() == 60 {
                    said.pop_front();
                }
                said.push_back(line.to_string());
            }
        });
    }
    let status = child.wait().context("cargo can't be waited for")?;
    if status.success() {
        return Ok(());
    }
    if status.code().is_none() {
        bail!("the build of the session library was stopped from outside ({status}); try again");
    }
    bail!("{}", explain(&Vec::from(said).join("\n"), folder));
}

/// Lines end with a newline or, as progress bars do, with a carriage return.
fn for_each_line(from: impl Read, mut each: impl FnMut(&str)) {
    let mut line = Vec::new();
    for byte in BufReader::new(from).bytes() {
        match byte {
            Ok(b'\n' | b'\r') => {
                let text = String::from_utf8_lossy(&line);
                if !text.trim().is_empty() {
                    each(text.trim_end());
                }
                line.clear();
            }
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    if !line.is_empty() {
        each(&String::from_utf8_lossy(&line));
    }
}

/// Reads cargo's bar: `Building [====>    ] 12/160: candle-core, gemm`.
fn progress(line: &str) -> Option<Step> {
    let rest = line.trim_start().strip_prefix("Building [")?;
    let (_, counts) = rest.split_once(']')?;
    let (counts, current) = counts.split_once(':').unwrap_or((counts, ""));
    let (done, total) = counts.trim().split_once('/')?;
    Some(Step {
        done: done.trim().parse().ok()?,
        total: total.trim().parse().ok()?,
        current: current.trim().to_string(),
    })
}

/// What cargo said, with what to do about it in front where that is known.
fn explain(said: &str, folder: &Path) -> String {
    let known = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    let advice = if known(&["No space left on device", "os error 112"]) {
        format!(
            "the disk is full: the session library needs about 2 GB in {}; free some space and try again",
            folder.display()
        )
    } else if known(&[
        "Could not resolve host",
        "Couldn't resolve host",
        "failed to download",
        "Could not connect",
        "failed to fetch",
        "spurious network error",
        "Unable to update registry",
    ]) {
        "crates could not be downloaded: the first build needs the network (later ones do not); see that it is there, and try again".to_string()
    } else if known(&["linker `cc` not found", "linker `link.exe` not found"]) {
        "there is no linker: install your system's C compiler (such as gcc, clang, Xcode's or Visual Studio's build tools)".to_string()
    } else if known(&["no such command", "is not a `cargo` command"]) {
        "cargo does not work; install Rust with rustup".to_string()
    } else {
        "the session library could not be built".to_string()
    };
    format!("{advice}\n\nCargo said:\n{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_bar_is_read() {
        let step = progress("    Building [=====>         ] 12/160: candle-core, gemm(build)").unwrap();
        assert_eq!(step, Step { done: 12, total: 160, current: "candle-core, gemm(build)".to_string() });
        assert_eq!(progress("   Compiling candle-core v0.11.1"), None);
    }

    #[test]
    fn lines_end_with_either_return() {
        let mut lines = Vec::new();
        for_each_line(&b"one\rtwo\n\n\rthree"[..], |line| lines.push(line.to_string()));
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_full_disk_is_named() {
        let text = explain("error: failed to write: No space left on device (os error 28)", Path::new("/cache"));
        assert!(text.starts_with("the disk is full"), "{text}");
        assert!(explain("error: Could not resolve host: x", Path::new("/")).contains("network"));
    }
}
