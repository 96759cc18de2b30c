//! Whether the session library is built and up to date, for every set of features that a registered kernel asks for.

use super::Check;
use crate::jupyter::Registration;
use crate::kernelspec::features_in_words;
use crate::library::{Library, SOURCE_VARIABLE};

const WHAT: &str = "session library";

/// One line for each library that the registered kernels use.
pub fn check(kernels: &[Registration], wanted: &[Library]) -> Vec<Check> {
    // Where all registered kernels have features, the plain library is only for those who have built it.
    let plain = kernels.is_empty() || kernels.iter().any(is_plain);
    wanted.iter().filter(|library| plain || library.is_built() || !library.features().is_empty()).map(state).collect()
}

/// What to say when the source is not there.
pub fn no_source(error: &anyhow::Error) -> Check {
    let advice = format!("clone candlescope again where it was, or set {SOURCE_VARIABLE} to the folder of a clone");
    Check::problem("source", format!("{error:#}"), advice)
}

fn is_plain(kernel: &Registration) -> bool {
    kernel.spec.as_ref().is_ok_and(|spec| spec.features.is_empty())
}

fn state(library: &Library) -> Check {
    let place = format!("{} ({})", library.root().display(), features_in_words(library.features()));
    let command = match library.features() {
        [] => "candlescope install".to_string(),
        features => format!("candlescope install --features {}", features.join(",")),
    };
    if library.is_fresh() {
        Check::ok(WHAT, format!("built and up to date in {place}"))
    } else if library.is_built() {
        Check::note(
            WHAT,
            format!("older than its source, in {place}"),
            format!("`{command}` builds what changed; so does the next notebook that starts"),
        )
    } else {
        Check::note(
            WHAT,
            format!("not built yet, in {place}"),
            format!("`{command}` builds it, which takes some minutes; so does the first notebook that starts"),
        )
    }
}
