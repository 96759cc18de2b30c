//! Registering the kernel with Jupyter, and taking it out again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::library::Library;
use crate::notebook::write_file;
use crate::progress;

/// How notebooks name the kernel.
pub const KERNEL_NAME: &str = "candlescope";
/// How people see it.
pub const DISPLAY_NAME: &str = "Rust (candlescope)";

/// Where Jupyter's data folder is.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Place {
    /// For this user (the default)
    #[arg(long)]
    user: bool,
    /// For the active Python environment
    #[arg(long)]
    sys_prefix: bool,
    /// For the environment at PREFIX
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<PathBuf>,
}

/// `candlescope install`: registers first, which is quick, then builds.
pub fn install(place: &Place, features: &[String], build: bool) -> Result<()> {
    let folder = place.kernel_folder()?;
    let program = env::current_exe().context("candlescope can't find its own program file")?;
    let mut argv =
        vec![program.display().to_string(), "kernel".into(), "--control-file".into(), "{connection_file}".into()];
    if !features.is_empty() {
        argv.extend(["--features".to_string(), features.join(",")]);
    }
    let spec = json!({
        "argv": argv,
        "display_name": DISPLAY_NAME,
        "language": "rust",
        "interrupt_mode": "message",
        "metadata": { "debugger": false },
    });
    let text = serde_json::to_string_pretty(&spec)? + "\n";
    write_file(&folder.join("kernel.json"), &text).with_context(|| not_writable(&folder))?;
    println!("Jupyter knows the kernel '{DISPLAY_NAME}' now ({}).", folder.display());
    if build {
        progress::build(&Library::locate(features)?)?;
    }
    Ok(())
}

/// `candlescope uninstall`
pub fn uninstall(place: &Place) -> Result<()> {
    let folder = place.kernel_folder()?;
    if !folder.join("kernel.json").is_file() {
        println!("There is no kernel to remove in {}.", folder.display());
        return Ok(());
    }
    fs::remove_dir_all(&folder).with_context(|| not_writable(&folder))?;
    println!("The kernel is removed from {}.", folder.display());
    Ok(())
}

impl Place {
    fn kernel_folder(&self) -> Result<PathBuf> {
        let data = match (&self.prefix, self.sys_prefix) {
            (Some(prefix), _) => data_below(prefix)?,
            (None, true) => data_below(&environment()?)?,
            (None, false) => user_data()?,
        };
        Ok(data.join("kernels").join(KERNEL_NAME))
    }
}

fn data_below(prefix: &Path) -> Result<PathBuf> {
    let prefix = std::path::absolute(prefix).with_context(|| format!("{} is no path", prefix.display()))?;
    Ok(prefix.join("share").join("jupyter"))
}

/// The Python environment: a virtual or conda one, or the one that `python` names.
fn environment() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("VIRTUAL_ENV").or_else(|| env::var_os("CONDA_PREFIX")) {
        return Ok(PathBuf::from(folder));
    }
    for python in ["python3", "python"] {
        if let Ok(output) = Command::new(python).args(["-c", "import sys; print(sys.prefix)"]).output()
            && output.status.success()
        {
            return Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        }
    }
    bail!("no Python environment is active and no python was found; activate one, or use --user or --prefix FOLDER")
}

/// Where Jupyter looks for a user's data: <https://docs.jupyter.org/en/latest/use/jupyter-directories.html>.
fn user_data() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("JUPYTER_DATA_DIR") {
        return Ok(PathBuf::from(folder));
    }
    let folder = if cfg!(target_os = "macos") {
        dirs::home_dir().map(|home| home.join("Library").join("Jupyter"))
    } else {
        // XDG_DATA_HOME or ~/.local/share; on Windows the roaming data folder.
        dirs::data_dir().map(|data| data.join("jupyter"))
    };
    folder.context("this user has no home folder; use --prefix FOLDER, or set JUPYTER_DATA_DIR")
}

fn not_writable(folder: &Path) -> String {
    format!(
        "Jupyter's folder {} can't be written; use --prefix FOLDER or --sys-prefix for another place",
        folder.display()
    )
}
