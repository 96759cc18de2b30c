//! A machine with a Rust toolchain that does nothing: folders of its own for everything, and scripts in place of
//! programs. cargo writes down that it was called, and leaves the file behind by which the session library is known.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HOST: &str = "x86_64-unknown-linux-gnu";

pub struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir(machine.path("bin")).unwrap();
        fs::create_dir(machine.path("libraries")).unwrap();
        machine.rust("1.999.0");
        let built = format!("mkdir -p target/{HOST}/debug && touch target/{HOST}/debug/ctx");
        machine.program(
            "cargo",
            &format!("echo \"$@\" >>{}\n[ \"$1\" != build ] || {{ {built}; }}", machine.log("cargo")),
        );
        machine
    }

    /// A rustc of this version.
    pub fn rust(&self, version: &str) {
        let libraries = self.path("libraries");
        let said = format!("rustc {version}\\nhost: {HOST}\\nrelease: {version}\\n");
        self.program(
            "rustc",
            &format!("if [ \"$1\" = --print ]; then echo {}; else printf '{said}'; fi", libraries.display()),
        );
    }

    /// A script under that name, the only one of its name on the PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A folder or file of this machine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Where a script may write down how it was called.
    pub fn log(&self, name: &str) -> String {
        self.path(&format!("{name}.log")).display().to_string()
    }

    pub fn calls(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.log(name)).unwrap_or_default().lines().map(str::to_string).collect()
    }

    pub fn builds(&self) -> usize {
        self.calls("cargo").iter().filter(|call| call.starts_with("build")).count()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candlescope"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("PATH", self.path("bin"))
            .env("CANDLESCOPE_CACHE", self.path("cache"))
            .env("JUPYTER_DATA_DIR", self.path("jupyter"))
            .env_remove("JUPYTER_PATH")
            .env_remove("VIRTUAL_ENV")
            .env_remove("CONDA_PREFIX");
        command
    }

    pub fn candlescope(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn kernel_json(&self) -> PathBuf {
        self.path("jupyter/kernels/candlescope/kernel.json")
    }

    /// Writes a kernel.json for this program.
    pub fn register(&self, program: &Path, features: &str) {
        fs::create_dir_all(self.kernel_json().parent().unwrap()).unwrap();
        let mut argv = vec![program.to_str().unwrap(), "kernel", "--control-file", "{connection_file}"];
        if !features.is_empty() {
            argv.extend(["--features", features]);
        }
        fs::write(self.kernel_json(), serde_json::json!({ "argv": argv }).to_string()).unwrap();
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
