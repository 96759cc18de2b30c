//! `candlescope doctor`, on this machine and on one of scripts.
#![cfg(unix)]

mod machine;

use std::fs;
use std::path::Path;

use machine::{Machine, stderr, stdout};

/// The line about `what`, with its advice.
fn line(report: &str, mark: &str, what: &str) -> String {
    let start = format!("{mark:<7}  {what:<16}  ");
    let mut lines = report.lines().skip_while(|line| !line.starts_with(&start));
    let line = lines.next().unwrap_or_else(|| panic!("no line '{start}' in:\n{report}"));
    let advice = lines.next().filter(|line| line.trim_start().starts_with("-> ")).unwrap_or_default();
    format!("{line}\n{advice}")
}

#[test]
fn this_machine_is_well() {
    let machine = Machine::new();
    let mut command = machine.command(&["doctor"]);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let output = command.output().unwrap();
    let report = stdout(&output);
    assert!(output.status.success(), "{report}{}", stderr(&output));
    assert!(!report.contains('\u{1b}'), "colours are for terminals");
    for what in ["rustc", "cargo", "standard library", "linker", "source"] {
        line(&report, "ok", what);
    }
    let library = line(&report, "note", "session library");
    assert!(library.contains("not built yet") && library.contains("`candlescope install`"), "{library}");
    assert!(line(&report, "ok", "cache").contains("nothing in"), "{report}");
    assert!(report.trim_end().lines().last().is_some_and(|last| last.starts_with("Notebooks work")), "{report}");
}

#[test]
fn what_keeps_notebooks_from_working_is_told_and_is_the_exit_status() {
    let machine = Machine::new();
    machine.rust("1.60.0");
    machine.program("cargo", "[ \"$1\" = build ] || exit 0; echo 'error: linker `cc` not found' >&2; exit 101");
    let output = machine.command(&["doctor"]).env("CANDLESCOPE_SOURCE", "/no/such/clone").output().unwrap();
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{report}{}", stderr(&output));
    assert!(line(&report, "problem", "rustc").contains("rustup update"), "{report}");
    assert!(line(&report, "problem", "standard library").contains("rustup"), "{report}");
    assert!(line(&report, "problem", "C compiler").contains("install"), "{report}");
    assert!(line(&report, "problem", "linker").contains("linker `cc` not found"), "{report}");
    assert!(line(&report, "problem", "source").contains("CANDLESCOPE_SOURCE"), "{report}");
    assert!(report.ends_with("problems keep notebooks from working.\n"), "{report}");

    fs::remove_file(machine.path("bin/rustc")).unwrap();
    let none = stdout(&machine.candlescope(&["doctor"]));
    assert!(line(&none, "problem", "rustc").contains("install Rust with rustup"), "{none}");
}

#[test]
fn a_missing_jupyter_is_a_note() {
    let machine = well();
    let output = machine.candlescope(&["doctor"]);
    let report = stdout(&output);
    assert!(output.status.success(), "{report}");
    assert!(line(&report, "note", "Jupyter").contains("uv tool install jupyterlab"), "{report}");
    assert!(line(&report, "note", "kernel").contains("candlescope install"), "{report}");
    assert!(line(&report, "ok", "GPU").contains("the CPU is used"), "{report}");
}

#[test]
fn kernels_libraries_and_gpus_are_told() {
    let machine = well();
    machine.program("jupyter", "printf 'jupyter_core     : 5.8.1\\njupyterlab       : 4.4.1\\n'");
    machine.program("nvidia-smi", "echo 'NVIDIA H100'; echo 'NVIDIA H100'");
    machine.program("nvcc", "echo 'Cuda compilation tools, release 12.4, V12.4.131'");
    assert!(machine.candlescope(&["install", "--features", "cuda"]).status.success());
    let report = stdout(&machine.candlescope(&["doctor"]));
    assert!(line(&report, "ok", "Jupyter").contains("JupyterLab 4.4.1"), "{report}");
    let kernel = line(&report, "ok", "kernel");
    assert!(kernel.contains("for this user") && kernel.contains("feature cuda"), "{kernel}");
    assert!(line(&report, "ok", "session library").contains("up to date"), "{report}");
    assert!(line(&report, "ok", "cache").contains("1 session library"), "{report}");
    assert!(line(&report, "ok", "GPU").contains("NVIDIA H100, NVIDIA H100, nvcc 12.4"), "{report}");
    assert!(report.contains("no live sessions"), "{report}");

    machine.register(Path::new("/no/such/candlescope"), "");
    let report = stdout(&machine.candlescope(&["doctor"]));
    let gone = line(&report, "note", "kernel");
    assert!(gone.contains("is gone") && gone.contains("run `candlescope install` again"), "{gone}");
    assert!(line(&report, "note", "cache").contains("candlescope clean"), "no kernel needs cuda any more: {report}");
}

/// A machine of scripts that keeps no notebook from working.
fn well() -> Machine {
    let machine = Machine::new();
    machine.program("cc", "echo 'cc 12'");
    let library = format!("{}std-0{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    fs::write(machine.path("libraries").join(library), "").unwrap();
    machine
}
