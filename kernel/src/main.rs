//! The `candlescope` command: a Jupyter kernel and a notebook runner for Rust that keep candlescope at release speed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod compile;
mod environment;
mod failure;
mod folder;
mod install;
mod library;
mod loader;
mod notebook;
mod page;
mod progress;
mod relay;
mod run;
mod serve;
mod session;
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
    /// Execute a notebook, without Jupyter or Python
    Run(run::Options),
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
    /// Serve a notebook; Jupyter starts this
    #[command(hide = true)]
    Kernel {
        #[arg(long, value_name = "FILE")]
        control_file: PathBuf,
        #[arg(long, value_delimiter = ',')]
        features: Vec<String>,
    },
}

fn main() -> ExitCode {
    relay::hook();
    if let Some(code) = environment::without_cargo() {
        return code;
    }
    let result = match Cli::parse().command {
        Task::Install { place, features, no_build } => install::install(&place, &features, !no_build).map(|()| true),
        Task::Uninstall { place } => install::uninstall(&place).map(|()| true),
        Task::Run(options) => run::run(&options),
        Task::Tokens { text, model } => tools::tokens(&text, &model),
        Task::Models { filter } => tools::models(&filter),
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
