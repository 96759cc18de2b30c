//! Every view in its forms, from the bundled model.
//!
//! - `cargo run --example gallery` writes docs/gallery: a page with each view as HTML, picture and text.
//! - `cargo run --example gallery -- --forms FOLDER` writes each view to files of its own: .html, .png, .svg, .txt.
//! - `cargo run --example gallery -- --hostile FOLDER` does so for views of a vocabulary that tries to break out.

mod hostile;
mod page;
mod source;
mod views;

use std::path::Path;
use std::time::Instant;

use candlescope::display::{Bundle, Show};
use candlescope::{Error, Result};

/// A view with what is said of it.
pub struct Entry {
    pub group: &'static str,
    pub name: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    /// The Rust that made it.
    pub code: String,
    pub bundle: Bundle,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let start = Instant::now();
    let (n, folder) = match args[..] {
        [] => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join("gallery");
            let entries = views::all()?;
            page::write(&folder, &entries)?;
            (entries.len(), folder)
        }
        ["--forms", folder] => {
            let folder = Path::new(folder);
            let mut entries = views::all()?;
            entries.extend(views::large()?);
            (forms(folder, &entries)?, folder.to_path_buf())
        }
        ["--hostile", folder] => {
            let folder = Path::new(folder);
            (forms(folder, &hostile::all()?)?, folder.to_path_buf())
        }
        _ => return Err(Error::msg("usage: gallery [--forms FOLDER | --hostile FOLDER]")),
    };
    println!("{n} views in {} ({:.1} s)", folder.display(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Each view as files named after it.
fn forms(folder: &Path, entries: &[Entry]) -> Result<usize> {
    std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, source))?;
    for entry in entries {
        let extensions: &[&str] =
            if entry.bundle.png.is_some() { &["html", "txt", "png", "svg"] } else { &["html", "txt"] };
        for extension in extensions {
            entry.bundle.save(folder.join(format!("{}.{extension}", entry.name)))?;
        }
    }
    Ok(entries.len())
}
