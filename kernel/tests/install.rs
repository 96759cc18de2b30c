//! `candlescope install` and `uninstall`, in a folder that stands for an environment.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn candlescope(arguments: &[&str], prefix: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candlescope")).args(arguments).arg("--prefix").arg(prefix).output().unwrap()
}

#[test]
fn the_kernel_is_registered_and_removed() {
    let prefix = tempfile::tempdir().unwrap();
    let output = candlescope(&["install", "--no-build", "--features", "cuda"], prefix.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let folder = prefix.path().join("share/jupyter/kernels/candlescope");
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("kernel.json")).unwrap()).unwrap();
    assert_eq!(spec["display_name"], "Rust (candlescope)");
    assert_eq!(spec["language"], "rust");
    let argv: Vec<&str> = spec["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(Path::new(argv[0]).is_file(), "{argv:?}");
    assert_eq!(argv[1..], ["kernel", "--control-file", "{connection_file}", "--features", "cuda"]);

    assert!(candlescope(&["uninstall"], prefix.path()).status.success());
    assert!(!folder.exists());
    let again = candlescope(&["uninstall"], prefix.path());
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stdout).contains("no kernel to remove"));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let output = candlescope(&["install", "--no-build"], &file);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("can't be written") && errors.contains("--prefix"), "{errors}");
}
