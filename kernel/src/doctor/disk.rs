//! What candlescope's cache folder takes of the disk, and what is left.

use std::path::Path;

use super::Check;
use crate::cached::{self, Cached};
use crate::library::{self, Library};
use crate::space::{self, Tally};

/// A session library with a session, and what a build needs meanwhile.
const ENOUGH: u64 = 3_000_000_000;

/// The cache folder, the session libraries in it, and the disk.
pub fn check(wanted: &[Library]) -> Vec<Check> {
    let cache = match library::cache() {
        Ok(cache) => cache,
        Err(error) => return vec![Check::problem("cache", format!("{error:#}"), "see what it says")],
    };
    let mut checks = match cached::list(&cache) {
        Ok(libraries) => in_cache(&cache, &libraries, wanted),
        Err(error) => vec![Check::problem("cache", format!("{error:#}"), "see that the folder belongs to you")],
    };
    checks.extend(space::free(&cache).map(|bytes| left(bytes, &cache)));
    checks
}

fn in_cache(cache: &Path, libraries: &[Cached], wanted: &[Library]) -> Vec<Check> {
    let mut total = 0;
    let mut parts = Vec::new();
    for library in libraries {
        let size = Tally::default().add(&library.root);
        total += size;
        let dead = match library.dead.len() {
            0 => String::new(),
            _ => format!(", {} left behind", sessions(library.dead.len(), "")),
        };
        let key = library.root.file_name().unwrap_or_default().display();
        let live = sessions(library.live.len(), "live ");
        parts.push(Check::ok("", format!("{key}: {}, {}, {live}{dead}", space::in_words(size), library.what())));
    }
    let found = match libraries.len() {
        0 => format!("nothing in {}", cache.display()),
        1 => format!("{} in {}, 1 session library", space::in_words(total), cache.display()),
        several => format!("{} in {}, {several} session libraries", space::in_words(total), cache.display()),
    };
    let of_use = |cached: &Cached| wanted.iter().any(|library| library.root() == cached.root);
    let advice = "`candlescope clean` removes what this toolchain, this source and the registered kernels do not use";
    let mut checks = vec![if libraries.iter().all(|cached| of_use(cached) && cached.dead.is_empty()) {
        Check::ok("cache", found)
    } else {
        Check::note("cache", found, advice)
    }];
    checks.append(&mut parts);
    checks
}

fn sessions(number: usize, which: &str) -> String {
    match number {
        0 => format!("no {which}sessions"),
        1 => format!("1 {which}session"),
        _ => format!("{number} {which}sessions"),
    }
}

fn left(bytes: u64, cache: &Path) -> Check {
    let found = format!("{} free on the disk of {}", space::in_words(bytes), cache.display());
    if bytes < ENOUGH {
        let enough = space::in_words(ENOUGH);
        Check::note(
            "free space",
            found,
            format!("have {enough} for a build; `candlescope clean` removes what is of no use"),
        )
    } else {
        Check::ok("free space", found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_noted() {
        assert_eq!(left(ENOUGH, Path::new("/c")).mark, Mark::Ok);
        let check = left(ENOUGH - 1, Path::new("/c"));
        assert!(check.mark == Mark::Note && check.advice.unwrap().contains("candlescope clean"));
    }
}
