//! `candlescope lab`, with scripts in place of Jupyter and of the toolchain.
#![cfg(unix)]

mod machine;

use std::fs;
use std::path::Path;

use machine::{Machine, stderr, stdout};

/// A JupyterLab that writes down how it was called, and ends with status 7.
fn jupyter_lab(machine: &Machine) {
    let script = "[ \"$1\" != --version ] || { echo 4.4.1; exit 0; }\necho \"$@\" >>LOG\nread line; echo \"heard $line\"; exit 7";
    machine.program("jupyter-lab", &script.replace("LOG", &machine.log("lab")));
}

#[test]
fn everything_is_made_ready_once_and_jupyter_takes_over() {
    let machine = Machine::new();
    jupyter_lab(&machine);
    fs::write(machine.path("input"), "a word\n").unwrap();
    fs::create_dir(machine.path("my notes")).unwrap();
    let lab = || {
        let input = fs::File::open(machine.path("input")).unwrap();
        machine.command(&["lab", "my notes", "--", "--no-browser", "--port=1"]).stdin(input).output().unwrap()
    };

    let output = lab();
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert!(stdout(&output).contains("heard a word"), "{}", stdout(&output));
    assert!(machine.kernel_json().is_file());
    assert_eq!(machine.builds(), 1);
    let folder = machine.path("my notes").canonicalize().unwrap();
    let call = format!("{} --no-browser --port=1", folder.display());
    assert_eq!(machine.calls("lab"), std::slice::from_ref(&call));

    // The second time everything is there.
    let again = lab();
    assert_eq!(again.status.code(), Some(7), "{}", stderr(&again));
    assert!(!stdout(&again).contains("Jupyter knows the kernel"), "{}", stdout(&again));
    assert_eq!(machine.builds(), 1);
    assert_eq!(machine.calls("lab"), [call.clone(), call]);
}

#[test]
fn the_notebooks_of_the_source_are_opened_and_an_old_library_is_built() {
    let machine = Machine::new();
    jupyter_lab(&machine);
    machine.register(Path::new(env!("CARGO_BIN_EXE_candlescope")), "cuda");
    let before = fs::read_to_string(machine.kernel_json()).unwrap();
    assert_eq!(machine.candlescope(&["lab"]).status.code(), Some(7));
    assert_eq!(fs::read_to_string(machine.kernel_json()).unwrap(), before, "it is registered already");
    assert_eq!(machine.builds(), 1);
    let notebooks = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("notebooks");
    assert_eq!(machine.calls("lab"), [notebooks.display().to_string()]);
}

#[test]
fn a_kernel_whose_program_is_gone_is_registered_again_with_its_features() {
    let machine = Machine::new();
    jupyter_lab(&machine);
    machine.register(Path::new("/no/such/candlescope"), "cuda");
    assert_eq!(machine.candlescope(&["lab", "."]).status.code(), Some(7));
    let spec = fs::read_to_string(machine.kernel_json()).unwrap();
    assert!(!spec.contains("/no/such/") && spec.contains("\"cuda\""), "{spec}");
}

#[test]
fn without_jupyter_nothing_is_done() {
    let machine = Machine::new();
    let output = machine.candlescope(&["lab"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    assert!(
        ["uv tool install jupyterlab", "pipx", "pip install", "candlescope run", "candlescope repl"]
            .iter()
            .all(|part| errors.contains(part)),
        "{errors}"
    );
    assert!(!machine.kernel_json().exists() && !machine.path("cache").exists());
    assert_eq!(machine.calls("cargo"), [""; 0]);
}

#[test]
fn a_jupyter_that_does_not_work_is_named_and_the_next_is_taken() {
    let machine = Machine::new();
    machine.program("jupyter-lab", "echo 'No module named jupyterlab' >&2; exit 1");
    let errors = stderr(&machine.candlescope(&["lab"]));
    assert!(errors.contains("jupyter-lab is there, but does not work: No module named jupyterlab"), "{errors}");

    machine.program("python3", &format!("echo \"$@\" >>{}; exit 3", machine.log("python")));
    assert_eq!(machine.candlescope(&["lab", "."]).status.code(), Some(1), "python has no JupyterLab");
    machine.program("python3", &format!("echo \"$@\" >>{}", machine.log("python")));
    assert_eq!(machine.candlescope(&["lab", "."]).status.code(), Some(0));
    let calls = machine.calls("python");
    assert!(calls.last().is_some_and(|call| call.starts_with("-m jupyterlab /")), "{calls:?}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let machine = Machine::new();
    jupyter_lab(&machine);
    let output = machine.candlescope(&["lab", "no/such"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no/such"), "{}", stderr(&output));
    assert!(!machine.kernel_json().exists());
}
