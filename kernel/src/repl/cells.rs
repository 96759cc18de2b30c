//! Cells in a text: each ends with the line that completes it.

use std::io::{BufRead, Lines, Result};

use crate::is_complete::missing_end;

/// The cells of a text, each as soon as its last line was read.
pub struct Cells<R>(Lines<R>);

impl<R: BufRead> Cells<R> {
    pub fn of(text: R) -> Self {
        Self(text.lines())
    }
}

impl<R: BufRead> Iterator for Cells<R> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut cell = String::new();
        for line in self.0.by_ref() {
            match line {
                Ok(line) => cell += &(line + "\n"),
                Err(error) => return Some(Err(error)),
            }
            if cell.trim().is_empty() {
                cell.clear();
            } else if missing_end(&cell).is_none() {
                return Some(Ok(cell));
            }
        }
        // A last cell without its end: the compiler says best what is missing.
        (!cell.is_empty()).then_some(Ok(cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<String> {
        Cells::of(text.as_bytes()).map(|cell| cell.unwrap()).collect()
    }

    #[test]
    fn a_cell_ends_with_its_last_bracket() {
        assert_eq!(cells("1\n\n  \nfn f() {\n\n}\nf()"), ["1\n", "fn f() {\n\n}\n", "f()\n"]);
    }

    #[test]
    fn what_is_never_closed_is_the_last_cell() {
        assert_eq!(cells("1\nf(\n2\n"), ["1\n", "f(\n2\n"]);
        assert!(cells("\n \n").is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let mut cells = Cells::of(&b"1\n\xff\n"[..]);
        assert!(cells.next().unwrap().is_ok());
        assert!(cells.next().unwrap().is_err());
    }
}
