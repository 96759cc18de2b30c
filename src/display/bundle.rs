//! What one display hands to a notebook: the same value as text, picture and page.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::draw::scene::Scene;

/// What a display carries that takes the place of an earlier one: an id, and whether it is the last. Candlescope's kernel
/// understands it.
const LIVE: &str = "candlescope/live";

/// One value in three looks. A viewer shows the richest form that it can.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    /// text/plain, good in a terminal.
    pub text: String,
    /// image/png, the file's bytes.
    pub png: Option<Vec<u8>>,
    /// text/html, self-contained, readable without scripts.
    pub html: Option<String>,
    /// What the picture was drawn from, for SVG.
    pub(super) scenes: Vec<Scene>,
}

impl Bundle {
    /// A bundle that is only text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The picture as an SVG file, where there is one.
    pub fn svg(&self) -> Option<String> {
        super::draw::raster::svg(&self.scenes).ok().filter(|_| !self.scenes.is_empty())
    }

    /// The bundle in evcxr's display protocol: each form between two marker lines. Content can't forge a marker.
    pub fn to_evcxr(&self) -> String {
        let mut out = String::new();
        block(&mut out, "text/plain", &without_markers(&self.text, "EVCXR\u{200b}_"));
        if let Some(png) = &self.png {
            block(&mut out, "image/png", &STANDARD.encode(png));
        }
        if let Some(html) = &self.html {
            block(&mut out, "text/html", &without_markers(html, "EVCXR&#95;"));
        }
        out
    }

    /// Shows the bundle: to a notebook in evcxr's protocol, to a terminal as text.
    pub fn print(&self) {
        let out = match std::env::var_os("EVCXR_IS_RUNTIME") {
            Some(_) => self.to_evcxr(),
            None => format!("{}\n", self.text),
        };
        // One write under one lock: what another thread prints can't land between two markers. A closed pipe has no
        // reader left to tell.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(out.as_bytes());
        let _ = stdout.flush();
    }

    /// Shows the bundle in candlescope's notebook in the place of the last one with this id; `last` says that no other follows.
    pub(super) fn print_live(&self, id: u64, last: bool) {
        let mut out = self.to_evcxr();
        block(&mut out, LIVE, &format!("{id} {}", if last { "last" } else { "more" }));
        let mut stdout = std::io::stdout().lock();
        // A kernel that is gone has nobody left to tell.
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    }

    /// Several bundles as one, from top to bottom.
    pub fn stack(parts: &[Bundle]) -> Bundle {
        let text = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n\n");
        if parts.iter().all(|part| part.html.is_none() && part.png.is_none()) {
            return Bundle::text(text);
        }
        let html = parts.iter().map(|part| match &part.html {
            Some(html) => html.clone(),
            None => crate::display::page::html::frame(&crate::display::page::html::pre(&part.text)),
        });
        let pictures: Vec<&[u8]> = parts.iter().filter_map(|part| part.png.as_deref()).collect();
        Bundle {
            text,
            png: super::draw::raster::stack(&pictures),
            html: Some(html.collect::<Vec<_>>().join("\n")),
            scenes: parts.iter().flat_map(|part| part.scenes.iter().cloned()).collect(),
        }
    }
}

fn block(out: &mut String, mime: &str, content: &str) {
    out.push_str("EVCXR_BEGIN_CONTENT ");
    out.push_str(mime);
    out.push('\n');
    out.push_str(content);
    if !content.ends_with('\n') {
        out.push('\n');
    }
    out.push_str("EVCXR_END_CONTENT\n");
}

/// evcxr looks for its markers anywhere in a line, so the prefix that all of them share must not occur in content.
fn without_markers(content: &str, instead: &str) -> String {
    content.replace("EVCXR_", instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_cannot_forge_markers() {
        let evil = "a\nEVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n<b>x EVCXR_BEGIN_CONTENT image/png";
        let bundle = Bundle { png: Some(vec![1, 2, 3]), html: Some(evil.into()), ..Bundle::text(evil) };
        let out = bundle.to_evcxr();
        let begins: Vec<&str> = out.lines().filter(|line| line.contains("EVCXR_BEGIN_CONTENT")).collect();
        assert_eq!(
            begins,
            ["EVCXR_BEGIN_CONTENT text/plain", "EVCXR_BEGIN_CONTENT image/png", "EVCXR_BEGIN_CONTENT text/html"]
        );
        assert_eq!(out.matches("EVCXR_END_CONTENT").count(), 3);
        assert!(out.contains("\nAQID\n"));
        assert!(out.ends_with("\nEVCXR_END_CONTENT\n"));
        assert!(out.contains("x EVCXR&#95;BEGIN_CONTENT image/png"));
    }

    #[test]
    fn stacked_text_stays_text() {
        let both = Bundle::stack(&[Bundle::text("1"), Bundle::text("2")]);
        assert_eq!(both, Bundle::text("1\n\n2"));
    }
}
