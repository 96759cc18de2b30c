//! How fast the library is, beside the least that the machine could do: `cargo run --release --example bench`.
//!
//! Each case has its time, its floor, the ratio, and the peak of memory while it ran. Floors are measured in the same run:
//! the bare matrix products of the case by the same gemm, or the time to read its weights once at measured memory
//! bandwidth, whichever is larger. `--json` prints one object for each case; a name (`forward`, `sweeps`, ..) chooses cases;
//! `--rounds 5` says how often each is timed (the median is shown). `larger` needs a model of yours: `--folder PATH`. `--plots PATH` is where
//! `scaling` puts its pictures.

mod floor;
mod forward;
mod larger;
mod load;
mod machine;
mod others;
mod scaling;
mod sweeps;
mod table;

use std::path::PathBuf;

use candlescope::Result;
use candlescope::model::{Activation, Sizes};
use candlescope::prelude::*;
use table::Cases;

/// A group of cases.
type Group = fn(&mut Cases) -> Result<()>;

const GROUPS: [(&str, Group); 9] = [
    ("forward", forward::sizes),
    ("overhead", forward::overhead),
    ("sweeps", sweeps::sweeps),
    ("tiny", others::tiny),
    ("generation", others::generation),
    ("circuits", others::circuits),
    ("load", load::load),
    ("larger", larger::larger),
    ("scaling", scaling::scaling),
];

fn main() -> Result<()> {
    // As in a notebook's session.
    candlescope::keep_memory();
    if let [Some(once), Some(how), Some(folder)] = [1, 2, 3].map(|n| std::env::args().nth(n))
        && once == load::ONCE
    {
        return load::once(&how, folder.as_ref());
    }
    let (mut json, mut rounds, mut folder, mut plots, mut chosen) = (false, 5, None, None, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--rounds" => {
                let given = arguments.next().and_then(|number| number.parse().ok()).filter(|rounds| *rounds > 0);
                rounds = given.ok_or_else(|| candlescope::Error::msg("--rounds needs a number of at least 1"))?;
            }
            "--plots" => plots = arguments.next().map(PathBuf::from),
            "--folder" => folder = arguments.next().map(PathBuf::from),
            // `cargo bench` and `cargo test` hand this on.
            "--bench" => {}
            name if GROUPS.iter().any(|(known, _)| *known == name) => chosen.push(name.to_string()),
            other => {
                let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
                return Err(candlescope::Error::msg(format!(
                    "'{other}' is no group of cases; known: {}, besides --json, --rounds N, --folder PATH and --plots PATH",
                    known.join(", ")
                )));
            }
        }
    }
    let mut cases = Cases::new(rounds, json, [folder, plots]);
    for (name, group) in GROUPS {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            group(&mut cases)?;
        }
    }
    Ok(())
}

/// GPT-2 small's sizes, random weights, processed as loaded models are: norms without weights of their own.
fn gpt2_sized() -> Result<HookedTransformer> {
    sized(12, 1024)
}

/// The same with other layers and another longest prompt.
fn sized(n_layers: usize, n_ctx: usize) -> Result<HookedTransformer> {
    let sizes = Sizes { n_layers, d_model: 768, n_ctx, n_heads: 12, d_head: 64, d_mlp: 3072, d_vocab: 50257 };
    HookedTransformer::random(ModelConfig::new("gpt2", Activation::GeluNew, sizes), 0)
}

/// Some token ids, `[rows, len]`.
fn some_tokens(rows: usize, len: usize) -> Result<Tokens> {
    let id = |row: usize, pos: usize| ((row * 7919 + pos * 104_729 + 13) % 50_000) as u32;
    Tokens::from_ids((0..rows).map(|row| (0..len).map(|pos| id(row, pos)).collect()).collect())
}
