//! `candlescope run`: executes a notebook cell by cell and writes the executed notebook and a page.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::install::{DISPLAY_NAME, KERNEL_NAME};
use crate::interrupt::Interrupter;
use crate::library::Library;
use crate::notebook::{Cell, Kind, Notebook, write_file};
use crate::page;
use crate::progress::{self, CellBar};
use crate::session::{Failure, Output, Session};

/// What to run, and where the results go.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The notebook (.ipynb)
    notebook: PathBuf,
    /// Where the executed notebook goes [default: target/candlescope/NAME.executed.ipynb]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the page goes [default: target/candlescope/NAME.executed.html]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the outputs into the notebook itself
    #[arg(long, conflicts_with = "output")]
    inplace: bool,
    /// The most seconds one cell may take
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Features of the session library
    #[arg(long, value_delimiter = ',', value_name = "cuda|metal")]
    features: Vec<String>,
}

/// Runs the notebook. `Ok(false)` when a cell failed; that was said already.
pub fn run(options: &Options) -> Result<bool> {
    let mut notebook = Notebook::read(&options.notebook)?;
    let (output, html) = options.places()?;
    let library = Library::locate(&options.features)?;
    progress::build(&library)?;

    let started = Instant::now();
    let mut session = Session::start(&library, &folder_of(&options.notebook)?)?;
    notebook.set_kernel(KERNEL_NAME, DISPLAY_NAME);
    notebook.cells.iter_mut().filter(|cell| cell.kind == Kind::Code).for_each(Cell::clear);

    let timeout = options.timeout.map(Duration::from_secs);
    let total = notebook.cells.iter().filter(|cell| runs(cell)).count();
    let mut failed = None;
    for (i, cell) in notebook.cells.iter_mut().filter(|cell| runs(cell)).enumerate() {
        let number = i + 1;
        eprint!("[{number}/{total}] {} ", shorten(cell.first_line(), 72));
        let began = Instant::now();
        let result = run_cell(&mut session, cell, number as u64, timeout);
        eprintln!("({:.1} s)", began.elapsed().as_secs_f64());
        if let Err(failure) = result {
            failed = Some(complaint(number, total, cell, &failure));
            break;
        }
    }
    drop(session);

    notebook.write(&output)?;
    write_file(&html, &page::render(&notebook, &stem(&options.notebook)))?;
    match &failed {
        Some(complaint) => eprintln!("\n{complaint}\n"),
        None => eprintln!("All {total} cells ran ({:.1} s).", started.elapsed().as_secs_f64()),
    }
    eprintln!("Notebook: {}\nPage:     {}", output.display(), html.display());
    Ok(failed.is_none())
}

fn runs(cell: &Cell) -> bool {
    cell.kind == Kind::Code && !cell.source.trim().is_empty()
}

fn run_cell(session: &mut Session, cell: &mut Cell, count: u64, timeout: Option<Duration>) -> Result<(), Failure> {
    cell.set_execution_count(count);
    let source = cell.source.clone();
    let alarm = timeout.map(|timeout| Alarm::set(session.interrupter(), timeout));
    let mut bar = CellBar::default();
    let mut result = session.execute(&source, &mut |output| match &output {
        Output::Progress(step) => bar.show(step),
        _ => cell.push(&output, count),
    });
    bar.clear();
    if let (Some(true), Err(failure), Some(timeout)) = (alarm.map(Alarm::rang), &mut result, timeout) {
        let message = format!("the cell took longer than {} s (--timeout) and was stopped", timeout.as_secs());
        *failure = Failure { name: "timeout".into(), details: vec![format!("timeout: {message}")], message };
    }
    if let Err(failure) = &result {
        cell.push_failure(failure);
    }
    result
}

/// Stops the session when a cell takes too long.
struct Alarm {
    cancel: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<bool>,
}

impl Alarm {
    fn set(cell: Interrupter, after: Duration) -> Self {
        let (cancel, cancelled) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let late = cancelled.recv_timeout(after) == Err(mpsc::RecvTimeoutError::Timeout);
            late && cell.kill().is_ok()
        });
        Self { cancel, thread }
    }

    fn rang(self) -> bool {
        let _ = self.cancel.send(());
        self.thread.join().unwrap_or(false)
    }
}

/// What the person reads when a cell failed.
fn complaint(number: usize, total: usize, cell: &Cell, failure: &Failure) -> String {
    let source: Vec<String> = cell.source.trim_end().lines().map(|line| format!("    {line}")).collect();
    format!("Cell {number} of {total} failed:\n\n{}\n\n{}", source.join("\n"), failure.details.join("\n"))
}

impl Options {
    fn places(&self) -> Result<(PathBuf, PathBuf)> {
        let stem = stem(&self.notebook);
        let folder = Path::new("target").join("candlescope");
        let default = |extension: &str| folder.join(format!("{stem}.executed.{extension}"));
        let output = match &self.output {
            Some(path) => path.clone(),
            None if self.inplace => self.notebook.clone(),
            None => default("ipynb"),
        };
        let html = self.html.clone().unwrap_or_else(|| default("html"));
        // The session changes the current folder.
        let absolute =
            |path: PathBuf| std::path::absolute(&path).with_context(|| format!("{} is no path", path.display()));
        Ok((absolute(output)?, absolute(html)?))
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or("notebook".to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// Cells run in the notebook's folder, as in Jupyter.
fn folder_of(notebook: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(notebook).with_context(|| format!("{} is no path", notebook.display()))?;
    match path.parent() {
        Some(folder) => Ok(folder.to_path_buf()),
        None => bail!("{} is in no folder", notebook.display()),
    }
}

fn shorten(line: &str, limit: usize) -> String {
    if line.chars().count() <= limit {
        return line.to_string();
    }
    line.chars().take(limit - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_shortened_by_characters() {
        assert_eq!(shorten("ééééé", 5), "ééééé");
        assert_eq!(shorten("éééééé", 5), "éééé…");
    }
}
