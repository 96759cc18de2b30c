//! Notebook files: nbformat 4, read with any minor version and written as 4.5.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::session::{Failure, Output};

/// A notebook. What candlescope does not know about it is kept as it is.
#[derive(Debug, Clone)]
pub struct Notebook {
    root: Map<String, Value>,
    pub cells: Vec<Cell>,
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    fields: Map<String, Value>,
    pub kind: Kind,
    pub source: String,
    /// As nbformat has them; only code cells have any.
    pub outputs: Vec<Value>,
    /// Which of them are the live pictures.
    live: HashMap<u64, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Code,
    Markdown,
    Raw,
}

impl Notebook {
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a notebook", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let mut root: Map<String, Value> = serde_json::from_str(text).context("it is not a JSON object")?;
        match root.get("nbformat").and_then(Value::as_u64) {
            Some(4) => {}
            Some(other) => bail!("it has format {other}; open and save it in a current Jupyter to get format 4"),
            None => bail!("it has no field \"nbformat\""),
        }
        let Some(Value::Array(cells)) = root.remove("cells") else { bail!("it has no list \"cells\"") };
        let mut ids = BTreeSet::new();
        let cells = cells
            .into_iter()
            .enumerate()
            .map(|(i, cell)| Cell::parse(cell, i, &mut ids).with_context(|| format!("cell {}", i + 1)))
            .collect::<Result<_>>()?;
        Ok(Self { root, cells })
    }

    /// Says which kernel made it, and in which language it is.
    pub fn set_kernel(&mut self, name: &str, display_name: &str) {
        let metadata = self.root.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata
                .insert("kernelspec".into(), json!({ "name": name, "display_name": display_name, "language": "rust" }));
            metadata.insert(
                "language_info".into(),
                json!({
                    "name": "rust",
                    "file_extension": ".rs",
                    "mimetype": "text/rust",
                    "pygments_lexer": "rust",
                    "codemirror_mode": "rust",
                }),
            );
        }
    }

    /// The notebook as JSON, indented as Jupyter does.
    pub fn to_json(&self) -> String {
        let mut root = self.root.clone();
        root.entry("metadata").or_insert_with(|| json!({}));
        root.insert("nbformat".into(), json!(4));
        root.insert("nbformat_minor".into(), json!(5));
        root.insert("cells".into(), self.cells.iter().map(Cell::to_value).collect());
        let mut text = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
        // Writing a map of values to memory has no way to fail.
        let _ = serde::Serialize::serialize(&Value::Object(root), &mut serializer);
        text.push(b'\n');
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        write_file(path, &self.to_json())
    }
}

/// Writes beside the file first, so that a full disk never leaves half a notebook.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let why = || format!("{} can't be written", path.display());
    fs::create_dir_all(folder).with_context(why)?;
    let mut file = tempfile::Builder::new().prefix(".candlescope-").tempfile_in(folder).with_context(why)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(why)?;
    let file = file.persist(path).map_err(|error| error.error).with_context(why)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644)).with_context(why)?;
    }
    drop(file);
    Ok(())
}

impl Cell {
    fn parse(cell: Value, index: usize, ids: &mut BTreeSet<String>) -> Result<Self> {
        let Value::Object(mut fields) = cell else { bail!("it is not an object") };
        let kind = match fields.get("cell_type").and_then(Value::as_str) {
            Some("code") => Kind::Code,
            Some("markdown") => Kind::Markdown,
            Some("raw") => Kind::Raw,
            other => bail!("its cell_type is {}", other.map_or("missing".to_string(), |kind| format!("'{kind}'"))),
        };
        let source = match fields.remove("source") {
            Some(source) => lines_to_text(&source).context("its source is neither text nor a list of lines")?,
            None => bail!("it has no source"),
        };
        let given = fields.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_string);
        let mut id = given.unwrap_or_else(|| format!("cell-{}", index + 1));
        while !ids.insert(id.clone()) {
            id = format!("{id}-{}", index + 1);
        }
        fields.insert("id".into(), json!(id));
        fields.entry("metadata").or_insert_with(|| json!({}));
        let outputs = match fields.remove("outputs") {
            Some(Value::Array(outputs)) => outputs,
            Some(_) => bail!("its outputs are not a list"),
            None => Vec::new(),
        };
        Ok(Self { fields, kind, source, outputs, live: HashMap::new() })
    }

    /// Forgets what an earlier run left.
    pub fn clear(&mut self) {
        self.outputs.clear();
        self.live.clear();
        self.fields.insert("execution_count".into(), Value::Null);
    }

    pub fn set_execution_count(&mut self, count: u64) {
        self.fields.insert("execution_count".into(), json!(count));
    }

    /// Adds an output; text that continues the stream before it is joined to that.
    pub fn push(&mut self, output: &Output, count: u64) {
        match output {
            Output::Stdout(text) => self.push_stream("stdout", text),
            Output::Stderr(text) => self.push_stream("stderr", text),
            Output::Display(data) => {
                self.outputs.push(json!({ "output_type": "display_data", "data": bundle(data), "metadata": {} }))
            }
            Output::Result(data) => self.outputs.push(json!({
                "output_type": "execute_result",
                "data": bundle(data),
                "metadata": {},
                "execution_count": count,
            })),
            Output::Live { id, data, .. } => {
                let at = *self.live.entry(*id).or_insert(self.outputs.len());
                let display = json!({ "output_type": "display_data", "data": bundle(data), "metadata": {} });
                match self.outputs.get_mut(at) {
                    Some(earlier) => *earlier = display,
                    None => self.outputs.push(display),
                }
            }
            // A file shows how far things came, not how far they were.
            Output::Progress(_) => {}
        }
    }

    pub fn push_failure(&mut self, failure: &Failure) {
        self.outputs.push(json!({
            "output_type": "error",
            "ename": failure.name,
            "evalue": failure.message,
            "traceback": failure.details,
        }));
    }

    pub fn execution_count(&self) -> Option<u64> {
        self.fields.get("execution_count").and_then(Value::as_u64)
    }

    /// The first line that says something, for progress.
    pub fn first_line(&self) -> &str {
        self.source.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
    }

    fn push_stream(&mut self, name: &str, text: &str) {
        if let Some(last) = self.outputs.last_mut()
            && last["output_type"] == "stream"
            && last["name"] == name
        {
            let joined = lines_to_text(&last["text"]).unwrap_or_default() + text;
            last["text"] = text_to_lines(&overwritten(&joined));
            return;
        }
        let text = text_to_lines(&overwritten(text));
        self.outputs.push(json!({ "output_type": "stream", "name": name, "text": text }));
    }

    fn to_value(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("source".into(), text_to_lines(&self.source));
        if self.kind == Kind::Code {
            fields.insert("outputs".into(), Value::Array(self.outputs.clone()));
            fields.entry("execution_count").or_insert(Value::Null);
        }
        Value::Object(fields)
    }
}

/// What is left of lines that carriage returns took back to their start. A last line that was only taken back waits for what
/// comes.
fn overwritten(text: &str) -> String {
    if !text.contains('\r') {
        return text.to_string();
    }
    let line = |line: &str| {
        let (body, end) = match line.strip_suffix('\n') {
            Some(body) => (body.strip_suffix('\r').unwrap_or(body), "\n"),
            None => (line, ""),
        };
        let kept = match body.strip_suffix('\r') {
            Some(before) => before.rfind('\r').map_or(body, |at| &body[at + 1..]),
            None => body.rfind('\r').map_or(body, |at| &body[at + 1..]),
        };
        format!("{kept}{end}")
    };
    text.split_inclusive('\n').map(line).collect()
}

/// A mime bundle as Jupyter wants it: JSON types as JSON, images without line breaks, the rest as text.
pub fn mime_value(mime: &str, text: &str) -> Value {
    if mime.ends_with("json")
        && let Ok(value) = serde_json::from_str(text)
    {
        return value;
    }
    if mime.starts_with("image/") && mime != "image/svg+xml" {
        return Value::String(text.split_whitespace().collect());
    }
    Value::String(text.to_string())
}

fn bundle(data: &BTreeMap<String, String>) -> Value {
    let entry = |(mime, text): (&String, &String)| {
        let value = match mime_value(mime, text) {
            Value::String(text) if !mime.starts_with("image/") => text_to_lines(&text),
            other => other,
        };
        (mime.clone(), value)
    };
    Value::Object(data.iter().map(entry).collect())
}

/// nbformat's two ways to write text.
pub fn lines_to_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(lines) => lines.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|lines| lines.concat()),
        _ => None,
    }
}

fn text_to_lines(text: &str) -> Value {
    text.split_inclusive('\n').map(Value::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r##"{
        "cells": [
            {"cell_type": "markdown", "id": "intro", "metadata": {"tags": ["a"]}, "source": ["# Title\n", "text"]},
            {"cell_type": "code", "metadata": {}, "source": "1 + 1", "outputs": [], "execution_count": null}
        ],
        "metadata": {"authors": ["someone"]}, "nbformat": 4, "nbformat_minor": 2
    }"##;

    #[test]
    fn carriage_returns_overwrite_their_line() {
        assert_eq!(overwritten("a\n10 %\r20 %\r30 %\nb"), "a\n30 %\nb");
        assert_eq!(overwritten("10 %\r20 %\r"), "20 %\r");
        assert_eq!(overwritten("dos\r\n"), "dos\n");
        let mut cell = Notebook::parse(CODE_CELL).unwrap().cells.remove(0);
        for text in ["10 %\r", "20 %\r", "done\n"] {
            cell.push(&Output::Stdout(text.into()), 1);
        }
        assert_eq!(cell.outputs[0]["text"], json!(["done\n"]));
    }

    const CODE_CELL: &str = r#"{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code", "id": "a",
        "metadata": {}, "source": "1", "outputs": [], "execution_count": null}]}"#;

    #[test]
    fn what_is_not_known_is_kept() {
        let mut notebook = Notebook::parse(SMALL).unwrap();
        notebook.set_kernel("candlescope", "Rust (candlescope)");
        let again: Value = serde_json::from_str(&notebook.to_json()).unwrap();
        assert_eq!(again["nbformat_minor"], 5);
        assert_eq!(again["metadata"]["authors"][0], "someone");
        assert_eq!(again["metadata"]["kernelspec"]["name"], "candlescope");
        assert_eq!(again["cells"][0]["id"], "intro");
        assert_eq!(again["cells"][0]["metadata"]["tags"][0], "a");
        assert_eq!(again["cells"][0]["source"], json!(["# Title\n", "text"]));
        assert_eq!(again["cells"][1]["id"], "cell-2");
    }

    #[test]
    fn outputs_are_written_as_nbformat_has_them() {
        let mut notebook = Notebook::parse(SMALL).unwrap();
        let cell = &mut notebook.cells[1];
        cell.clear();
        cell.set_execution_count(1);
        cell.push(&Output::Stdout("a\n".into()), 1);
        cell.push(&Output::Stdout("b".into()), 1);
        let data = BTreeMap::from([
            ("text/plain".to_string(), "x\ny".to_string()),
            ("image/png".to_string(), "aGk\n=".to_string()),
            ("application/json".to_string(), "{\"a\": 1}".to_string()),
        ]);
        cell.push(&Output::Result(data), 1);
        cell.push_failure(&Failure { name: "panic".into(), message: "no".into(), details: vec!["panic: no".into()] });
        let outputs = &cell.outputs;
        assert_eq!(outputs[0], json!({"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]}));
        assert_eq!(outputs[1]["data"]["image/png"], "aGk=");
        assert_eq!(outputs[1]["data"]["text/plain"], json!(["x\n", "y"]));
        assert_eq!(outputs[1]["data"]["application/json"]["a"], 1);
        assert_eq!(outputs[1]["execution_count"], 1);
        assert_eq!(outputs[2]["ename"], "panic");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let why = |text: &str| format!("{:#}", Notebook::parse(text).unwrap_err());
        assert!(why("{").contains("JSON"));
        assert!(why("{}").contains("nbformat"));
        assert!(why(r#"{"nbformat": 3, "worksheets": []}"#).contains("format 3"));
        assert!(why(r#"{"nbformat": 4}"#).contains("cells"));
        let bad = r#"{"nbformat": 4, "cells": [{"cell_type": "code", "source": 5}]}"#;
        assert!(why(bad).contains("cell 1"), "{}", why(bad));
    }
}
