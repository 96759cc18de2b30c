//! How cargo has rustc compile a session's crate, so that it can be done again without cargo.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ra_ap_syntax::ast::HasName;
use ra_ap_syntax::{AstNode, Edition, SourceFile, SyntaxKind, SyntaxNode, ast};
use serde::{Deserialize, Serialize};

/// The record's name in the crate's folder.
pub const FILE: &str = "rustc.json";
/// What the compiler has written, and nobody has confirmed yet.
const PART: &str = "rustc.part.json";

/// The session library's line in a manifest. evcxr's first trial goes without it, and compiles the same with it.
pub const OWN_LINE: &str = "candlescope = ";
/// Methods of the standard library that go through many values, and are compiled with the cell.
const REPEATING: [&str; 8] = ["iter", "iter_mut", "into_iter", "chars", "bytes", "sort", "sort_unstable", "collect"];
/// evcxr's own code in a cell.
const OF_EVCXR: &str = "evcxr_internal_runtime";

/// A call of rustc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    rustc: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// The crate's folder when it was recorded.
    folder: PathBuf,
    #[serde(default)]
    manifest: String,
}

impl Record {
    /// The call that this process is to pass on.
    pub fn of_call(rustc: PathBuf, arguments: Vec<String>, folder: &Path) -> Self {
        // What `env!` may ask for; not cargo's own channels.
        let asked = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME"];
        let environment =
            std::env::vars().filter(|(name, _)| asked.iter().any(|start| name.starts_with(start))).collect();
        Self { rustc, arguments, environment, folder: folder.to_path_buf(), manifest: String::new() }
    }

    /// Whether it compiles a cell, rather than a dependency.
    pub fn is_of_cell(&self) -> bool {
        let pair = |name: &str, value: &str| self.arguments.windows(2).any(|pair| pair[0] == name && pair[1] == value);
        pair("--crate-name", "ctx") && pair("--crate-type", "cdylib")
    }

    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(folder.join(FILE)).ok()?).ok()
    }

    /// Leaves it for [`complete`](Self::complete).
    pub fn write_part(&self, folder: &Path) -> Result<()> {
        write(&folder.join(PART), self)
    }

    /// Confirms what the compiler wrote, if it wrote anything, for this manifest. A crate with other crates in folders is left to
    /// cargo, which looks whether those have changed.
    pub fn complete(folder: &Path, manifest: &str) -> Result<()> {
        let part = folder.join(PART);
        let Ok(text) = fs::read_to_string(&part) else { return Ok(()) };
        let mut record: Self = serde_json::from_str(&text).context("the compiler's record can't be read")?;
        record.manifest = manifest.to_string();
        let path = folder.join(FILE);
        if dependencies(manifest).any(|line| !line.starts_with(OWN_LINE) && line.contains("path")) {
            // There may be none yet.
            let _ = fs::remove_file(path);
        } else {
            write(&path, &record)?;
        }
        fs::remove_file(&part).context("the compiler's record can't be removed")
    }

    /// Whether a crate with this manifest compiles in this way.
    pub fn fits(&self, manifest: &str) -> bool {
        others(manifest).eq(others(&self.manifest))
    }

    /// The call for the cell `source` in `folder`.
    pub fn command(&self, source: &str, folder: &Path, only_checks: bool) -> Command {
        let mut command = Command::new(&self.rustc);
        command.envs(&self.environment).current_dir(folder);
        let mut arguments = self.arguments.iter().peekable();
        while let Some(argument) = arguments.next() {
            // Cells differ too much from one another for that to pay.
            if argument == "-C" && arguments.peek().is_some_and(|next| next.starts_with("incremental=")) {
                arguments.next();
                continue;
            }
            if argument.starts_with("--emit=") {
                command.arg(if only_checks { "--emit=metadata" } else { "--emit=link" });
                continue;
            }
            command.arg(self.moved(argument, folder));
        }
        // Nobody sees warnings about what is around a cell.
        command.args(["--cap-lints", "allow"]);
        match computes(source) {
            // One unit is compiled faster than several that are then optimised together.
            true => command.args(["-C", "codegen-units=1"]),
            false => command.args(["-C", "opt-level=0"]),
        };
        command
    }

    /// The file that the call makes.
    pub fn output(&self, folder: &Path) -> PathBuf {
        let at = self.arguments.iter().position(|argument| argument == "--out-dir");
        let output = at.and_then(|at| self.arguments.get(at + 1)).map_or(String::new(), |out| self.moved(out, folder));
        use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
        Path::new(&output).join(format!("{DLL_PREFIX}ctx{DLL_SUFFIX}"))
    }

    /// An argument with the folder that the crate is in now.
    fn moved(&self, argument: &str, folder: &Path) -> String {
        argument.replace(&*self.folder.to_string_lossy(), &folder.to_string_lossy())
    }
}

/// The dependencies that a manifest of evcxr's names, a line each.
pub fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let lines = manifest.split("[dependencies]").nth(1).unwrap_or_default().lines();
    lines.map(str::trim).filter(|line| !line.is_empty())
}

/// The lines of a manifest that decide how its crate compiles.
fn others(manifest: &str) -> impl Iterator<Item = &str> {
    manifest.lines().filter(|line| !line.starts_with(OWN_LINE) && !line.trim().is_empty())
}

fn write(path: &Path, record: &Record) -> Result<()> {
    let text = serde_json::to_string(record)?;
    fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))
}

/// Whether the person's own code repeats anything, by a loop or by a function that it hands on. Optimising it is then worth the
/// time; a cell that only calls the library is as fast without, and compiled in half the time.
fn computes(source: &str) -> bool {
    fn repeats(node: &SyntaxNode) -> bool {
        if ast::Module::cast(node.clone()).and_then(|module| module.name()).is_some_and(|name| name.text() == OF_EVCXR)
        {
            return false;
        }
        let in_macro = |kind: SyntaxKind| {
            matches!(kind, SyntaxKind::FOR_KW | SyntaxKind::WHILE_KW | SyntaxKind::LOOP_KW | SyntaxKind::PIPE)
        };
        let tokens = || node.descendants_with_tokens().filter_map(|element| element.into_token());
        // A macro's body is tokens only: `|` begins a function there, or is a bit-wise or, which is rare.
        ast::TokenTree::can_cast(node.kind()) && tokens().any(|token| in_macro(token.kind()))
            || ast::NameRef::can_cast(node.kind()) && REPEATING.contains(&node.text().to_string().as_str())
            || ast::TokenTree::can_cast(node.kind()) && tokens().any(|token| REPEATING.contains(&token.text()))
            || ast::ForExpr::can_cast(node.kind())
            || ast::WhileExpr::can_cast(node.kind())
            || ast::LoopExpr::can_cast(node.kind())
            || ast::ClosureExpr::cast(node.clone())
                .and_then(|closure| closure.param_list())
                .is_some_and(|parameters| parameters.params().next().is_some())
            || node.children().any(|child| repeats(&child))
    }
    repeats(&SourceFile::parse(source, Edition::Edition2024).syntax_node())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let arguments = [
            "--crate-name",
            "ctx",
            "src/lib.rs",
            "--crate-type",
            "cdylib",
            "--emit=dep-info,link",
            "-C",
            "opt-level=2",
            "-C",
            "incremental=/first/target/incremental",
            "--out-dir",
            "/first/target/deps",
            "--extern",
            "candlescope=/first/target/lib.so",
        ];
        Record {
            rustc: "rustc".into(),
            arguments: arguments.map(str::to_string).to_vec(),
            environment: BTreeMap::new(),
            folder: "/first".into(),
            manifest: "[package]\n[dependencies]\ncandlescope = { path = \"/a\" }\n".into(),
        }
    }

    fn arguments(source: &str, only_checks: bool) -> String {
        let command = record().command(source, Path::new("/then"), only_checks);
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_call_moves_with_its_crate() {
        assert!(record().is_of_cell());
        let call = arguments("f();", false);
        assert!(call.contains("--emit=link") && call.contains("candlescope=/then/target/lib.so"), "{call}");
        assert!(
            call.ends_with("-C opt-level=0") && !call.contains("incremental") && !call.contains("/first"),
            "{call}"
        );
        assert!(arguments("f();", true).contains("--emit=metadata"));
        assert!(record().output(Path::new("/then")).starts_with("/then/target/deps"));
    }

    #[test]
    fn only_code_that_repeats_is_optimised() {
        let repeating = [
            "for i in 0..3 {}",
            "while f() {}",
            "let n = (0..9).map(|x| x + 1).sum();",
            "candlescope::show_value!(v.iter().sum::<f32>())",
            "candlescope::show_value!({ for x in y { f(x) } })",
            "v.sort();",
        ];
        for code in repeating {
            assert!(arguments(&format!("fn run() {{ {code} }}"), false).ends_with("codegen-units=1"), "{code}");
        }
        let own = "mod evcxr_internal_runtime { fn f() { for x in y {} } } fn run() { g(|| h(1)); }";
        assert!(arguments(own, false).ends_with("opt-level=0"));
        assert!(
            arguments("fn run() { candlescope::show_value!(model.run(\"a\")?.loss()); }", false)
                .ends_with("opt-level=0")
        );
    }

    #[test]
    fn another_dependency_is_for_cargo() {
        let record = record();
        assert!(record.fits("\n[package]\n\n[dependencies]\n"), "evcxr's trial");
        assert!(record.fits("[package]\n[dependencies]\ncandlescope = { path = \"/a\" }\n"));
        assert!(!record.fits("[package]\n[dependencies]\ncandlescope = { path = \"/a\" }\nrand = \"0.9\"\n"));
    }

    #[test]
    fn a_crate_with_others_in_folders_keeps_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let plain = "[lib]\npath = \"src/lib.rs\"\n[dependencies]\nrand = \"0.9\"\n";
        record().write_part(folder.path()).unwrap();
        Record::complete(folder.path(), plain).unwrap();
        assert!(Record::read(folder.path()).unwrap().fits(plain));
        record().write_part(folder.path()).unwrap();
        Record::complete(folder.path(), "[dependencies]\nmine = { path = \"../mine\" }\n").unwrap();
        assert_eq!(Record::read(folder.path()), None);
    }
}
