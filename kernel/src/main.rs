//! The `candlescope` command: a Jupyter kernel and a notebook runner for Rust that keep candlescope at release speed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bar;
mod cached;
mod cargo;
mod cell;
mod clean;
mod compile;
mod compiler;
mod doctor;
mod environment;
mod failure;
mod folder;
mod install;
mod interrupt;
mod is_complete;
mod jupyter;
mod kernelspec;
mod lab;
mod library;
mod loader;
mod lock;
mod notebook;
mod page;
mod private;
mod programs;
mod progress;
mod relay;
mod repl;
mod run;
mod serve;
mod session;
mod space;
mod toolchain;
mod tools;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A microscope for transformer language models, in Rust notebooks.
#[derive(Parser)]
#[command(name = "candlescope", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Register the kernel with Jupyter and build the session library
    Install {
        #[command(flatten)]
        place: install::Place,
        /// Features of the session library
        #[arg(long, value_delimiter = ',', value_name = "cuda|metal")]
        features: Vec<String>,
        /// Only register; the first notebook builds the session library
        #[arg(long)]
        no_build: bool,
    },
    /// Remove the kernel from Jupyter
    Uninstall {
        #[command(flatten)]
        place: install::Place,
    },
    /// Open JupyterLab, with the kernel registered and the session library built
    Lab(lab::Options),
    /// Execute a notebook, without Jupyter or Python
    Run(run::Options),
    /// Evaluate cells in a terminal, or from standard input
    Repl(repl::Options),
    /// Show how a text is cut into tokens
    Tokens {
        text: String,
        /// Whose tokenizer: a bundled model, a folder, or a hub name
        #[arg(long, default_value = "gpt2")]
        model: String,
    },
    /// List the models that have a short name
    Models {
        /// A part of the name, the short name or the family
        #[arg(default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Look whether everything is there that notebooks need
    Doctor,
    /// Free disk space: remove session libraries that nothing uses any more
    Clean(clean::Options),
    /// Serve a notebook; Jupyter starts this
    #[command(hide = true)]
    Kernel {
        #[arg(long, value_name = "FILE")]
        control_file: PathBuf,
        #[arg(long, value_delimiter = ',')]
        features: Vec<String>,
    },
}

impl Task {
    /// Whether it evaluates cells.
    fn has_session(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Repl(_) | Self::Kernel { .. })
    }
}

fn main() -> ExitCode {
    compiler::hook();
    cargo::hook();
    relay::hook();
    let task = Cli::parse().command;
    match environment::prepare(task.has_session()) {
        Ok(None) => {}
        Ok(Some(code)) => return code,
        // The first cell says it, where people read it.
        Err(error) if matches!(task, Task::Kernel { .. }) => eprintln!("error: {error:#}"),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    let result = match task {
        Task::Install { place, features, no_build } => install::install(&place, &features, !no_build).map(|()| true),
        Task::Uninstall { place } => install::uninstall(&place).map(|()| true),
        Task::Lab(options) => match lab::lab(&options) {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
        Task::Run(options) => run::run(&options),
        Task::Repl(options) => repl::run(&options),
        Task::Tokens { text, model } => tools::tokens(&text, &model),
        Task::Models { filter } => tools::models(&filter),
        Task::Doctor => doctor::doctor(),
        Task::Clean(options) => clean::clean(&options),
        Task::Kernel { control_file, features } => serve::serve(&control_file, features).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
