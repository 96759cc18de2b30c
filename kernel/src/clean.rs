//! `candlescope clean`: removes session libraries that nothing uses any more, and what dead sessions left behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cached::{self, Cached};
use crate::jupyter::{self, Registration};
use crate::library::{self, Library};
use crate::lock::Lock;
use crate::space::{self, Tally};

/// What to remove.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Remove every session library that no live session holds, this toolchain's and source's too
    #[arg(long)]
    all: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Removes, and says what. `Ok(false)` when something could not be removed; that was said already.
pub fn clean(options: &Options) -> Result<bool> {
    let cache = library::cache()?;
    let wanted = if options.all { Vec::new() } else { wanted()? };
    let (mut freed, mut removed, mut all_well) = (0, 0, true);
    let mut is_live = false;
    let mut carry_out = |removals: Vec<Removal>| {
        for Removal { path, size, what } in removals {
            let size_in_words = space::in_words(size);
            if options.dry_run {
                println!("Would remove {} ({size_in_words}): {what}.", path.display());
            } else if let Err(error) = remove(&path) {
                eprintln!("error: {error:#}");
                all_well = false;
                continue;
            } else {
                println!("Removed {} ({size_in_words}): {what}.", path.display());
            }
            freed += size;
            removed += 1;
        }
    };
    for cached in cached::list(&cache)? {
        // Nobody builds it or starts a session from it while it is looked at and removed.
        let path = library::lock_file(&cached.root);
        let Some(_lock) = Lock::try_now(&path).with_context(|| format!("{} can't be locked", path.display()))? else {
            println!(
                "Kept {} ({}): it is being built, or a session is starting.",
                cached.root.display(),
                cached.what()
            );
            continue;
        };
        let Some(cached) = cached.again() else { continue };
        let plan = Plan::of(&cached, &wanted, options.all);
        if let Some(why) = &plan.kept {
            println!("Kept {} ({}): {why}.", cached.root.display(), cached.what());
        }
        is_live |= !cached.live.is_empty();
        carry_out(plan.removals);
    }
    if !is_live {
        carry_out(tools(&cache, options.all)?);
    }
    match (removed, options.dry_run) {
        (0, _) => println!("Nothing {} in {}.", if all_well { "to remove" } else { "was removed" }, cache.display()),
        (_, true) => println!("{} would be freed.", space::in_words(freed)),
        (_, false) => println!("{} freed.", space::in_words(freed)),
    }
    Ok(all_well)
}

/// The tools of sessions that nobody starts any more, or all of them: the next session makes its own anew.
fn tools(cache: &Path, all: bool) -> Result<Vec<Removal>> {
    let mut removals = Vec::new();
    for folder in cached::tools(cache)? {
        let is_of_use = folder.join("bin").join(format!("cargo{}", std::env::consts::EXE_SUFFIX)).exists();
        if all || !is_of_use {
            let size = Tally::default().add(&folder);
            removals.push(Removal { path: folder, size, what: "what sessions read of the toolchain".to_string() });
        }
    }
    Ok(removals)
}

/// What becomes of one session library.
#[derive(Debug, PartialEq)]
struct Plan {
    removals: Vec<Removal>,
    /// Why the library stays that should go.
    kept: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Removal {
    path: PathBuf,
    size: u64,
    what: String,
}

impl Plan {
    fn of(cached: &Cached, wanted: &[Library], all: bool) -> Self {
        let is_wanted = wanted.iter().any(|library| library.root() == cached.root);
        if !is_wanted && cached.live.is_empty() {
            let size = Tally::default().add(&cached.root);
            let what = if all { cached.what() } else { format!("{}; {}", cached.what(), reason(cached, wanted)) };
            return Self { removals: vec![Removal { path: cached.root.clone(), size, what }], kept: None };
        }
        let kept = (!is_wanted).then(|| live(cached.live.len()));
        // What dead sessions share with what stays is not freed.
        let mut tally = Tally::default();
        tally.add(&cached.root.join(library::TEMPLATE));
        for session in &cached.live {
            tally.add(session);
        }
        let left = |path: &PathBuf| Removal {
            path: path.clone(),
            size: tally.add(path),
            what: "a session that was cut off left it behind".to_string(),
        };
        Self { removals: cached.dead.iter().map(left).collect(), kept }
    }
}

fn live(sessions: usize) -> String {
    match sessions {
        1 => "a live session holds it".to_string(),
        _ => format!("{sessions} live sessions hold it"),
    }
}

/// Why a library is of no more use.
fn reason(cached: &Cached, wanted: &[Library]) -> &'static str {
    let ours = |library: &Library| library.source() == cached.source;
    if !cached.source.exists() {
        "its source is gone"
    } else if !wanted.iter().any(ours) {
        "this candlescope has another source"
    } else if !wanted.iter().any(|library| library.features() == cached.features) {
        "no kernel with these features is registered"
    } else {
        "another toolchain or another version of candlescope built it"
    }
}

/// What the current toolchain, source and registered kernels use.
fn wanted() -> Result<Vec<Library>> {
    let kernels = jupyter::registrations();
    readable(&kernels)?;
    cached::wanted(&kernels).context(
        "what is still of use can't be told, so nothing was removed; `candlescope clean --all` removes all there is",
    )
}

/// A kernel's description that can't be read might name a library that is of use.
fn readable(kernels: &[Registration]) -> Result<()> {
    for kernel in kernels {
        if let Err(error) = &kernel.spec {
            bail!("nothing was removed, since a registered kernel may need it: {error:#}");
        }
    }
    Ok(())
}

/// Removes a folder with everything in it; a link in it goes, what it leads to stays.
fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| {
        format!("{} can't be removed; see that it belongs to you and that no program uses it", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library_at(root: &Path, source: &Path) -> Cached {
        fs::create_dir_all(root.join(library::TEMPLATE)).unwrap();
        fs::write(root.join(library::TEMPLATE).join("large"), [0; 5000]).unwrap();
        let (source, root) = (source.to_path_buf(), root.to_path_buf());
        Cached { root, source, features: Vec::new(), live: Vec::new(), dead: Vec::new() }
    }

    #[cfg(unix)]
    /// A session that shares the template's large file, and has another of its own.
    fn session(cached: &Cached, name: &str) -> PathBuf {
        let folder = cached.root.join(library::SESSIONS).join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::hard_link(cached.root.join(library::TEMPLATE).join("large"), folder.join("large")).unwrap();
        fs::write(folder.join("own"), [0; 70]).unwrap();
        folder
    }

    fn paths(plan: &Plan) -> Vec<&Path> {
        plan.removals.iter().map(|removal| removal.path.as_path()).collect()
    }

    #[test]
    fn what_is_of_no_use_goes_as_a_whole() {
        let home = tempfile::tempdir().unwrap();
        let cached = library_at(&home.path().join("key"), home.path());
        let plan = Plan::of(&cached, &[], false);
        assert_eq!((paths(&plan), &plan.kept), (vec![cached.root.as_path()], &None));
        assert_eq!(plan.removals[0].size, 5000);
    }

    #[cfg(unix)]
    #[test]
    fn a_live_session_keeps_its_library_and_dead_ones_go() {
        let home = tempfile::tempdir().unwrap();
        let mut cached = library_at(&home.path().join("key"), home.path());
        cached.live.push(session(&cached, "live"));
        cached.dead.push(session(&cached, "dead"));
        for all in [false, true] {
            let plan = Plan::of(&cached, &[], all);
            assert_eq!(paths(&plan), [&cached.dead[0]]);
            assert_eq!(plan.removals[0].size, 70, "what it shares stays");
            assert_eq!(plan.kept.as_deref(), Some("a live session holds it"));
        }
    }

    #[test]
    fn what_is_of_use_stays_unless_all_is_to_go() {
        let library = Library::locate(&[]).unwrap();
        let (root, source) = (library.root().to_path_buf(), library.source().to_path_buf());
        let cached = Cached { root, source, features: Vec::new(), live: Vec::new(), dead: Vec::new() };
        let wanted = [library];
        assert_eq!(Plan::of(&cached, &wanted, false), Plan { removals: Vec::new(), kept: None });
        assert_eq!(paths(&Plan::of(&cached, &[], true)), [&cached.root]);
    }

    #[test]
    fn the_reason_is_told() {
        let library = Library::locate(&[]).unwrap();
        let source = library.source().to_path_buf();
        let wanted = [library];
        let reason = |source: &Path, features: &[&str]| {
            let features = features.iter().map(|name| name.to_string()).collect();
            let source = source.to_path_buf();
            let root = PathBuf::from("/key");
            reason(&Cached { root, source, features, live: Vec::new(), dead: Vec::new() }, &wanted)
        };
        let home = tempfile::tempdir().unwrap();
        assert_eq!(reason(&home.path().join("gone"), &[]), "its source is gone");
        assert_eq!(reason(home.path(), &[]), "this candlescope has another source");
        assert_eq!(reason(&source, &["cuda"]), "no kernel with these features is registered");
        assert!(reason(&source, &[]).starts_with("another toolchain"));
    }

    #[test]
    fn a_kernel_that_can_not_be_read_stops_it() {
        let spec = Err(anyhow::anyhow!("kernel.json is broken"));
        let kernel = Registration { whose: "for a test", folder: PathBuf::from("/k"), spec };
        let error = readable(&[kernel]).unwrap_err().to_string();
        assert!(error.contains("nothing was removed") && error.contains("kernel.json is broken"), "{error}");
    }
}
