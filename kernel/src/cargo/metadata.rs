//! What rust-analyzer hears of a session's dependencies. It resolves every crate that it hears of, macros and all, before it
//! says the type of one variable; of the three hundred behind candlescope a notebook meets the types of a handful.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::record::{OWN_LINE, Record, dependencies};
use crate::compiler::FAILED;

/// The session library, and the crates whose types its own types and functions show.
const SHOWN: [&str; 5] = ["candlescope-session", "candlescope", "candle-core", "candle-nn", "half"];
/// What the standard library's own types are made of; it resolves without the rest (libc, gimli, hashbrown and more), and its
/// types keep their names.
const OF_STD: [&str; 4] = ["std", "core", "alloc", "cfg-if"];
/// evcxr asks with this package whether a dependency exists.
const QUESTION: &str = "evcxr_dummy_validate_dep";

/// The manifest in `folder`, if evcxr asks with it whether a dependency exists.
pub fn question(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join("Cargo.toml")).ok().filter(|manifest| manifest.contains(QUESTION))
}

/// Whether what evcxr asks for is the session library.
pub fn asks_for_library(question: &str) -> bool {
    let mut lines = dependencies(question);
    lines.next().is_some_and(|line| line.starts_with(OWN_LINE) && line.contains("candlescope-session"))
        && lines.next().is_none()
}

/// Whether this manifest, of the session's crate in `folder`, has no other dependency than the session library (or not even that
/// yet).
pub fn is_of_library_alone(manifest: &str, folder: &Path) -> bool {
    Record::read(folder).is_some_and(|record| record.fits(manifest))
        && dependencies(manifest).all(|line| line.starts_with(OWN_LINE))
}

/// Passes on what cargo says, without what need not be known.
pub fn answer(mut cargo: Command) -> Result<i32> {
    let output = cargo.output().context("cargo can't be started")?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    match pruned(&output.stdout) {
        Some(answer) if output.status.success() => println!("{answer}"),
        _ => print!("{}", String::from_utf8_lossy(&output.stdout)),
    }
    Ok(output.status.code().unwrap_or(FAILED))
}

/// Metadata with no more of the session library's dependencies than [`SHOWN`]; a notebook's own dependencies stay whole.
pub fn pruned(metadata: &[u8]) -> Option<Value> {
    let mut metadata: Value = serde_json::from_slice(metadata).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_string);
    let names: HashMap<String, String> =
        metadata["packages"].as_array()?.iter().filter_map(|p| Some((text(&p["id"])?, text(&p["name"])?))).collect();
    let is_of = |id: &Value, group: &[&str]| {
        id.as_str().and_then(|id| names.get(id)).is_some_and(|name| group.contains(&name.as_str()))
    };
    let roots: Vec<String> = metadata["workspace_members"].as_array()?.iter().filter_map(text).collect();
    let nodes = metadata["resolve"]["nodes"].as_array_mut()?;
    for group in [&SHOWN[..], &OF_STD[..]] {
        for node in nodes.iter_mut().filter(|node| is_of(&node["id"], group)) {
            node["deps"].as_array_mut()?.retain(|dependency| is_of(&dependency["pkg"], group));
            node["dependencies"].as_array_mut()?.retain(|id| is_of(id, group));
        }
    }
    let edges: HashMap<String, Vec<String>> = nodes
        .iter()
        .filter_map(|node| {
            Some((text(&node["id"])?, node["dependencies"].as_array()?.iter().filter_map(text).collect()))
        })
        .collect();
    let mut kept = HashSet::new();
    let mut waiting = roots;
    while let Some(id) = waiting.pop() {
        if kept.insert(id.clone()) {
            waiting.extend(edges.get(&id).into_iter().flatten().cloned());
        }
    }
    let is_kept = |value: &Value| value["id"].as_str().is_some_and(|id| kept.contains(id));
    nodes.retain(is_kept);
    metadata["packages"].as_array_mut()?.retain(is_kept);
    Some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(id: &str, dependencies: &[&str]) -> Value {
        let deps: Vec<Value> = dependencies.iter().map(|id| json!({ "name": id, "pkg": id })).collect();
        json!({ "id": id, "deps": deps, "dependencies": dependencies })
    }

    #[test]
    fn only_what_shows_is_shown_and_own_dependencies_stay() {
        let names = ["ctx", "candlescope-session", "candlescope", "candle-core", "faer", "gemm", "rand", "rand_core"];
        let packages: Vec<Value> = names.iter().map(|name| json!({ "id": name, "name": name })).collect();
        let metadata = json!({
            "packages": packages,
            "workspace_members": ["ctx"],
            "resolve": { "nodes": [
                node("ctx", &["candlescope-session", "rand"]),
                node("candlescope-session", &["candlescope"]),
                node("candlescope", &["candle-core", "faer", "rand"]),
                node("candle-core", &["gemm"]),
                node("faer", &[]),
                node("gemm", &[]),
                node("rand", &["rand_core"]),
                node("rand_core", &[]),
            ] },
        });
        let pruned = pruned(metadata.to_string().as_bytes()).unwrap();
        let kept: Vec<&str> = pruned["packages"].as_array().unwrap().iter().filter_map(|p| p["id"].as_str()).collect();
        assert_eq!(kept, ["ctx", "candlescope-session", "candlescope", "candle-core", "rand", "rand_core"]);
        assert_eq!(pruned["resolve"]["nodes"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn evcxrs_question_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |dependencies: &str| {
            let manifest = format!("[package]\nname = \"{QUESTION}\"\n[dependencies]\n{dependencies}\n");
            fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
            asks_for_library(&question(folder.path()).unwrap())
        };
        assert!(ask("candlescope = { package = \"candlescope-session\", path = \"/x\" }"));
        assert!(!ask("rand = \"0.9\""));
    }
}
