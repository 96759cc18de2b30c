//! `candlescope models`, from the outside.

use std::process::{Command, Output};

fn models(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candlescope")).arg("models").args(arguments).output().unwrap()
}

#[test]
fn a_filter_gives_a_table() {
    let output = models(&["gemma-2-2b"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        ["google/gemma-2-2b-it", "gemma2", "2.6B", "any other repository"].iter().all(|part| text.contains(part)),
        "{text}"
    );
    assert!(!text.contains("gpt2"), "{text}");
}

#[test]
fn without_a_filter_all_are_listed() {
    let output = models(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() > 250);
}

#[test]
fn a_filter_that_fits_nothing_is_an_error_with_near_names() {
    let output = models(&["gema-2-2b"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("did you mean gemma-2-2b?") && text.contains("known family"), "{text}");
}
