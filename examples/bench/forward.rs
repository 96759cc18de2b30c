//! Forward passes of several sizes, and what looking at them costs.

use candlescope::Result;
use candlescope::prelude::*;

use super::floor::Products;
use super::table::Cases;
use super::{gpt2_sized, some_tokens};

/// The sizes that are timed: rows and length.
const SIZES: [(usize, usize); 5] = [(8, 64), (1, 256), (1, 1024), (1, 64), (1, 16)];

/// A pass with every activation kept.
pub fn sizes(cases: &mut Cases) -> Result<()> {
    let model = gpt2_sized()?;
    let reading = cases.reading(4 * model.n_params());
    for (rows, len) in SIZES {
        let tokens = some_tokens(rows, len)?;
        let products = Products::new(&model, rows, len)?;
        let run = || model.run_with_cache(&tokens).map(drop);
        cases.case(&format!("forward with cache, {rows} x {len}"), run, || Ok(products.time()?.max(reading)))?;
    }
    Ok(())
}

/// What keeping every activation costs, and a hook that does nothing at every point: the floor is the bare pass.
pub fn overhead(cases: &mut Cases) -> Result<()> {
    let model = gpt2_sized()?;
    let nothing = Hooks::new().read(all(), |_, _| Ok(()));
    for (rows, len) in [(8, 64), (1, 256), (1, 64)] {
        let tokens = some_tokens(rows, len)?;
        let bare = || {
            let started = std::time::Instant::now();
            model.forward(&tokens)?;
            Ok(started.elapsed().as_secs_f64())
        };
        let cached = || model.run_with_cache(&tokens).map(drop);
        cases.case(&format!("cache over none, {rows} x {len}"), cached, bare)?;
        let hooked = || model.run_with_hooks(&tokens, &nothing).map(drop);
        cases.case(&format!("idle hooks over none, {rows} x {len}"), hooked, bare)?;
    }
    Ok(())
}
