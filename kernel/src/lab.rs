//! `candlescope lab`: JupyterLab with everything there that a notebook needs.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::install::{self, Place};
use crate::jupyter::{self, Program};
use crate::library::{self, Library};
use crate::programs::{self, Answer};
use crate::progress;

/// Python reads hundreds of files before it says its version; from a cold disk that takes a while.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// How JupyterLab can be called, the best first.
const CALLS: [(&str, &[&str]); 4] = [
    ("jupyter-lab", &[]),
    ("jupyter", &["lab"]),
    ("python3", &["-m", "jupyterlab"]),
    ("python", &["-m", "jupyterlab"]),
];

/// How to get it.
pub const HOW_TO_GET_JUPYTER: &str =
    "install it with `uv tool install jupyterlab`, `pipx install jupyterlab` or `pip install jupyterlab`";

/// What to open, and how.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder, or a notebook [default: candlescope's notebooks, or the current folder]
    folder: Option<PathBuf>,
    /// Arguments for Jupyter
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// JupyterLab, as it is called on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Lab {
    pub program: PathBuf,
    arguments: &'static [&'static str],
    /// As it says itself, if it said so in time.
    pub version: Option<String>,
}

/// Registers and builds what is missing, and becomes JupyterLab. The result is how that ended.
pub fn lab(options: &Options) -> Result<ExitCode> {
    let lab = Lab::find()?;
    let folder = options.folder()?;
    prepare()?;
    let mut command = Command::new(&lab.program);
    command.args(lab.arguments).arg(folder).args(&options.arguments);
    become_it(&mut command).with_context(|| format!("{} can't be started", lab.program.display()))
}

impl Lab {
    /// Finds JupyterLab, and has it say its version: a program may be there and not work.
    pub fn find() -> Result<Self> {
        let mut broken = String::new();
        for (name, arguments) in CALLS {
            let Some(program) = programs::find(name) else { continue };
            let version = match programs::ask(&program, &[arguments, &["--version"]].concat(), ANSWERS_WITHIN) {
                Answer::Said(version) => Some(version),
                Answer::Slow => None,
                Answer::Failed(why) => {
                    if broken.is_empty() && name.starts_with("jupyter") {
                        let why = why.lines().last().unwrap_or_default();
                        broken = format!(" ({} is there, but does not work: {why})", program.display());
                    }
                    continue;
                }
            };
            return Ok(Self { program, arguments, version });
        }
        bail!(
            "JupyterLab was not found{broken}: {HOW_TO_GET_JUPYTER}; `candlescope run` and `candlescope repl` work without it"
        )
    }
}

impl Options {
    /// Absolute, so that no name looks like an option of Jupyter's.
    fn folder(&self) -> Result<PathBuf> {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => notebooks().map_or_else(env::current_dir, Ok).context("the current folder is gone; name one")?,
        };
        if !folder.exists() {
            bail!("there is no folder or notebook {} to open; name one that is there", folder.display());
        }
        std::path::absolute(&folder).with_context(|| format!("{} is no path", folder.display()))
    }
}

/// The notebooks that come with candlescope's source.
fn notebooks() -> Option<PathBuf> {
    let source = library::source().ok()?;
    library::clone_of(&source).map(|clone| clone.join("notebooks")).filter(|folder| folder.is_dir())
}

/// Sees that Jupyter knows the kernel, and that its session library is built.
fn prepare() -> Result<()> {
    let Some(kernel) = jupyter::registrations().into_iter().next() else {
        return install::install(&Place::default(), &[], true);
    };
    let spec = kernel.spec?;
    match jupyter::judge(&spec.program) {
        Program::This => {}
        Program::Other => eprintln!("Jupyter starts the kernel with another candlescope: {}.", spec.program.display()),
        Program::Gone => install::register(&kernel.folder, &spec.features)?,
    }
    let library = Library::locate(&spec.features)?;
    if !library.is_fresh() {
        progress::build(&library)?;
    }
    Ok(())
}

/// Hands over everything: terminal, signals, and the exit status.
#[cfg(unix)]
fn become_it(command: &mut Command) -> Result<ExitCode> {
    Err(std::os::unix::process::CommandExt::exec(command).into())
}

/// Hands over the console and waits. Ctrl-C is for Jupyter, which asks whether it is meant.
#[cfg(windows)]
fn become_it(command: &mut Command) -> Result<ExitCode> {
    use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;
    use windows_sys::core::BOOL;

    unsafe extern "system" fn leave_it_to_jupyter(_: u32) -> BOOL {
        1
    }
    // SAFETY: the handler is a function that lives as long as the program, and touches nothing.
    if unsafe { SetConsoleCtrlHandler(Some(leave_it_to_jupyter), 1) } == 0 {
        return Err(std::io::Error::last_os_error()).context("Ctrl-C can't be left to Jupyter");
    }
    let status = command.status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
