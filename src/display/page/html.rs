//! Pieces of HTML that stay readable when a viewer removes scripts and styles.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::display::draw::color::Rgb;
use crate::display::draw::scene::Scene;
use crate::display::escape;

/// Light is what the styles within say. In a dark theme the frame is inverted with its hues kept, pictures and all; where
/// styles are removed, it is light everywhere.
const THEME: &str = include_str!("theme.css");

/// The scripts: no network, no globals, no library.
pub(crate) const ATTENTION: &str = include_str!("attention.js");
pub(crate) const TOKENS: &str = include_str!("tokens.js");
/// Makes places under the pointer show at once, and reachable by keys.
const HOVER: &str = include_str!("hover.js");

/// The outermost element of every view.
pub(crate) fn frame(body: &str) -> String {
    format!(
        "<style>{THEME}</style><div class=\"candlescope\" style=\"background-color:#ffffff;color:#1f2328;padding:8px;overflow-x:auto;font-family:'DejaVu Sans',Verdana,\
         sans-serif;font-size:13px;line-height:1.45\">{body}</div>"
    )
}

/// A whole document around a view, for files.
pub(crate) fn page(body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\" class=\"cs-page\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>candlescope</title></head>\n<body>{body}</body></html>\n"
    )
}

pub(crate) fn pre(text: &str) -> String {
    format!("<pre style=\"background-color:#ffffff;color:#1f2328;margin:0\">{}</pre>", escape::html(text))
}

pub(crate) fn heading(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!("<div><b>{}</b></div>", escape::html(title)) }
}

pub(crate) fn notes(notes: &[String]) -> String {
    notes.iter().map(|n| format!("<div style=\"color:#57606a\"><small>{}</small></div>", escape::html(n))).collect()
}

/// The picture at its logical size, with titles under the pointer that need no script.
pub(crate) fn picture(scene: &Scene, png: &[u8], alt: &str) -> String {
    let (width, height) = (scene.width, scene.height);
    let data = STANDARD.encode(png);
    let alt = escape::html(alt);
    if scene.hots.is_empty() {
        return format!(
            "<img src=\"data:image/png;base64,{data}\" width=\"{width}\" height=\"{height}\" alt=\"{alt}\" \
             style=\"max-width:none\">"
        );
    }
    let mut areas = String::new();
    for hot in &scene.hots {
        let (left, top) = (hot.x.round(), hot.y.round());
        let (right, bottom) = ((hot.x + hot.w).round(), (hot.y + hot.h).round());
        let title = escape::html(&hot.title);
        areas.push_str(&format!("<area coords=\"{left},{top},{right},{bottom}\" title=\"{title}\">"));
    }
    let id = fingerprint(&format!("{data}{areas}"));
    let script = with_id(HOVER, &id);
    format!(
        "<div class=\"cs-picture\" data-candlescope=\"{id}\" style=\"position:relative;width:{width}px\"><img \
         src=\"data:image/png;base64,{data}\" width=\"{width}\" height=\"{height}\" alt=\"{alt}\" usemap=\"#cs{id}\" \
         style=\"display:block;max-width:none\"><map name=\"cs{id}\">{areas}</map></div>{script}"
    )
}

/// A script for the element whose `data-candlescope` is the id.
pub(crate) fn with_id(script: &str, id: &str) -> String {
    format!("<script>{}</script>", script.replace("ROOT_ID", id))
}

pub(crate) fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>{body}</details>", escape::html(summary))
}

/// A table like pandas': notebooks know the class. Cells are finished HTML (`<td>..</td>`).
pub(crate) fn table(head: &[String], rows: &[String]) -> String {
    let mut out = String::from(
        "<table border=\"1\" class=\"dataframe\" bgcolor=\"#ffffff\" \
         style=\"border-collapse:collapse;background-color:#ffffff;color:#1f2328;margin:4px 0\">",
    );
    if !head.is_empty() {
        out.push_str("<thead><tr>");
        for text in head {
            out.push_str(&format!("<th style=\"padding:2px 6px;text-align:left\">{}</th>", escape::html(text)));
        }
        out.push_str("</tr></thead>");
    }
    out.push_str("<tbody>");
    for row in rows {
        out.push_str("<tr>");
        out.push_str(row);
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    out
}

/// A cell with text, to the left or, for numbers, to the right.
pub(crate) fn cell(text: &str, right: bool) -> String {
    linked_cell(text, right, None)
}

/// A cell whose text may be a link.
pub(crate) fn linked_cell(text: &str, right: bool, url: Option<&str>) -> String {
    let align = if right { "right" } else { "left" };
    let text = url.map_or_else(|| escape::html(text), |url| link(text, url));
    format!("<td align=\"{align}\" style=\"padding:2px 6px;text-align:{align}\">{text}</td>")
}

/// A link that opens beside the notebook. An address that is not of the web, such as a script, stays text.
pub(crate) fn link(text: &str, url: &str) -> String {
    let text = escape::html(text);
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return text;
    }
    let url = escape::html(url);
    format!("<a href=\"{url}\" target=\"_blank\" rel=\"noopener noreferrer\" style=\"color:#0969da\">{text}</a>")
}

/// A cell with a colour behind its text. `bgcolor` and `font` are for viewers that remove styles.
pub(crate) fn colored_cell(text: &str, fill: Rgb) -> String {
    let (fill, ink) = (fill.hex(), fill.ink().hex());
    let text = escape::html(text);
    format!(
        "<td align=\"right\" bgcolor=\"{fill}\" style=\"padding:1px 5px;background-color:{fill}\">\
         <font color=\"{ink}\">{text}</font></td>"
    )
}

/// A short name for content: the same content has the same name, so outputs that are committed don't change.
pub(crate) fn fingerprint(content: &str) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_web_only() {
        let html = link("<b>", "https://x.org/\"><script>");
        assert!(
            html.starts_with("<a href=\"https://x.org/&quot;&gt;&lt;script&gt;\"") && html.contains("rel=\"noopener")
        );
        assert!(html.ends_with(">&lt;b&gt;</a>"), "{html}");
        assert_eq!(link("<b>", "javascript:alert(1)"), "&lt;b&gt;");
    }

    #[test]
    fn titles_under_the_pointer_are_escaped() {
        let mut scene = Scene::default();
        scene.rect(0.0, 0.0, 10.0, 10.0, Rgb::INK);
        scene.hot(0.0, 0.0, 10.0, 10.0, "\"><script>".into());
        let html = picture(&scene.finish(), b"png", "a \"b\"");
        assert!(html.contains("coords=\"8,8,18,18\" title=\"&quot;&gt;&lt;script&gt;\""), "{html}");
        assert!(html.contains("width=\"26\" height=\"26\" alt=\"a &quot;b&quot;\""));
    }

    #[test]
    fn scripts_are_small_and_alone() {
        for script in [HOVER, TOKENS, ATTENTION] {
            assert!(script.len() < 16_000, "{}", script.len());
            for word in ["http", "fetch(", "import", "require", "</", "innerHTML", "eval("] {
                assert!(!script.contains(word), "{word}");
            }
        }
        assert!(THEME.len() < 1600 && !THEME.contains("url("), "{}", THEME.len());
    }
}
