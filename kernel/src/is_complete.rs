//! Whether a cell is complete: brackets, strings and comments are closed, attributes and `let` are not left hanging.

/// `None` when the code may run; else the indentation for its next line.
pub fn missing_end(code: &str) -> Option<String> {
    let mut depth = 0usize;
    // An attribute, or a comment that documents, belongs to an item that is still to come.
    let mut item_is_due = false;
    // What stands outside of brackets since the last semicolon.
    let mut statement = String::new();
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '#' if depth == 0 && characters.peek() == Some(&'[') => item_is_due = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '"' if !skip_string(&mut characters) => return Some(String::new()),
            'r' if !skip_raw_string(&mut characters) => return Some(String::new()),
            '\'' => skip_character(&mut characters),
            '/' if characters.peek() == Some(&'/') => {
                let comment: String = characters.by_ref().take_while(|character| *character != '\n').collect();
                item_is_due |= depth == 0 && comment.starts_with("//") && !comment.starts_with("///");
            }
            '/' if characters.peek() == Some(&'*') && !skip_comment(&mut characters) => return Some(String::new()),
            ';' if depth == 0 => statement.clear(),
            _ if depth == 0 => {
                statement.push(character);
                item_is_due &= character.is_whitespace();
            }
            _ => {}
        }
    }
    let semicolon_is_due = ["let ", "use "].iter().any(|word| statement.trim_start().starts_with(word));
    if depth == 0 && semicolon_is_due {
        return Some("    ".to_string());
    }
    (depth > 0 || item_is_due).then(|| "    ".repeat(depth))
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

/// What follows the r of r#"text"#; behind the r of any other word nothing is skipped.
fn skip_raw_string(characters: &mut Characters) -> bool {
    let mut ahead = characters.clone();
    let mut hashes = 0;
    while ahead.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if ahead.next() != Some('"') {
        return true;
    }
    *characters = ahead;
    while let Some(character) = characters.next() {
        if character == '"' && (0..hashes).all(|_| characters.next_if_eq(&'#').is_some()) {
            return true;
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

/// Comments may lie inside of one another.
fn skip_comment(characters: &mut Characters) -> bool {
    let mut open = 1;
    characters.next();
    while let Some(character) = characters.next() {
        if character == '*' && characters.next_if_eq(&'/').is_some() {
            open -= 1;
        } else if character == '/' && characters.next_if_eq(&'*').is_some() {
            open += 1;
        }
        if open == 0 {
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

    #[test]
    fn raw_strings_end_where_their_hashes_say() {
        assert_eq!(missing_end(r###"let s = r#"a " ( "#;"###), None);
        assert_eq!(missing_end(r###"let s = br"\";"###), None);
        assert_eq!(missing_end(r###"let s = r##"a "# "###), Some(String::new()));
        assert_eq!(missing_end("for r in 0..3 {}"), None);
        assert_eq!(missing_end("r#type(").as_deref(), Some("    "));
    }

    #[test]
    fn let_and_use_wait_for_their_semicolon() {
        assert_eq!(missing_end("let x = f()").as_deref(), Some("    "));
        assert_eq!(missing_end("// A chain.\nlet x = f() // here\n    .g();"), None);
        assert_eq!(missing_end("use a::{b,\nc}").as_deref(), Some("    "));
        assert_eq!(missing_end("let x = { 1; 2 }; x"), None);
        assert_eq!(missing_end("if let Some(x) = y { x }"), None);
        assert_eq!(missing_end("letter + user"), None);
    }

    #[test]
    fn comments_nest() {
        assert_eq!(missing_end("/* a /* b */"), Some(String::new()));
        assert_eq!(missing_end("/* a /* b */ */ 1"), None);
    }

    #[test]
    fn an_attribute_waits_for_its_item() {
        assert_eq!(missing_end("#[derive(Debug)]"), Some(String::new()));
        assert_eq!(missing_end("/// A point.\n#[derive(Debug)]\nstruct Point;"), None);
        assert_eq!(missing_end("/// A point."), Some(String::new()));
        assert_eq!(missing_end("// A remark."), None);
        assert_eq!(missing_end("#![allow(unused)]"), None);
    }
}
