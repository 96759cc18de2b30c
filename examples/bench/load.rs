//! From files to first logits, each time in a process of its own, so that its peak of memory is its own too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use candlescope::candle_core::DType;
use candlescope::prelude::*;
use candlescope::{Error, Result};

use super::machine::resident_peak;
use super::table::Cases;
use super::{gpt2_sized, some_tokens};

/// The argument that makes the program load one model and say what it took.
pub const ONCE: &str = "--load-once";

/// The floor is what is asked for: for half a gigabyte 0.5 s as the file has the weights, 2 s with all processing.
pub fn load(cases: &mut Cases) -> Result<()> {
    let folder = Folder::new()?;
    gpt2_sized()?.save_model(&folder.0, DType::F32)?;
    for (how, asked) in [("raw", 0.5), ("processed", 2.0)] {
        let asked = asked * 0.65 / 0.5;
        let mut largest = 0;
        cases.timed_with_peak(&format!("load 0.65 GB to first logits, {how}"), || {
            let program = std::env::current_exe().map_err(said)?;
            let output = Command::new(program).args([ONCE, how]).arg(&folder.0).output().map_err(said)?;
            let said = String::from_utf8_lossy(&output.stdout);
            let mut numbers = said.split_whitespace().filter_map(|number| number.parse::<f64>().ok());
            let (Some(seconds), Some(bytes)) = (numbers.next(), numbers.next()) else {
                return Err(Error::msg(format!(
                    "the loading program said: {}",
                    String::from_utf8_lossy(&output.stderr)
                )));
            };
            largest = largest.max(bytes as u64);
            Ok((seconds, asked, (largest > 0).then_some(largest)))
        })?;
    }
    Ok(())
}

/// Loads the model in a folder, runs it on 16 tokens, and prints seconds and peak of memory.
pub fn once(how: &str, folder: &Path) -> Result<()> {
    let started = Instant::now();
    let options = if how == "raw" { LoadOptions::new().raw() } else { LoadOptions::new() };
    let options = options.progress(&Progress::quiet());
    let model = HookedTransformer::from_pretrained_with(&folder.to_string_lossy(), &options)?;
    model.forward(&some_tokens(1, 16)?)?;
    println!("{} {}", started.elapsed().as_secs_f64(), resident_peak().unwrap_or(0));
    Ok(())
}

fn said(error: std::io::Error) -> Error {
    Error::msg(error.to_string())
}

/// A folder that is gone when this is.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("candlescope-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(said)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
