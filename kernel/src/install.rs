//! Registering the kernel with Jupyter, and taking it out again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::jupyter;
use crate::kernelspec::{self, KernelSpec};
use crate::library::Library;
use crate::progress;

pub use crate::kernelspec::{DISPLAY_NAME, KERNEL_NAME};

/// Where Jupyter's data folder is.
#[derive(Debug, Default, clap::Args)]
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
    register(&place.kernel_folder()?, features)?;
    if build {
        progress::build(&Library::locate(features)?)?;
    }
    Ok(())
}

/// Writes into a kernel's folder that Jupyter is to start this program.
pub fn register(folder: &Path, features: &[String]) -> Result<()> {
    let program = env::current_exe().context("candlescope can't find its own program file")?;
    let spec = KernelSpec { program, features: features.to_vec() };
    spec.write(folder).with_context(|| not_writable(folder))?;
    println!("Jupyter knows the kernel '{DISPLAY_NAME}' now ({}).", folder.display());
    Ok(())
}

/// `candlescope uninstall`
pub fn uninstall(place: &Place) -> Result<()> {
    let folder = place.kernel_folder()?;
    if !kernelspec::file(&folder).is_file() {
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
            (Some(prefix), _) => jupyter::data_below(prefix)?,
            (None, true) => jupyter::data_below(&jupyter::environment()?)?,
            (None, false) => jupyter::user_data()?,
        };
        Ok(jupyter::kernel_folder(&data))
    }
}

fn not_writable(folder: &Path) -> String {
    format!(
        "Jupyter's folder {} can't be written; use --prefix FOLDER or --sys-prefix for another place",
        folder.display()
    )
}
