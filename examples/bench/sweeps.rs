//! Sweeps of interventions, against one whole run for each of their rows.

use std::time::Instant;

use candlescope::Result;
use candlescope::prelude::*;

use super::table::Cases;
use super::{gpt2_sized, some_tokens};

/// The tokens of an IOI prompt.
const LEN: usize = 15;

/// The floor is a tenth of what whole runs take, one for each row: a ratio of 1 means ten times faster than those.
pub fn sweeps(cases: &mut Cases) -> Result<()> {
    let model = gpt2_sized()?;
    let tokens = some_tokens(2, LEN)?;
    let row = |i: usize| Tokens::from(tokens.ids()[i].as_slice());
    let (clean, corrupted) = (row(0), row(1));
    let (_, cache) = model.run_with_cache(&clean)?;
    let metric = logit_diff(17u32, 45u32);
    for (name, at, by, rows) in [
        ("residual stream, 12 x 15", "resid_pre", vec!["layer", "pos"], 12 * LEN),
        ("heads, 12 x 12", "z", vec!["layer", "head"], 12 * 12),
        ("heads by position, 12 x 15 x 12", "z", vec!["layer", "pos", "head"], 12 * LEN * 12),
    ] {
        let sweep =
            model.sweep(&corrupted).at(at).by(by).patch_from(&cache).measure(&metric).progress(&Progress::quiet());
        let run = || sweep.run().map(drop);
        let whole = || {
            let started = Instant::now();
            model.forward(&corrupted)?;
            Ok(started.elapsed().as_secs_f64() * rows as f64 / 10.0)
        };
        cases.case(&format!("sweep of the {name}"), run, whole)?;
    }
    Ok(())
}
