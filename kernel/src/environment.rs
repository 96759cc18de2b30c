//! The environment that this program needs, for which it starts itself anew: without what `cargo run` and `cargo test` put
//! there, and for a session with a cargo of ours in the place where evcxr and rust-analyzer look for one.
//!
//! Build scripts of some crates (ring's) look at cargo's variables; with them, cargo would take the session library for out of
//! date, and build half of it again.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo;
use crate::library;
use crate::private;
use crate::toolchain::{self, Toolchain};

/// Starts this program anew, where its environment is not yet what it must be; the result is what it ended with. `session` says
/// whether it is to evaluate cells.
pub fn prepare(session: bool) -> Result<Option<ExitCode>> {
    let surplus: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).filter(|name| is_cargos(name)).collect();
    let lacks_tools = session && std::env::var_os(toolchain::CARGO).is_none();
    if surplus.is_empty() && !lacks_tools {
        return Ok(None);
    }
    let program = std::env::current_exe().context("candlescope can't find its own program file")?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1));
    surplus.iter().for_each(|name| {
        command.env_remove(name);
    });
    if lacks_tools {
        let toolchain = Toolchain::find()?;
        let folder = tools(&toolchain, &program)?;
        command.envs(toolchain.environment(&folder)?);
        if let Some(library) = standard_library(&toolchain, &folder)? {
            command.env(toolchain::STD_SOURCE, library);
        }
    }
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut command)).context("candlescope can't start itself anew");
    #[cfg(not(unix))]
    match command.status().context("candlescope can't start itself anew")? {
        status if status.success() => Ok(Some(ExitCode::SUCCESS)),
        _ => Ok(Some(ExitCode::FAILURE)),
    }
}

/// A folder that looks like a toolchain: the real rustc, and this program under cargo's name.
fn tools(toolchain: &Toolchain, program: &Path) -> Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (&toolchain.rustc, &toolchain.version, program).hash(&mut hasher);
    let folder = library::cache()?.join(library::TOOLS).join(format!("{:016x}", hasher.finish()));
    let bin = folder.join("bin");
    private::create(&bin).with_context(|| format!("{} can't be created", bin.display()))?;
    for (name, target) in [("cargo", program), ("rustc", &toolchain.rustc)] {
        let link = bin.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        place(target, &link).with_context(|| format!("{} can't be written", link.display()))?;
    }
    Ok(folder)
}

/// The source of the standard library for rust-analyzer, without the vendors' intrinsics (`core::arch`): they are half of all its
/// text, and no variable in a notebook has such a type. None where the source is not installed.
fn standard_library(toolchain: &Toolchain, folder: &Path) -> Result<Option<PathBuf>> {
    let copy = folder.join("library");
    if !copy.is_dir() {
        let Some(source) = toolchain.standard_library()? else { return Ok(None) };
        let new = folder.join(format!("library-{}", std::process::id()));
        for part in ["core", "alloc", "std", "proc_macro", "portable-simd"] {
            copy_tree(&source.join(part), &new.join(part)).context("the standard library's source can't be copied")?;
        }
        fs::write(new.join("Cargo.toml"), "# Read by rust-analyzer through candlescope's cargo only.\n")?;
        fs::write(new.join(cargo::STD_SOURCE), &*source.to_string_lossy())?;
        // Where another session was first, its copy is as good.
        if fs::rename(&new, &copy).is_err() {
            fs::remove_dir_all(&new)?;
        }
    }
    Ok(Some(copy))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_tree(&entry.path(), &target)?,
            false => fs::copy(entry.path(), target).map(|_| ())?,
        }
    }
    Ok(())
}

#[cfg(unix)]
fn place(target: &Path, link: &Path) -> std::io::Result<()> {
    if fs::read_link(link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    // Another session may do the same at this moment: put in place in one step.
    let new = link.with_extension(format!("{}", std::process::id()));
    std::os::unix::fs::symlink(target, &new)?;
    fs::rename(&new, link)
}

/// Links need a privilege on Windows, so the cargo there is a copy, made anew with each version of the program. rustc would not
/// find its own files from another folder: rustup and the PATH lead to the real one.
#[cfg(not(unix))]
fn place(target: &Path, link: &Path) -> std::io::Result<()> {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let is_rustc = link.file_stem().is_some_and(|stem| stem == "rustc");
    if is_rustc || changed(link).is_ok_and(|copied| changed(target).is_ok_and(|built| built <= copied)) {
        return Ok(());
    }
    fs::copy(target, link).map(|_| ())
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
