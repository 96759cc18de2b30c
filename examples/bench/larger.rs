//! A model that is larger than memory, in a folder of yours: `--folder PATH larger`. Its layers are read while it runs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candlescope::candle_core::DType;
use candlescope::prelude::*;
use candlescope::{Error, Result};

use super::machine::resident_peak;
use super::some_tokens;
use super::table::Cases;

/// A pass with a hook and a cache of chosen points; the floor is reading the files once, at the speed that the disk has now.
pub fn larger(cases: &mut Cases) -> Result<()> {
    let Some(folder) = cases.folder.clone() else { return Ok(()) };
    let files = files(&folder)?;
    let bytes: u64 = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let gigabytes = bytes as f64 / 1e9;
    let speed = reading_speed(&files)?;
    eprintln!("  {gigabytes:.1} GB in {}, read at {speed:.2} GB/s", folder.display());
    let options = LoadOptions::new().raw().stream(true).dtype(DType::BF16).progress(&Progress::quiet());
    let started = Instant::now();
    let model = HookedTransformer::from_pretrained_with(&folder.to_string_lossy(), &options)?;
    eprintln!(
        "  {:.1} billion parameters; ready after {:.1} s",
        model.n_params() as f64 / 1e9,
        started.elapsed().as_secs_f64()
    );
    for len in [16, 128] {
        let ids = some_tokens(1, len)?.ids()[0].iter().map(|id| id % model.cfg().d_vocab as u32).collect::<Vec<_>>();
        let tokens = Tokens::from(&ids[..]);
        let halved = Hooks::new().edit(attn_out(0), |out, _| Ok((out * 0.5)?));
        let options = RunOptions::new().hooks(&halved).cache("resid_post").logits_at([len - 1]);
        let run = || -> Result<()> {
            let run = model.run(&tokens, &options)?;
            assert_eq!(run.cache.len(), model.cfg().n_layers);
            Ok(())
        };
        cases.timed_with_peak(&format!("{gigabytes:.0} GB from disk, 1 x {len}"), || {
            let started = Instant::now();
            run()?;
            Ok((started.elapsed().as_secs_f64(), gigabytes / speed, resident_peak()))
        })?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().map_err(|error| Error::msg(format!("{}: {error}", folder.display())))?;
    let paths = entries.filter_map(|entry| entry.ok()).map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect())
}

/// GB/s over all of the files, in order.
fn reading_speed(files: &[PathBuf]) -> Result<f64> {
    let mut piece = vec![0; 16 << 20];
    let (started, mut total) = (Instant::now(), 0);
    for path in files {
        let said = |error: std::io::Error| Error::msg(format!("{}: {error}", path.display()));
        let mut file = File::open(path).map_err(said)?;
        loop {
            match file.read(&mut piece).map_err(said)? {
                0 => break,
                n => total += n,
            }
        }
    }
    Ok(total as f64 / 1e9 / started.elapsed().as_secs_f64())
}
