//! The cargo of a session. evcxr and rust-analyzer are led to start this program where they want cargo (see
//! [`environment`](crate::environment)): it compiles a cell by calling rustc as cargo would, without cargo's quarter of a second,
//! and shows rust-analyzer only the crates whose types a notebook meets. Whatever else is asked goes to the real cargo.

mod answers;
mod metadata;
mod record;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::compiler::{self, FAILED};
use crate::folder;
use crate::toolchain::{self, Toolchain};
use answers::Question;
pub use record::{FILE as RECORD, Record};

/// evcxr names a file here that is to hold the path of the compiled cell.
const COMPILED: &str = "EVCXR_EXECUTION_SO_PATH";
/// In the copy of the standard library's source that rust-analyzer reads: where the original is.
pub const STD_SOURCE: &str = "copy-of.txt";

/// Becomes cargo when started under its name; returns otherwise.
pub fn hook() {
    let name = std::env::args_os().next().map(PathBuf::from);
    let is_cargo = name.as_deref().and_then(Path::file_stem).is_some_and(|stem| stem == "cargo");
    let Some(real) = std::env::var_os(toolchain::CARGO).filter(|_| is_cargo) else { return };
    let code = run(&PathBuf::from(real)).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        FAILED
    });
    std::process::exit(code);
}

fn run(real: &Path) -> Result<i32> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let folder = std::env::current_dir().context("the session's folder is gone")?;
    if has("--message-format=json") && (has("build") || has("check")) {
        return compile(real, &arguments, &folder, has("check"));
    }
    if has("metadata")
        && let Some(manifest) = metadata::question(&folder)
    {
        return whether_there_is(real, &arguments, &folder, &manifest);
    }
    if let Some(question) = Question::new(real, &arguments, &folder) {
        return question.answer(real, &arguments);
    }
    if has("metadata") && !has("--no-deps") && has("--manifest-path") {
        return metadata::answer(real_cargo(real, &arguments));
    }
    Ok(code(real_cargo(real, &arguments).status().context("cargo can't be started")?))
}

/// Answers evcxr, which asks with a manifest of its own whether a dependency exists. The session library does.
fn whether_there_is(real: &Path, arguments: &[OsString], folder: &Path, manifest: &str) -> Result<i32> {
    if metadata::asks_for_library(manifest) {
        println!("{{}}");
        return Ok(0);
    }
    // That crate has one dependency, and for it cargo would forget the versions of all others.
    let lock = folder.join("Cargo.lock");
    let versions = std::fs::read(&lock).ok();
    let status = real_cargo(real, arguments).status().context("cargo can't be started")?;
    if let Some(versions) = versions {
        std::fs::write(&lock, versions).context("the versions of the session's crates can't be kept")?;
    }
    Ok(code(status))
}

/// Compiles the cell in `folder`: by rustc, where the crate is what its record says, else by cargo, which leaves a new record.
fn compile(real: &Path, arguments: &[OsString], folder: &Path, only_checks: bool) -> Result<i32> {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).context("the session has no manifest")?;
    if let Some(record) = Record::read(folder).filter(|record| record.fits(&manifest)) {
        let source = std::fs::read_to_string(folder.join("src").join("lib.rs")).context("the cell has no source")?;
        let code = compiler::wait(record.command(&source, folder, only_checks))?;
        if let (0, false, Some(file)) = (code, only_checks, std::env::var_os(COMPILED)) {
            let compiled = record.output(folder);
            std::fs::write(file, compiled.to_string_lossy().as_bytes()).context("the cell's place can't be told")?;
        }
        return Ok(code);
    }
    folder::complete(folder)?;
    let mut cargo = real_cargo(real, arguments);
    compiler::wrap(&mut cargo, &std::env::current_exe().context("this program has no file")?);
    if !only_checks {
        cargo.env(compiler::RECORDS, folder);
    }
    let code = compiler::wait(cargo)?;
    if code == 0 && !only_checks {
        Record::complete(folder, &manifest)?;
    }
    Ok(code)
}

/// The real cargo, in the environment that it would have without us.
fn real_cargo(real: &Path, arguments: &[OsString]) -> Command {
    let mut cargo = Command::new(real);
    cargo.args(arguments).stdin(Stdio::null());
    Toolchain::restore(&mut cargo);
    cargo
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(FAILED)
}
