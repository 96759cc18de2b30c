//! A cell as it goes to the compiler: its last value is shown by the session library, which knows what evcxr does not, and in
//! one compilation where evcxr would need two or three; and variables that it defines anew are kept until it has ended well.

use std::collections::BTreeSet;

use ra_ap_syntax::ast::HasName;
use ra_ap_syntax::{AstNode, Edition, SourceFile, SyntaxKind, ast};

/// Put around the last expression.
const SHOW: (&str, &str) = ("candlescope::show_value!(", ");");
/// Put before a loop, which has no value to show.
const IGNORE: (&str, &str) = ("let _ = ", ";");
/// Put behind the last statement of a cell that keeps something.
const DROP: &str = " candlescope::cell::drop_kept();";

/// A cell's code, and what was put into it.
#[derive(Debug, Default, PartialEq)]
pub struct Cell {
    pub code: String,
    /// The variables that it defines anew.
    pub redefined: Vec<String>,
    insertions: Vec<Insertion>,
}

/// Text that was put into a line: before which column of the person's own code (from 1, in characters), and its length.
#[derive(Debug, PartialEq)]
struct Insertion {
    line: usize,
    column: usize,
    length: usize,
}

impl Cell {
    /// Has the last expression shown, if the cell ends with one, and keeps those of the `existing` variables that it defines anew.
    pub fn new(source: &str, existing: &BTreeSet<&str>) -> Self {
        let mut cell = Self { code: source.to_string(), ..Self::default() };
        let Some(parsed) = Parsed::new(source) else { return cell };
        // From behind, so that places before stay what they are.
        let mut end = parsed.end;
        if let Some((start, around)) = &parsed.last {
            cell.code.insert_str(parsed.end, around.1);
            end += around.1.len();
            cell.insert(source, *start, around.0);
            end += around.0.len();
        }
        cell.redefined = parsed.names.iter().filter(|name| existing.contains(name.as_str())).cloned().collect();
        if !cell.redefined.is_empty() && !source[parsed.start..].starts_with("#!") {
            cell.code.insert_str(end, DROP);
            let keep = |name: &String| match parsed.uses(source, name) {
                true => format!("candlescope::keep_copy!({name}); "),
                false => format!("candlescope::cell::keep(stringify!({name}), {name}); "),
            };
            let text: String = cell.redefined.iter().map(keep).collect();
            cell.insert(source, parsed.start, &text);
        }
        cell
    }

    /// The column in the person's own code of a column that the compiler speaks of.
    pub fn column(&self, line: usize, column: usize) -> usize {
        let mut column = column;
        for insertion in self.insertions.iter().rev().filter(|insertion| insertion.line == line) {
            if column > insertion.column {
                column = column.saturating_sub(insertion.length).max(insertion.column);
            }
        }
        column
    }

    fn insert(&mut self, source: &str, at: usize, text: &str) {
        let line_start = source[..at].rfind('\n').map_or(0, |at| at + 1);
        self.insertions.push(Insertion {
            line: source[..at].matches('\n').count() + 1,
            column: source[line_start..at].chars().count() + 1,
            length: text.chars().count(),
        });
        self.code.insert_str(at, text);
    }
}

/// What there is in a cell without mistakes. Places are bytes of the source.
struct Parsed {
    /// Where the first statement begins, and the last one ends.
    start: usize,
    end: usize,
    /// Where the expression without a semicolon at the cell's end begins, and what to put around it.
    last: Option<(usize, (&'static str, &'static str))>,
    /// The names that the cell's own `let`s define, and how often they do.
    names: BTreeSet<String>,
    definitions: Vec<String>,
    list: ast::StmtList,
}

impl Parsed {
    fn new(source: &str) -> Option<Self> {
        const BEFORE: &str = "fn cell(){";
        let rust = rust_begins(source);
        // What is not Rust is blanked, so that places stay.
        let blank: String = source[..rust].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        let parsed = SourceFile::parse(&format!("{BEFORE}{blank}{}\n}}", &source[rust..]), Edition::Edition2024);
        // A cell with a mistake goes to the compiler as it is, which says what is wrong.
        if !parsed.errors().is_empty() {
            return None;
        }
        let list = parsed.tree().syntax().children().find_map(ast::Fn::cast)?.body()?.stmt_list()?;
        let at = |offset: ra_ap_syntax::TextSize| usize::from(offset).checked_sub(BEFORE.len());
        let nodes: Vec<_> = list.syntax().children().collect();
        let start = at(nodes.first()?.text_range().start())?;
        let end = at(nodes.last()?.text_range().end())?;
        let last = match list.tail_expr() {
            Some(last) => Some((at(last.syntax().text_range().start())?, around(&last))),
            None => None,
        };
        let definitions: Vec<String> = list
            .statements()
            .filter_map(|statement| match statement {
                ast::Stmt::LetStmt(statement) => statement.pat(),
                _ => None,
            })
            .flat_map(|pattern| pattern.syntax().descendants().filter_map(ast::IdentPat::cast).collect::<Vec<_>>())
            .filter_map(|pattern| pattern.name().map(|name| name.text().to_string()))
            .collect();
        Some(Self { start, end, last, names: definitions.iter().cloned().collect(), definitions, list })
    }

    /// Whether the cell speaks of a variable otherwise than by defining it.
    fn uses(&self, source: &str, name: &str) -> bool {
        let said = self.list.syntax().descendants_with_tokens().filter_map(|element| element.into_token());
        let said = said.filter(|token| token.kind() == SyntaxKind::IDENT && token.text() == name).count();
        let defined = self.definitions.iter().filter(|defined| *defined == name).count();
        said > defined || source.contains(&format!("{{{name}"))
    }
}

fn around(last: &ast::Expr) -> (&'static str, &'static str) {
    match last {
        ast::Expr::ForExpr(_) | ast::Expr::WhileExpr(_) | ast::Expr::LoopExpr(_) => IGNORE,
        _ => SHOW,
    }
}

/// The byte at which the commands of evcxr (`:dep`, `!ls`), comments and empty lines at the top end.
fn rust_begins(source: &str) -> usize {
    let mut at = 0;
    for line in source.split_inclusive('\n') {
        let text = line.trim_end();
        let is_top = text.trim_start().starts_with(':')
            || text.starts_with('!')
            || text.starts_with("//")
            || text.trim().is_empty();
        if !is_top {
            break;
        }
        at += line.len();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        Cell::new(source, &BTreeSet::new()).code
    }

    #[test]
    fn the_last_expression_is_shown() {
        assert_eq!(code("let x = 1;\nx + 1 // more"), "let x = 1;\ncandlescope::show_value!(x + 1); // more");
        assert_eq!(code("model.run(\"é\")?"), "candlescope::show_value!(model.run(\"é\")?);");
        assert_eq!(code("if a { 1 } else { 2 }\n"), "candlescope::show_value!(if a { 1 } else { 2 });\n");
    }

    #[test]
    fn what_has_no_value_stays() {
        for source in ["let x = 1;", "x;", "fn f() -> i32 { 1 }", "use a::b;", "", ":vars", "// nothing"] {
            assert_eq!(code(source), source);
        }
        assert_eq!(code("for i in 0..3 { f(i) }"), "let _ = for i in 0..3 { f(i) };");
    }

    #[test]
    fn commands_are_not_rust() {
        assert_eq!(code(":dep x = \"1\"\n!ls\n\n2 + 2"), ":dep x = \"1\"\n!ls\n\ncandlescope::show_value!(2 + 2);");
    }

    #[test]
    fn mistakes_are_left_to_the_compiler() {
        assert_eq!(code("let x = ;\nx"), "let x = ;\nx");
    }

    #[test]
    fn variables_that_are_defined_anew_are_kept() {
        let existing = BTreeSet::from(["model", "cache", "other"]);
        let code = |source| Cell::new(source, &existing).code;
        assert_eq!(
            code("let model = load()?; // again"),
            "candlescope::cell::keep(stringify!(model), model); let model = load()?; candlescope::cell::drop_kept(); // again"
        );
        assert_eq!(
            code("let (logits, cache) = model.run(&cache)?;\nlogits"),
            "candlescope::keep_copy!(cache); let (logits, cache) = model.run(&cache)?;\n\
             candlescope::show_value!(logits); candlescope::cell::drop_kept();"
        );
        assert!(code("let other = 1;\nprintln!(\"{other}\");").starts_with("candlescope::keep_copy!(other);"));
        assert_eq!(code("model.run()"), "candlescope::show_value!(model.run());");
        assert_eq!(code("let new = { let model = 1; model };"), "let new = { let model = 1; model };");
    }

    #[test]
    fn columns_are_the_persons_own() {
        let cell = Cell::new("let x = 1;\nlet y = 2; x + z", &BTreeSet::new());
        let shown = cell.code.lines().nth(1).unwrap().find('z').unwrap() + 1;
        assert_eq!(cell.column(2, shown), 16);
        assert_eq!(cell.column(2, 5), 5);
        assert_eq!(cell.column(1, shown), shown);
        // Two insertions in one line.
        let cell = Cell::new("let y = 2; y + z", &BTreeSet::from(["y"]));
        let shown = cell.code.find("+ z").unwrap() + 3;
        assert_eq!(cell.column(1, shown), 16);
        assert_eq!(cell.column(1, cell.code.find("2;").unwrap() + 1), 9);
    }
}
