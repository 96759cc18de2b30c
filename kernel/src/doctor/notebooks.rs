//! Whether Jupyter is there, and knows the kernel.

use std::time::Duration;

use super::Check;
use crate::jupyter::{self, Program, Registration};
use crate::lab::{HOW_TO_GET_JUPYTER, Lab};
use crate::programs::{self, Answer};

/// It imports every part of Jupyter to tell their versions.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Jupyter is for those who want it: other commands do without.
pub fn jupyter() -> Check {
    let what = "Jupyter";
    if let Some(program) = programs::find("jupyter") {
        match programs::ask(&program, &["--version"], ANSWERS_WITHIN) {
            Answer::Said(text) => return Check::ok(what, format!("{} ({})", version(&text), program.display())),
            Answer::Slow => {
                let found = format!("{} did not tell its version in {} s", program.display(), ANSWERS_WITHIN.as_secs());
                return Check::note(what, found, "see that `jupyter --version` works");
            }
            // Perhaps JupyterLab works without it.
            Answer::Failed(_) => {}
        }
    }
    match Lab::find() {
        Ok(Lab { program, version, .. }) => {
            let version = version.map(|version| format!(" {version}")).unwrap_or_default();
            Check::ok(what, format!("JupyterLab{version} ({})", program.display()))
        }
        Err(error) => {
            let why = format!("{error:#}");
            let found = why.split(": ").next().unwrap_or(&why).to_string();
            let advice = format!("{HOW_TO_GET_JUPYTER}; `candlescope run` and `candlescope repl` work without it");
            Check::note(what, found, advice)
        }
    }
}

/// One line for each place where the kernel is registered.
pub fn kernels(kernels: &[Registration]) -> Vec<Check> {
    if kernels.is_empty() {
        let found = "not registered in any of Jupyter's folders";
        return vec![Check::note("kernel", found, "run `candlescope install`, or `candlescope lab`")];
    }
    kernels.iter().map(kernel).collect()
}

fn kernel(kernel: &Registration) -> Check {
    let place = format!("registered {} ({})", kernel.whose, kernel.folder.display());
    let spec = match &kernel.spec {
        Ok(spec) => spec,
        Err(error) => return Check::note("kernel", format!("{place}, but {error:#}"), kernel.repair()),
    };
    let program = spec.program.display();
    match jupyter::judge(&spec.program) {
        Program::This => Check::ok("kernel", format!("{place}, {}", spec.features_in_words())),
        Program::Other => {
            let advice = format!("to have this one started, {}", kernel.repair());
            Check::note("kernel", format!("{place} for another candlescope, {program}"), advice)
        }
        Program::Gone => Check::note("kernel", format!("{place} for {program}, which is gone"), kernel.repair()),
    }
}

/// `jupyter --version` lists parts, one a line: `jupyterlab : 4.4.1`.
fn version(text: &str) -> String {
    let of = |part: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(_, version)| version.trim() != "not installed").find(|(name, _)| name.trim() == part)
    };
    match (of("jupyterlab"), of("jupyter_core")) {
        (Some((_, version)), _) => format!("JupyterLab {}", version.trim()),
        (None, Some((_, version))) => format!("jupyter_core {}, no JupyterLab", version.trim()),
        (None, None) => text.lines().next().unwrap_or("of an unknown version").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Mark;
    use super::*;
    use crate::kernelspec::KernelSpec;

    #[test]
    fn jupyters_version_is_read() {
        let list =
            "Selected Jupyter core packages...\nIPython          : 9.1\njupyter_core     : 5.8.1\njupyterlab       : ";
        assert_eq!(version(&format!("{list}4.4.1\n")), "JupyterLab 4.4.1");
        assert_eq!(version(&format!("{list}not installed\n")), "jupyter_core 5.8.1, no JupyterLab");
        assert_eq!(version("4.6.3"), "4.6.3");
    }

    #[test]
    fn kernels_are_judged_by_their_program() {
        let judged = |spec| {
            let kernel = Registration { whose: "for this user", folder: PathBuf::from("/k"), spec };
            let check = super::kernel(&kernel);
            (check.mark, check.found)
        };
        let spec = |program| Ok(KernelSpec { program, features: vec!["cuda".to_string()] });
        let (mark, found) = judged(spec(std::env::current_exe().unwrap()));
        assert_eq!((mark, found.as_str()), (Mark::Ok, "registered for this user (/k), feature cuda"));
        let other = tempfile::NamedTempFile::new().unwrap();
        let (mark, found) = judged(spec(other.path().to_path_buf()));
        assert!(mark == Mark::Note && found.contains("another candlescope"), "{found}");
        let (mark, found) = judged(spec(PathBuf::from("/no/such/candlescope")));
        assert!(mark == Mark::Note && found.contains("gone"), "{found}");
        assert_eq!(judged(Err(anyhow::anyhow!("it is broken"))).0, Mark::Note);
        assert_eq!(kernels(&[]).len(), 1);
    }
}
