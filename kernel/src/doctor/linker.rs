//! Whether programs can be linked, and how quickly.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Check;
use crate::programs::{self, Answer};
use crate::toolchain::{BRINGS_LLD, Linker, Toolchain};

const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// For a program of one line.
const LINKS_WITHIN: Duration = Duration::from_secs(60);

/// What to install.
const ADVICE: &str = if cfg!(windows) {
    "install Visual Studio's Build Tools with \"Desktop development with C++\""
} else if cfg!(target_os = "macos") {
    "install Apple's command line tools: run `xcode-select --install`"
} else {
    "install your system's C compiler, such as gcc or clang (on Debian and Ubuntu: `apt install build-essential`)"
};

/// Whether there is a C compiler; with a toolchain, also whether a trial program links, and what links the cells.
pub fn check(toolchain: Option<&Toolchain>) -> Vec<Check> {
    let mut checks = Vec::new();
    // On Windows rustc finds it, where it is on no PATH.
    if !cfg!(windows) {
        checks.push(compiler(programs::find("cc")));
    }
    if let Some(toolchain) = toolchain {
        let (mold, lld) = (programs::find("mold"), programs::find("ld.lld"));
        checks.extend([trial(toolchain), speed(&toolchain.host, mold, lld)]);
    }
    checks
}

/// rustc links through it, and some crates have parts in C.
fn compiler(cc: Option<PathBuf>) -> Check {
    let Some(cc) = cc else { return Check::problem("C compiler", "no `cc` on the PATH", ADVICE) };
    match programs::ask(&cc, &["--version"], ANSWERS_WITHIN) {
        Answer::Said(text) => {
            Check::ok("C compiler", format!("{} ({})", text.lines().next().unwrap_or("cc"), cc.display()))
        }
        Answer::Failed(why) => {
            Check::problem("C compiler", format!("{} does not work: {}", cc.display(), first_line(&why)), ADVICE)
        }
        Answer::Slow => Check::problem("C compiler", format!("{} does not answer", cc.display()), ADVICE),
    }
}

/// Builds a program as cells are built. Only rustc knows how it finds a linker: by cargo's settings, or on Windows by
/// where Visual Studio is.
fn trial(toolchain: &Toolchain) -> Check {
    match build_trial(toolchain) {
        Ok(Answer::Said(_)) => Check::ok("linker", "a trial program links"),
        Ok(Answer::Failed(why)) => {
            Check::problem("linker", format!("a trial program does not link: {}", complaint(&why)), ADVICE)
        }
        Ok(Answer::Slow) => Check::problem(
            "linker",
            format!("a trial program was not linked in {} s", LINKS_WITHIN.as_secs()),
            "see what keeps this machine busy, and try again",
        ),
        Err(error) => Check::problem(
            "linker",
            format!("a trial program can't be written: {error}"),
            "see that the folder for temporary files has room and can be written to",
        ),
    }
}

fn build_trial(toolchain: &Toolchain) -> std::io::Result<Answer> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"trial\"\nedition = \"2024\"\n\n[workspace]\n")?;
    fs::create_dir(folder.path().join("src"))?;
    fs::write(folder.path().join("src").join("main.rs"), "fn main() {}\n")?;
    let mut command = Command::new(&toolchain.cargo);
    command
        .args(["build", "--offline", "--target", &toolchain.host])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", "target")
        .env("CARGO_BUILD_BUILD_DIR", "target")
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTFLAGS", Linker::find(&toolchain.host).flags())
        .env("CARGO_TERM_COLOR", "never");
    Ok(programs::ask_command(&mut command, LINKS_WITHIN))
}

/// The line that says what is wrong, out of all that cargo says.
fn complaint(said: &str) -> &str {
    said.lines().find(|line| line.starts_with("error")).unwrap_or_else(|| first_line(said))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Every cell is linked, so this is a part of what a cell takes.
fn speed(host: &str, mold: Option<PathBuf>, lld: Option<PathBuf>) -> Check {
    let what = "linker speed";
    let at = |path: Option<PathBuf>| path.map_or(String::new(), |path| format!(" ({})", path.display()));
    match Linker::choose(host, mold.is_some(), lld.is_some()) {
        Linker::Mold => Check::ok(what, format!("mold is used{}", at(mold))),
        Linker::Lld => Check::ok(what, format!("lld is used{}", at(lld))),
        Linker::System if host == BRINGS_LLD => Check::ok(what, "rustc's own lld is used, which is fast"),
        Linker::System if cfg!(any(windows, target_os = "macos")) => Check::ok(what, "the system's linker is used"),
        Linker::System => {
            Check::note(what, "the system's linker is used", "with mold or lld on the PATH, cells link faster")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_fastest_linker_is_named() {
        let speed = |host, mold: bool, lld: bool| {
            let check =
                super::speed(host, mold.then(|| PathBuf::from("/bin/mold")), lld.then(|| PathBuf::from("/bin/ld.lld")));
            (check.mark, check.found)
        };
        let arm = "aarch64-unknown-linux-gnu";
        assert_eq!(speed(arm, true, true), (Mark::Ok, "mold is used (/bin/mold)".to_string()));
        assert_eq!(speed(arm, false, true), (Mark::Ok, "lld is used (/bin/ld.lld)".to_string()));
        assert!(speed(BRINGS_LLD, false, true).1.contains("rustc's own lld"));
        assert_eq!(speed(arm, false, false).0, Mark::Note);
    }

    #[test]
    fn the_line_with_the_error_is_told() {
        assert_eq!(
            complaint("   Compiling trial\nerror: linker `cc` not found\n  |\n"),
            "error: linker `cc` not found"
        );
        assert_eq!(complaint("something else\nmore"), "something else");
    }

    #[test]
    fn no_compiler_is_a_problem() {
        let check = compiler(None);
        assert_eq!((check.mark, check.advice.as_deref()), (Mark::Problem, Some(ADVICE)));
    }
}
