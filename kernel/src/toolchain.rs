//! Finding the Rust toolchain that compiles the cells, the same way evcxr finds it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs;

/// cargo and rustc, and what rustc says of itself.
#[derive(Debug, Clone)]
pub struct Toolchain {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    /// The target that rustc builds for when not told otherwise, such as `x86_64-unknown-linux-gnu`.
    pub host: String,
    /// The whole of `rustc -Vv`.
    pub version: String,
}

/// Set in the environment of a session's process: the real tools, which others there find only through them.
pub const CARGO: &str = "CANDLESCOPE_CARGO";
const RUSTC: &str = "CANDLESCOPE_RUSTC";
/// Where rust-analyzer looks for the source of the standard library.
pub const STD_SOURCE: &str = "RUST_SRC_PATH";
/// What the process had before, for those variables that a session changes.
const PATH_BEFORE: &str = "CANDLESCOPE_PATH_BEFORE";
const TOOLCHAIN_BEFORE: &str = "CANDLESCOPE_TOOLCHAIN_BEFORE";

impl Toolchain {
    pub fn find() -> Result<Self> {
        let (cargo, rustc) = match (std::env::var_os(CARGO), std::env::var_os(RUSTC)) {
            (Some(cargo), Some(rustc)) => (PathBuf::from(cargo), PathBuf::from(rustc)),
            _ => (tool("cargo")?, tool("rustc")?),
        };
        let version = output(Command::new(&rustc).arg("-Vv")).with_context(|| hint(&rustc.display().to_string()))?;
        let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_string) else {
            bail!("'{} -Vv' does not name its host; {}", rustc.display(), hint("rustc"));
        };
        Ok(Self { cargo, rustc, host, version })
    }

    /// The environment in which evcxr and rust-analyzer find a cargo of ours (`bin/cargo` in `folder`) and this rustc: both look
    /// through rustup where there is one, which takes a folder for a toolchain, and on the PATH.
    pub fn environment(&self, folder: &Path) -> Result<Vec<(&'static str, OsString)>> {
        let before = |name: &str| std::env::var_os(name).unwrap_or_default();
        let path = before("PATH");
        let folders = std::iter::once(folder.join("bin")).chain(std::env::split_paths(&path));
        let with_ours = std::env::join_paths(folders).context("a folder's name has the sign that separates folders")?;
        Ok(vec![
            (CARGO, self.cargo.clone().into()),
            (RUSTC, self.rustc.clone().into()),
            (PATH_BEFORE, path),
            (TOOLCHAIN_BEFORE, before("RUSTUP_TOOLCHAIN")),
            ("PATH", with_ours),
            ("RUSTUP_TOOLCHAIN", folder.into()),
        ])
    }

    /// Undoes [`environment`](Self::environment) for a process that is started.
    pub fn restore(command: &mut Command) {
        for (name, before) in [("PATH", PATH_BEFORE), ("RUSTUP_TOOLCHAIN", TOOLCHAIN_BEFORE)] {
            match std::env::var_os(before) {
                Some(value) if !value.is_empty() => command.env(name, value),
                Some(_) => command.env_remove(name),
                None => continue,
            };
            command.env_remove(before);
        }
        command.env_remove(CARGO).env_remove(RUSTC).env_remove(STD_SOURCE);
    }

    /// The folder with the source of the standard library, if it is installed.
    pub fn standard_library(&self) -> Result<Option<PathBuf>> {
        let sysroot = PathBuf::from(output(Command::new(&self.rustc).args(["--print", "sysroot"]))?.trim());
        let library = ["lib", "rustlib", "src", "rust", "library"].iter().fold(sysroot, |path, part| path.join(part));
        Ok(library.join("core").join("src").join("lib.rs").is_file().then_some(library))
    }

    /// Has rustup install the source of the standard library, if it is missing: without it rust-analyzer can't tell the types of
    /// variables. Where that fails, `candlescope doctor` says what to do.
    pub fn add_source(&self) {
        if self.standard_library().is_ok_and(|library| library.is_none()) {
            let mut rustup = Command::new("rustup");
            Self::restore(&mut rustup);
            if let Err(error) = rustup.args(["component", "add", "rust-src"]).output() {
                eprintln!("the source of the standard library could not be added: {error}");
            }
        }
    }

    /// The folder with the standard library as a shared library, which a cell's process must find.
    pub fn libraries(&self) -> Result<PathBuf> {
        // On Windows it lies with the programs.
        let what = if cfg!(windows) { "sysroot" } else { "target-libdir" };
        let folder = PathBuf::from(output(Command::new(&self.rustc).args(["--print", what]))?.trim());
        Ok(if cfg!(windows) { folder.join("bin") } else { folder })
    }
}

/// Here rustc links with the lld that it brings along, since its version 1.90.
pub const BRINGS_LLD: &str = "x86_64-unknown-linux-gnu";

/// What links a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linker {
    /// rustc's own choice.
    System,
    Mold,
    Lld,
}

impl Linker {
    /// The fastest that is there, as far as evcxr can use it.
    pub fn find(host: &str) -> Self {
        Self::choose(host, programs::find("mold").is_some(), programs::find("ld.lld").is_some())
    }

    /// What is used on a machine that has mold or lld.
    pub fn choose(host: &str, has_mold: bool, has_lld: bool) -> Self {
        if host.contains("apple") || host.contains("windows") {
            Self::System
        } else if has_mold {
            Self::Mold
        } else if has_lld && host != BRINGS_LLD {
            Self::Lld
        } else {
            Self::System
        }
    }

    /// As evcxr calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Mold => "mold",
            Self::Lld => "lld",
        }
    }

    /// rustc's flags with it, as evcxr has them.
    pub fn flags(self) -> &'static str {
        match self {
            // mold needs no flag: evcxr puts it in the linker's place.
            Self::System | Self::Mold => "-Cprefer-dynamic",
            Self::Lld => "-Cprefer-dynamic -Clink-arg=-fuse-ld=lld",
        }
    }
}

/// The tool itself rather than rustup's proxy, which would cost time in every cell.
fn tool(name: &str) -> Result<PathBuf> {
    if let Ok(path) = output(Command::new("rustup").args(["which", name])) {
        return Ok(PathBuf::from(path.trim()));
    }
    if Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(PathBuf::from(name));
    }
    bail!("{}", hint(name))
}

fn hint(name: &str) -> String {
    format!(
        "{name} was not found: candlescope compiles Rust, so install Rust with rustup and see that `{name}` is on the PATH"
    )
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
