//! What cells say and show, in a terminal or wherever standard output goes.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};

use super::pictures::Pictures;
use crate::progress::CellBar;
use crate::session::{Failure, Output};

/// Where outputs and failures go.
pub struct Screen {
    pictures: Pictures,
    coloured: bool,
    bar: CellBar,
    /// The last thing written did not end its line.
    mid_line: bool,
    /// The first thing that could not be written; [`Screen::flush`] tells it.
    broken: Option<std::io::Error>,
}

impl Screen {
    pub fn new(pictures: Pictures) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let coloured = wanted && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self { pictures, coloured, bar: CellBar::default(), mid_line: false, broken: None }
    }

    /// Outputs as they come.
    pub fn show(&mut self, output: Output) {
        if !matches!(output, Output::Progress(_) | Output::Live { last: false, .. }) {
            self.bar.clear();
        }
        match output {
            Output::Progress(bar) => self.bar.show(&bar),
            // A terminal can't draw over what was written: it gets the last one.
            Output::Live { last: false, .. } => {}
            Output::Stdout(text) => self.write(&mut std::io::stdout(), &text),
            Output::Stderr(text) => self.write(&mut std::io::stderr(), &text),
            Output::Display(data) | Output::Result(data) | Output::Live { data, .. } => {
                self.end_line();
                self.write(&mut std::io::stdout(), &look(&data, self.pictures));
                self.end_line();
            }
        }
    }

    /// Why a cell failed.
    pub fn fail(&mut self, failure: &Failure) {
        self.bar.clear();
        self.end_line();
        let lines = if self.coloured { failure.coloured() } else { failure.details.clone() };
        let text = lines.join("\n") + "\n";
        self.write(&mut std::io::stderr(), &text);
    }

    /// Puts what follows at the start of a line.
    pub fn start_line(&mut self) -> Result<()> {
        self.end_line();
        self.flush()
    }

    /// `Err` if anything could not be written since the last time.
    pub fn flush(&mut self) -> Result<()> {
        match self.broken.take() {
            Some(error) => Err(error).context("what the cell says can't be written"),
            None => Ok(()),
        }
    }

    fn end_line(&mut self) {
        if self.mid_line {
            self.write(&mut std::io::stdout(), "\n");
        }
    }

    fn write(&mut self, to: &mut dyn Write, text: &str) {
        if text.is_empty() || self.broken.is_some() {
            return;
        }
        self.mid_line = !text.ends_with('\n');
        self.broken = to.write_all(text.as_bytes()).and_then(|()| to.flush()).err();
    }
}

/// The picture where there is one and it can be shown, the text elsewhere.
fn look(data: &BTreeMap<String, String>, pictures: Pictures) -> String {
    let picture = data.get("image/png").and_then(|png| pictures.draw(png));
    let kinds = || data.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    picture
        .or_else(|| data.get("text/plain").cloned())
        .unwrap_or_else(|| format!("({}, which a terminal can't show)", kinds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_cannot_be_shown_is_told_in_text() {
        let of = |mime: &str, text: &str| (mime.to_string(), text.to_string());
        let data = BTreeMap::from([of("text/plain", "a dot"), of("image/png", "no picture")]);
        assert_eq!(look(&data, Pictures::None), "a dot");
        assert_eq!(look(&data, Pictures::Kitty), "a dot", "these bytes are no picture");
        let page = BTreeMap::from([of("text/html", "<b>")]);
        assert_eq!(look(&page, Pictures::None), "(text/html, which a terminal can't show)");
    }
}
