//! `candlescope clean`, in a cache folder of its own, with scripts in place of the toolchain.
#![cfg(unix)]

mod machine;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use machine::{Machine, stderr, stdout};

/// The machine, with this toolchain's session library in its cache folder, "built" for these features.
fn machine(features: &str) -> (Machine, PathBuf) {
    let machine = Machine::new();
    let prefix = machine.path("prefix");
    let mut arguments = vec!["install", "--prefix", prefix.to_str().unwrap()];
    if !features.is_empty() {
        arguments.extend(["--features", features]);
    }
    let output = machine.candlescope(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let built = fs::read_dir(machine.path("cache")).unwrap().next().unwrap().unwrap().path();
    (machine, built)
}

/// Another library beside the one that is of use, of a source that is gone.
fn stale(machine: &Machine) -> PathBuf {
    let root = machine.path("cache/0123456789abcdef");
    fs::create_dir_all(root.join("template")).unwrap();
    fs::write(
        root.join("template/Cargo.toml"),
        "candlescope = { package = \"candlescope-session\", path = \"/gone/kernel/session\" }\n",
    )
    .unwrap();
    fs::write(root.join("template/large"), vec![0; 2_000_000]).unwrap();
    root
}

#[test]
fn what_another_toolchain_or_source_built_goes() {
    let (machine, current) = machine("");
    let stale = stale(&machine);
    let strange = machine.path("cache/0000000000000000");
    fs::create_dir(&strange).unwrap();
    fs::create_dir(machine.path("precious")).unwrap();
    fs::write(machine.path("precious/file"), "precious").unwrap();
    std::os::unix::fs::symlink(machine.path("precious"), machine.path("cache/fedcba9876543210")).unwrap();
    std::os::unix::fs::symlink(machine.path("precious"), stale.join("template/link")).unwrap();

    let dry = machine.candlescope(&["clean", "--dry-run"]);
    let text = stdout(&dry);
    assert!(dry.status.success() && stale.exists(), "{}", stderr(&dry));
    assert!(text.contains(&format!("Would remove {} (2 MB)", stale.display())), "{text}");
    assert!(text.contains("session library of /gone, no features; its source is gone"), "{text}");
    assert!(text.contains("2 MB would be freed") && !text.contains(current.to_str().unwrap()), "{text}");

    let output = machine.candlescope(&["clean"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("2 MB freed"), "{}", stdout(&output));
    assert!(!stale.exists() && current.exists() && strange.exists());
    assert_eq!(fs::read_to_string(machine.path("precious/file")).unwrap(), "precious");

    assert!(stdout(&machine.candlescope(&["clean"])).contains("Nothing to remove"));
    // A newer toolchain needs another library.
    machine.rust("1.1000.0");
    assert!(stdout(&machine.candlescope(&["clean"])).contains("another toolchain"));
    assert!(!current.exists());
}

#[test]
fn the_library_of_a_registered_kernel_stays() {
    let (machine, cuda) = machine("cuda");
    machine.register(Path::new("/any/candlescope"), "cuda");
    assert!(stdout(&machine.candlescope(&["clean"])).contains("Nothing to remove"));
    assert!(cuda.exists());

    fs::write(machine.kernel_json(), "{").unwrap();
    let unreadable = machine.candlescope(&["clean"]);
    assert_eq!(unreadable.status.code(), Some(1));
    assert!(stderr(&unreadable).contains("nothing was removed"), "{}", stderr(&unreadable));
    assert!(cuda.exists());

    fs::remove_file(machine.kernel_json()).unwrap();
    let text = stdout(&machine.candlescope(&["clean"]));
    assert!(text.contains("feature cuda; no kernel with these features is registered"), "{text}");
    assert!(!cuda.exists());
}

#[test]
fn a_live_session_keeps_its_library_even_from_all() {
    let (machine, current) = machine("");
    let stale = stale(&machine);
    let session = |name: &str| {
        let folder = stale.join("sessions").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("own"), vec![0; 30_000]).unwrap();
        (File::create(folder.join("in-use")).unwrap(), folder)
    };
    let (in_use, live) = session("1-live");
    in_use.lock().unwrap();
    let (_, dead) = session("2-dead");

    let output = machine.candlescope(&["clean", "--all"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text.contains(&format!("Kept {}", stale.display())) && text.contains("a live session holds it"), "{text}");
    assert!(live.exists() && !dead.exists() && !current.exists());
    assert!(text.contains("Removed") && text.contains("(30 kB)"), "{text}");

    drop(in_use);
    assert!(machine.candlescope(&["clean", "--all"]).status.success());
    assert!(!stale.exists());
}

#[test]
fn a_library_that_is_being_built_stays() {
    let (machine, current) = machine("");
    let builder = File::options().write(true).open(current.join("lock")).unwrap();
    builder.lock().unwrap();
    let text = stdout(&machine.candlescope(&["clean", "--all"]));
    assert!(text.contains("it is being built") && text.contains("Nothing to remove"), "{text}");
    assert!(current.exists());
}

#[test]
fn without_a_toolchain_only_all_is_removed() {
    let (machine, current) = machine("");
    fs::remove_file(machine.path("bin/rustc")).unwrap();
    let output = machine.candlescope(&["clean"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("candlescope clean --all"), "{}", stderr(&output));
    assert!(current.exists());
    assert!(machine.candlescope(&["clean", "--all"]).status.success());
    assert!(!current.exists());
}

#[test]
fn the_cache_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let (machine, current) = machine("");
    for folder in [&machine.path("cache"), &current] {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
    }
}
