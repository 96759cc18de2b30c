//! Token text and labels are untrusted: these functions make them safe to show, and what is invisible visible.

/// Text for HTML, in an element or in an attribute within quotes. Control characters and characters that change the
/// direction of text are shown as `\u{202e}`.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if is_hidden(c) => push_code(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// Text for a terminal or a plain file: newlines stay, other control characters (escape sequences above all) are shown.
pub fn terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('\n'),
            c if is_hidden(c) => push_code(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// A token on one line, with its whitespace visible: `·` for a space, `↵` for a newline, `⇥` for a tab.
///
/// The result is not yet escaped for HTML.
pub fn visible(token: &str) -> String {
    let mut out = String::with_capacity(token.len());
    for c in token.chars() {
        match c {
            ' ' => out.push('·'),
            '\n' => out.push('↵'),
            '\t' => out.push('⇥'),
            '\r' => out.push_str("\\r"),
            '\u{a0}' => out.push('⍽'),
            c if is_hidden(c) => push_code(&mut out, c),
            c => out.push(c),
        }
    }
    if out.is_empty() { "∅".to_string() } else { out }
}

/// A label on one line: as [`visible`], but spaces between words stay spaces.
pub fn visible_line(text: &str) -> String {
    let inner = text.trim_matches(' ');
    if inner.is_empty() {
        return "·".repeat(text.len());
    }
    let start = text.len() - text.trim_start_matches(' ').len();
    let end = text.len() - text.trim_end_matches(' ').len();
    let words = inner.split(' ').map(|word| if word.is_empty() { String::new() } else { visible(word) });
    "·".repeat(start) + &words.collect::<Vec<_>>().join(" ") + &"·".repeat(end)
}

/// At most `limit` characters; a longer text ends in `…`.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_string();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Characters that show nothing themselves, or change how their neighbours show.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn push_code(out: &mut String, c: char) {
    out.push_str(&format!("\\u{{{:x}}}", c as u32));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_inert() {
        let evil = "</style><script>alert('x\"&')</script>\0\u{202e}\u{1b}[31m";
        let safe = html(evil);
        assert!(!safe.contains(['<', '>', '"', '\'', '\0', '\u{202e}', '\u{1b}']));
        assert!(safe.starts_with("&lt;/style&gt;&lt;script&gt;alert(&#39;x&quot;&amp;&#39;)"));
        assert!(safe.ends_with("\\u{0}\\u{202e}\\u{1b}[31m"));
    }

    #[test]
    fn terminals_get_no_escape_sequences() {
        assert_eq!(terminal("a\u{1b}[2J\r\nb\t"), "a\\u{1b}[2J\\u{d}\nb\\u{9}");
    }

    #[test]
    fn whitespace_is_visible() {
        assert_eq!(visible(" a\n\tb\u{200b}"), "·a↵⇥b\\u{200b}");
        assert_eq!(visible(""), "∅");
        assert_eq!(visible("<s>"), "<s>");
        assert_eq!(visible_line(" a  b\n "), "·a  b↵·");
        assert_eq!(visible_line(""), "");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shorten("αβγδ", 4), "αβγδ");
        assert_eq!(shorten("αβγδε", 4), "αβγ…");
    }
}
