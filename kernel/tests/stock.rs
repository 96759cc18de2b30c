//! Hosts that know nothing of candlescope (evcxr_jupyter, the REPL of evcxr): the library shows itself there by evcxr's own
//! means. The host here is evcxr's library, with this program as the plain process that runs the cells.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use evcxr::{CommandContext, EvalContext};

const PROGRAM: &str = env!("CARGO_BIN_EXE_candlescope");

#[test]
fn a_stock_host_shows_models_and_pictures() {
    if without_cargos_variables() {
        return;
    }
    // Builds the session library, if no other test has: a stock host would take minutes for its own.
    let built = Command::new(PROGRAM).args(["models", "gpt2"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let session = Path::new(env!("CARGO_MANIFEST_DIR")).join("session");
    let folder = Copy::of(&template(&session));

    std::env::set_current_dir(&folder.0).unwrap();
    fs::write("evcxr.toml", format!("[evcxr]\ntmpdir = '{}'\n", folder.0.join("crate").display())).unwrap();
    let versions = fs::read(folder.0.join("crate/Cargo.lock")).unwrap();
    let mut process = Command::new(PROGRAM);
    process.env("LD_LIBRARY_PATH", loader_path(&folder.0)).env("DYLD_LIBRARY_PATH", loader_path(&folder.0));
    let (context, outputs) = EvalContext::with_subprocess_command(process).unwrap();
    fs::write(folder.0.join("crate/Cargo.lock"), versions).unwrap();
    let mut context = CommandContext::with_eval_context(context);
    let mut run = |code: &str| match context.execute(code) {
        Ok(outputs) => outputs.content_by_mime_type,
        Err(error) => panic!("{code}\n{error}\n{:?}", outputs.stderr.try_iter().collect::<Vec<_>>()),
    };

    let path = session.display();
    run(&format!(":linker system\n:dep candlescope = {{ package = \"candlescope-session\", path = \"{path}\" }}"));
    run("use candlescope::prelude::*;\nlet model = HookedTransformer::from_pretrained(\"tiny\")?;");
    let card = run("model");
    assert!(card["text/plain"].contains("tiny") && card["text/html"].contains("tiny"), "{card:?}");
    let pattern = run("model.run_with_cache(\"John gave a book to\")?.1.pattern(0)");
    assert!(pattern["image/png"].starts_with("iVBOR"), "{:?}", pattern.keys());
    assert_eq!(run("Err::<f32, _>(\"no such layer\")")["text/plain"], "Error: no such layer");
    // No bar: nobody would understand it.
    let long = run("model.over(vec![\"John gave a book to Mary. \".repeat(4); 4000]).loss()?");
    assert!(!long.contains_key("candlescope/progress"), "{:?}", long.keys());
}

/// Runs this test in a process of its own, without what `cargo test` put into the environment: build scripts look at that, and
/// would be run again. `false` in that process.
fn without_cargos_variables() -> bool {
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CARGO_")).collect();
    let surplus: Vec<&String> =
        names.iter().filter(|name| !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name.as_str())).collect();
    if surplus.is_empty() {
        return false;
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    surplus.into_iter().for_each(|name| {
        test.env_remove(name);
    });
    let output = test.args(["--exact", "a_stock_host_shows_models_and_pictures", "--nocapture"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// A folder like a session's own, with the built library; removed at the end.
struct Copy(PathBuf, #[expect(dead_code, reason = "locked while the folder is in use")] File);

impl Copy {
    fn of(template: &Path) -> Self {
        let folder = template.parent().unwrap().join("sessions").join(format!("stock-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let in_use = File::create(folder.join("in-use")).unwrap();
        in_use.lock().unwrap();
        link(template, &folder.join("crate"));
        Self(folder, in_use)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Large files are linked, small ones (which cargo rewrites) are copied with their times.
fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name().to_string_lossy().into_owned();
        let of_cell = name == "incremental" || name.trim_start_matches("lib").starts_with("ctx") || name == "main.rs";
        if of_cell {
            continue;
        } else if source.is_dir() {
            link(&source, &target);
        } else if entry.metadata().unwrap().len() > 1 << 16 {
            fs::hard_link(&source, &target).unwrap();
        } else {
            fs::copy(&source, &target).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            File::options().write(true).open(&target).unwrap().set_modified(modified).unwrap();
        }
    }
}

/// The template of the session library of this clone.
fn template(session: &Path) -> PathBuf {
    let cache = std::env::var_os("CANDLESCOPE_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| dirs::cache_dir().unwrap().join("candlescope"));
    let here = format!("path = \"{}\" }}", session.display());
    let found = fs::read_dir(&cache).unwrap().flatten().map(|entry| entry.path().join("template")).find(|template| {
        fs::read_to_string(template.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains(&here))
    });
    found.unwrap_or_else(|| panic!("no library of {} in {}", session.display(), cache.display()))
}

/// Where the standard library's shared object is, and the session library's.
fn loader_path(folder: &Path) -> std::ffi::OsString {
    let rustc = |what: &str| {
        let output = Command::new("rustc").args(["--print", what]).output().unwrap();
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    };
    let host = String::from_utf8(Command::new("rustc").arg("-vV").output().unwrap().stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let built = folder.join("crate/target").join(host).join("debug/deps");
    std::env::join_paths([built, rustc("target-libdir")]).unwrap()
}
