//! Finding the Rust toolchain that compiles the cells, the same way evcxr finds it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

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

impl Toolchain {
    pub fn find() -> Result<Self> {
        let (cargo, rustc) = (tool("cargo")?, tool("rustc")?);
        let version = output(Command::new(&rustc).arg("-Vv")).with_context(|| hint(&rustc.display().to_string()))?;
        let Some(host) = version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_string) else {
            bail!("'{} -Vv' does not name its host; {}", rustc.display(), hint("rustc"));
        };
        Ok(Self { cargo, rustc, host, version })
    }

    /// The folder with the standard library as a shared library, which a cell's process must find.
    pub fn libraries(&self) -> Result<PathBuf> {
        // On Windows it lies with the programs.
        let what = if cfg!(windows) { "sysroot" } else { "target-libdir" };
        let folder = PathBuf::from(output(Command::new(&self.rustc).args(["--print", what]))?.trim());
        Ok(if cfg!(windows) { folder.join("bin") } else { folder })
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
