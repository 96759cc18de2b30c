//! Whether the Rust toolchain is there, new enough, and whole.

use std::time::Duration;

use super::Check;
use crate::programs::{self, Answer};
use crate::toolchain::Toolchain;

/// The oldest Rust that candlescope is written for.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The toolchain, and the shared standard library that cells link.
pub fn check(toolchain: &Toolchain) -> Vec<Check> {
    vec![compiler(toolchain), cargo(toolchain), standard_library(toolchain), source(toolchain)]
}

/// What to say when there is no toolchain.
pub fn missing(error: &anyhow::Error) -> Check {
    Check::problem("rustc", "no Rust toolchain that works was found", format!("{error:#}"))
}

/// The numbers of a version such as `1.95.0-nightly`.
pub fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The version that `rustc -Vv` names.
pub fn release(toolchain: &Toolchain) -> &str {
    toolchain.version.lines().find_map(|line| line.strip_prefix("release: ")).unwrap_or("of an unknown version")
}

fn compiler(toolchain: &Toolchain) -> Check {
    let release = release(toolchain);
    let found = format!("rustc {release} for {} ({})", toolchain.host, toolchain.rustc.display());
    if is_new_enough(release) {
        Check::ok("rustc", found)
    } else {
        Check::problem("rustc", found, format!("candlescope needs Rust {OLDEST} or newer: run `rustup update`"))
    }
}

fn is_new_enough(release: &str) -> bool {
    numbers(release).zip(numbers(OLDEST)).is_some_and(|(found, oldest)| found >= oldest)
}

fn cargo(toolchain: &Toolchain) -> Check {
    match programs::ask(&toolchain.cargo, &["--version"], ANSWERS_WITHIN) {
        Answer::Said(version) => Check::ok("cargo", format!("{version} ({})", toolchain.cargo.display())),
        Answer::Failed(why) => Check::problem("cargo", why, "install Rust with rustup"),
        Answer::Slow => Check::problem(
            "cargo",
            format!("{} did not tell its version in {} s", toolchain.cargo.display(), ANSWERS_WITHIN.as_secs()),
            "see that `cargo --version` works; if not, install Rust with rustup",
        ),
    }
}

/// Rust as some distributions package it leaves it out.
fn standard_library(toolchain: &Toolchain) -> Check {
    let what = "standard library";
    let advice = "cells link Rust's standard library as a shared library: install Rust with rustup, which brings it";
    let folder = match toolchain.libraries() {
        Ok(folder) => folder,
        Err(error) => return Check::problem(what, format!("rustc does not say where it is: {error:#}"), advice),
    };
    let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    match names.map(|name| name.to_string_lossy().into_owned()).find(|name| is_standard_library(name)) {
        Some(name) => Check::ok(what, format!("there as a shared library ({name})")),
        None => Check::problem(what, format!("not there as a shared library, in {}", folder.display()), advice),
    }
}

/// rust-analyzer reads it, and evcxr asks rust-analyzer for the types of variables.
fn source(toolchain: &Toolchain) -> Check {
    let what = "library source";
    match toolchain.standard_library() {
        Ok(Some(folder)) => Check::ok(what, format!("the standard library's source is there ({})", folder.display())),
        _ => Check::note(
            what,
            "the standard library's source is not installed",
            "without it variables need their types written out: run `rustup component add rust-src`",
        ),
    }
}

fn is_standard_library(name: &str) -> bool {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    name.starts_with(&format!("{DLL_PREFIX}std-")) && name.ends_with(DLL_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("1.95.0"), Some((1, 95)));
        assert_eq!(numbers("1.100.0-nightly"), Some((1, 100)));
        assert_eq!(numbers("1.97-beta.2"), Some((1, 97)));
        assert_eq!(numbers("of an unknown version"), None);
        assert!(is_new_enough(OLDEST) && is_new_enough("1.100.0") && is_new_enough("2.0.0"));
        assert!(!is_new_enough("1.9.0") && !is_new_enough("0.99.0") && !is_new_enough("new"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_standard_library_is_known_by_its_name() {
        assert!(is_standard_library("libstd-9a3b801af650b923.so"));
        assert!(!is_standard_library("libstd-9a3b801af650b923.rlib") && !is_standard_library("libtest-9a.so"));
    }
}
