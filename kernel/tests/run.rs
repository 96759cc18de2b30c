//! `candlescope run`, from the outside. The first test to get there builds the session library in the user's cache,
//! where normal use finds it too; the others wait.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Run {
    output: Output,
    folder: tempfile::TempDir,
}

impl Run {
    fn errors(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn notebook(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.path().join("out.ipynb")).expect("the executed notebook");
        serde_json::from_str(&text).expect("JSON")
    }

    fn outputs(&self, cell: usize) -> Vec<Value> {
        self.notebook()["cells"][cell]["outputs"].as_array().cloned().unwrap_or_default()
    }

    fn page(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out.html")).expect("the page")
    }
}

fn notebook(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notebooks").join(name)
}

fn run(notebook: &Path, more: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .arg("run")
        .arg(notebook)
        .arg("--output")
        .arg(folder.path().join("out.ipynb"))
        .arg("--html")
        .arg(folder.path().join("out.html"))
        .args(more)
        .output()
        .unwrap();
    Run { output, folder }
}

fn text(value: &Value) -> String {
    match value {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_string(),
    }
}

#[test]
fn a_notebook_runs_and_keeps_what_it_shows() {
    let run = run(&notebook("passing.ipynb"), &[]);
    assert!(run.output.status.success(), "{}", run.errors());
    assert!(run.errors().contains("All 8 cells ran"), "{}", run.errors());

    let executed = run.notebook();
    assert_eq!(executed["metadata"]["kernelspec"]["name"], "candlescope");
    assert_eq!(executed["cells"][3]["execution_count"], 3);

    let streams = run.outputs(2);
    let of = |name: &str| streams.iter().filter(|o| o["name"] == name).map(|o| text(&o["text"])).collect::<String>();
    assert_eq!(of("stdout"), "3 numbers\n");
    assert_eq!(of("stderr"), "a warning\n");

    let sum = run.outputs(3);
    assert_eq!(sum[0]["output_type"], "execute_result");
    assert_eq!(text(&sum[0]["data"]["text/plain"]), "6.0");

    let dot = run.outputs(4);
    assert_eq!(dot.len(), 1, "one bundle: {dot:?}");
    assert_eq!(text(&dot[0]["data"]["text/plain"]), "a dot");
    assert!(text(&dot[0]["data"]["image/png"]).starts_with("iVBOR"));

    let kinds: Vec<String> = run.outputs(5).iter().map(|o| text(&o["output_type"])).collect();
    assert_eq!(kinds, ["display_data", "stream", "execute_result"], "displays and text keep their order");

    // A flushed line without a newline neither hangs the cell nor slips into the next one.
    assert_eq!(text(&run.outputs(6)[0]["text"]), "no newline");
    let after = run.outputs(7);
    assert_eq!(after.len(), 1, "a loop has no value to show: {after:?}");
    assert_eq!(text(&after[0]["text"]), "after\n");

    let page = run.page();
    assert!(page.contains("<title>A small notebook</title>"));
    assert!(page.contains("src=\"data:image/png;base64,iVBOR"));
    let shown: Vec<Value> = (0..9).flat_map(|cell| run.outputs(cell)).collect();
    assert!(!format!("{shown:?}").contains("EVCXR"), "no markers are left: {shown:?}");
}

#[test]
fn a_panic_stops_the_run() {
    let run = run(&notebook("panic.ipynb"), &[]);
    assert_eq!(run.output.status.code(), Some(1));
    assert!(run.errors().contains("Cell 2 of 3 failed"), "{}", run.errors());
    assert!(run.errors().contains("panic: there is no layer 9"), "{}", run.errors());
    let outputs = run.outputs(1);
    assert_eq!(text(&outputs[0]["text"]), "before\n");
    let error = outputs.last().unwrap();
    assert_eq!(error["output_type"], "error");
    assert_eq!(error["ename"], "panic");
    assert_eq!(error["evalue"], "there is no layer 9");
    assert!(run.outputs(2).is_empty(), "what comes after is not run");
    assert!(run.page().contains("panic: there is no layer 9"));
}

#[test]
fn an_error_through_the_question_mark_stops_the_run() {
    let run = run(&notebook("question_mark.ipynb"), &[]);
    assert_eq!(run.output.status.code(), Some(1));
    assert!(run.errors().contains("Cell 2 of 2 failed"), "{}", run.errors());
    assert_eq!(run.outputs(1)[0]["evalue"], "invalid digit found in string");
}

#[test]
fn a_compile_error_points_at_the_cells_own_line() {
    let run = run(&notebook("compile_error.ipynb"), &[]);
    assert_eq!(run.output.status.code(), Some(1));
    let errors = run.errors();
    assert!(errors.contains("Cell 2 of 2 failed") && errors.contains("E0277"), "{errors}");
    assert!(errors.contains("1 | let y: i32 = x + \"two\";"), "{errors}");
    assert_eq!(run.outputs(1)[0]["ename"], "compile error");
}

#[test]
fn an_abort_is_told() {
    let run = run(&notebook("abort.ipynb"), &[]);
    assert_eq!(run.output.status.code(), Some(1));
    assert!(run.errors().contains("it aborted"), "{}", run.errors());
    let outputs = run.outputs(0);
    assert_eq!(text(&outputs[0]["text"]), "last words\n");
    assert_eq!(outputs[1]["ename"], "crash");
}

#[test]
fn a_cell_that_takes_too_long_is_stopped() {
    let run = run(&notebook("endless.ipynb"), &["--timeout", "20"]);
    assert_eq!(run.output.status.code(), Some(1));
    assert!(run.errors().contains("longer than 20 s"), "{}", run.errors());
    assert_eq!(text(&run.outputs(0)[0]["text"]), "on and on\n");
}

#[test]
fn a_file_that_is_missing_or_no_notebook_is_named() {
    let run_missing = run(Path::new("no-such.ipynb"), &[]);
    assert_eq!(run_missing.output.status.code(), Some(1));
    assert!(run_missing.errors().contains("no-such.ipynb can't be read"), "{}", run_missing.errors());

    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.ipynb");
    std::fs::write(&bad, "{\"nbformat\": 3}").unwrap();
    let run_bad = run(&bad, &[]);
    assert_eq!(run_bad.output.status.code(), Some(1));
    assert!(run_bad.errors().contains("bad.ipynb is not a notebook: it has format 3"), "{}", run_bad.errors());
}

#[test]
fn a_source_that_is_gone_says_what_to_set() {
    let output = Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .args(["run"])
        .arg(notebook("passing.ipynb"))
        .env("CANDLESCOPE_SOURCE", "/no/such/clone")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("CANDLESCOPE_SOURCE"), "{errors}");
}
