//! `candlescope tokens`, from the outside.

use std::process::{Command, Output};

fn tokens(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candlescope")).arg("tokens").args(arguments).output().unwrap()
}

#[test]
fn a_leading_space_changes_the_tokens() {
    let output = tokens(&["Claire"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Cl|aire") && text.contains("'·Claire' (with a space in front) is 1 token"), "{text}");
}

#[test]
fn a_text_that_looks_like_an_option_is_a_text() {
    let output = tokens(&["--model", "gpt2", "--", "--help"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("help"));
}

#[test]
fn a_model_that_is_not_there_is_an_error() {
    let output = tokens(&["Claire", "--model", "/no/such/folder"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/folder"));
}
