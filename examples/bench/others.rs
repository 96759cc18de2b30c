//! Small models, generation, circuits.

use candlescope::Result;
use candlescope::prelude::*;

use super::floor::Products;
use super::table::Cases;
use super::{gpt2_sized, some_tokens};

/// A pass of the bundled model, where what is around the products weighs most.
pub fn tiny(cases: &mut Cases) -> Result<()> {
    let model = HookedTransformer::from_pretrained("tiny")?;
    for (rows, len) in [(1, 16), (8, 64)] {
        let ids = some_tokens(rows, len)?.ids().iter().map(|row| row.iter().map(|id| id % 512).collect()).collect();
        let tokens = Tokens::from_ids(ids)?;
        let products = Products::new(&model, rows, len)?;
        cases.case(&format!("tiny, {rows} x {len}"), || model.forward(&tokens).map(drop), || products.time())?;
    }
    Ok(())
}

/// Tokens one after the other, behind a prompt: the floor is reading all weights once for each.
pub fn generation(cases: &mut Cases) -> Result<()> {
    let model = gpt2_sized()?;
    // The embedding table is looked up, not read.
    let read = 4 * (model.n_params() - model.w_e().elem_count());
    let new = 32;
    for rows in [1, 8] {
        let tokens = some_tokens(rows, 8)?;
        let options = GenerateOptions::greedy().stop_at_eos(false).progress(&Progress::quiet());
        let seconds = |new: usize| {
            let started = std::time::Instant::now();
            model.generate(&tokens, &options.clone().max_new_tokens(new))?;
            Ok::<f64, candlescope::Error>(started.elapsed().as_secs_f64())
        };
        // What the prompt costs is another matter.
        let floor = cases.reading(read) * new as f64;
        let measured = cases
            .timed(&format!("generation, {rows} x {new} tokens"), || Ok((seconds(new + 1)? - seconds(1)?, floor)))?;
        eprintln!("  {:.1} tokens a second", (rows * new) as f64 / measured.seconds);
    }
    Ok(())
}

/// The copying scores of all heads from the eigenvalues of their full OV circuits; the floor is what is asked of it, 3 s.
pub fn circuits(cases: &mut Cases) -> Result<()> {
    let model = gpt2_sized()?;
    cases.case("full OV copying scores, 144 heads (3 s)", || full_ov_copying_scores(&model).map(drop), || Ok(3.0))?;
    Ok(())
}
