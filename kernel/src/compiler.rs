//! The compiler of a session, made interruptible: cargo starts this program in place of rustc, and it ends the real rustc when
//! the person does not want to wait. The cell then failed to compile, and nothing that was there before is touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cargo::Record;
use crate::interrupt::{State, Switch};

/// Set in the environment of cargo, and so of the compiler.
const WRAPS: &str = "CANDLESCOPE_WRAPS_RUSTC";
/// Names the folder that is to get a record of how a cell was compiled.
pub const RECORDS: &str = "CANDLESCOPE_RECORDS";

/// Short beside what a compilation takes, long beside what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What rustc and cargo end with when they give up.
pub const FAILED: i32 = 101;

/// Has a cargo start `program`, which is this one, in place of rustc.
pub fn wrap(cargo: &mut Command, program: &Path) {
    cargo.env("RUSTC_WRAPPER", program).env(WRAPS, "1");
}

/// Becomes the compiler when started as one, with rustc's path as the first argument; returns otherwise.
pub fn hook() {
    if std::env::var_os(WRAPS).is_none() {
        return;
    }
    let mut arguments = std::env::args_os().skip(1);
    let Some(rustc) = arguments.next().map(PathBuf::from) else { return };
    let code = compile(rustc, arguments.collect()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        FAILED
    });
    std::process::exit(code);
}

fn compile(rustc: PathBuf, arguments: Vec<std::ffi::OsString>) -> Result<i32> {
    if let Some(folder) = std::env::var_os(RECORDS).map(PathBuf::from)
        && let Some(arguments) = arguments.iter().map(|argument| Some(argument.to_str()?.to_string())).collect()
    {
        let record = Record::of_call(rustc.clone(), arguments, &folder);
        if record.is_of_cell() {
            record.write_part(&folder)?;
        }
    }
    let mut command = Command::new(rustc);
    command.args(arguments).env_remove(WRAPS);
    wait(command)
}

/// Runs a compiler until it ends, or until the cell is interrupted.
pub fn wait(mut command: Command) -> Result<i32> {
    let mut child = command.spawn().context("the compiler can't be started")?;
    let Some(switch) = Switch::from_environment() else { return Ok(child.wait()?.code().unwrap_or(FAILED)) };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().unwrap_or(FAILED));
        }
        if switch.state() != State::Off {
            child.kill()?;
            child.wait()?;
            switch.set(State::Heard)?;
            return Ok(FAILED);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
