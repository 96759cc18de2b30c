//! An executed notebook as one HTML file: no network, no script of its own, readable on a phone and in the dark.

use std::fmt::Write;

use pulldown_cmark::{Options, Parser};
use serde_json::Value;

use crate::notebook::{Cell, Kind, Notebook, lines_to_text};

const STYLE: &str = include_str!("page.css");

/// The page; `title` is used where the notebook has no heading.
pub fn render(notebook: &Notebook, title: &str) -> String {
    let mut body = String::new();
    for cell in &notebook.cells {
        match cell.kind {
            Kind::Markdown => {
                let _ = writeln!(body, "<section class=\"text\">\n{}</section>", markdown(&cell.source));
            }
            Kind::Code => code_cell(&mut body, cell),
            Kind::Raw => {}
        }
    }
    let title = escape(&heading(notebook).unwrap_or_else(|| title.to_string()));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"candlescope {}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Text that stays text inside HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The first heading of the notebook.
fn heading(notebook: &Notebook) -> Option<String> {
    let text = notebook.cells.iter().filter(|cell| cell.kind == Kind::Markdown);
    text.flat_map(|cell| cell.source.lines())
        .find_map(|line| line.strip_prefix("# "))
        .map(|line| line.trim().to_string())
}

fn markdown(source: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES;
    let mut html = String::new();
    // Raw HTML in a markdown cell is the author's own, as in Jupyter.
    pulldown_cmark::html::push_html(&mut html, Parser::new_ext(source, options));
    html
}

fn code_cell(body: &mut String, cell: &Cell) {
    if cell.source.trim().is_empty() && cell.outputs.is_empty() {
        return;
    }
    let count = cell.execution_count().map_or(String::new(), |count| format!("<span class=\"count\">{count}</span>"));
    let _ = writeln!(
        body,
        "<section class=\"code\">\n{count}<pre class=\"source\"><code>{}</code></pre>",
        highlight(cell.source.trim_end())
    );
    for value in &cell.outputs {
        output(body, value);
    }
    body.push_str("</section>\n");
}

fn output(body: &mut String, output: &Value) {
    match output["output_type"].as_str() {
        Some("stream") => {
            let text = lines_to_text(&output["text"]).unwrap_or_default();
            let name = if output["name"] == "stderr" { "stderr" } else { "stdout" };
            let _ = writeln!(body, "<pre class=\"{name}\">{}</pre>", escape(&without_colours(&text)));
        }
        Some("display_data" | "execute_result") => data(body, &output["data"]),
        Some("error") => {
            let lines: Vec<&str> =
                output["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let _ = writeln!(body, "<pre class=\"error\">{}</pre>", escape(&without_colours(&lines.join("\n"))));
        }
        _ => {}
    }
}

/// The richest form that a page can show: HTML, then a picture, then text.
fn data(body: &mut String, data: &Value) {
    let text = |mime: &str| data.get(mime).and_then(lines_to_text);
    let plain = text("text/plain").unwrap_or_default();
    if let Some(html) = text("text/html") {
        let _ = writeln!(body, "<div class=\"result\">{html}</div>");
    } else if let Some(markup) = text("text/markdown") {
        let _ = writeln!(body, "<div class=\"result\">{}</div>", markdown(&markup));
    } else if let Some((kind, image)) =
        ["png", "jpeg", "gif"].iter().find_map(|kind| Some((kind, text(&format!("image/{kind}"))?)))
    {
        let image: String = image.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
        let first = escape(plain.lines().next().unwrap_or("figure"));
        let _ = writeln!(
            body,
            "<div class=\"result\"><img alt=\"{first}\" src=\"data:image/{kind};base64,{image}\"></div>"
        );
    } else if let Some(svg) = text("image/svg+xml") {
        let _ = writeln!(body, "<div class=\"result\">{svg}</div>");
    } else if !plain.is_empty() {
        let _ = writeln!(body, "<pre class=\"result\">{}</pre>", escape(&plain));
    } else if let Some(json) = data.get("application/json") {
        let _ = writeln!(body, "<pre class=\"result\">{}</pre>", escape(&json.to_string()));
    }
}

/// Removes terminal colours.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next() == Some('[') {
                for end in characters.by_ref() {
                    if end.is_ascii_alphabetic() {
                        break;
                    }
                }
            }
        } else {
            plain.push(character);
        }
    }
    plain
}

const KEYWORDS: &str = " as async await break const continue crate dyn else enum extern false fn for if impl in let loop \
                        match mod move mut pub ref return self Self static struct super trait true type unsafe use where while ";

/// Rust with its comments, strings, numbers and keywords marked; everything escaped.
fn highlight(code: &str) -> String {
    let characters: Vec<char> = code.chars().collect();
    let at = |i: usize| characters.get(i).copied().unwrap_or('\0');
    let mut html = String::with_capacity(code.len() * 2);
    let mut i = 0;
    while i < characters.len() {
        let start = i;
        let class = if at(i) == '/' && at(i + 1) == '/' {
            while i < characters.len() && at(i) != '\n' {
                i += 1;
            }
            "c"
        } else if at(i) == '"' {
            i += 1;
            while i < characters.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i = (i + 1).min(characters.len());
            "s"
        } else if at(i) == '\'' && (at(i + 2) == '\'' || at(i + 1) == '\\') {
            i += 2;
            while i < characters.len() && at(i) != '\'' {
                i += 1;
            }
            i = (i + 1).min(characters.len());
            "s"
        } else if at(i).is_ascii_digit() {
            while at(i).is_alphanumeric() || at(i) == '_' || (at(i) == '.' && at(i + 1).is_ascii_digit()) {
                i += 1;
            }
            "n"
        } else if at(i).is_alphabetic() || at(i) == '_' {
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let word: String = characters[start..i].iter().collect();
            if KEYWORDS.contains(&format!(" {word} ")) { "k" } else { "" }
        } else {
            i += 1;
            ""
        };
        let text = escape(&characters[start..i].iter().collect::<String>());
        if class.is_empty() {
            html.push_str(&text);
        } else {
            let _ = write!(html, "<span class=\"{class}\">{text}</span>");
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<b> & \"it's\""), "&lt;b&gt; &amp; &quot;it&#39;s&quot;");
        let html = highlight("let s = \"<script>\"; // a < b");
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("<span class=\"k\">let</span>"));
        assert!(html.contains("<span class=\"c\">// a &lt; b</span>"));
    }

    #[test]
    fn unfinished_code_is_no_trouble() {
        for code in ["\"open", "'", "'\\", "\"\\", "'a", "1.", "é'x'"] {
            assert!(!highlight(code).is_empty());
        }
    }

    #[test]
    fn a_page_holds_text_code_and_outputs() {
        let notebook = Notebook::parse(
            r##"{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
                {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A <title>\n\n| a | b |\n|---|---|\n| 1 | 2 |"},
                {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": 3, "source": "x", "outputs": [
                    {"output_type": "stream", "name": "stdout", "text": ["<i>\n"]},
                    {"output_type": "display_data", "metadata": {}, "data": {"image/png": "aGk=", "text/plain": "a \"figure\""}},
                    {"output_type": "execute_result", "metadata": {}, "execution_count": 3, "data": {"text/html": "<b>bold</b>", "text/plain": "bold"}},
                    {"output_type": "error", "ename": "panic", "evalue": "no", "traceback": ["\u001b[31mpanic\u001b[0m: no"]}
                ]}]}"##,
        )
        .unwrap();
        let page = render(&notebook, "x");
        for part in [
            "<title>A &lt;title&gt;</title>",
            "<td>1</td>",
            "&lt;i&gt;",
            "src=\"data:image/png;base64,aGk=\"",
            "alt=\"a &quot;figure&quot;\"",
            "<b>bold</b>",
            "<pre class=\"error\">panic: no</pre>",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("http:") && !page.contains("https:"));
    }
}
