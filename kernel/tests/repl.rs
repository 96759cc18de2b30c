//! `candlescope repl`, from the outside: cells through its standard input.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn repl(cells: &str, options: &[&str]) -> Output {
    let mut repl = Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .arg("repl")
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    repl.stdin.take().unwrap().write_all(cells.as_bytes()).unwrap();
    repl.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn cells_share_variables_and_say_no_more_than_their_outputs() {
    let output = repl(
        r#"
let words = ["a", "b"]
    .map(str::to_uppercase);
for word in &words {
    println!("{word}");
}
eprintln!("a warning");
print!("no newline");

#[derive(Debug)]
struct Point { x: usize }
Point { x: words.len() }
:vars
:quit
panic!("never run")
"#,
        &[],
    );
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(said(&output), "A\nB\nno newline\nPoint { x: 2 }\nwords: [String; 2]\n");
    assert!(errors(&output).ends_with("a warning\n"), "{}", errors(&output));
}

#[test]
fn the_first_failure_ends_it_with_status_1() {
    let output = repl("1 + 1\nlet x: i32 = \"two\";\n3\n", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said(&output), "2\n");
    let errors = errors(&output);
    assert!(errors.contains("error[E0308]") && errors.contains("1 | let x: i32 = \"two\";"), "{errors}");
    assert!(!errors.contains('\u{1b}'), "no colours outside of a terminal: {errors}");

    let output = repl("\"12x\".parse::<i32>()?\n3\n", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said(&output), "");
    assert!(self::errors(&output).ends_with("error: invalid digit found in string\n"), "{}", self::errors(&output));
}

#[test]
fn a_display_is_a_picture_where_that_is_asked_for() {
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";
    let content = |mime: &str, text: &str| format!("EVCXR_BEGIN_CONTENT {mime}\\n{text}\\nEVCXR_END_CONTENT\\n");
    let cell = format!("print!(\"{}{}\");\n", content("text/plain", "a dot"), content("image/png", png));

    let picture = repl(&cell, &["--pictures", "kitty"]);
    assert_eq!(said(&picture), format!("\u{1b}_Gf=100,a=T,q=2,c=1,m=0;{png}\u{1b}\\\n"), "{}", errors(&picture));
    let text = repl(&cell, &[]);
    assert_eq!(said(&text), "a dot\n", "{}", errors(&text));
}

#[test]
fn documentation_is_shown_for_a_name() {
    let output = repl("fn layers() -> usize { 2 }\n?layers\nString?\n", &[]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(said(&output).contains("fn layers() -> usize"), "{}", said(&output));
    assert!(said(&output).contains("growable"), "{}", said(&output));
}
