//! Forgetting what `cargo run` and `cargo test` put into the environment.
//!
//! Build scripts of some crates (ring's) look at these variables; with them, cargo would take the session library for out
//! of date, and build half of it again.

use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};

/// Starts this program anew without cargo's variables, if there are any; the result is what it ended with.
pub fn without_cargo() -> Option<ExitCode> {
    let ours: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).filter(|name| is_cargos(name)).collect();
    if ours.is_empty() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args(std::env::args_os().skip(1));
    ours.iter().for_each(|name| {
        command.env_remove(name);
    });
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    #[cfg(not(unix))]
    let error = match command.status() {
        Ok(status) if status.success() => return Some(ExitCode::SUCCESS),
        Ok(_) => return Some(ExitCode::FAILURE),
        Err(error) => error,
    };
    eprintln!("error: candlescope can't start itself anew: {error}");
    Some(ExitCode::FAILURE)
}

/// Set by cargo for the program, not by a person for cargo (as CARGO_HOME is).
fn is_cargos(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let rest = ["CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR"];
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"].iter().any(|start| name.starts_with(start))
        || rest.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_settings_stay() {
        let cargos = |name: &str| is_cargos(name.as_ref());
        assert!(cargos("CARGO_PKG_NAME") && cargos("CARGO_MANIFEST_DIR"));
        assert!(!cargos("CARGO_HOME") && !cargos("CARGO_NET_OFFLINE") && !cargos("PATH"));
    }
}
