//! How time and memory grow with length, batch and layers; `--plots FOLDER` draws them.

use std::path::Path;

use candlescope::Result;
use candlescope::display::LineChart;
use candlescope::prelude::*;

use super::floor::Products;
use super::table::{Cases, Measured};
use super::{sized, some_tokens};

/// Room for the longest prompt.
const N_CTX: usize = 2048;

/// A pass with every activation kept, of ever larger prompts, batches and models.
pub fn scaling(cases: &mut Cases) -> Result<()> {
    let by_length = |cases: &mut Cases| {
        let model = sized(12, N_CTX)?;
        [16, 64, 256, 1024, 2048].map(|len| pass(cases, &model, 1, len, len)).into_iter().collect::<Result<Vec<_>>>()
    };
    let by_batch = |cases: &mut Cases| {
        let model = sized(12, N_CTX)?;
        [1, 4, 16, 64].map(|rows| pass(cases, &model, rows, 16, rows)).into_iter().collect::<Result<Vec<_>>>()
    };
    let by_layers = |cases: &mut Cases| {
        let of = |layers| pass(cases, &sized(layers, N_CTX)?, 1, 64, layers);
        [3, 6, 12, 24].map(of).into_iter().collect::<Result<Vec<_>>>()
    };
    let (length, batch, layers) = (by_length(cases)?, by_batch(cases)?, by_layers(cases)?);
    if let Some(folder) = cases.plots.clone() {
        plot(&folder, "length", "tokens of one prompt, 12 layers", &length)?;
        plot(&folder, "batch", "prompts of 16 tokens, 12 layers", &batch)?;
        plot(&folder, "layers", "layers, one prompt of 64 tokens", &layers)?;
    }
    Ok(())
}

/// A size, what a pass of it took, and its floor.
type Point = (usize, Measured);

fn pass(cases: &mut Cases, model: &HookedTransformer, rows: usize, len: usize, size: usize) -> Result<Point> {
    let tokens = some_tokens(rows, len)?;
    let products = Products::new(model, rows, len)?;
    let reading = cases.reading(4 * model.n_params());
    let name = format!("{} layers, {rows} x {len}", model.cfg().n_layers);
    let run = || model.run_with_cache(&tokens).map(drop);
    Ok((size, cases.case(&name, run, || Ok(products.time()?.max(reading)))?))
}

fn plot(folder: &Path, name: &str, x_title: &str, points: &[Point]) -> Result<()> {
    let series = |of: fn(&Measured) -> Option<f64>| -> Vec<(f64, f64)> {
        points.iter().filter_map(|(size, measured)| Some((*size as f64, of(measured)?))).collect()
    };
    LineChart::new()
        .points("time (ms)", series(|measured| Some(measured.seconds * 1e3)))
        .points("floor (ms)", series(|measured| Some(measured.floor * 1e3)))
        .points("peak memory (MB)", series(|measured| measured.peak.map(|bytes| bytes as f64 / 1e6)))
        .title(format!("A pass with every activation kept, by {name}"))
        .x_title(x_title)
        .y_title("ms, MB")
        .log_x()
        .log_y()
        .markers(true)
        .save(folder.join(format!("{name}.png")))
}
