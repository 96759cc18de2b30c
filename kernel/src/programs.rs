//! Other programs: where they are, and what they say of themselves.

use std::env;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a program that has not ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a question to a program ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What it wrote to standard output.
    Said(String),
    /// It failed, or can't be started: the reason.
    Failed(String),
    /// It did not answer in time, and was ended.
    Slow,
}

/// Looks for a program on the PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let endings: &[&str] = if cfg!(windows) { &[".exe", ".cmd", ".bat"] } else { &[""] };
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .flat_map(|folder| endings.iter().map(move |ending| folder.join(format!("{name}{ending}"))))
        .find(|path| is_program(path))
}

/// Runs a program that answers and ends, and waits no longer than `limit` for it.
pub fn ask(program: &Path, arguments: &[&str], limit: Duration) -> Answer {
    ask_command(Command::new(program).args(arguments), limit)
}

/// The same, of a command that is set up already.
pub fn ask_command(command: &mut Command, limit: Duration) -> Answer {
    match answer(command, limit) {
        Ok(answer) => answer,
        Err(error) => Answer::Failed(format!("{} can't be started: {error}", command.get_program().display())),
    }
}

/// Files take what it says: a pipe could be held open by a child of its own beyond its end.
fn answer(command: &mut Command, limit: Duration) -> std::io::Result<Answer> {
    let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?).spawn()?;
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(LOOK_EVERY),
            None => {
                child.kill()?;
                child.wait()?;
                return Ok(Answer::Slow);
            }
        }
    };
    if status.success() { Ok(Answer::Said(read(&mut output)?)) } else { Ok(failed(status, &read(&mut errors)?)) }
}

fn failed(status: ExitStatus, said: &str) -> Answer {
    let said = said.trim();
    Answer::Failed(if said.is_empty() { format!("it ended with {status}") } else { said.to_string() })
}

fn read(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_string())
}

fn is_program(path: &Path) -> bool {
    let Ok(file) = path.metadata() else { return false };
    #[cfg(unix)]
    let may_run = std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let may_run = true;
    file.is_file() && may_run
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Answer {
        ask(Path::new("/bin/sh"), &["-c", script], limit)
    }

    #[test]
    fn answers_and_failures_are_told_apart() {
        let soon = Duration::from_secs(20);
        assert_eq!(shell("echo 1.2", soon), Answer::Said("1.2".to_string()));
        assert_eq!(shell("echo no >&2; exit 3", soon), Answer::Failed("no".to_string()));
        let Answer::Failed(why) = ask(Path::new("/no/such/program"), &[], soon) else { panic!("it is not there") };
        assert!(why.contains("/no/such/program can't be started"), "{why}");
    }

    #[test]
    fn a_program_that_does_not_end_is_not_waited_for() {
        let began = Instant::now();
        // The child of the shell would hold a pipe open for its whole minute.
        assert_eq!(shell("sleep 60; echo late", Duration::from_millis(200)), Answer::Slow);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
