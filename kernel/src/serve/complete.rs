//! Whether a cell is complete, judged by its brackets, strings and comments.

/// `None` when the code may run; else the indentation for its next line.
pub fn missing_end(code: &str) -> Option<String> {
    let mut depth = 0usize;
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '"' if !skip_string(&mut characters) => return Some(String::new()),
            '\'' => skip_character(&mut characters),
            '/' if characters.peek() == Some(&'/') => {
                for character in characters.by_ref() {
                    if character == '\n' {
                        break;
                    }
                }
            }
            '/' if characters.peek() == Some(&'*') && !skip_comment(&mut characters) => return Some(String::new()),
            _ => {}
        }
    }
    (depth > 0).then(|| "    ".repeat(depth))
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_string(characters: &mut Characters) -> bool {
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '"' => return true,
            _ => {}
        }
    }
    false
}

/// A character such as '{' or '\'', but not a lifetime.
fn skip_character(characters: &mut Characters) {
    let mut ahead = characters.clone();
    let escaped = ahead.next() == Some('\\');
    if escaped {
        ahead.next();
    }
    if ahead.next() == Some('\'') {
        *characters = ahead;
    }
}

fn skip_comment(characters: &mut Characters) -> bool {
    characters.next();
    while let Some(character) = characters.next() {
        if character == '*' && characters.peek() == Some(&'/') {
            characters.next();
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_must_close() {
        assert_eq!(missing_end("let x = (1, 2);"), None);
        assert_eq!(missing_end("for i in 0..3 {\n    f(").as_deref(), Some("        "));
        assert_eq!(missing_end("}"), None);
    }

    #[test]
    fn brackets_in_text_and_comments_do_not_count() {
        assert_eq!(
            missing_end("let s = \"{\\\"(\"; // ((\n/* { */ let c = '{'; let q = '\\''; fn f<'a>(x: &'a str) {}"),
            None
        );
        assert_eq!(missing_end("let s = \"open"), Some(String::new()));
        assert_eq!(missing_end("/* open"), Some(String::new()));
    }
}
