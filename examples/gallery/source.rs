//! The code of a macro call's last argument as it stands in the source, to be shown beside what it made.

/// That of the call which begins on a line, counted from 1; without the indentation that it has there.
pub fn last_argument(source: &str, line: u32) -> String {
    let start: usize = source.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
    let call = &source[start..];
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let (mut from, mut to) = (0, call.len());
    for (at, c) in call.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 1 => from = at + 1,
            _ => {}
        }
        if depth == 0 && c == ')' {
            to = at;
            break;
        }
    }
    unindented(call[from..to].trim_end())
}

fn unindented(code: &str) -> String {
    let code = code.trim_start_matches('\n');
    let indent = code.len() - code.trim_start_matches(' ').len();
    let spaces = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines: Vec<&str> = code.lines().map(|line| &line[spaces(line).min(indent)..]).collect();
    match lines[..] {
        // A block is only there to hold several statements.
        ["{", ref inner @ .., "}"] => {
            inner.iter().map(|line| &line[spaces(line).min(4)..]).collect::<Vec<_>>().join("\n")
        }
        _ => lines.join("\n"),
    }
}
