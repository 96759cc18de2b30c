//! The file `kernel.json`, by which Jupyter knows how to start the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::notebook::write_file;

/// How notebooks name the kernel.
pub const KERNEL_NAME: &str = "candlescope";
/// How people see it.
pub const DISPLAY_NAME: &str = "Rust (candlescope)";

/// What candlescope needs to know of its kernel.json.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelSpec {
    /// The candlescope that Jupyter starts.
    pub program: PathBuf,
    /// Features of the session library.
    pub features: Vec<String>,
}

impl KernelSpec {
    /// Reads the kernel.json in a kernel's folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = file(folder);
        let text = fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{} does not name a program to start; run `candlescope install` again", path.display())
        })
    }

    /// Writes the kernel.json in a kernel's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut argv = vec![
            self.program.display().to_string(),
            "kernel".into(),
            "--control-file".into(),
            "{connection_file}".into(),
        ];
        if !self.features.is_empty() {
            argv.extend(["--features".to_string(), self.features.join(",")]);
        }
        let spec = json!({
            "argv": argv,
            "display_name": DISPLAY_NAME,
            "language": "rust",
            "interrupt_mode": "message",
            "metadata": { "debugger": false },
        });
        write_file(&file(folder), &(serde_json::to_string_pretty(&spec)? + "\n"))
    }

    /// The features in words.
    pub fn features_in_words(&self) -> String {
        features_in_words(&self.features)
    }

    fn parse(text: &str) -> Option<Self> {
        let spec: Value = serde_json::from_str(text).ok()?;
        let argv: Vec<&str> = spec["argv"].as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        let (program, arguments) = argv.split_first()?;
        let mut features = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let names = match argument.strip_prefix("--features") {
                Some("") => arguments.next().copied(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            features.extend(names.iter().flat_map(|names| names.split(',')).map(str::to_string));
        }
        Some(Self { program: PathBuf::from(program), features })
    }
}

/// Features of a session library in words.
pub fn features_in_words(features: &[String]) -> String {
    match features {
        [] => "no features".to_string(),
        [one] => format!("feature {one}"),
        several => format!("features {}", several.join(", ")),
    }
}

/// Where the description is in a kernel's folder.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("kernel.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for features in [vec![], vec!["cuda".to_string(), "more".to_string()]] {
            let spec = KernelSpec { program: PathBuf::from("/bin/candlescope"), features };
            spec.write(folder.path()).unwrap();
            assert_eq!(KernelSpec::read(folder.path()).unwrap(), spec);
        }
    }

    #[test]
    fn features_may_stand_behind_an_equals_sign() {
        let spec =
            KernelSpec::parse(r#"{"argv": ["c", "kernel", "--features=cuda,x", "--control-file", "f"]}"#).unwrap();
        assert_eq!(spec.features, ["cuda", "x"]);
    }

    #[test]
    fn a_description_without_a_program_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{", "{}", r#"{"argv": []}"#, r#"{"argv": [1]}"#] {
            fs::write(file(folder.path()), text).unwrap();
            let error = format!("{:#}", KernelSpec::read(folder.path()).unwrap_err());
            assert!(error.contains("kernel.json") && error.contains("`candlescope install`"), "{text}: {error}");
        }
    }
}
