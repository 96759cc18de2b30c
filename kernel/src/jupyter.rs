//! Where Jupyter looks for kernels, and where candlescope's is registered there:
//! <https://docs.jupyter.org/en/latest/use/jupyter-directories.html>.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::kernelspec::{self, KERNEL_NAME, KernelSpec};
use crate::programs;

/// A place where Jupyter looks for data, kernels among it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFolder {
    /// For whom what lies there is: `for this user`.
    pub whose: &'static str,
    pub path: PathBuf,
}

/// A kernel named candlescope that Jupyter finds.
#[derive(Debug)]
pub struct Registration {
    pub whose: &'static str,
    /// Where its kernel.json is.
    pub folder: PathBuf,
    pub spec: Result<KernelSpec>,
}

/// What is known of the program that Jupyter would start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Program {
    /// The one that is running.
    This,
    /// Another candlescope.
    Other,
    Gone,
}

impl Registration {
    /// What puts the registration in order, in words.
    pub fn repair(&self) -> String {
        let features = match &self.spec {
            Ok(spec) if !spec.features.is_empty() => format!(" --features {}", spec.features.join(",")),
            _ => String::new(),
        };
        let data = self.folder.ancestors().nth(2).unwrap_or(&self.folder);
        if user_data().is_ok_and(|user| user == data) {
            format!("run `candlescope install{features}` again")
        } else if data.ends_with("share/jupyter") {
            let prefix = data.ancestors().nth(2).unwrap_or(data);
            format!("run `candlescope install --prefix {}{features}` again", prefix.display())
        } else {
            format!("remove {} and run `candlescope install{features}`", self.folder.display())
        }
    }
}

/// Every kernel named candlescope that Jupyter finds; it starts the first.
pub fn registrations() -> Vec<Registration> {
    registered_in(data_folders())
}

/// Whether the program of a kernel is still there, and is this one.
pub fn judge(program: &Path) -> Program {
    let on_path = (program.components().count() == 1).then(|| programs::find(&program.to_string_lossy())).flatten();
    let program = on_path.as_deref().unwrap_or(program);
    let Ok(named) = program.canonicalize() else { return Program::Gone };
    match env::current_exe().and_then(|this| this.canonicalize()) {
        Ok(this) if this == named => Program::This,
        _ => Program::Other,
    }
}

/// The kernel's folder in one of Jupyter's data folders.
pub fn kernel_folder(data: &Path) -> PathBuf {
    data.join("kernels").join(KERNEL_NAME)
}

/// Jupyter's data folder for this user.
pub fn user_data() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("JUPYTER_DATA_DIR") {
        return Ok(PathBuf::from(folder));
    }
    let folder = if cfg!(target_os = "macos") {
        dirs::home_dir().map(|home| home.join("Library").join("Jupyter"))
    } else {
        // XDG_DATA_HOME or ~/.local/share; on Windows the roaming data folder.
        dirs::data_dir().map(|data| data.join("jupyter"))
    };
    folder.context("this user has no home folder; use --prefix FOLDER, or set JUPYTER_DATA_DIR")
}

/// Jupyter's data folder in a Python environment.
pub fn data_below(prefix: &Path) -> Result<PathBuf> {
    let prefix = std::path::absolute(prefix).with_context(|| format!("{} is no path", prefix.display()))?;
    Ok(prefix.join("share").join("jupyter"))
}

/// The Python environment: a virtual or conda one, or the one that `python` names.
pub fn environment() -> Result<PathBuf> {
    if let Some(folder) = active_environments().next() {
        return Ok(folder);
    }
    for python in ["python3", "python"] {
        if let Ok(output) = Command::new(python).args(["-c", "import sys; print(sys.prefix)"]).output()
            && output.status.success()
        {
            return Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        }
    }
    bail!("no Python environment is active and no python was found; activate one, or use --user or --prefix FOLDER")
}

/// In the order in which Jupyter looks: an environment comes before the user.
fn data_folders() -> Vec<DataFolder> {
    let mut folders: Vec<DataFolder> = Vec::new();
    let mut add = |whose, path: PathBuf| {
        if !path.as_os_str().is_empty() && folders.iter().all(|folder| folder.path != path) {
            folders.push(DataFolder { whose, path });
        }
    };
    if let Some(paths) = env::var_os("JUPYTER_PATH") {
        env::split_paths(&paths).for_each(|path| add("through JUPYTER_PATH", path));
    }
    let data = |prefix: PathBuf| prefix.join("share").join("jupyter");
    active_environments().for_each(|prefix| add("in the active environment", data(prefix)));
    for name in ["jupyter-lab", "jupyter"] {
        if let Some(prefix) = programs::find(name).and_then(|program| prefix_of(&program)) {
            add("in Jupyter's own environment", data(prefix));
        }
    }
    if let Ok(path) = user_data() {
        add("for this user", path);
    }
    for path in system_data() {
        add("for all users", path);
    }
    folders
}

fn active_environments() -> impl Iterator<Item = PathBuf> {
    ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env::var_os).map(PathBuf::from)
}

/// The environment of a Python program: `ENVIRONMENT/bin/jupyter`, perhaps through a link.
fn prefix_of(program: &Path) -> Option<PathBuf> {
    let program = program.canonicalize().ok()?;
    let folder = program.parent()?;
    let name = folder.file_name()?;
    (name == "bin" || name == "Scripts").then(|| folder.parent().map(Path::to_path_buf)).flatten()
}

fn system_data() -> Vec<PathBuf> {
    if cfg!(windows) {
        env::var_os("PROGRAMDATA").map(|folder| PathBuf::from(folder).join("jupyter")).into_iter().collect()
    } else {
        vec!["/usr/local/share/jupyter".into(), "/usr/share/jupyter".into()]
    }
}

fn registered_in(folders: Vec<DataFolder>) -> Vec<Registration> {
    folders
        .into_iter()
        .map(|data| (data.whose, kernel_folder(&data.path)))
        .filter(|(_, folder)| kernelspec::file(folder).is_file())
        .map(|(whose, folder)| Registration { whose, spec: KernelSpec::read(&folder), folder })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_in_order_and_broken_ones_are_told() {
        let home = tempfile::tempdir().unwrap();
        let data = |name: &str| DataFolder { whose: "for a test", path: home.path().join(name) };
        let spec = KernelSpec { program: env::current_exe().unwrap(), features: vec!["cuda".to_string()] };
        spec.write(&kernel_folder(&data("second").path)).unwrap();
        std::fs::create_dir_all(kernel_folder(&data("third").path)).unwrap();
        std::fs::write(kernelspec::file(&kernel_folder(&data("third").path)), "{").unwrap();

        let found = registered_in(vec![data("first"), data("second"), data("third")]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].folder, home.path().join("second/kernels/candlescope"));
        assert_eq!(found[0].spec.as_ref().unwrap(), &spec);
        assert!(found[1].spec.is_err());
    }

    #[test]
    fn a_registration_is_repaired_where_it_is() {
        let repair = |data: &Path, features: &[&str]| {
            let features = features.iter().map(|name| name.to_string()).collect();
            let spec = Ok(KernelSpec { program: PathBuf::from("/gone"), features });
            Registration { whose: "for a test", folder: kernel_folder(data), spec }.repair()
        };
        assert_eq!(repair(&user_data().unwrap(), &[]), "run `candlescope install` again");
        let cuda = repair(Path::new("/venv/share/jupyter"), &["cuda"]);
        assert_eq!(cuda, "run `candlescope install --prefix /venv --features cuda` again");
        assert!(repair(Path::new("/else"), &[]).starts_with("remove "));
    }

    #[test]
    fn a_program_is_this_one_another_or_gone() {
        let other = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(judge(&env::current_exe().unwrap()), Program::This);
        assert_eq!(judge(other.path()), Program::Other);
        assert_eq!(judge(&other.path().with_extension("gone")), Program::Gone);
    }

    #[test]
    fn an_environment_is_known_by_its_program() {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("bin").join("jupyter");
        std::fs::create_dir_all(home.path().join("bin")).unwrap();
        std::fs::write(&program, "").unwrap();
        assert_eq!(prefix_of(&program).unwrap(), home.path().canonicalize().unwrap());
        let elsewhere = home.path().join("jupyter");
        std::fs::write(&elsewhere, "").unwrap();
        assert_eq!(prefix_of(&elsewhere), None);
    }
}
