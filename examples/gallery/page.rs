//! The gallery as one page, with the pictures beside it; and as Markdown for readers on GitHub.

use std::collections::HashSet;
use std::path::Path;

use candlescope::display::{Show, escape};
use candlescope::{Error, Result};

use crate::Entry;

const STYLE: &str = include_str!("page.css");

/// Writes index.html, README.md, and each view's PNG and SVG.
pub fn write(folder: &Path, entries: &[Entry]) -> Result<()> {
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(&pictures).map_err(|source| Error::io(&pictures, source))?;
    let save = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| Error::io(&path, source))
    };
    let mut with_svg = HashSet::new();
    for entry in entries.iter().filter(|entry| entry.bundle.png.is_some()) {
        entry.bundle.save(pictures.join(format!("{}.png", entry.name)))?;
        // A rectangle for each of many thousand cells is no file for a repository.
        if let Some(svg) = entry.bundle.svg().filter(|svg| svg.len() < 300_000) {
            save(&format!("pictures/{}.svg", entry.name), svg)?;
            with_svg.insert(entry.name);
        }
    }
    save("index.html", html(entries, &with_svg))?;
    save("README.md", markdown(entries))
}

fn html(entries: &[Entry], with_svg: &HashSet<&str>) -> String {
    let links = |group: &str| -> String {
        let of = entries.iter().filter(|entry| entry.group == group);
        of.map(|entry| format!("<a href=\"#{}\">{}</a> ", entry.name, escape::html(entry.title))).collect()
    };
    let contents: String =
        groups(entries).iter().map(|group| format!("<p><b>{group}</b> {}</p>\n", links(group))).collect();
    let sections: String = entries.iter().map(|entry| section(entry, with_svg.contains(entry.name))).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\" class=\"cs-page\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>candlescope: gallery</title><style>{STYLE}</style></head>\n<body>\
         <h1>candlescope: gallery</h1>\n<p>Every view in its three forms: the page that a notebook shows, the picture for \
         viewers that run no HTML (and for files), and the text of a terminal. Made by <code>cargo run --example \
         gallery</code> from the bundled model.</p>\n<nav>{contents}</nav>\n{sections}</body></html>\n"
    )
}

fn section(entry: &Entry, with_svg: bool) -> String {
    let Entry { name, .. } = entry;
    let (title, about, code) = (escape::html(entry.title), escape::html(entry.about), escape::html(&entry.code));
    let html = entry.bundle.html.clone().unwrap_or_else(|| "the text alone".to_string());
    let picture = match &entry.bundle.png {
        Some(png) => {
            let width = width(png);
            let svg = if with_svg { format!(", <a href=\"pictures/{name}.svg\">SVG</a>") } else { String::new() };
            format!(
                "<img src=\"pictures/{name}.png\" width=\"{width}\" alt=\"{title}\"><p><a \
                 href=\"pictures/{name}.png\">PNG</a>{svg}</p>"
            )
        }
        None => "<p>This value has no picture.</p>".to_string(),
    };
    let text = escape::html(&entry.bundle.text);
    format!(
        "<section data-view=\"{name}\" id=\"{name}\"><h2>{title}</h2><p>{about}</p><pre class=\"code\">{code}</pre>\n\
         <div class=\"form-html\">{html}</div>\n<div class=\"stills\"><figure class=\"form-picture\"><figcaption>Picture\
         </figcaption>{picture}</figure><figure class=\"form-text\"><figcaption>Text</figcaption><pre>{text}</pre></figure>\
         </div></section>\n"
    )
}

fn markdown(entries: &[Entry]) -> String {
    let mut out = String::from(
        "# Gallery\n\nEvery view as a still picture, made by `cargo run --example gallery` from the bundled model. \
         [index.html](index.html), opened from a clone, has each in its three forms: interactive, picture, text. How they \
         compare with other tools: [views.md](../views.md).\n",
    );
    for group in groups(entries) {
        out += &format!("\n## {group}\n");
        for entry in entries.iter().filter(|entry| entry.group == group) {
            let Some(png) = &entry.bundle.png else { continue };
            let Entry { name, title, about, code, .. } = entry;
            out += &format!("\n### {title}\n\n{about}\n\n```rust\n{code}\n```\n\n");
            out += &format!("<img src=\"pictures/{name}.png\" width=\"{}\" alt=\"{title}\">\n", width(png));
        }
    }
    out
}

/// A picture's width in logical pixels: half of the PNG's, whose header has it.
fn width(png: &[u8]) -> u32 {
    png.get(16..20).map_or(0, |bytes| bytes.iter().fold(0, |width, byte| (width << 8) | u32::from(*byte))) / 2
}

/// The groups in their order.
fn groups(entries: &[Entry]) -> Vec<&'static str> {
    let mut groups: Vec<&str> = entries.iter().map(|entry| entry.group).collect();
    groups.dedup();
    groups
}
